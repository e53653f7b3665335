"""The turn of one system in one cell: what is prepared, measured, checked and cleaned up.

Every function here takes the run, the cell's name, the cell and the system's name, and returns the
numbers of that turn. It raises Failed when anything did: a cell without a failure, or no numbers.
"""
import json
import os
import subprocess
import tempfile
import threading
import time

import psycopg2

import kafka_client
from servers import HERE, TOP

DRIVER = os.path.join(TOP, 'build/bench/driver')
# Verbs of other programs.
PROGRAMS = {'stall-consumer': [os.path.join(HERE, 'kafka'), 'java',
                               os.path.join(HERE, 'driver/Stall.java')]}


class Failed(Exception):
  """Something went wrong in a turn: there are no numbers for its cell."""


# ---- the driver ----

def words_of(verb, server, options):
  program = PROGRAMS.get(verb, [DRIVER, verb])
  return [*program, 'broker=127.0.0.1:%d' % server.port,
          *('%s=%s' % option for option in options.items())]


def result_of(words, process_or_done, text):
  try:
    result = json.loads(text)
  except ValueError:
    raise Failed('%s: no result (status %d)' % (' '.join(words), process_or_done.returncode))
  if process_or_done.returncode or result['errors']:
    raise Failed('%s: %s' % (' '.join(words), result.get('error', 'failed')))
  return result


def drive(verb, server, **options):
  words = words_of(verb, server, options)
  done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
  return result_of(words, done, done.stdout)


class Background:
  """A driver that works while something else is measured."""

  def __init__(self, verb, server, **options):
    self.words = words_of(verb, server, options)
    self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True)

  def __enter__(self):
    return self

  def __exit__(self, kind, *rest):
    if kind:
      self.process.kill()
      self.process.wait()

  def result(self, line=None):
    text, _ = self.process.communicate(line)
    return result_of(self.words, self.process, text)


def counted(server, load):
  """What load() returns, with the CPU time, bytes and memory that it took of the server."""
  cpu_before, written_before = server.counters()
  device_before = server.device_bytes()
  result = load()
  result['resident_mb'], result['private_mb'] = server.memory_mb()
  server.settle()
  cpu, written = server.counters()
  result['broker_cpu_us_per_record'] = (cpu - cpu_before) * 1e6 / result['records']
  result['written_per_byte'] = (written - written_before) / result['bytes']
  if device_before is not None:
    result['device_per_byte'] = (server.device_bytes() - device_before) / result['bytes']
  return result


def warm_up(server, seconds):
  """The JVM compiles before anything counts; kafka_pg's WAL files exist before, as they do on a
  server that has run for a while."""
  for codec, idempotent in ('none', 0), ('lz4', 1):
    drive('create', server, topic='warm-up', partitions=4)
    drive('produce', server, topic='warm-up', partitions=4, seconds=seconds, codec=codec,
          idempotent=idempotent)
    drive('delete', server, topic='warm-up')
    server.settle()
  server.rest()


def seconds_of(run, cell):
  return max(run.args.seconds, cell.least_seconds)


# ---- Kafka clients ----

def wire(run, name, cell, system, **more):
  server = run.servers[system]
  options = dict(cell.options, **more)
  topic = 'bench-%s' % name
  drive('create', server, topic=topic, partitions=options['partitions'])
  if cell.fill:
    drive('produce', server, topic=topic, **cell.fill)
  server.settle()
  in_memory = server.cool(topic) if cell.cold else None
  result = counted(server, lambda: drive(cell.verb, server, topic=topic,
                                         seconds=seconds_of(run, cell), **options))
  if cell.cold:
    result['in_memory_mb'] = in_memory
  drive('delete', server, topic=topic)
  return result


def peak(run, server):
  """How many records of 1 KB a second the server takes: what produce-1k has found, or measured
  here once."""
  if server.name not in run.peaks:
    drive('create', server, topic='peak', partitions=4)
    run.peaks[server.name] = drive('produce', server, topic='peak', partitions=4, size=1024,
                                   seconds=run.args.seconds)['rate']
    drive('delete', server, topic='peak')
    server.settle()
  return run.peaks[server.name]


