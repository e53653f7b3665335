"""A member of a group that groups/scenario.py drives: the loop that the members in Python share.

    member TOPIC GROUP PROTOCOL SESSION_MS [INSTANCE]

PROTOCOL is eager, cooperative or consumer; INSTANCE makes it a static member. Written, a line each:

    assigned 0,1,2          all partitions that it has now
    revoked 1,2             partitions that it has no longer; what it read of them is committed
    record 1 17 VALUE       partition, offset and value of a record
    ok                      a command has been obeyed

Commands on standard input, a line each: "commit" what was read, "pause P", "resume P", "seek P OFFSET",
"close". It commits when partitions are taken from it and when it is told to, and at no other time.
"""
import queue
import sys
import threading


class Member:
    """An adapter has poll() -> [(partition, offset, value)], commit(), pause(p), resume(p), seek(p, offset) and close()."""

    def __init__(self):
        self.topic, self.group, self.protocol, session, *rest = sys.argv[1:]
        self.session_ms = int(session)
        self.instance = rest[0] if rest else None
        self.owned = set()
        self.commands = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in sys.stdin:
            self.commands.put(line.split())
        self.commands.put(['close'])

    def say(self, *words):
        print(*words, flush=True)

    def partitions(self, partitions):
        return ','.join(map(str, sorted(partitions))) or '-'

    def assigned(self, partitions):
        """More partitions than before."""
        self.owned |= set(partitions)
        self.say('assigned', self.partitions(self.owned))

    def revoked(self, partitions):
        self.owned -= set(partitions)
        if partitions:
            self.say('revoked', self.partitions(partitions))

    def records(self, records):
        if records:
            sys.stdout.write(''.join('record %d %d %s\n' % (p, o, v.decode()) for p, o, v in records))
            sys.stdout.flush()

    def next_command(self):
        try:
            return self.commands.get_nowait()
        except queue.Empty:
            return None

    def run(self):
        while True:
            self.records(self.poll())
            command = self.next_command()
            if command:
                getattr(self, command[0])(*map(int, command[1:]))
                self.say('ok')
                if command[0] == 'close':
                    return
