"""Kafka's wire protocol for tests: any message of any version, made by hand.

Reads the layouts from src/wire/messages.txt, as the server's own generator does, but shares no
code with it.  A message is a dict; fields that are left out have their defaults.
"""
import os
import re
import socket
import struct
import time

MESSAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../src/wire/messages.txt')


class Field:
    def __init__(self, name, type_, versions, attrs):
        self.name = name
        self.array = type_.startswith('[]')
        self.type = type_[2:] if self.array else type_
        self.versions = versions
        self.nullable = attrs.get('nullable')
        self.tag = attrs.get('tag')
        self.default = attrs.get('default')
        self.plain = 'plain' in attrs
        self.fields = []

    def has(self, version):
        return self.versions[0] <= version <= self.versions[1]

    def may_be_null(self, version):
        return self.nullable is not None and self.nullable[0] <= version <= self.nullable[1]

    def default_value(self):
        if self.default == 'null':
            return None
        if self.array:
            return []
        if self.type == 'string':
            return self.default or ''
        if self.type == 'uuid':
            return bytes(16)
        if self.type in ('bytes', 'records'):
            return b''
        if self.type == 'bool':
            return self.default == 'true'
        if self.type in INTS or self.type == 'float64':
            return int(self.default or 0)
        return {}


INTS = {'int8': '>b', 'int16': '>h', 'uint16': '>H', 'int32': '>i', 'int64': '>q'}


class Api:
    def __init__(self, key, name, versions, flexible, attrs):
        self.key = key
        self.name = name
        self.versions = versions
        self.flexible = flexible
        self.listed = int(attrs['listed']) if 'listed' in attrs else versions[0]
        self.response_header = attrs.get('response_header')
        self.request = []
        self.response = []


def _versions(text, latest):
    if text == 'none':
        return (0, -1)
    if text.endswith('+'):
        return (int(text[:-1]), latest)
    if '-' in text:
        first, last = text.split('-')
        return (int(first), int(last))
    return (int(text), int(text))


def load(path=MESSAGES):
    apis = {}
    api = None
    target = None
    structs = {}
    stack = []
    for line in open(path):
        line = line.split('#')[0].rstrip()
        if not line:
            continue
        words = line.split()
        if words[0] in ('message', 'api') and line[0] != ' ':
            structs = {}
            api = None
            target = []
            if words[0] == 'api':
                attrs = dict(w.partition('=')[::2] for w in words[4:])
                versions = _versions(words[3], 127)
                flexible = 999
                if attrs['flexible'] != 'none':
                    flexible = _versions(attrs['flexible'], 127)[0]
                api = Api(int(words[1]), words[2], versions, flexible, attrs)
                apis[api.key] = apis[api.name] = api
                latest = versions[1]
            else:
                latest = _versions(words[2], 127)[1]
            stack = [(-1, target)]
            continue
        if words[0] in ('request', 'response') and line[0] != ' ':
            target = getattr(api, words[0])
            structs = {}
            stack = [(-1, target)]
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        while stack[-1][0] >= depth:
            stack.pop()
        if words[0] == 'struct':
            structs[words[1]] = fields = []
            stack.append((depth, fields))
            continue
        attrs = {}
        for w in words[3:]:
            k, _, v = w.partition('=')
            attrs[k] = _versions(v, latest) if k == 'nullable' else int(v) if k == 'tag' else v
        field = Field(words[0], words[1], _versions(words[2], latest), attrs)
        if field.type in structs:
            field.fields = structs[field.type]
        stack[-1][1].append(field)
        stack.append((depth, field.fields))
    return apis


APIS = load()


# ---- encoding ----

def uvarint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def varint(n):
    return uvarint((n << 1 ^ n >> 63) & 0xffffffffffffffff)


def _length(n, flexible, wide):
    if flexible:
        return uvarint(n + 1)
    return struct.pack('>i' if wide else '>h', n)


def _encode_value(field, version, flexible, value):
    t = field.type
    if t in INTS:
        return struct.pack(INTS[t], value)
    if t == 'bool':
        return b'\1' if value else b'\0'
    if t == 'float64':
        return struct.pack('>d', value)
    if t == 'uuid':
        return bytes(value)
    if t in ('string', 'bytes', 'records'):
        wide = t != 'string'
        compact = flexible and not field.plain
        if value is None:
            return _length(-1, compact, wide)
        raw = value.encode() if isinstance(value, str) else bytes(value)
        return _length(len(raw), compact, wide) + raw
    head = b''
    if field.nullable is not None and not field.array:
        if value is None:
            return b'\xff'
        head = b'\1'
    return head + encode(field.fields, version, flexible, value)