def half(run, name, cell, system):
  """At half of what this system takes when it is asked for all it can."""
  return wire(run, name, cell, system, rate=int(peak(run, run.servers[system]) / 2), linger=5)


def fetch(run, name, cell, system):
  """Reads of what is in memory, while others write to the same partitions."""
  server = run.servers[system]
  topic = 'bench-%s' % name
  seconds = seconds_of(run, cell)
  drive('create', server, topic=topic, partitions=4)
  drive('produce', server, topic=topic, **cell.fill)
  server.settle()
  with Background('rate', server, topic=topic, partitions=4, rate=10000, consumer=0,
                  seconds=seconds + 1) as writes:
    result = counted(server, lambda: drive('fetch', server, topic=topic, seconds=seconds,
                                           **cell.options))
    result['write_p50_us'] = writes.result()['ack_p50_us']
  drive('delete', server, topic=topic)
  return result


# ---- memory, connections, starting ----

def memory(run, name, cell, system):
  """After all kinds of load: plain, idempotent and many producers, several consumers."""
  server = run.servers[system]
  topic = 'bench-memory'
  drive('create', server, topic=topic, partitions=4)
  for options in {}, {'idempotent': 1}, {'codec': 'lz4'}:
    drive('produce', server, topic=topic, partitions=4, size=1024, warmup=0, count=200000,
          **options)
  drive('latency', server, topic=topic, partitions=4, threads=64, seconds=1, warmup=0)
  drive('consume', server, topic=topic, partitions=4, readers=5, seconds=1)
  server.settle()
  resident, private = server.memory_mb()
  shared = server.own_shared_mb()
  drive('delete', server, topic=topic)
  return {'total_mb': private + shared, 'private_mb': private, 'own_shared_mb': shared,
          'resident_mb': resident}


def connections(run, name, cell, system):
  server = run.servers[system]
  n = cell.options['connections']
  drive('create', server, topic='bench-connections', partitions=4)
  private_before = server.memory_mb()[1]
  with Background('connections', server, topic='bench-connections', partitions=4,
                  connections=n) as clients:
    first = clients.process.stdout.readline()
    if first != 'ready\n':
      result_of(clients.words, clients.process, first)
    time.sleep(1)
    private = server.memory_mb()[1]
    result = clients.result('\n')
  result['private_mb'] = private
  result['bytes_per_connection'] = (private - private_before) * 2**20 / n
  drive('delete', server, topic='bench-connections')
  server.settle()
  return result


def idle(run, name, cell, system):
  """CPU time that groups take which do nothing but send heartbeats, each member every 3 s."""
  server = run.servers[system]
  drive('create', server, topic='bench-idle', partitions=4)
  with Background('idle', server, topic='bench-idle', **cell.options) as clients:
    first = clients.process.stdout.readline()
    if first != 'ready\n':
      result_of(clients.words, clients.process, first)
    time.sleep(1)
    began, (cpu_before, _) = time.monotonic(), server.counters()
    time.sleep(seconds_of(run, cell))
    took, (cpu, _) = time.monotonic() - began, server.counters()
    result = clients.result('\n')
  result['cpu_percent'] = 100 * (cpu - cpu_before) / took
  drive('delete', server, topic='bench-idle')
  server.settle()
  return result


def wait_for_answer(server, topic, began):
  """Seconds until the server tells a client the topic's leaders, or answers a query if it serves
  no Kafka clients."""
  while time.monotonic() - began < 600:
    if topic is not None:
      if kafka_client.has_leaders(server.port, topic):
        return time.monotonic() - began
    else:
      try:
        server.sql('SELECT 1')
        return time.monotonic() - began
      except psycopg2.OperationalError:
        pass
    time.sleep(0.002)
  raise Failed('%s did not answer in ten minutes' % server.name)


