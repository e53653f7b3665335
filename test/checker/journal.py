"""The journal: what clients did and saw, kept outside of the server.

A directory with one file for each actor, one JSON array a line: [kind, ...]. Times are
CLOCK_MONOTONIC in seconds, so those of all processes of a machine compare. Every event that says
what is about to happen is written before it happens. README.md lists the kinds.
"""
import json
import os
import threading
import time

now = time.monotonic


class Journal:
  """Writes one actor's events."""

  def __init__(self, directory, actor):
    self.actor = actor
    self._lock = threading.Lock()
    self._file = open(os.path.join(directory, actor + ".jsonl"), "a", encoding="utf-8")

  def write(self, *event):
    with self._lock:
      self._file.write(json.dumps(event, separators=(",", ":")) + "\n")

  def complain(self, text):
    """Something that must not happen, seen by the actor itself: the checker reports it."""
    self.write("complaint", now(), self.actor, text)

  def flush(self):
    with self._lock:
      self._file.flush()


class Tail:
  """Reads all files of a journal, each time from where it stopped the last time."""

  def __init__(self, directory):
    self._directory = directory
    self._at = {}

  def read(self):
    for name in sorted(os.listdir(self._directory)):
      if not name.endswith(".jsonl"):
        continue
      with open(os.path.join(self._directory, name), encoding="utf-8") as file:
        file.seek(self._at.get(name, 0))
        while True:
          at = file.tell()
          line = file.readline()
          if not line.endswith("\n"):
            self._at[name] = at
            break
          yield json.loads(line)
