"""The cells of the benchmark: what each does, on which systems, what is its result, and the goal.

A cell's load is a verb of the driver with options, as driver/main.c has them; "how" names the
function of turns.py that gives a system its turn.
"""
from dataclasses import dataclass, field

BOTH = ('kafka', 'kafka-fsync')
ALL = BOTH + ('kafka_pg',)
# Where Apache Kafka does the same with and without fsync; and where only what is flushed counts.
PLAIN = ('kafka', 'kafka_pg')
FLUSHED = ('kafka-fsync', 'kafka_pg')
# Rows of tables that lie in kafka_pg's own server.
HEAPS = ('heap', 'heap-pk', 'kafka_pg')
HEAP_PK = ('heap-pk', 'kafka_pg')


@dataclass
class Goal:
  """For kafka_pg: field op bound, or field op bound times base's."""
  field: str
  op: str
  bound: float
  base: str = None
  wanted: bool = False    # wished for, and no failure when missed


@dataclass
class Cell:
  how: str                    # function of turns.py
  result: str                 # the number that is compared
  unit: str
  better: str                 # 'more' or 'less'
  more: tuple = ()            # other numbers worth a column
  verb: str = None            # of the driver
  options: dict = field(default_factory=dict)
  fill: dict = None           # options of a produce run that fills the topic first, not measured
  cold: bool = False          # what was filled is neither in shared buffers nor in the page cache
  sql: dict = None            # system: statement
  systems: tuple = ALL        # which take turns: rows of the table
  servers: tuple = ALL        # what runs meanwhile
  variant: str = ''           # how the servers are set up; servers.py knows them
  bases: tuple = BOTH         # systems that the result is divided by
  goals: tuple = ()
  least_seconds: float = 0    # of a turn, whatever --seconds says


def at_least(bound, base=None, name='rate', wanted=False):
  return Goal(name, '>=', bound, base, wanted)


def at_most(bound, base=None, name='ack_p50_us', wanted=False):
  return Goal(name, '<=', bound, base, wanted)


MILLION = {'size': 1024, 'partitions': 4, 'count': 1000000}
DEFAULT = (at_least(1.0, 'kafka'),)


def throughput(goals, verb='produce', **more):
  fields = {name: more.pop(name) for name in ('fill', 'cold', 'variant', 'systems') if name in more}
  return Cell('wire', 'rate', 'msg/s', 'more', ('mb_s',), verb, more, goals=goals, **fields)


def consume(**more):
  return throughput(DEFAULT, 'consume', fill=MILLION, partitions=4, count=1000000, systems=PLAIN,
                    **more)


def end_to_end(rate, variant='', goals=None, how='wire', systems=ALL):
  return Cell(how, 'e2e_p99_us', 'us', 'less', ('e2e_p50_us', 'ack_p99_us', 'rate'), 'rate',
              {'size': 1024, 'partitions': 4, 'rate': rate}, variant=variant, least_seconds=4, systems=systems,
              goals=(at_most(1.0, 'kafka', 'e2e_p99_us'),) if goals is None else goals)


def statements(kafka_pg, heap, systems=HEAPS):
  """Tables have the same columns; :table is the one of the system whose turn it is."""
  return {system: kafka_pg if system == 'kafka_pg' else heap for system in systems}


def sql_transactions(sessions, kafka_pg):
  insert = 'INSERT INTO :table (key, value) VALUES ($1, $2)'
  return Cell('sql', 'rate', 'tx/s', 'more', ('ack_p50_us', 'ack_p99_us'), 'transactions',
              {'size': 1024, 'partitions': 4, 'rows': 1, 'sessions': sessions},
              sql=statements(kafka_pg, insert), systems=HEAPS, servers=('kafka_pg',),
              bases=('heap', 'heap-pk'), goals=(at_least(0.9, 'heap'),))


def sql_bulk(bound, verb, systems=HEAP_PK, **more):
  sql = more.pop('sql', None)
  return Cell('sql', 'rate', 'rows/s', 'more', ('mb_s',), verb,
              dict({'size': 1024, 'partitions': 4}, **more), sql=sql, systems=systems,
              servers=('kafka_pg',), bases=('heap-pk',), goals=(at_least(bound, 'heap-pk'),))


def sql_query(what, right):
  return Cell('sql', 'mb_s', 'MB/s', 'more', ('ack_p50_us',), 'query',
              {'size': 1024, 'partitions': 1, 'count': 1000000, 'rows': right},
              fill=dict(MILLION, partitions=1),
              sql=statements(*['SELECT %s FROM :table WHERE partition = 0' % what] * 2, HEAP_PK),
              systems=HEAP_PK, servers=('kafka_pg',), bases=('heap-pk',),
              goals=(at_least(500, name='mb_s'),))


