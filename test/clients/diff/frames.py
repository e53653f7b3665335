"""Bytes that are no request: every good request of cases.py cut, padded, and with lies in it.

Made from the layouts alone.  A request is encoded to pieces, a value or a length each; a case
replaces one of them, or drops those after it.
"""
import struct

from kwire import APIS, INTS, request_frame, uvarint

# Begins what nothing comes after: the client hangs up.
UNFINISHED = 'unfinished: '

# Each broker makes up its topics' ids.  An id behind a lie may be read as lengths and tags, so what
# comes of it would be chance: there both are sent this one, which no topic has.
NO_TOPIC = bytes(range(0xf1, 0xe1, -1))


class Piece:
    """Bytes of one value or one length; size: how many of what it counts follow in all."""

    def __init__(self, path, raw, kind, compact=False, null=False, wide=True):
        self.path = path
        self.raw = raw
        self.kind = kind
        self.compact = compact
        self.null = null
        self.wide = wide

    def length(self, n):
        """This length with another number in it; None: it does not fit."""
        if self.compact:
            return uvarint(n + 1) if n >= -1 else None
        top = 1 << (31 if self.wide else 15)
        return struct.pack('>i' if self.wide else '>h', n) if -top <= n < top else None


def pieces(fields, version, flexible, message, path=''):
    tags = []
    for field in fields:
        if not field.has(version):
            continue
        value = message.get(field.name, field.default_value())
        here = path + field.name
        if field.tag is not None and flexible:
            if field.name in message:
                tags.append((field.tag, b''.join(
                    p.raw for p in one_field(field, version, True, value, here))))
        else:
            yield from one_field(field, version, flexible, value, here)
    if flexible:
        raw = uvarint(len(tags)) + b''.join(uvarint(t) + uvarint(len(r)) + r
                                            for t, r in sorted(tags))
        yield Piece(path + 'tags', raw, 'tags')


def length(field, version, flexible, value, path, kind):
    compact = flexible and not field.plain
    piece = Piece(path, b'', kind, compact, field.may_be_null(version),
                  field.array or field.type != 'string')
    piece.raw = piece.length(-1 if value is None else len(value))
    return piece


def one_field(field, version, flexible, value, path):
    if not field.array:
        yield from one_value(field, version, flexible, value, path)
        return
    yield length(field, version, flexible, value, path, 'count')
    for item in value or []:
        yield from one_value(field, version, flexible, item, path)


def one_value(field, version, flexible, value, path):
    t = field.type
    if t in INTS:
        yield Piece(path, struct.pack(INTS[t], value), 'int')
    elif t == 'bool':
        yield Piece(path, b'\1' if value else b'\0', 'bool')
    elif t == 'uuid':
        yield Piece(path, bytes(value), 'uuid')
    elif t in ('string', 'bytes', 'records'):
        raw = value.encode() if isinstance(value, str) else value
        yield length(field, version, flexible, raw, path, 'length')
        yield Piece(path, raw or b'', t)
    elif field.nullable is not None and not field.array:
        yield Piece(path, b'\xff' if value is None else b'\1', 'presence')
        if value is not None:
            yield from pieces(field.fields, version, flexible, value, path + '.')
    else:
        yield from pieces(field.fields, version, flexible, value, path + '.')


def lies(piece, left):
    """(what, bytes) for a length or a count after which this many bytes are left."""
    # Kafka's Produce runs into a NullPointerException without records, and never answers.
    null = 'records' not in piece.path
    for what, n in (('one more than is left', left + 1), ('32767', 32767),
                    ('2147483647', 2147483647), ('-2', -2), ('least', -(1 << 31)),
                    ('least int16', -(1 << 15)), ('1000000', 1000000), ('null', -1)):
        if n == -1 and piece.null or n < 0 and not null:
            continue
        raw = piece.length(n)
        if raw is not None and raw != piece.raw:
            yield what, raw
    if piece.compact:
        if null:
            yield 'varint of 2^32-1', b'\xff\xff\xff\xff\x0f'
            yield 'varint of 2^31', b'\x80\x80\x80\x80\x08'
            yield 'varint of 35 bits', b'\xff\xff\xff\xff\x7f'
        yield 'varint without end', b'\xff' * 12
        if len(piece.raw) == 1:
            yield 'varint of two bytes', bytes([piece.raw[0] | 0x80, 0])


TAGS = {
    'an unknown tag': b'\1\x63\3abc',
    'two unknown tags': b'\2\x63\1a\x64\1b',
    'tags out of order': b'\2\x64\1a\x63\1b',
    'a tag twice': b'\2\x63\1a\x63\1b',
    'a great tag': b'\1\xff\xff\xff\xff\x07\1a',
    'a negative tag': b'\1\xff\xff\xff\xff\x0f\1a',
    'a tag longer than the rest': b'\1\x63\xff\x7f',
    'a tag of negative length': b'\1\x63\xff\xff\xff\xff\x0f',
    'more tags than there are': b'\x7f',
    '2^31-1 tags': b'\xff\xff\xff\xff\x07',
    '2^32-1 tags': b'\xff\xff\xff\xff\x0f',
}


def raw_body(parts, no_topic=False):
    return b''.join(NO_TOPIC if no_topic and p.kind == 'uuid' and any(p.raw) else p.raw
                    for p in parts)


