"""Members of consumer groups, request by request: they commit ever greater offsets, and a crash must
neither take one back nor a member's place.

Members of the group "calm" never come or go: they have one generation for ever.  Of the group
"busy" one leaves and comes back all the time, so that a crash meets every step of a rebalance.
"""
import os
import random
import socket
import sys
import threading

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../wire"))

from journal import now
from kmember import Member, committed
from kwire import Client, Closed, err

# Long, since a member may have to wait for a server that is down.
SESSION_MS = {"calm": 600000, "busy": 60000}

# What a member may be told while a server comes up, or while another process writes.
PASSING = ("COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "REQUEST_TIMED_OUT")
GONE = (Closed, OSError, socket.timeout)


class GroupMember(threading.Thread):
  """One member; "restless": it leaves from time to time."""

  def __init__(self, workload, group, number, topic, restless=False):
    super().__init__(daemon=True)
    self.workload = workload
    self.actor = "g.%s%d" % (group, number)
    self.topic = topic
    self.partitions = workload.topics[topic]
    self.restless = restless
    self.acked = 0
    self.idle = threading.Event()
    self.random = random.Random("%s %s" % (workload.seed, self.actor))
    self.journal = workload.journal(self.actor)
    self.member = Member(None, "crash-" + group, [topic], session_ms=SESSION_MS[group])
    self.owned = []
    self.placed = False       # it was told its assignment, and has not been told anything else
    self.next = {}            # partition: the offset to commit
    self.left = []            # ids that it had before; a crash may have brought them back

  def run(self):
    while not self.workload.over:
      try:
        if self.member.client is None:
          self.member.client = Client(self.workload.bootstrap, timeout=20)
        self.live()
      except GONE:
        if self.member.client is not None:
          self.member.client.close()
        self.member.client = None
        self.workload.sleep(0.05)
      self.settle()

  def settle(self):
    """Nothing is under way: the workload may look at the journal."""
    if self.workload.running.is_set():
      self.idle.clear()
      return
    self.journal.flush()
    self.idle.set()
    self.workload.sleep(0.05)

  def live(self):
    if not self.placed:
      self.enter()
      return
    told = self.member.heartbeat()
    if told == "REBALANCE_IN_PROGRESS":
      self.placed = False
    elif told in PASSING:
      self.workload.sleep(0.02)
    elif told == "UNKNOWN_MEMBER_ID" and self.member.id in self.left:
      self.placed = False     # it was about to leave, and has
      self.member.id = ""
    elif told != "NONE":
      self.journal.complain("%s: heartbeat of generation %d: %s" % (
        self.actor, self.member.generation, told))
      self.placed = False
    elif self.workload.running.is_set():
      self.work()

  def enter(self):
    """Joins, or joins again, and gets its partitions; it may not be let in yet."""
    self.owned = []
    for id in self.left[-5:]:
      self.send_leave(id)
    r = self.member.join()
    told = err(r["error_code"])
    if told == "UNKNOWN_MEMBER_ID":
      # its join phase was not finished when the server crashed
      self.member.id = ""
    if told != "NONE":
      self.workload.sleep(0.02)
      return
    plan = []
    if r["leader"] == self.member.id:
      ids = sorted(m["member_id"] for m in r["members"])
      plan = [(id, bytes(p for p in range(self.partitions) if p % len(ids) == i))
              for i, id in enumerate(ids)]
    told, assignment = self.member.sync(plan)
    if told != "NONE":
      self.workload.sleep(0.02)
      return
    self.placed = True
    self.journal.write("place", now(), self.actor, self.member.group, self.member.generation,
                       list(assignment))
    for partition in assignment:
      offset = self.look(partition)
      if offset is not None:
        self.next[partition] = offset + 1
        self.owned.append(partition)

  def look(self, partition):
    t0 = now()
    offset = committed(self.member.client, self.member.group, self.topic, partition)
    if not isinstance(offset, int):
      if offset not in PASSING:
        self.journal.complain("%s: OffsetFetch: %s" % (self.actor, offset))
      return None
    self.journal.write("offset", t0, now(), self.actor, self.member.group, self.topic, partition,
                       offset)
    return offset

  def work(self):
    for partition in self.owned:
      offset = self.next[partition]
      self.journal.write("oc", now(), self.actor, self.member.group, self.topic, partition, offset)
      self.next[partition] = offset + self.random.randint(1, 3)
      told = self.member.commit(self.topic, offset, partition)
      if told == "NONE":
        self.journal.write("ocack", now(), self.actor, self.member.group, self.topic, partition,
                           offset)
        self.acked += 1
      elif told == "REBALANCE_IN_PROGRESS":
        self.placed = False
        return
      elif told not in PASSING:
        self.journal.complain("%s: commit in generation %d: %s" % (
          self.actor, self.member.generation, told))
    self.workload.sleep(0.01)
    if self.owned and self.random.random() < 0.2:
      self.look(self.random.choice(self.owned))
    if self.restless and self.random.random() < 0.1:
      self.leave()

  def leave(self):
    self.left.append(self.member.id)
    # asked for the second time, because the first answer was lost
    if self.send_leave(self.member.id) in ("NONE", "UNKNOWN_MEMBER_ID"):
      self.member.id = ""
      self.placed = False

  def send_leave(self, id):
    r = self.member.client.request("LeaveGroup", 5, {
      "group_id": self.member.group, "members": [{"member_id": id}]})
    return err(r["error_code"] or r["members"][0]["error_code"])


def look_at_all(actor, bootstrap, journal):
  """All committed offsets of its group, on a connection of its own."""
  with Client(bootstrap) as client:
    for partition in range(actor.partitions):
      offset = None
      while not isinstance(offset, int):
        t0 = now()
        offset = committed(client, actor.member.group, actor.topic, partition)
      journal.write("offset", t0, now(), "check", actor.member.group, actor.topic, partition,
                    offset)


def members(workload, topic):
  found = [GroupMember(workload, "calm", i, topic) for i in range(2)]
  return found + [GroupMember(workload, "busy", i, topic, restless=i == 2) for i in range(3)]
