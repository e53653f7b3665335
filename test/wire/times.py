"""ListOffsets by time where the greatest timestamp is that of a batch that nobody may read.

test/t/066_time_search.t writes topic "d": a batch of the year 2100 whose transaction failed, and
behind it records in order of their times, more than shared buffers have room for.  KWIRE_RECORDS
is how many; the record at offset n (from 1 on) has the timestamp n * 1000.
"""
from ktap import *

YEAR_2100 = 4102444800000


def beyond_a_dead_batch():
    n = int(os.environ['KWIRE_RECORDS'])
    with Client(timeout=120) as c:
        cases = [(0, (1, 1000)), (1, (1, 1000)), (n * 500, (n // 2, n // 2 * 1000)),
                 (n * 1000, (n, n * 1000)), (n * 1000 + 1, (-1, -1)), (YEAR_2100, (-1, -1)),
                 (YEAR_2100 + 1, (-1, -1)), (-3, (n, n * 1000))]
        for timestamp, expected in cases:
            p = list_offset(c, 'd', timestamp)
            same((err(p['error_code']), p['offset'], p['timestamp']), ('NONE',) + expected,
                 'time %d' % timestamp)


main(beyond_a_dead_batch)