def bodies(api, version, good):
    """(what, raw body)"""
    flexible = version >= APIS[api].flexible
    parts = list(pieces(APIS[api].request, version, flexible, good))
    whole = raw_body(parts)
    for i, piece in enumerate(parts):
        before, after = raw_body(parts[:i]), raw_body(parts[i + 1:], no_topic=True)
        left = len(after)
        if len(piece.raw) > 0:
            yield 'cut before %s' % piece.path, before
        if len(piece.raw) > 1:
            yield 'cut within %s (%s)' % (piece.path, piece.kind), before + piece.raw[:-1]
        if piece.kind in ('count', 'length'):
            for what, raw in lies(piece, left):
                yield '%s of %s: %s' % (piece.kind, piece.path, what), before + raw + after
        elif piece.kind == 'tags':
            for what, raw in TAGS.items():
                yield '%s: %s' % (piece.path, what), before + raw + after
            if api == 'Fetch' and piece.path == 'tags':
                yield 'a known tag', before + b'\1\0\3\3ab' + after
                yield 'a known tag twice', before + b'\2\0\3\3ab\0\3\3cd' + after
                yield 'a known tag of a wrong length', before + b'\1\0\4\3ab' + after
                if version < 15:
                    yield 'a tag of a later version', before + b'\1\1\x0d' + bytes(13) + after
        elif piece.kind == 'bool':
            yield '%s is 2' % piece.path, before + b'\2' + after
        elif piece.kind == 'presence':
            yield '%s is present with 2' % piece.path, before + b'\2' + after
            yield '%s is absent with -2' % piece.path, before + b'\xfe' + after
        elif piece.kind == 'string' and piece.raw:
            yield ('%s is not UTF-8' % piece.path,
                   before + b'\xff' * len(piece.raw) + after)
    yield 'a byte too many', whole + b'\0'
    yield 'a hundred bytes too many', whole + b'x' * 100


def heads(api, version, raw):
    """(what, everything that is sent), for a good body."""
    api = APIS[api]
    flexible = version >= api.flexible
    start = struct.pack('>hhi', api.key, version, 77)
    tags = b'\0' if flexible else b''

    def frame(data, length=None):
        return struct.pack('>i', len(data) if length is None else length) + data
    good = start + b'\0\1x' + tags + raw
    yield 'client id null', frame(start + b'\xff\xff' + tags + raw)
    yield 'client id empty', frame(start + b'\0\0' + tags + raw)
    yield 'client id long', frame(start + b'\x7f\xff' + b'c' * 32767 + tags + raw)
    yield 'client id not UTF-8', frame(start + b'\0\4\xff\xc0\x80\xfe' + tags + raw)
    yield 'client id with a zero byte', frame(start + b'\0\3a\0b' + tags + raw)
    yield 'client id longer than the rest', frame(start + b'\x7f\xff' + tags + raw)
    yield 'client id of length -2', frame(start + b'\xff\xfe' + tags + raw)
    yield 'head cut in the correlation id', frame(start[:-1])
    yield 'head cut before the client id', frame(start)
    yield 'head cut in the client id', frame(start + b'\0\5abc')
    yield 'head alone', frame(start + b'\0\1x' + tags)
    if flexible:
        for what, tag in TAGS.items():
            yield 'head: ' + what, frame(start + b'\0\1x' + tag + raw)
        yield 'head of version 1', frame(start + b'\0\1x' + raw)
    else:
        yield 'head of version 2', frame(start + b'\0\1x\0' + raw)
    yield 'head of version 0', frame(start + raw)
    # The rest of what is sent begins the next frame.
    yield 'frame shorter than the request', frame(good, len(good) - 1)
    yield 'frame shorter than the head', frame(good, 6)
    yield UNFINISHED + 'frame longer than what comes', frame(good, len(good) + 1)


ANY = {
    'frame of length 0': b'\0\0\0\0',
    'frame of length 1': b'\0\0\0\1\0',
    'frame of length -1': b'\xff\xff\xff\xff' + b'x' * 100,
    'frame of least length': b'\x80\0\0\0' + b'x' * 100,
    'frame of 2^31-1 bytes': b'\x7f\xff\xff\xff' + b'x' * 100,
    'frame of 100 MB and one byte': struct.pack('>i', 104857601) + b'x' * 100,
    UNFINISHED + 'half a length': b'\0\0',
    UNFINISHED + 'nothing': b'',
    UNFINISHED + 'half a frame': b'\0\0\0\x0a\0\x12',
    'an HTTP request': b'GET / HTTP/1.1\r\nHost: kafka\r\n\r\n',
    'a TLS hello': b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'r' * 600,
    'SASL of old': b'\0\0\0\x0a\0alice\0pw1',
}


def keys():
    """(what, frame): API keys that nobody serves."""
    for key in (-32768, -1, 4, 5, 6, 7, 52, 53, 56, 59, 93, 200, 32767):
        for version in (0, 1, 5):
            yield ('API key %d version %d' % (key, version),
                   struct.pack('>ihhi', 12, key, version, 77) + b'\0\1x\0')


def all_frames(good, fill_in):
    """(api, version, what, everything that is sent) of all APIs; good: as in cases.py."""
    for what, frame in ANY.items():
        yield 'ApiVersions', 0, what, frame
    for what, frame in keys():
        yield 'ApiVersions', 0, what, frame
    for api, make in good.items():
        first, last = APIS[api].versions
        for version in range(first, last + 1):
            body = fill_in(make(version))
            flexible = version >= APIS[api].flexible
            for what, raw in bodies(api, version, body):
                yield api, version, what, request_frame(api, version, None, 77, raw=raw)
            raw = raw_body(pieces(APIS[api].request, version, flexible, body), no_topic=True)
            for what, frame in heads(api, version, raw):
                yield api, version, what, frame
