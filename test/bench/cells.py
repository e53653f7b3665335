"""The cells of the benchmark: what each sends or reads, and which of its numbers is the result.

A cell is a verb of the driver with its options, and what must be there before:
  verb, options  as driver.c has them
  fill           options of a produce run that fills the topic first, not measured
  result         the number of the driver's line that is compared
  more           other numbers of that line worth a column
  better         'more' or 'less'
"""

THROUGHPUT = {'result': 'rate', 'unit': 'msg/s', 'better': 'more', 'more': ['mb_s']}
LATENCY = {'result': 'ack_p50_us', 'unit': 'us', 'better': 'less',
           'more': ['ack_p99_us', 'ack_p999_us', 'rate']}
END_TO_END = {'result': 'e2e_p99_us', 'unit': 'us', 'better': 'less',
              'more': ['e2e_p50_us', 'ack_p99_us']}
FILL = {'size': 1024, 'partitions': 4, 'count': 1000000}


def cell(verb, kind, fill=None, **options):
  return dict(kind, verb=verb, options=options, fill=fill)


CELLS = {
  'produce-1k': cell('produce', THROUGHPUT, size=1024, partitions=4),
  'produce-100b': cell('produce', THROUGHPUT, size=100, partitions=4, outstanding=500000),
  'produce-1k-lz4': cell('produce', THROUGHPUT, size=1024, partitions=4, codec='lz4'),
  'produce-idempotent-1k': cell('produce', THROUGHPUT, size=1024, partitions=4, idempotent=1),
  'consume-1k': cell('consume', THROUGHPUT, FILL, partitions=4, count=FILL['count']),
  'latency-1': cell('latency', LATENCY, size=1024, partitions=1),
}

# Only when named, or with CELL=all.
MORE_CELLS = {
  'produce-1k-acks1': cell('produce', THROUGHPUT, size=1024, partitions=4, acks=1),
  'produce-100p-keyed': cell('produce', THROUGHPUT, size=1024, partitions=100, keyed=1),
  'produce-1000p-keyed': cell('produce', THROUGHPUT, size=1024, partitions=1000, keyed=1),
  'consume-1k-5': cell('consume', THROUGHPUT, FILL, partitions=4, count=FILL['count'], readers=5),
  'latency-64': cell('latency', LATENCY, size=1024, partitions=4, threads=64),
  'e2e-1k': cell('rate', END_TO_END, size=1024, partitions=4, rate=1000),
  'e2e-10k': cell('rate', END_TO_END, size=1024, partitions=4, rate=10000),
  'e2e-50k': cell('rate', END_TO_END, size=1024, partitions=4, rate=50000),
}
