"""SQL sessions that produce: each transaction writes topics and an ordinary table, which must agree."""
import random
import threading

import psycopg2

import content
from journal import now


def is_gone(conn, error):
  """Has the connection been lost, or does the server say that it goes down or comes up?"""
  # Without an SQLSTATE it is libpq that speaks.
  return conn is None or conn.closed != 0 or error.pgcode is None or \
    error.pgcode[:3] in ("57P", "080")


HEADER_SQL = "ARRAY[kafka.header('h', %s), kafka.header('n', NULL), kafka.header('h', %s), " \
             "kafka.header('', '')]"


class Write:
  """One record of a transaction; kept unless a savepoint's rollback takes it back."""

  def __init__(self, topic, partition, seq, size):
    self.topic = topic
    self.partition = partition
    self.seq = seq
    self.size = size
    self.kept = True


class SqlProducer(threading.Thread):
  """Transactions with INSERT or kafka.produce, savepoints, commits and rollbacks.

  The whole transaction is decided, and written to the journal, before it begins.
  """

  def __init__(self, workload, name, topics, how, synchronous=True, believed=False):
    super().__init__(daemon=True)
    self.workload = workload
    self.actor = "s." + name
    self.topics = topics
    self.how = how
    self.synchronous = synchronous
    self.believed = synchronous or believed
    self.seq = 0
    self.tx = 0
    self.committed = self.unknown = 0
    self.idle = threading.Event()
    self.random = random.Random("%s %s" % (workload.seed, name))
    self.journal = workload.journal("sql-" + name)
    self.conn = None

  def _connect(self):
    self.conn = psycopg2.connect(self.workload.dsn, connect_timeout=10)
    self.conn.autocommit = True
    with self.conn.cursor() as cursor:
      cursor.execute("SET synchronous_commit = %s", ("on" if self.synchronous else "off",))
    self.conn.autocommit = False

  def _disconnect(self):
    if self.conn is not None:
      try:
        self.conn.close()
      except psycopg2.Error:
        pass
    self.conn = None

  # ----------------------------------------------------------------------------------------
  # Plans: a list of steps, ("write", [Write]) | ("savepoint" | "rollback" | "release", name).
  # ----------------------------------------------------------------------------------------

  def _plan_writes(self):
    writes = []
    for _ in range(self.random.randint(1, 12)):
      self.seq += 1
      topic = self.random.choice(self.topics)
      size = self.random.randint(0, 400)
      if self.random.random() < 0.01:
        size = self.random.randint(270000, 900000)
      partition = self.random.randrange(self.workload.topics[topic])
      writes.append(Write(topic, partition, self.seq, size))
    return writes

  def _plan(self, depth=0):
    steps = []
    for _ in range(self.random.randint(1, 3)):
      if depth < 3 and self.random.random() < 0.35:
        name = "s%d" % depth
        inner = self._plan(depth + 1)
        end = self.random.choice(("rollback", "release", "release"))
        if end == "rollback":
          for kind, what in inner:
            if kind == "write":
              for write in what:
                write.kept = False
        steps += [("savepoint", name)] + inner + [(end, name)]
      else:
        steps.append(("write", self._plan_writes()))
    return steps

  def _write(self, cursor, writes):
    cursor.execute("INSERT INTO crash_ledger SELECT %s, unnest(%s)",
                   (self.actor, [write.seq for write in writes]))
    if self.how == "insert":
      by_topic = {}
      for write in writes:
        by_topic.setdefault(write.topic, []).append(write)
      for topic, some in by_topic.items():
        rows, params = [], []
        for write in some:
          pairs = content.headers(self.actor, write.seq)
          rows.append("(%s, %s::bytea, %s::bytea, {})".format(HEADER_SQL if pairs else "NULL"))
          params += [write.partition, content.key(self.actor, write.seq),
                     content.value(self.actor, write.seq, write.size)]
          params += [pairs[0][1], pairs[2][1]] if pairs else []
        cursor.execute("INSERT INTO topics.%s (partition, key, value, headers) VALUES %s" %
                       (topic, ", ".join(rows)), params)
      return
    for write in writes:
      pairs = content.headers(self.actor, write.seq)
      cursor.execute("SELECT kafka.produce(%s, %s::bytea, %s::bytea, {}, %s)".format(
        HEADER_SQL if pairs else "NULL::kafka.header[]"),
                     [write.topic, content.value(self.actor, write.seq, write.size),
                      content.key(self.actor, write.seq)] +
                     ([pairs[0][1], pairs[2][1]] if pairs else []) + [write.partition])

  def _transaction(self):
    steps = self._plan()
    commit = self.random.random() < 0.75
    self.tx += 1
    writes = [write for kind, what in steps if kind == "write" for write in what]
    self.journal.write("tx", now(), self.actor, self.tx, self.believed,
                       [(w.topic, w.partition, w.seq, w.size, w.kept) for w in writes])
    asked = False
    try:
      with self.conn.cursor() as cursor:
        for kind, what in steps:
          if kind == "write":
            self._write(cursor, what)
          elif kind == "savepoint":
            cursor.execute("SAVEPOINT " + what)
          elif kind == "rollback":
            cursor.execute("ROLLBACK TO SAVEPOINT %s; RELEASE SAVEPOINT %s" % (what, what))
          else:
            cursor.execute("RELEASE SAVEPOINT " + what)
      if commit:
        self.journal.write("commit", now(), self.actor, self.tx)
        asked = True
        self.conn.commit()
        self.committed += 1
      else:
        self.conn.rollback()
      self.journal.write("end", now(), self.actor, self.tx, "committed" if commit else "rolled back")
    except psycopg2.Error as error:
      if is_gone(self.conn, error):
        self.unknown += asked
        self.journal.write("end", now(), self.actor, self.tx, "unknown" if asked else "rolled back")
        raise
      self.journal.write("end", now(), self.actor, self.tx, "rolled back")
      self.journal.complain("%s: %s" % (self.actor, str(error).strip()))
      self.conn.rollback()

  def run(self):
    while not self.workload.over:
      if self.workload.running.is_set():
        self.idle.clear()
        try:
          if self.conn is None:
            self._connect()
          self._transaction()
        except psycopg2.Error:
          self._disconnect()
          self.workload.sleep(0.05)
        self.workload.sleep(self.random.uniform(0, 0.03))
        continue
      self.journal.flush()
      self.idle.set()
      self.workload.running.wait(0.1)
