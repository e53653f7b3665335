"""The checker: what the journal says must be there, against what is there.

A problem is a pair (kind, text). README.md explains each kind.
"""
import bisect

import psycopg2
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import content
from journal import Tail, now
from readers import PASSING, consumer_config


class Transaction:
  def __init__(self, t, synchronous, writes):
    self.begun = t
    self.synchronous = synchronous
    self.writes = writes  # (topic, partition, seq, size, kept)
    self.commit = None    # when COMMIT was asked for
    self.outcome = "unknown"


class Model:
  """Everything that the journal tells, by what the checks ask for."""

  def __init__(self, directory):
    self._tail = Tail(directory)
    self.producers = {}      # actor: its properties
    self.sends = {}          # (actor, seq): (time, topic, partition)
    self.acks = {}           # (actor, seq): [(time, topic, partition, offset)]
    self.fails = {}          # (actor, seq): time
    self.transactions = {}   # (actor, tx): Transaction
    self.of_transaction = {}  # (actor, seq): (Transaction, kept)
    self.seen = {}           # (topic, partition): {offset: (who, end of the read, reader)}
    self.ranges = {}         # (reader, topic, partition): set of offsets
    self.bounds = {}         # (topic, partition): [(t0, t1, low, high)], least and most there was
    self.crashes = []        # [t0, t1]
    self.commits = {}        # (group, topic, partition): [(time, offset)], as asked for
    self.committed = {}      # the same: [(time, offset)], as acknowledged
    self.offsets = {}        # the same: [(t0, t1, offset)], as answered
    self.places = {}         # group: [(time, generation, who)]
    self.problems = []       # those that show while reading the journal

  def read(self):
    for event in self._tail.read():
      getattr(self, "_on_" + event[0])(*event[1:])
    self.crashes.sort()

  def _on_producer(self, _, actor, properties):
    self.producers[actor] = properties

  def _on_send(self, t, actor, topic, partition, seq, _):
    self.sends[actor, seq] = (t, topic, partition)

  def _on_ack(self, t, actor, topic, partition, seq, offset):
    self.acks.setdefault((actor, seq), []).append((t, topic, partition, offset))

  def _on_fail(self, t, actor, topic, partition, seq, _):
    self.fails[actor, seq] = t

  def _on_tx(self, t, actor, number, synchronous, writes):
    transaction = Transaction(t, synchronous, writes)
    self.transactions[actor, number] = transaction
    for topic, partition, seq, _, kept in writes:
      self.sends[actor, seq] = (t, topic, partition)
      self.of_transaction[actor, seq] = (transaction, kept)

  def _on_commit(self, t, actor, number):
    self.transactions[actor, number].commit = t

  def _on_end(self, _, actor, number, outcome):
    self.transactions[actor, number].outcome = outcome

  def _on_seen(self, t0, t1, reader, topic, partition, records):
    where = self.seen.setdefault((topic, partition), {})
    own = self.ranges.setdefault((reader, topic, partition), set())
    for offset, actor, seq in records:
      who = (actor, seq)
      own.add(offset)
      before = where.get(offset)
      if before is None or before[1] > t1:
        where[offset] = (who, t1, reader)
      if before is not None and before[0] != who:
        self.problems.append(("two values", "%s/%d offset %d: %s read %s, %s read %s" %
                              (topic, partition, offset, before[2], before[0], reader, who)))
    if records:
      # Who has read an offset knows that the watermark is behind it.
      self.bounds.setdefault((topic, partition), []).append(
        (t0, t1, None, records[-1][0] + 1, False))

  def _on_mark(self, t0, t1, _, topic, partition, low, high):
    self.bounds.setdefault((topic, partition), []).append((t0, t1, low, high, True))

  def _on_crash(self, t0, t1, _):
    self.crashes.append((t0, t1))

  def _on_oc(self, t, _, group, topic, partition, offset):
    self.commits.setdefault((group, topic, partition), []).append((t, offset))

  def _on_ocack(self, t, _, group, topic, partition, offset):
    self.committed.setdefault((group, topic, partition), []).append((t, offset))

  def _on_offset(self, t0, t1, _, group, topic, partition, offset):
    self.offsets.setdefault((group, topic, partition), []).append((t0, t1, offset))

  def _on_place(self, t, actor, group, generation, partitions):
    self.places.setdefault(group, []).append((t, generation, actor, partitions))

  def _on_complaint(self, _, actor, text):
    self.problems.append(("complaint", text))

  def may_repeat(self, actor):
    """May a record of this actor be there more than once, when a crash took the answer?"""
    producer = self.producers.get(actor)
    return bool(producer and producer["retries"] and not producer["idempotent"])

  def crashes_within(self, t0, t1):
    return sum(1 for begin, end in self.crashes if begin <= t1 and end >= t0)