def launch_and_wait(server, topic):
  began = time.monotonic()
  launching = server.launch()
  seconds = wait_for_answer(server, topic, began)
  if launching.wait() != 0:
    raise Failed('%s did not start' % server.name)
  return seconds


def start(run, name, cell, system):
  """After a clean shutdown, with a topic that has records."""
  server = run.servers[system]
  drive('create', server, topic='bench-start', partitions=4)
  drive('produce', server, topic='bench-start', partitions=4, count=100000)
  server.halt()
  result = {'seconds': launch_and_wait(server, 'bench-start')}
  drive('delete', server, topic='bench-start')
  server.settle()
  return result


def restart(run, name, cell, system):
  """After kill -9, with so much WAL since the last checkpoint."""
  server = run.servers[system]
  wanted = run.args.wal_gb * 2**30
  topic = 'bench-restart' if system == 'kafka_pg' else None
  if topic:
    drive('create', server, topic=topic, partitions=4)
  else:
    make_table(server, 'heap')
  server.settle()
  redo = "(SELECT redo_lsn FROM pg_control_checkpoint())"
  (redo_before,), = server.sql('SELECT ' + redo)
  records = wal = 0
  while wal < wanted:
    count = max(1000, int((wanted - wal) / 1150))
    if topic:
      drive('produce', server, topic=topic, partitions=4, size=1024, count=count)
    else:
      drive('copy', server, conninfo=server.conninfo, table='bench.records', size=1024, count=count,
            rows=100000, warmup=0)
    records += count
    (wal, redo_now), = server.sql('SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)::float, %s'
                                  % (redo, redo))
    if redo_now != redo_before:
      raise Failed('%s: a checkpoint came in between; max_wal_size is too small for %g GB of WAL'
               % (server.name, run.args.wal_gb))
  os.sync()
  server.kill()
  seconds = launch_and_wait(server, topic)
  if topic:
    (found,), = server.sql('SELECT sum(high_watermark) FROM kafka.partitions WHERE topic = %s', topic)
  else:
    (found,), = server.sql('SELECT count(*) FROM bench.records')
  if found != records:
    raise Failed('%s: %d records before the crash, %d after it' % (server.name, records, found))
  if topic:
    drive('delete', server, topic=topic)
  else:
    server.sql('DROP TABLE bench.records')
  server.settle()
  return {'seconds': seconds, 'wal_gb': wal / 2**30, 'mb_s': wal / 1e6 / seconds}


# ---- SQL ----

COLUMNS = {
  # The plainest that there is: nothing but the row is written.
  'heap': '"offset" bigint NOT NULL DEFAULT 0',
  'heap-pk': '"offset" bigint GENERATED BY DEFAULT AS IDENTITY, PRIMARY KEY (partition, "offset")',
}


def make_table(server, kind):
  """bench.records, with a topic's columns."""
  server.sql('CREATE SCHEMA IF NOT EXISTS bench')
  server.sql('DROP TABLE IF EXISTS bench.records')
  server.sql('CREATE TABLE bench.records (partition int NOT NULL DEFAULT 0, "timestamp" timestamptz'
             ' NOT NULL DEFAULT now(), key bytea, value bytea, headers bytea[], ' + COLUMNS[kind] + ')')


def make_source(run, server, rows):
  """What INSERT … SELECT reads: keys and values of 1 KB, in a heap."""
  if 'source' not in run.once:
    server.sql('CREATE SCHEMA IF NOT EXISTS bench')
    server.sql('CREATE TABLE bench.source (key bytea, value bytea)')
    drive('copy', server, conninfo=server.conninfo, table='bench.source', size=1024, count=rows,
          rows=rows, warmup=0)
    server.sql('VACUUM ANALYZE bench.source')
    run.once.add('source')