def slow(cell):
  cell.variant = 'slow disk'
  return cell


def commits(threads, *goals):
  return Cell('wire', 'rate', '/s', 'more', ('ack_p50_us', 'ack_p99_us'), 'commit',
              {'partitions': 64, 'threads': threads}, goals=goals)


INSERT = 'INSERT INTO :table (key, value) VALUES ($1, $2)'
PRODUCE = 'SELECT kafka.produce(:topic, $2::bytea, $1::text)'
INSERT_SELECT = 'INSERT INTO :table (key, value) SELECT key, value FROM bench.source'
# Each record is a row, whose key would not let it be applied twice.
CONSUME = ('INSERT INTO bench.applied SELECT partition, "offset", octet_length(value)'
           ' FROM kafka.consume(:group, :topic, 500)')

CELLS = {
  # ---- Kafka clients ----
  'produce-1k': throughput((at_least(1.5, 'kafka-fsync'), at_least(1.0, 'kafka', wanted=True)),
                           size=1024, partitions=4),
  'produce-100b': throughput((at_least(1.0, 'kafka-fsync'), at_least(1.0, 'kafka', wanted=True)),
                             size=100, partitions=4, outstanding=500000),
  'produce-1k-lz4': throughput(DEFAULT, size=1024, partitions=4, codec='lz4'),
  'produce-idempotent-1k': throughput(DEFAULT, size=1024, partitions=4, idempotent=1),
  'produce-1k-acks1': throughput((), size=1024, partitions=4, acks=1, systems=PLAIN),
  'produce-100p-keyed': throughput(DEFAULT, size=1024, partitions=100, keyed=1),
  'produce-1000p-keyed': throughput(DEFAULT, size=1024, partitions=1000, keyed=1,
                                    warmup=3),
  'consume-1k': consume(),
  'consume-1k-5': consume(readers=5),
  'consume-1k-cold': consume(passes=1, cold=True),
  'latency-1': Cell('wire', 'ack_p50_us', 'us', 'less', ('ack_p99_us', 'ack_p999_us', 'rate'),
                    'latency', {'size': 1024, 'partitions': 1},
                    goals=(at_most(0.7, 'kafka-fsync'), at_most(0.5, 'kafka-fsync', wanted=True),
                           at_most(1.0, 'kafka-fsync', 'ack_p99_us'))),
  'latency-64': Cell('wire', 'rate', 'msg/s', 'more', ('ack_p50_us', 'ack_p99_us'),
                     'latency', {'size': 1024, 'partitions': 4, 'threads': 64},
                     goals=(at_least(3.0, 'kafka-fsync'),)),
  'e2e-1k': end_to_end(1000),
  'e2e-10k': end_to_end(10000),
  'e2e-50k': end_to_end(50000),

  # ---- consumer groups ----
  'commit-1': commits(1, at_least(2.0, 'kafka-fsync')),
  'commit-64': commits(64, at_least(3.0, 'kafka-fsync'), at_least(1.0, 'kafka')),
  'join-100': Cell('wire', 'join_p50_us', 'us', 'less', ('join_p99_us', 'rate'), 'join',
                   {'partitions': 4, 'members': 100},
                   goals=(at_most(1.0, 'kafka', 'join_p50_us'),)),
  'rebalance-20': Cell('wire', 'e2e_max_us', 'us', 'less', ('e2e_p99_us', 'e2e_p50_us', 'again'),
                       'stall', {'size': 100, 'partitions': 64, 'members': 20, 'rate': 1000},
                       systems=PLAIN, least_seconds=6,
                       goals=(at_most(1.0, 'kafka', 'e2e_max_us'),)),
  'rebalance-20-consumer': Cell('wire', 'e2e_max_us', 'us', 'less',
                                ('e2e_p99_us', 'e2e_p50_us', 'again'), 'stall-consumer',
                                {'size': 100, 'partitions': 64, 'members': 20, 'rate': 1000,
                                 'warmup': 3},
                                systems=PLAIN, servers=PLAIN, variant='fast heartbeats',
                                bases=('kafka',), least_seconds=6,
                                goals=(at_most(1.0, 'kafka', 'e2e_max_us'),)),
  'idle-groups': Cell('idle', 'cpu_percent', '%', 'less', ('heartbeat_p50_us', 'heartbeat_p99_us'),
                      options={'groups': 1000, 'members': 3}, systems=PLAIN, servers=PLAIN,
                      variant='connections', bases=('kafka',), least_seconds=6,
                      goals=(at_most(1.0, 'kafka', 'cpu_percent'),)),

  # ---- memory, and starting ----
  'memory': Cell('memory', 'total_mb', 'MB', 'less', ('private_mb', 'own_shared_mb'),
                 systems=PLAIN, goals=(at_most(64, name='total_mb'),)),
  'start': Cell('start', 'seconds', 's', 'less', systems=PLAIN,
                goals=(at_most(1.0, name='seconds'),)),

  # ---- SQL, beside heap tables in the same server ----
  'sql-produce-1': sql_transactions(1, PRODUCE),
  'sql-produce-16': sql_transactions(16, PRODUCE),
  'sql-insert-1': sql_transactions(1, INSERT),
  'sql-insert-16': sql_transactions(16, INSERT),
  'sql-insert-select': sql_bulk(2.0, 'transactions', rows=50000,
                                sql=statements(INSERT_SELECT, INSERT_SELECT, HEAP_PK)),
  'sql-copy-binary': sql_bulk(2.0, 'copy', format='binary', rows=50000),
  'sql-copy-text': sql_bulk(1.3, 'copy', format='text', rows=50000),
  'sql-count': sql_query('count(*)', 1000000),
  'sql-sum': sql_query('sum(octet_length(value))', 1024 * 1000000),
  'sql-consume': Cell('sql_consume', 'rate', 'rows/s', 'more', ('mb_s', 'ack_p50_us', 'ack_p99_us'),
                      'transactions', {'size': 1024, 'rows': 500}, fill=dict(MILLION, count=3000000),
                      sql={'kafka_pg': CONSUME}, systems=('kafka_pg',), servers=('kafka_pg',),
                      bases=(), goals=(at_least(50000),)),
  'bystander': Cell('bystander', 'rate', 'tps', 'more',
                    ('latency_us', 'latency_p99_us', 'load_mb_s', 'load_wanted_mb_s', 'xmin_age',
                     'xmin_held_ms', 'vacuums'),
                    options={'size': 1024, 'partitions': 4},
                    systems=('alone', 'heap-pk', 'kafka_pg', 'kafka_pg-half'),
                    servers=('kafka_pg',), bases=('alone', 'heap-pk'), least_seconds=6,
                    goals=(at_least(1.0, 'heap-pk'), at_most(100, name='xmin_held_ms'),
                           at_most(0, name='vacuums'))),

  # ---- many connections ----
  'connections-10k': Cell('connections', 'bytes_per_connection', 'B', 'less',
                          ('served', 'connecting_s', 'answer_p99_us'),
                          options={'connections': 10000}, systems=PLAIN, servers=PLAIN,
                          variant='connections', bases=('kafka',),
                          goals=(at_most(16384, name='bytes_per_connection'),
                                 at_least(10000, name='served'))),

  # ---- a slow disk: a flush takes 2 to 3 ms more ----
  'slow-produce-1k': throughput((at_least(1.0, 'kafka-fsync', wanted=True),), size=1024,
                                partitions=4, variant='slow disk'),
  'slow-latency-64': slow(Cell('wire', 'rate', 'msg/s', 'more', ('ack_p50_us', 'ack_p99_us'),
                               'latency', {'size': 1024, 'partitions': 4, 'threads': 64},
                               systems=FLUSHED,
                               goals=(at_least(3.0, 'kafka-fsync', wanted=True),))),
  'slow-e2e-10k': end_to_end(10000, 'slow disk',
                             (at_most(1.0, 'kafka-fsync', 'e2e_p99_us', wanted=True),),
                             systems=FLUSHED),
  'slow-e2e-half': end_to_end(None, 'slow disk', how='half', systems=FLUSHED, goals=(
    at_most(1.0, 'kafka-fsync', 'e2e_p99_us', wanted=True),)),
  'slow-fetch': slow(Cell('fetch', 'fetch_p99_us', 'us', 'less',
                          ('fetch_p50_us', 'fetch_max_us', 'write_p50_us'), 'fetch',
                          {'partitions': 4, 'count': 50000},
                          fill={'size': 1024, 'partitions': 4, 'count': 200000,
                                'rdkafka.batch.num.messages': 50}, systems=PLAIN,
                          goals=(at_most(2000, name='fetch_p99_us'),
                                 at_most(1.0, 'kafka', 'fetch_p99_us', wanted=True)))),

  # ---- after kill -9 ----
  'restart': Cell('restart', 'seconds', 's', 'less', ('wal_gb', 'mb_s'),
                  systems=('stock', 'kafka_pg'), servers=('stock', 'kafka_pg'), bases=('stock',),
                  goals=(at_most(1.0, 'stock', 'seconds'),)),
}