class Contents:
  """What the partitions hold, read now: {(topic, partition): {offset: (who, timestamp)}}."""

  def __init__(self, topics):
    self.topics = topics
    self.records = {(topic, partition): {}
                    for topic, n in topics.items() for partition in range(n)}
    self.end = dict.fromkeys(self.records, 0)
    self.problems = []

  def _add(self, where, offset, checked, timestamp):
    who, problem = checked
    topic, partition = where
    if problem:
      self.problems.append(("bytes", "%s/%d offset %d: %s: %s" %
                            (topic, partition, offset, who, problem)))
    records = self.records[where]
    if offset in records and records[offset][0] != who:
      self.problems.append(("two values", "%s/%d offset %d: %s, then %s" %
                            (topic, partition, offset, records[offset][0], who)))
    records[offset] = (who, timestamp)

  def read_wire(self, bootstrap, journal=None, timeout=120):
    """Reads on from where the last call ended, to the high watermark as it is now."""
    consumer = Consumer(consumer_config(bootstrap, **{"enable.partition.eof": True}))
    wanted = {}
    found = {}
    t0 = now()
    try:
      for where, start in self.end.items():
        _, wanted[where] = consumer.get_watermark_offsets(TopicPartition(*where), timeout=30)
      consumer.assign([TopicPartition(*where, start) for where, start in self.end.items()])
      ended = {}
      while any(ended.get(where, -1) < high for where, high in wanted.items()):
        if now() - t0 > timeout:
          self.problems.append(("unreadable", "no end of %s within %d s" % (
            ["%s/%d" % where for where, high in wanted.items() if ended.get(where, -1) < high],
            timeout)))
          break
        for message in consumer.consume(500, 1):
          where = (message.topic(), message.partition())
          error = message.error()
          if error is None:
            checked = content.check_wire(message)
            self._add(where, message.offset(), checked, message.timestamp()[1])
            if checked[0]:
              found.setdefault(where, []).append((message.offset(),) + checked[0])
          elif error.code() == KafkaError._PARTITION_EOF:
            ended[where] = message.offset()
          elif error.code() not in PASSING:
            self.problems.append(("unreadable", "%s/%s: %s" % (where + (error,))))
            return
    except KafkaException as error:
      self.problems.append(("unreadable", str(error)))
      return
    finally:
      consumer.close()
    for where, end in ended.items():
      self.end[where] = max(self.end[where], end)
    if journal:
      for where, records in found.items():
        journal.write("seen", t0, now(), journal.actor, *where, records)
      journal.flush()

  def read_sql(self, dsn):
    """Reads everything by SELECT, in the order in which the server gives it."""
    with psycopg2.connect(dsn) as conn:
      with conn.cursor() as cursor:
        cursor.execute("SELECT topic, partition, high_watermark FROM kafka.partitions")
        for topic, partition, high in cursor.fetchall():
          if (topic, partition) in self.end:
            self.end[topic, partition] = high
      for topic, partition in self.records:
        with conn.cursor("contents") as cursor:
          cursor.execute("%s FROM topics.%s WHERE partition = %d" %
                         (content.SQL_RECORD, topic, partition))
          last = -1
          for row in cursor:
            if row[0] <= last:
              self.problems.append(("order", "SELECT from %s/%d: offset %d after %d" %
                                    (topic, partition, row[0], last)))
            last = row[0]
            self._add((topic, partition), row[0], content.check_sql(row), row[1])
          self.end[topic, partition] = max(self.end[topic, partition], last + 1)
    conn.close()


def read_ledger(dsn):
  conn = psycopg2.connect(dsn)
  try:
    with conn.cursor() as cursor:
      cursor.execute("SELECT actor, seq FROM crash_ledger")
      return cursor.fetchall()
  finally:
    conn.close()


# --------------------------------------------------------------------------------------------
# The checks. Each takes the model and the contents, and yields problems.
# --------------------------------------------------------------------------------------------

def check_acks(model, contents):
  """What was acknowledged is there, where the acknowledgement said."""
  places = places_of(contents)
  for who, acks in model.acks.items():
    if len(acks) > 1:
      yield "two acks", "%s acknowledged at %s" % (who, acks)
    for _, topic, partition, offset in acks:
      found = contents.records[topic, partition].get(offset)
      if found and found[0] == who:
        continue
      there = places.get(who)
      yield "lost", "%s acknowledged at %s/%d offset %s; there is %s; it is %s" % (
        who, topic, partition, offset, found and found[0],
        "nowhere" if not there else "at %s" % there)