def sql(run, name, cell, system):
  server = run.servers['kafka_pg']
  topic = 'bench-%s' % name
  table = 'topics."%s"' % topic if system == 'kafka_pg' else 'bench.records'
  conninfo = server.conninfo + " options='-c max_parallel_workers_per_gather=0'"
  options = dict(cell.options, conninfo=conninfo, table=table)
  if cell.sql:
    options['statement'] = (cell.sql[system].replace(':table', table)
                            .replace(':topic', "'%s'" % topic))
    if 'bench.source' in options['statement']:
      make_source(run, server, options['rows'])
  if system == 'kafka_pg':
    drive('create', server, topic=topic, partitions=options['partitions'])
    if cell.fill:
      drive('produce', server, topic=topic, **cell.fill)
  else:
    make_table(server, system)
    if cell.fill:
      drive('copy', server, conninfo=conninfo, table=table, size=cell.fill['size'], rows=100000,
            count=cell.fill['count'], warmup=0)
      server.sql('VACUUM ANALYZE bench.records')
  server.settle()
  result = counted(server, lambda: drive(cell.verb, server, seconds=seconds_of(run, cell),
                                         **options))
  if not cell.fill:
    (found,), = server.sql('SELECT count(*) FROM ' + table)
    if found != result['records']:
      raise Failed('%s, %s: %d rows were committed, %d are there'
               % (name, system, result['records'], found))
  if system == 'kafka_pg':
    drive('delete', server, topic=topic)
  else:
    server.sql('DROP TABLE bench.records')
  return result


def sql_consume(run, name, cell, system):
  """A worker: batches of records into a table, with the offsets in the same transaction."""
  server = run.servers[system]
  topic = 'bench-%s' % name
  group = 'bench-%d' % time.monotonic_ns()
  drive('create', server, topic=topic, partitions=cell.fill['partitions'])
  drive('produce', server, topic=topic, **cell.fill)
  server.sql('CREATE SCHEMA IF NOT EXISTS bench')
  server.sql('CREATE TABLE bench.applied (partition int, "offset" bigint, bytes int,'
             ' PRIMARY KEY (partition, "offset"))')
  server.settle()
  statement = cell.sql[system].replace(':group', "'%s'" % group).replace(':topic', "'%s'" % topic)
  result = counted(server, lambda: drive(cell.verb, server, seconds=seconds_of(run, cell),
                                         conninfo=server.conninfo, statement=statement,
                                         **cell.options))
  (found,), = server.sql('SELECT count(*) FROM bench.applied')
  (committed,), = server.sql('SELECT sum("offset")::bigint FROM kafka.group_offset'
                             ' WHERE group_id = %s', group)
  if not found == committed == result['records']:
    raise Failed('%s: %d records were consumed, %d rows are there, and %d are committed'
                 % (name, result['records'], found, committed))
  server.sql('DROP TABLE bench.applied')
  drive('delete', server, topic=topic)
  return result


# ---- bystanders ----

class XminWatch(threading.Thread):
  """Looks at the snapshots of kafka_pg's processes all the time: the greatest age in transactions,
  and for how long one was held."""

  def __init__(self, server):
    super().__init__()
    self.connection = psycopg2.connect(server.conninfo)
    self.connection.autocommit = True
    self.done = threading.Event()
    self.age = 0
    self.held = 0.0
    self.looks = 0

  def run(self):
    since = {}
    with self.connection.cursor() as cursor:
      while not self.done.wait(0.02):
        cursor.execute("SELECT pid, backend_xmin::text, age(backend_xmin) FROM pg_stat_activity"
                       " WHERE backend_type LIKE 'kafka%' AND backend_xmin IS NOT NULL")
        now = time.monotonic()
        rows = cursor.fetchall()
        since = {row[:2]: since.get(row[:2], now) for row in rows}
        self.age = max([self.age] + [row[2] for row in rows])
        self.held = max([self.held] + [now - begun for begun in since.values()])
        self.looks += 1
    self.connection.close()

  def stop(self):
    self.done.set()
    self.join()
    if self.looks < 10:
      raise Failed('snapshots could not be watched')