def _encode_field(field, version, flexible, value):
    if not field.array:
        return _encode_value(field, version, flexible, value)
    if value is None:
        return _length(-1, flexible, True)
    return _length(len(value), flexible, True) + b''.join(
        _encode_value(field, version, flexible, v) for v in value)


def encode(fields, version, flexible, message):
    out = []
    tags = []
    for field in fields:
        if not field.has(version):
            continue
        value = message.get(field.name, field.default_value())
        if field.tag is not None and flexible:
            if field.name in message:
                tags.append((field.tag, _encode_field(field, version, flexible, value)))
        else:
            out.append(_encode_field(field, version, flexible, value))
    if flexible:
        out.append(uvarint(len(tags)))
        for tag, raw in sorted(tags):
            out.append(uvarint(tag) + uvarint(len(raw)) + raw)
    return b''.join(out)


# ---- decoding ----

# What to do with strings that are not UTF-8; 'strict' refuses them.
STRINGS = 'strict'

class Reader:
    def __init__(self, data, pos=0):
        self.data = data
        self.pos = pos

    def take(self, n):
        if n < 0 or self.pos + n > len(self.data):
            raise ValueError('message ends early')
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def unpack(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def uvarint(self):
        n = shift = 0
        while True:
            b = self.take(1)[0]
            n |= (b & 0x7f) << shift
            if b < 0x80:
                return n
            shift += 7

    def varint(self):
        n = self.uvarint()
        return n >> 1 ^ -(n & 1)

    def length(self, flexible, wide):
        if flexible:
            return self.uvarint() - 1
        return self.unpack('>i' if wide else '>h')


def _decode_value(field, version, flexible, r):
    t = field.type
    if t in INTS:
        return r.unpack(INTS[t])
    if t == 'bool':
        return r.take(1) != b'\0'
    if t == 'float64':
        return r.unpack('>d')
    if t == 'uuid':
        return r.take(16)
    if t in ('string', 'bytes', 'records'):
        n = r.length(flexible and not field.plain, t != 'string')
        if n < 0:
            if not field.may_be_null(version):
                raise ValueError(field.name + ' is null')
            return None
        raw = r.take(n)
        return raw.decode(errors=STRINGS) if t == 'string' else raw
    if field.nullable is not None and not field.array and r.unpack('>b') < 0:
        return None
    return decode(field.fields, version, flexible, r)


def _decode_field(field, version, flexible, r):
    if not field.array:
        return _decode_value(field, version, flexible, r)
    n = r.length(flexible, True)
    if n < 0:
        if not field.may_be_null(version):
            raise ValueError(field.name + ' is null')
        return None
    return [_decode_value(field, version, flexible, r) for _ in range(n)]


def decode(fields, version, flexible, r):
    message = {}
    tagged = {}
    for field in fields:
        if not field.has(version):
            message[field.name] = field.default_value()
        elif field.tag is not None and flexible:
            tagged[field.tag] = field
            message[field.name] = field.default_value()
        else:
            message[field.name] = _decode_field(field, version, flexible, r)
    if flexible:
        for _ in range(r.uvarint()):
            tag = r.uvarint()
            raw = r.take(r.uvarint())
            if tag in tagged:
                message[tagged[tag].name] = _decode_field(tagged[tag], version, flexible,
                                                          Reader(raw))
    return message


# ---- frames ----

def request_frame(api, version, body, correlation_id=1, client_id='kwire', raw=None):
    """A whole request; raw replaces the body's bytes."""
    if isinstance(api, str):
        api = APIS[api]
    flexible = version >= api.flexible
    head = struct.pack('>hhi', api.key, version, correlation_id)
    if client_id is None:
        head += b'\xff\xff'
    else:
        raw_id = client_id.encode() if isinstance(client_id, str) else client_id
        head += struct.pack('>H', len(raw_id)) + raw_id
    if flexible:
        head += b'\0'
    if raw is None:
        raw = encode(api.request, version, flexible, body)
    return struct.pack('>i', len(head) + len(raw)) + head + raw


class Closed(Exception):
    """The server has closed the connection."""


def connect(host, port, timeout):
    """A socket; brokers listen a moment later than a server that starts answers SQL."""
    until = time.monotonic() + timeout
    while True:
        try:
            return socket.create_connection((host, port), timeout)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Client:
    def __init__(self, bootstrap=None, timeout=30):
        host, port = (bootstrap or os.environ['KAFKA_BOOTSTRAP']).rsplit(':', 1)
        self.sock = connect(host, int(port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next_id = 1

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def close(self):
        self.sock.close()

    def send_raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Closed from e

    def recv_exact(self, n):
        data = b''
        while len(data) < n:
            try:
                piece = self.sock.recv(n - len(data))
            except ConnectionResetError as e:
                raise Closed from e
            if not piece:
                raise Closed
            data += piece
        return data

    def recv_frame(self):
        return self.recv_exact(struct.unpack('>i', self.recv_exact(4))[0])

    def send(self, api, version, body, **kw):
        correlation_id = self.next_id
        self.next_id += 1
        self.send_raw(request_frame(api, version, body, correlation_id, **kw))
        return correlation_id

    def receive(self, api, version, correlation_id=None):
        """The next answer, which must be this API's; it must end where its bytes end."""
        api = APIS[api] if isinstance(api, str) else api
        frame = self.recv_frame()
        r = Reader(frame)
        got = r.unpack('>i')
        if correlation_id is not None and got != correlation_id:
            raise ValueError('answer to request %d instead of %d' % (got, correlation_id))
        flexible = version >= api.flexible
        if flexible and api.response_header != '0':
            for _ in range(r.uvarint()):
                r.uvarint()
                r.take(r.uvarint())
        message = decode(api.response, version, flexible, r)
        if r.pos != len(frame):
            raise ValueError('%d bytes after %s version %d'
                             % (len(frame) - r.pos, api.name, version))
        return message

    def request(self, api, version, body=None, **kw):
        correlation_id = self.send(api, version, body or {}, **kw)
        return self.receive(api, version, correlation_id)

    def is_closed(self):
        """Waits for the server to close; an answer instead is an error."""
        try:
            data = self.sock.recv(1)
        except ConnectionResetError:
            return True
        if data:
            raise ValueError('got an answer')
        return True


# ---- record batches ----

def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xffffffff
    for b in data:
        crc = _CRC[(crc ^ b) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def now_ms():
    return int(time.time() * 1000)


def record(delta, key, value, timestamp_delta=0, headers=()):
    def field(b):
        return varint(-1) if b is None else varint(len(b)) + b
    body = b'\0' + varint(timestamp_delta) + varint(delta) + field(key) + field(value)
    body += varint(len(headers))
    for k, v in headers:
        body += varint(len(k)) + k + field(v)
    return varint(len(body)) + body


def batch(values, key=None, timestamp=None, attributes=0, producer_id=-1, producer_epoch=-1,
          base_sequence=-1, magic=2, count=None, last_offset_delta=None, payload=None,
          max_timestamp=None, base_offset=0, crc=None, headers=()):
    """A record batch of these values; any field can be made wrong."""
    timestamp = now_ms() if timestamp is None else timestamp
    if payload is None:
        payload = b''.join(record(i, key, v, 0, headers) for i, v in enumerate(values))
    n = len(values)
    tail = struct.pack('>hiqqqhii', attributes,
                       n - 1 if last_offset_delta is None else last_offset_delta,
                       timestamp, timestamp if max_timestamp is None else max_timestamp,
                       producer_id, producer_epoch, base_sequence,
                       n if count is None else count) + payload
    head = struct.pack('>qiibI', base_offset, 9 + len(tail), -1, magic,
                       crc32c(tail) if crc is None else crc)
    return head + tail


def batches(data):
    """Headers of the batches in what Fetch returned, as dicts; a cut-off one is left out."""
    found = []
    pos = 0
    while pos + 61 <= len(data):
        base, length, epoch, magic, crc = struct.unpack_from('>qiibI', data, pos)
        (attributes, last_delta, first_ts, max_ts, pid, pepoch, seq,
         count) = struct.unpack_from('>hiqqqhii', data, pos + 21)
        if pos + 12 + length > len(data):
            break
        raw = data[pos:pos + 12 + length]
        found.append(dict(base_offset=base, leader_epoch=epoch, magic=magic, crc=crc,
                          attributes=attributes, last_offset_delta=last_delta,
                          first_timestamp=first_ts, max_timestamp=max_ts, producer_id=pid,
                          producer_epoch=pepoch, base_sequence=seq, count=count, raw=raw,
                          crc_ok=crc32c(raw[21:]) == crc))
        pos += 12 + length
    return found


def values(data):
    """(offset, value) of every record of uncompressed batches."""
    out = []
    for b in batches(data):
        r = Reader(b['raw'], 61)
        for _ in range(b['count']):
            r.varint()
            r.take(1)
            r.varint()
            delta = r.varint()
            n = r.varint()
            r.take(max(n, 0))
            n = r.varint()
            value = None if n < 0 else r.take(n)
            for _ in range(r.varint()):
                r.take(r.varint())
                r.take(max(r.varint(), 0))
            out.append((b['base_offset'] + delta, value))
    return out


ERRORS = {}
for _line in open(os.path.join(os.path.dirname(MESSAGES), 'errors.txt')):
    _m = re.match(r'\s*(-?\d+)\s+([A-Z_0-9]+)', _line)
    if _m:
        ERRORS[int(_m.group(1))] = _m.group(2)


def err(code):
    return ERRORS.get(code, str(code))
