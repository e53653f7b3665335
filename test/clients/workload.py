"""The common workload (README.md), for Python clients and for the check by SQL."""

CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
RECORDS = 120
SIZES = [1, 2, 10, 100, 1000, 20000, 300000]
BIG_SIZES = [1, 1000000] + 5 * [5242880]
BIG_CODECS = [0, 0, 0, 1, 2, 3, 4]
TIME = 1700000000000

_blocks = [bytes((s + 13 * r) & 255 for r in range(256)) for s in range(256)]


def contents(i, size):
    """Byte j is (7 i + 13 j + j / 256) mod 256."""
    blocks = [_blocks[(7 * i + k) & 255] for k in range((size + 255) // 256)]
    return b''.join(blocks)[:size]


def timestamp(i):
    return TIME + 1000 * i


def headers(i):
    return [('h0', b'v%d' % i), ('h0', b''), ('h2', bytes([0, 255, i & 255]))][:i % 4]


def record(i):
    """Key, value, headers, timestamp of record i of a partition of topic "records"."""
    key = None if i % 5 == 0 else b'' if i % 5 == 1 else b'key-%d' % i
    value = None if i % 11 == 7 and i % 5 else contents(i, SIZES[i % 7])
    return key, value, headers(i), timestamp(i)


def big_record(i):
    """The same of topic "big"."""
    return b'big-%d' % i, contents(i, BIG_SIZES[i]), headers(i), timestamp(i)


class Report:
    """Prints a line for each test; exit_code() at the end."""

    def __init__(self):
        self.failed = 0

    def ok(self, good, what):
        self.failed += not good
        print('%s - %s' % ('ok' if good else 'not ok', what), flush=True)
        return good

    def same(self, got, wanted, what):
        if not self.ok(got == wanted, what):
            print('# got %s\n# not %s' % (repr(got)[:300], repr(wanted)[:300]), flush=True)

    def same_records(self, got, wanted, what):
        """Lists of (offset, key, value, headers, timestamp)."""
        for g, w in zip(got, wanted):
            if g != w:
                self.ok(False, what)
                for name, a, b in zip(('offset', 'key', 'value', 'headers', 'timestamp'), g, w):
                    if a != b:
                        print('# offset %s: %s is %s, not %s' % (w[0], name, repr(a)[:80], repr(b)[:80]))
                return
        if not self.ok(len(got) == len(wanted), what):
            print('# %d records, not %d' % (len(got), len(wanted)), flush=True)

    def exit_code(self):
        return 1 if self.failed else 0


def wanted(first=0):
    return [(i,) + record(i) for i in range(first, RECORDS)]


def wanted_big():
    return [(i,) + big_record(i) for i in range(len(BIG_SIZES))]
