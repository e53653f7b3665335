"""The servers under test: started, stopped, and measured from outside through /proc."""
import getpass
import os
import signal
import subprocess
import time

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TICK = os.sysconf('SC_CLK_TCK')
SHIM = os.path.join(TOP, 'build/bench/slowdisk.so')
SLOWDISK = '2000,3000'      # microseconds that a flush takes longer
CONNECTIONS = 10100         # room for those of the cell and a few more
HEARTBEAT_MS = 500          # of members of the consumer protocol, whom the server tells it


def command(*words, **more):
  """A program's output; its errors are seen, its failure is ours."""
  return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def read_stat(pid):
  """The fields of /proc/PID/stat from the third on, or None when it is gone."""
  try:
    with open('/proc/%s/stat' % pid) as stat_file:
      return stat_file.read().rpartition(')')[2].split()
  except OSError:
    return None


class Server:
  """One server; a subclass names the script that handles it."""
  settings = ()

  def __init__(self, name, durability, args, port, variant):
    self.name = name
    self.durability = durability
    self.dir = os.path.join(args.dir, name)
    self.port = port
    self.variant = variant
    self.environment = dict(os.environ)
    if variant == 'slow disk':
      self.environment.update(BENCH_PRELOAD=SHIM, SLOWDISK=SLOWDISK)

  def script(self, verb, *words):
    return command(os.path.join(HERE, self.program), verb, self.dir, *words, env=self.environment)

  def start(self):
    self.script('start', str(self.port), *self.settings)

  def stop(self):
    self.script('stop')

  def halt(self):
    """Shut down; launch() brings it back with what it has."""
    self.script('halt')

  def launch(self):
    """Begins to start it; the process returned ends when the script does."""
    return subprocess.Popen([os.path.join(HERE, self.program), 'launch', self.dir],
                            env=self.environment)

  def kill(self):
    """All its processes, at once and with no warning."""
    pids = self.pids()
    for pid in pids:
      os.kill(pid, signal.SIGKILL)
    while any(read_stat(pid) for pid in pids):
      time.sleep(0.01)

  def settle(self):
    """What was written reaches the disk now, and not in somebody else's turn."""
    os.sync()

  def rest(self):
    """What the server does by itself when nobody loads it comes to its end."""

  def cool(self, topic):
    """A topic's records leave memory; returns how many MB of them could not be made to."""
    self.settle()
    left = 0
    for path in self.files(topic):
      fd = os.open(path, os.O_RDONLY)
      os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
      os.close(fd)
      left += int(command('fincore', '-b', '-n', '-o', 'RES', path) or 0)
    return left / 2**20

  def pids(self):
    """All processes of the server."""
    with open(os.path.join(self.dir, 'pid')) as pid_file:
      first = int(pid_file.read())
    children = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
      stat = read_stat(pid)
      if stat:
        children.setdefault(int(stat[1]), []).append(int(pid))
    found, look = [], [first]
    while look:
      pid = look.pop()
      found.append(pid)
      look += children.get(pid, [])
    return found

  def counters(self):
    """CPU seconds and bytes written by all processes so far, those that have ended included: what
    they used is their parent's when it has waited for them."""
    ticks = written = 0
    for pid in self.pids():
      stat = read_stat(pid)
      try:
        with open('/proc/%d/io' % pid) as io_file:
          io = dict(line.split(': ') for line in io_file.read().splitlines())
      except OSError:
        continue
      if stat:
        ticks += sum(int(field) for field in stat[11:15])
        written += int(io['write_bytes'])
    return ticks / TICK, written

  def device_bytes(self):
    """Bytes that the disk under the data has been given, by anybody."""
    device = os.stat(self.dir).st_dev
    with open('/proc/diskstats') as diskstats:
      for line in diskstats:
        fields = line.split()
        if (int(fields[0]), int(fields[1])) == (os.major(device), os.minor(device)):
          return int(fields[9]) * 512
    return None

  def memory_mb(self):
    """Memory of all processes, shared pages counted once, and the part that is not shared."""
    resident = private = 0
    for pid in self.pids():
      try:
        with open('/proc/%d/smaps_rollup' % pid) as rollup:
          for line in rollup:
            if line.startswith('Pss:'):
              resident += int(line.split()[1])
            elif line.startswith('Pss_Anon:'):
              private += int(line.split()[1])
      except OSError:
        continue
    return resident / 1024, private / 1024

  def own_shared_mb(self):
    """Shared memory that is there for Kafka's sake, its buffers for data apart."""
    return 0.0


