"""Records of the workload: every one is unique, and all of it follows from (actor, seq, size).

A reader can tell from a value alone who wrote it and whether each byte is right, so that the
journal need not hold contents.
"""
import ctypes
import hashlib
import random
import zlib

MAX_SIZE = 4 << 20

_noise = random.Random(9092).randbytes(1 << 20) * 5
_text = b"A log is a sequence of records, appended to and never changed. " * (MAX_SIZE // 32)


def value(actor, seq, size):
  """The value of a record; at least its first line, whatever the size.

  Every other one can be compressed well, the rest not at all.
  """
  head = b"%s %d %d\n" % (actor.encode(), seq, size)
  rest = max(size - len(head), 0)
  start = zlib.crc32(head) & 0xFFFFF
  source = _text if seq % 2 else _noise
  return head + source[start:start + rest]


def key(actor, seq):
  return None if seq % 3 == 0 else b"%s-%d" % (actor.encode(), seq)


def headers(actor, seq):
  """Duplicates and a null, as Kafka allows them.

  Debian 12's confluent_kafka (1.7) drops a reference to None that it does not own for each null that it
  hands out: here it is given another, before None itself is freed.
  """
  if seq % 5 != 0:
    return []
  ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))
  return [("h", actor.encode()), ("n", None), ("h", b"%d" % seq), ("", b"")]


def headers_text(pairs):
  """Headers in the form in which SQL_HEADERS shows them."""
  return ",".join("%s=%s" % (k, "null" if v is None else v.hex()) for k, v in pairs or [])


SQL_HEADERS = """coalesce((SELECT string_agg(h.key || '=' || coalesce(encode(h.value, 'hex'), 'null'),
    ',' ORDER BY h.n) FROM unnest(headers) WITH ORDINALITY h(key, value, n)), '')"""

# What a record is, short enough to be fetched for large records too.
SQL_RECORD = """SELECT "offset", (extract(epoch FROM "timestamp") * 1000)::bigint, key,
    length(value), substr(value, 1, 100), md5(value), %s""" % SQL_HEADERS


def identify(head):
  """(actor, seq, size) of a value's first line, or None."""
  line, newline, _ = head[:100].partition(b"\n")
  parts = line.split(b" ")
  if not newline or len(parts) != 3:
    return None
  try:
    return parts[0].decode("ascii"), int(parts[1]), int(parts[2])
  except (ValueError, UnicodeDecodeError):
    return None


def check_wire(message):
  """(actor, seq) of a message of the wire, and what is wrong with it or None."""
  data = message.value() or b""
  who = identify(data)
  if who is None:
    return None, "not a value of ours: %r" % data[:60]
  actor, seq, size = who
  if data != value(actor, seq, size):
    return (actor, seq), "value differs (%d bytes)" % len(data)
  if message.key() != key(actor, seq):
    return (actor, seq), "key is %r" % message.key()
  if (message.headers() or []) != headers(actor, seq):
    return (actor, seq), "headers are %r" % message.headers()
  return (actor, seq), None


def check_sql(row):
  """The same for a row of SQL_RECORD."""
  _, _, row_key, length, head, md5, row_headers = row
  who = identify(bytes(head or b""))
  if who is None:
    return None, "not a value of ours: %r" % bytes(head or b"")[:60]
  actor, seq, size = who
  data = value(actor, seq, size)
  if length != len(data) or md5 != hashlib.md5(data).hexdigest():
    return (actor, seq), "value differs (%d bytes)" % length
  if (None if row_key is None else bytes(row_key)) != key(actor, seq):
    return (actor, seq), "key is %r" % row_key
  if row_headers != headers_text(headers(actor, seq)):
    return (actor, seq), "headers are %s" % row_headers
  return (actor, seq), None