def check_transactions(model, contents):
  """Committed: all that no savepoint took back; rolled back: nothing; unknown: all or nothing."""
  places = places_of(contents)
  for (actor, number), transaction in model.transactions.items():
    kept = [(actor, w[2]) for w in transaction.writes if w[4]]
    there = [who for who in kept if who in places]
    name = "%s transaction %d (%s)" % (actor, number, transaction.outcome)
    for _, _, seq, _, is_kept in transaction.writes:
      if not is_kept and (actor, seq) in places:
        yield "rolled back", "%s: %d, undone by a savepoint's rollback, is at %s" % (
          name, seq, places[actor, seq])
    if transaction.outcome == "rolled back":
      for who in there:
        yield "rolled back", "%s: %s is at %s" % (name, who, places[who])
    elif transaction.outcome == "committed" and transaction.synchronous:
      for who in kept:
        if who not in places:
          yield "lost", "%s: %s is nowhere" % (name, who)
    elif there and len(there) != len(kept):
      yield "torn", "%s: %d of %d records are there" % (name, len(there), len(kept))


def check_once(model, contents):
  """Nothing is there twice, but for what a producer without idempotence had to send again."""
  for who, where in places_of(contents).items():
    sent = model.sends.get(who)
    if sent is None:
      yield "from nowhere", "%s, never sent, is at %s" % (who, where)
      continue
    if any(place[:2] != sent[1:] for place in where):
      yield "misplaced", "%s, sent to %s/%d, is at %s" % (who, sent[1], sent[2], where)
    if len(where) == 1:
      continue
    allowed = 1
    if model.may_repeat(who[0]):
      acks = model.acks.get(who)
      until = acks[0][0] if acks else model.fails.get(who, float("inf"))
      allowed += model.crashes_within(sent[0], until)
    if len(where) > allowed:
      yield "duplicate", "%s is %d times there (at most %d): %s" % (who, len(where), allowed, where)


def check_order(model, contents):
  """In a partition the records of one actor are in the order in which it sent them."""
  for (topic, partition), records in contents.records.items():
    last = {}
    seen = set()
    for offset in sorted(records):
      who = records[offset][0]
      if who is None or who in seen:
        continue  # the copies of a record: check_once has a word on them
      seen.add(who)
      actor, seq = who
      if seq < last.get(actor, (0, 0))[0]:
        yield "order", "%s/%d offset %d: %s is behind %d at offset %d" % (
          (topic, partition, offset, who) + last[actor])
      last[actor] = (seq, offset)


def check_seen(model, contents):
  """What anybody has read is still there, was committed before, and nobody skipped a record."""
  for where, seen in model.seen.items():
    records = contents.records.get(where)
    if records is None:
      continue
    for offset, (who, t, reader) in seen.items():
      found = records.get(offset)
      if found is None:
        yield "gone", "%s/%d offset %d: %s read %s, nothing is there" % (
          where + (offset, reader, who))
      elif found[0] != who:
        yield "two values", "%s/%d offset %d: %s read %s, now it is %s" % (
          where + (offset, reader, who, found[0]))
      transaction, kept = model.of_transaction.get(who, (None, True))
      if transaction is None:
        continue
      if not kept or transaction.outcome == "rolled back":
        yield "rolled back", "%s/%d offset %d: %s read %s" % (where + (offset, reader, who))
      elif transaction.commit is None or t < transaction.commit:
        yield "uncommitted", "%s/%d offset %d: %s read %s before its COMMIT" % (
          where + (offset, reader, who))
  for (reader, topic, partition), own in model.ranges.items():
    records = contents.records.get((topic, partition), {})
    if not own:
      continue
    first, last = min(own), max(own)
    for offset in records:
      if first < offset < last and offset not in own:
        yield "skipped", "%s/%d offset %d: %s read up to %d, but not %s" % (
          topic, partition, offset, reader, last, records[offset][0])


def check_watermarks(model, contents):
  """No watermark that was asked for is below one that had been known before the question."""
  for (topic, partition), bounds in model.bounds.items():
    bounds.sort(key=lambda bound: bound[1])
    ends, highest, lowest = [], [], []
    high = low = 0
    for _, t1, b_low, b_high, _ in bounds:
      high = max(high, b_high)
      low = max(low, b_low or 0)
      ends.append(t1)
      highest.append(high)
      lowest.append(low)
    for t0, t1, b_low, b_high, asked in bounds:
      before = bisect.bisect_left(ends, t0) - 1
      if not asked or before < 0:
        continue
      if b_high < highest[before]:
        yield "watermark", "%s/%d: high watermark %d at %.3f-%.3f, but %d was known at %.3f" % (
          topic, partition, b_high, t0, t1, highest[before], ends[before])
      if b_low < lowest[before]:
        yield "watermark", "%s/%d: log start %d, but %d was known before" % (
          topic, partition, b_low, lowest[before])
    if (topic, partition) in contents.end and contents.end[topic, partition] < high:
      yield "watermark", "%s/%d ends at %d, but %d was known" % (
        topic, partition, contents.end[topic, partition], high)