class Kafka(Server):
  program = 'kafka'

  def __init__(self, *rest):
    super().__init__(*rest)
    if self.variant == 'fast heartbeats':
      self.settings += tuple('group.consumer.%sheartbeat.interval.ms=%d' % (least, HEARTBEAT_MS)
                             for least in ('min.', ''))

  def version(self):
    return 'Apache Kafka ' + command(os.path.join(HERE, 'kafka'), 'version').strip()

  def files(self, topic):
    for entry in os.listdir(os.path.join(self.dir, 'data')):
      if entry.startswith(topic + '-'):
        folder = os.path.join(self.dir, 'data', entry)
        yield from (os.path.join(folder, name) for name in os.listdir(folder))


class KafkaFsync(Kafka):
  settings = ('log.flush.interval.messages=1',)


class Postgres(Server):
  """Without kafka_pg, but with the same settings."""
  program = 'pg'

  def __init__(self, *rest):
    super().__init__(*rest)
    self.environment['BENCH_STOCK'] = '1'
    self.user = 'postgres' if os.geteuid() == 0 else getpass.getuser()
    self.conninfo = 'host=%s/run user=%s dbname=postgres' % (self.dir, self.user)

  def sql(self, statement, *parameters):
    """Runs a statement in a session and transaction of its own; its rows, if it has any."""
    connection = psycopg2.connect(self.conninfo)
    try:
      connection.autocommit = True
      with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else None
    finally:
      connection.close()

  def settle(self):
    """A checkpoint is part of what the records cost: it is counted, and not left to the next."""
    self.sql('CHECKPOINT')
    os.sync()

  def bindir(self):
    return command(os.path.join(HERE, 'pg'), 'bindir', self.dir).strip()

  def version(self):
    return self.sql('SELECT version()')[0][0].split(' on ')[0]


class KafkaPg(Postgres):

  def __init__(self, name, durability, args, port, variant):
    super().__init__(name, durability, args, port, variant)
    del self.environment['BENCH_STOCK']
    self.settings = tuple(args.set)
    if variant == 'connections':
      self.settings += tuple('kafka_pg.%s=%d' % (setting, CONNECTIONS) for setting in
                             ('max_connections', 'max_connections_per_address', 'max_groups'))
    if variant == 'fast heartbeats':
      self.settings += tuple('kafka_pg.group_consumer_%sheartbeat_interval=%d' % (least, HEARTBEAT_MS)
                             for least in ('min_', ''))

  def rest(self):
    """All WAL files have been made that min_wal_size keeps."""
    for _ in range(600):
      (made,), = self.sql("SELECT sum(size) >= pg_size_bytes(current_setting('min_wal_size'))"
                          " FROM pg_ls_waldir()")
      if made:
        return
      time.sleep(0.1)

  def files(self, topic):
    (path,), = self.sql('SELECT pg_relation_filepath(("table")::oid) FROM kafka.topic WHERE name = %s',
                        topic)
    path = os.path.join(self.dir, 'data', path)
    yield path
    n = 1
    while os.path.exists('%s.%d' % (path, n)):
      yield '%s.%d' % (path, n)
      n += 1

  def cool(self, topic):
    """A table that is moved to another tablespace leaves shared buffers: its file is copied past
    them."""
    if not self.sql("SELECT 1 FROM pg_tablespace WHERE spcname = 'bench_cold'"):
      connection = psycopg2.connect(self.conninfo)
      connection.autocommit = True
      connection.cursor().execute('SET allow_in_place_tablespaces = on')
      connection.cursor().execute("CREATE TABLESPACE bench_cold LOCATION ''")
      connection.close()
    self.sql('ALTER TABLE topics."%s" SET TABLESPACE bench_cold' % topic)
    return super().cool(topic)

  def own_shared_mb(self):
    (size,), = self.sql("SELECT sum(allocated_size) FROM pg_shmem_allocations"
                        " WHERE name LIKE 'kafka_pg%'")
    return float(size) / 2**20


# What runs under each name: its kind, what an acknowledgement is worth, its port from --port on.
SERVERS = {
  'kafka': (Kafka, 'page cache, no fsync', 0),
  'kafka-fsync': (KafkaFsync, 'fsync per batch', 2),
  'kafka_pg': (KafkaPg, 'fsync, group commit', 4),
  'stock': (Postgres, 'fsync', 5),
}


def make_server(name, args, variant):
  kind, durability, port = SERVERS[name]
  return kind(name, durability, args, args.port + port, variant)
