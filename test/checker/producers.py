"""Producers on the wire: librdkafka with every kind of acknowledgement, retry and codec."""
import random
import threading

from confluent_kafka import KafkaException, Producer

import content
from journal import now

SMALL, MEDIUM, LARGE = (0, 300), (500, 20000), (280000, 980000)
SLOW = (0.2, 0.6)


class Kind:
  """What a producer is like. A producer without retries sends each record at most once, so that even a
  record whose fate is unknown may be there at most once; one that retries and is not
  idempotent may leave as many copies as it met crashes."""

  def __init__(self, name, topic, acks, retry, codec, sizes, burst, **more):
    self.name = name
    self.topic = topic
    self.acks = acks
    self.idempotent = retry == "idempotent"
    self.retries = retry != "never"
    self.codec = codec
    self.sizes = sizes
    self.burst = burst
    self.window = more.get("window", 400)
    self.fresh = more.get("fresh", False)  # a new producer, with a new id, in each round
    self.linger = more.get("linger", 5)
    self.pace = more.get("pace", (0.005, 0.05))

  def config(self, bootstrap):
    config = {
      "bootstrap.servers": bootstrap,
      "acks": self.acks,
      "compression.codec": self.codec,
      "linger.ms": self.linger,
      "message.max.bytes": 1000000,
      "message.timeout.ms": 60000,
      "request.timeout.ms": 20000,
      "socket.timeout.ms": 20000,
      "reconnect.backoff.ms": 20,
      "reconnect.backoff.max.ms": 200,
      "retry.backoff.ms": 50,
      "log_level": 2,
    }
    if self.idempotent:
      config["enable.idempotence"] = True
    elif self.retries:
      # One request at a time: with more, a retry may overtake.
      config["max.in.flight.requests.per.connection"] = 1
    else:
      config["message.send.max.retries"] = 0
    return config


class WireProducer(threading.Thread):
  """Produces while the workload runs; drains when it pauses."""

  def __init__(self, workload, kind):
    super().__init__(daemon=True)
    self.workload = workload
    self.kind = kind
    self.generation = 0
    self.seq = 0
    self.acked = 0
    self.failed = 0
    self.pending = 0
    self.idle = threading.Event()
    self.random = random.Random("%s %s" % (workload.seed, kind.name))
    self.journal = workload.journal("wire-" + kind.name)
    self._new_producer()

  def _new_producer(self):
    kind = self.kind
    self.generation += 1
    self.actor = "w.%s.%d" % (kind.name, self.generation)
    self.journal.write("producer", now(), self.actor,
                       {"acks": kind.acks, "idempotent": kind.idempotent,
                        "retries": kind.retries, "codec": kind.codec})
    self.producer = Producer(kind.config(self.workload.bootstrap), logger=self.workload.logger)

  def _report(self, actor, seq, topic, partition):
    def report(error, message):
      self.pending -= 1
      if error is None:
        self.acked += 1
        self.journal.write("ack", now(), actor, topic, partition, seq, message.offset())
      else:
        self.failed += 1
        self.journal.write("fail", now(), actor, topic, partition, seq, error.name())
        if not self._may_fail(error):
          self.journal.complain("%s: record %d to %s/%d failed: %s" %
                                (actor, seq, topic, partition, error))
    return report

  def _may_fail(self, error):
    """Only a producer that does not retry may lose records to a crash; and then by its connection."""
    return not self.kind.retries and error.name() in (
      "_TRANSPORT", "_TIMED_OUT", "_MSG_TIMED_OUT", "REQUEST_TIMED_OUT", "NOT_LEADER_FOR_PARTITION",
      "LEADER_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE", "_DESTROY")

  def _burst(self):
    kind = self.kind
    partitions = self.workload.topics[kind.topic]
    for _ in range(self.random.randint(1, kind.burst)):
      if self.pending >= kind.window:
        break
      self.seq += 1
      seq, actor = self.seq, self.actor
      size = self.random.randint(*kind.sizes)
      partition = self.random.randrange(partitions)
      self.journal.write("send", now(), actor, kind.topic, partition, seq, size)
      self.pending += 1
      self.producer.produce(kind.topic, content.value(actor, seq, size), content.key(actor, seq),
                            partition, self._report(actor, seq, kind.topic, partition),
                            headers=content.headers(actor, seq))

  def run(self):
    try:
      self._run()
    except (KafkaException, BufferError, OSError) as error:
      self.journal.complain("%s: died: %r" % (self.actor, error))
      self.idle.set()

  def _run(self):
    while not self.workload.over:
      if self.workload.running.is_set():
        self.idle.clear()
        self._burst()
        # Not poll(pause) alone: it returns with the first report.
        pause = now() + self.random.uniform(*self.kind.pace)
        while self.producer.poll(max(pause - now(), 0)) or now() < pause:
          pass
        continue
      if not self.idle.is_set():
        left = self.producer.flush(self.workload.drain_timeout)
        if left:
          self.journal.complain("%s: %d records neither acknowledged nor failed after %d s" %
                                (self.actor, left, self.workload.drain_timeout))
        if self.kind.fresh:
          self._new_producer()
        self.journal.flush()
        self.idle.set()
      self.workload.running.wait(0.1)


def kinds(a, b, c):
  """The usual mix: topics a (several partitions), b (small segments), c (large records)."""
  return [
    Kind("all-none", a, "all", "never", "none", SMALL, 12),
    Kind("all-gzip", b, "all", "retry", "gzip", MEDIUM, 4),
    Kind("one-lz4", a, 1, "never", "lz4", SMALL, 12),
    Kind("one-snappy", b, 1, "retry", "snappy", MEDIUM, 4, linger=50),
    Kind("idem-zstd", a, "all", "idempotent", "zstd", SMALL, 20),
    Kind("idem-none", b, "all", "idempotent", "none", MEDIUM, 3),
    Kind("idem-fresh", a, "all", "idempotent", "lz4", SMALL, 12, fresh=True),
    Kind("idem-large", c, "all", "idempotent", "none", LARGE, 1, window=3, pace=SLOW),
    Kind("all-large", c, "all", "never", "none", LARGE, 1, window=2, pace=SLOW),
    Kind("one-large", b, 1, "never", "zstd", LARGE, 1, window=1, pace=SLOW),
  ]