def check_offsets(model, contents):
  """Committed offsets only grow; so what was acknowledged is a floor for whoever asks later."""
  for where, answers in model.offsets.items():
    name = "%s %s/%d" % where
    sent = {}
    for t, offset in reversed(model.commits.get(where, [])):
      sent[offset] = min(t, sent.get(offset, t))
    known = sorted(model.committed.get(where, []) + [(t1, offset) for _, t1, offset in answers])
    floor = [-1]
    for _, offset in known:
      floor.append(max(floor[-1], offset))
    times = [t for t, _ in known]
    for t0, t1, offset in answers:
      least = floor[bisect.bisect_left(times, t0)]
      if offset < least:
        yield "offset back", "%s: %d at %.3f, but %d was known before" % (name, offset, t0, least)
      if offset >= 0 and sent.get(offset, t1 + 1) > t1:
        yield "offset from nowhere", "%s: %d at %.3f" % (name, offset, t0)


def check_places(model, contents):
  """In one generation nobody shares a partition; the members of the calm group have one for ever."""
  for group, places in model.places.items():
    owners = {}
    for _, generation, actor, partitions in places:
      for partition in partitions:
        owner = owners.setdefault((generation, partition), actor)
        if owner != actor:
          yield "two owners", "%s generation %d partition %d: %s and %s" % (
            group, generation, partition, owner, actor)
    if group != "crash-calm":
      continue
    there = {}
    settled = None
    for t, generation, actor, _ in sorted(places):
      there.setdefault(generation, set()).add(actor)
      if settled is not None:
        yield "moved", "%s: generation %d, after all were in %d" % (actor, generation, settled)
      elif len(there[generation]) == 2:
        settled = generation


def check_gaps(model, contents):
  """Offsets without a record: only those of transactions that a crash ended in their COMMIT."""
  places = places_of(contents)
  lost = {}
  for (actor, _), transaction in model.transactions.items():
    if transaction.outcome == "rolled back" or transaction.commit is None or \
        (transaction.outcome == "committed" and transaction.synchronous):
      continue
    for topic, partition, seq, _, kept in transaction.writes:
      if kept and (actor, seq) not in places:
        lost[topic, partition] = lost.get((topic, partition), 0) + 1
  for where, records in contents.records.items():
    missing = contents.end[where] - len(records)
    if missing > lost.get(where, 0):
      yield "gap", "%s/%d: %d of %d offsets have no record, lost transactions explain %d" % (
        where + (missing, contents.end[where], lost.get(where, 0)))


def check_ledger(contents, ledger):
  """The ordinary table and the topics agree about which transactions there were.

  The ledger has a row for each record, written in the same (sub)transaction.
  """
  places = places_of(contents)
  in_topics = {who for who in places if who[0].startswith("s.")}
  in_ledger = set(ledger)
  for who in sorted(in_ledger - in_topics):
    yield "ledger", "%s is in the table, but in no topic" % (who,)
  for who in sorted(in_topics - in_ledger):
    yield "ledger", "%s is at %s, but not in the table" % (who, places[who])


def check_same(wire, sql):
  """Clients and SQL are shown the same."""
  for where, records in wire.records.items():
    other = sql.records[where]
    for offset in sorted(records.keys() | other.keys()):
      if records.get(offset) != other.get(offset):
        yield "wire and SQL", "%s/%d offset %d: %s on the wire, %s in SQL" % (
          where + (offset, records.get(offset), other.get(offset)))


def places_of(contents):
  """{who: [(topic, partition, offset)]}; kept until the contents change."""
  size = sum(map(len, contents.records.values()))
  cached = getattr(contents, "places", None)
  if cached is None or cached[0] != size:
    places = {}
    for where, records in contents.records.items():
      for offset, (who, _) in records.items():
        if who:
          places.setdefault(who, []).append(where + (offset,))
    contents.places = cached = (size, places)
  return cached[1]


def check(model, contents):
  """All checks that need no more than the journal and one look at the partitions."""
  problems = model.problems + contents.problems
  for one in (check_acks, check_transactions, check_once, check_order, check_seen,
              check_watermarks, check_gaps, check_offsets, check_places):
    problems += one(model, contents)
  return problems
