"""Readers: what each sees goes to the journal, with the watermarks that it is told."""
import random
import threading

import psycopg2
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import content
from journal import now
from sessions import is_gone


def consumer_config(bootstrap, **more):
  config = {
    "bootstrap.servers": bootstrap,
    "group.id": "crash-checker",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # An offset that has been read and is not there any more is what we look for.
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
    "check.crcs": True,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 20,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "log_level": 2,
  }
  config.update(more)
  return config


# What a client may be told while a server is down or comes up.
PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT,
           KafkaError._RESOLVE, KafkaError.LEADER_NOT_AVAILABLE,
           KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT,
           KafkaError._PARTITION_EOF)


class Reader(threading.Thread):
  """Reads every partition from its beginning, across crashes."""

  def __init__(self, workload, name):
    super().__init__(daemon=True)
    self.workload = workload
    self.actor = name
    self.seen = 0
    self.idle = threading.Event()
    self.random = random.Random("%s %s" % (workload.seed, name))
    self.journal = workload.journal(name)

  def _saw(self, t0, topic, partition, records):
    """Records: a list of (offset, (who, problem))."""
    found = []
    for offset, (who, problem) in records:
      if problem:
        self.journal.complain("%s read %s/%d offset %d: %s: %s" %
                              (self.actor, topic, partition, offset, who, problem))
      if who:
        found.append((offset, who[0], who[1]))
    self.seen += len(found)
    self.journal.write("seen", t0, now(), self.actor, topic, partition, found)

  def run(self):
    while not self.workload.over:
      if self.workload.running.is_set():
        self.idle.clear()
        try:
          self.read()
        except (psycopg2.Error, KafkaException) as error:
          self.failed(error)
          self.workload.sleep(0.05)
        continue
      self.journal.flush()
      self.idle.set()
      self.workload.running.wait(0.1)

  def failed(self, error):
    self.journal.complain("%s: %s" % (self.actor, str(error).strip()))


class WireReader(Reader):
  def __init__(self, workload, name, **config):
    super().__init__(workload, "r." + name)
    self.consumer = Consumer(consumer_config(workload.bootstrap, **config), logger=workload.logger)
    self.consumer.assign([TopicPartition(topic, partition, 0)
                          for topic, n in workload.topics.items() for partition in range(n)])

  def read(self):
    t0 = now()
    by_partition = {}
    for message in self.consumer.consume(200, 0.1):
      error = message.error()
      if error is None:
        by_partition.setdefault((message.topic(), message.partition()), []).append(
          (message.offset(), content.check_wire(message)))
      elif error.code() not in PASSING:
        self.journal.complain("%s: %s/%s: %s" %
                              (self.actor, message.topic(), message.partition(), error))
    for (topic, partition), records in by_partition.items():
      self._saw(t0, topic, partition, records)
    if self.random.random() < 0.2:
      topic = self.random.choice(list(self.workload.topics))
      partition = self.random.randrange(self.workload.topics[topic])
      t0 = now()
      try:
        low, high = self.consumer.get_watermark_offsets(TopicPartition(topic, partition),
                                                        timeout=1, cached=False)
      except KafkaException as error:
        if error.args[0].code() not in PASSING:
          self.journal.complain("%s: watermarks: %s" % (self.actor, error))
        return
      self.journal.write("mark", t0, now(), self.actor, topic, partition, low, high)


class SqlReader(Reader):
  """Alternates between SELECT and kafka.fetch."""

  def __init__(self, workload, name):
    super().__init__(workload, "q." + name)
    self.conn = None
    self.at = {(topic, partition): 0
               for topic, n in workload.topics.items() for partition in range(n)}

  def failed(self, error):
    if not is_gone(self.conn, error):
      super().failed(error)
    if self.conn is not None:
      self.conn.close()
    self.conn = None

  def read(self):
    if self.conn is None:
      self.conn = psycopg2.connect(self.workload.dsn, connect_timeout=10)
      self.conn.autocommit = True
    for topic, partition in self.at:
      if not self.workload.running.is_set():
        return
      with self.conn.cursor() as cursor:
        t0 = now()
        if self.random.random() < 0.5:
          cursor.execute("""%s FROM topics.%s WHERE partition = %d AND "offset" >= %d
              ORDER BY "offset" LIMIT 100""" %
                         (content.SQL_RECORD, topic, partition, self.at[topic, partition]))
        else:
          cursor.execute("%s FROM kafka.fetch('%s', %d, %d, 100)" %
                         (content.SQL_RECORD, topic, partition, self.at[topic, partition]))
        rows = cursor.fetchall()
        if rows:
          self._saw(t0, topic, partition, [(row[0], content.check_sql(row)) for row in rows])
          self.at[topic, partition] = rows[-1][0] + 1
        t0 = now()
        cursor.execute("""SELECT log_start, high_watermark FROM kafka.partitions
            WHERE topic = '%s' AND partition = %d""" % (topic, partition))
        low, high = cursor.fetchone()
        self.journal.write("mark", t0, now(), self.actor, topic, partition, low, high)
    self.workload.sleep(0.05)