def pgbench(run, server, seconds):
  """TPC-B of four clients: transactions a second, and latencies."""
  words = [os.path.join(server.bindir(), 'pgbench'), '-h', os.path.join(server.dir, 'run'),
           '-U', server.user, '-d', 'postgres']
  if 'pgbench' not in run.once:
    subprocess.run(words + ['-i', '-s', '10', '-q'], check=True, stderr=subprocess.DEVNULL)
    run.once.add('pgbench')
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(words + ['-c', '4', '-T', '%d' % seconds, '-l', '--log-prefix',
                                   os.path.join(folder, 'log')],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    latencies = []
    for entry in os.listdir(folder):
      with open(os.path.join(folder, entry)) as log:
        latencies += [int(line.split()[2]) for line in log]
  latencies.sort()
  lines = dict(line.split(' = ') for line in done.stdout.splitlines() if ' = ' in line)
  if 'number of failed transactions: 0 ' not in done.stdout:
    raise Failed('pgbench: transactions failed')
  return {'rate': float(lines['tps'].split()[0]),
          'latency_us': sum(latencies) / len(latencies),
          'latency_p99_us': latencies[len(latencies) * 99 // 100]}


def heap_peak(run, server):
  """How many rows of 1 KB a second four sessions COPY into a heap table with a primary key."""
  if 'heap-pk' not in run.peaks:
    make_table(server, 'heap-pk')
    run.peaks['heap-pk'] = drive('copy', server, conninfo=server.conninfo, sessions=4, size=1024,
                                 table='bench.records', rows=200, seconds=run.args.seconds)['rate']
    server.sql('DROP TABLE bench.records')
    server.settle()
  return run.peaks['heap-pk']


def bystander(run, name, cell, system):
  """pgbench alone; beside COPY into a heap table with a primary key, a transaction each 5 ms in
  each of four sessions, and beside producers with the same records a second, half of what the
  slower of the two takes; and beside producers at half of their own peak."""
  server = run.servers['kafka_pg']
  seconds = seconds_of(run, cell)
  rate = peak(run, server)
  if system != 'kafka_pg-half':
    rate = min(rate, heap_peak(run, server))
  rate = int(rate / 2)
  pgbench(run, server, 1)
  load = {'warmup': 1, 'seconds': seconds + 1}
  watch = XminWatch(server)
  by_kafka = system.startswith('kafka_pg')
  if by_kafka:
    drive('create', server, topic='bench-bystander', partitions=4)
    background = lambda: Background('rate', server, topic='bench-bystander', consumer=0, linger=5,
                                    rate=rate, **cell.options, **load)
  else:
    make_table(server, 'heap-pk')
    background = lambda: Background('copy', server, conninfo=server.conninfo, sessions=4,
                                    table='bench.records', size=1024, rows=max(1, rate // 800),
                                    pace=rate, **load)
  watch.start()
  if system == 'alone':
    result = pgbench(run, server, seconds)
  else:
    with background() as loading:
      time.sleep(1)
      result = pgbench(run, server, seconds)
      loaded = loading.result()
    result['load_mb_s'] = loaded['rate'] * 1024 / 1e6
    result['load_wanted_mb_s'] = rate * 1024 / 1e6
  watch.stop()
  if by_kafka:
    result['xmin_age'] = watch.age
    result['xmin_held_ms'] = watch.held * 1000
    # What would make autovacuum come: it counts dead rows and new ones.
    (result['vacuums'],), = server.sql(
      "SELECT coalesce(sum(autovacuum_count + autoanalyze_count + n_dead_tup"
      " + n_mod_since_analyze + n_ins_since_vacuum), 0)::float"
      " FROM pg_stat_all_tables WHERE schemaname = 'topics'")
    drive('delete', server, topic='bench-bystander')
  else:
    server.sql('DROP TABLE bench.records')
  server.settle()
  return result
