"""kafka.stat_connection: what SQL sees of Kafka clients; only the names' check is Kafka's too."""
import threading

from ktap import *
from kwire import request_frame

if not REFERENCE:
    import psycopg2


class Sql:
    """A session that reads the view, one row for each local port."""
    def __init__(self):
        self.connection = psycopg2.connect('')
        self.connection.autocommit = True

    def rows(self):
        with self.connection.cursor() as cursor:
            cursor.execute('SELECT * FROM kafka.stat_connection')
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]

    def row(self, client):
        port = client.sock.getsockname()[1]
        found = [row for row in self.rows() if row['client_port'] == port]
        if len(found) > 1:
            raise RuntimeError('%d rows of one connection' % len(found))
        return found[0] if found else None

    def wait(self, client, condition):
        """The client's row, when it is as it should be; the last one, if it never is."""
        for _ in range(600):
            row = self.row(client)
            if condition(row):
                break
            time.sleep(0.05)
        return row


GOOD = ('a', '1', 'apache-kafka-java', '4.3.0', 'librdkafka', 'v1.2-RC3', 'a..b', 'A--9')
BAD = ('', '-a', 'a-', '.a', 'a.', 'a b', 'a_b', 'a/b', 'ä', 'aä', 'a\n', 'a\0', '\n', '-', 'a:1')


def software_names():
    with Client() as c:
        def ask(name, version, api_version):
            r = c.request('ApiVersions', api_version, {'client_software_name': name,
                                                       'client_software_version': version})
            return err(r['error_code'])
        for v in (3, every_version('ApiVersions')[-1]):
            for s in GOOD:
                same((ask(s, '1', v), ask('a', s, v)), ('NONE', 'NONE'),
                     'ApiVersions %d: %r is a name and a version' % (v, s))
            for s in BAD:
                same((ask(s, '1', v), ask('a', s, v)), ('INVALID_REQUEST', 'INVALID_REQUEST'),
                     'ApiVersions %d: %r is neither' % (v, s))


def one_connection():
    sql = Sql()
    with Client() as c:
        row = sql.wait(c, lambda r: r is not None)
        same({k: row[k] for k in ('role', 'client_id', 'client_addr', 'client_software_name',
                                  'client_software_version', 'last_request', 'requests',
                                  'parked_requests', 'bytes_received', 'bytes_sent')},
             dict(role=None, client_id=None, client_addr='127.0.0.1', client_software_name=None,
                  client_software_version=None, last_request=None, requests=0, parked_requests=0,
                  bytes_received=0, bytes_sent=0), 'a client that has said nothing')
        with sql.connection.cursor() as cursor:
            cursor.execute("SELECT backend_type, %s BETWEEN backend_start AND now(), current_user"
                           "  FROM pg_stat_activity WHERE pid = %s", (row['connected'], row['pid']))
            found = cursor.fetchone()
        same(found[:2], ('kafka broker %d' % row['broker'], True), 'whose process it has, and since when')
        user = found[2]

        received = sent = 0

        def ask(api, version, body, client_id='kwire'):
            nonlocal received, sent
            frame = request_frame(api, version, body, client_id=client_id)
            received += len(frame)
            c.send_raw(frame)
            sent += 4 + len(c.recv_frame())

        def see(what, **expected):
            row = sql.wait(c, lambda r: r['bytes_sent'] == sent)
            expected.update(bytes_received=received, bytes_sent=sent)
            same({k: row[k] for k in expected}, expected, what)
            return row

        ask('ApiVersions', 2, {})
        see('an old ApiVersions', requests=1, client_id='kwire', client_software_name=None,
            client_software_version=None, role=None)
        ask('ApiVersions', 3, {'client_software_name': 'a', 'client_software_version': '?'})
        see('a refused name', requests=2, client_software_name=None, client_software_version=None)
        ask('ApiVersions', 3, {'client_software_name': 'kwire', 'client_software_version': '1.2'})
        first = see('a name and a version', requests=3, client_software_name='kwire',
                    client_software_version='1.2', role=None)
        ask('ApiVersions', 4, {'client_software_name': 'n' * 1000,
                               'client_software_version': '1' * 1000})
        see('long ones', client_software_name='n' * 64, client_software_version='1' * 64)
        ask('Metadata', 9, {'topics': []})
        row = see('a request that needs rights', requests=5, role=user, parked_requests=0)
        ok(first['connected'] == row['connected'] <= first['last_request'] <= row['last_request'],
           'times go on')

        for client_id, shown in (('', ''), (None, None), ('other', 'other'), ('ä' * 64, 'ä' * 64),
                                 ('ä' * 65, 'ä' * 64), ('xx' + '€' * 100, 'xx' + '€' * 42),
                                 ('\U0001f600' * 33, '\U0001f600' * 32), ('x' * 32767, 'x' * 128),
                                 (b'a\0b\xff\xc3', 'a\\x00b\\xff\\xc3'),
                                 (b'\x80' * 300, '\\x80' * 125), ('kwire', 'kwire')):
            ask('ApiVersions', 0, {}, client_id)
            see('client id %.20r' % (client_id,), client_id=shown)

        # A request in pieces, and one that waits
        name, _ = make_topic(c)
        with Client() as other:
            part = {'partition': 0, 'fetch_offset': 0, 'partition_max_bytes': 1000,
                    'current_leader_epoch': -1, 'log_start_offset': -1}
            other.send('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 1,
                                     'max_bytes': 1000, 'session_epoch': -1,
                                     'topics': [{'topic': name, 'partitions': [part]}]})
            row = sql.wait(other, lambda r: r is not None and r['parked_requests'] > 0)
            same((row['requests'], row['parked_requests'], row['bytes_sent']), (1, 1, 0),
                 'a fetch waits')
            produce(c, name, batch([b'x']))
            other.receive('Fetch', 11)
            row = sql.wait(other, lambda r: r['parked_requests'] == 0 and r['bytes_sent'] > 0)
            same((row['requests'], row['parked_requests']), (1, 0), 'and does not any more')
            frame = request_frame('ApiVersions', 0, {})
            before = row['bytes_received']
            other.send_raw(frame[:7])
            row = sql.wait(other, lambda r: r['bytes_received'] == before + 7)
            same((row['bytes_received'] - before, row['requests']), (7, 1), 'a part of a request')
            other.send_raw(frame[7:])
            other.recv_frame()
            same(sql.row(other)['requests'], 2, 'is one when it is whole')

            # one that waits and is left alone
            other.send('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 1 << 20,
                                     'max_bytes': 1 << 20, 'session_epoch': -1,
                                     'topics': [{'topic': name, 'partitions': [part]}]})
            sql.wait(other, lambda r: r['parked_requests'] == 1)
            port = other.sock.getsockname()[1]
        for _ in range(600):
            left = [r for r in sql.rows() if r['client_port'] == port]
            if not left:
                break
            time.sleep(0.05)
        same(left, [], 'who has gone is not shown')


def many_connections():
    """Come and go, in all broker processes; every slot is used again."""
    sql = Sql()
    before = len(sql.rows())
    for _ in range(20):
        clients = [Client() for _ in range(40)]
        for i, c in enumerate(clients):
            c.send('ApiVersions', 3, {'client_software_name': 'c%d' % i,
                                      'client_software_version': '1'}, client_id='id%d' % i)
        for c in clients:
            c.receive('ApiVersions', 3)
        rows = {r['client_port']: r for r in sql.rows()}
        expected = [('id%d' % i, 'c%d' % i, 1) for i in range(40)]
        got = [tuple(rows.get(c.sock.getsockname()[1], {}).get(k)
                     for k in ('client_id', 'client_software_name', 'requests')) for c in clients]
        if got != expected:
            break
        for c in clients:
            c.close()
    same(got, expected, 'each of 800 connections has a row of its own')
    for _ in range(600):
        left = len(sql.rows())
        if left <= before:
            break
        time.sleep(0.05)
    ok(left <= before, 'all are gone')


def readers_and_writers():
    """A string that changes with every request is never seen half."""
    sql = Sql()
    ids = [chr(ord('a') + i) * (20 + 4 * i) for i in range(26)]
    stop = threading.Event()

    def change():
        with Client() as c:
            while not stop.is_set():
                c.send_raw(b''.join(request_frame('ApiVersions', 3, {
                    'client_software_name': s[:64], 'client_software_version': s[:64]},
                    client_id=s) for s in ids))
                for _ in ids:
                    c.recv_frame()
    threads = [threading.Thread(target=change) for _ in range(2)]
    for t in threads:
        t.start()
    seen = set()
    strange = []
    for _ in range(2000):
        for row in sql.rows():
            seen.add(row['client_id'])
            for s in (row['client_id'], row['client_software_name']):
                if s and (s[0].islower() and s.strip(s[0]) != ''):
                    strange.append(s)
        if len(seen) > 20 and len(strange) == 0 and _ > 500:
            break
    stop.set()
    for t in threads:
        t.join()
    same(strange, [], 'no string is a mixture')
    ok(len(seen) > 5, 'although they change all the time')


def bounded():
    """With kafka_pg.max_connections = 8: as many rows, also when each slot changes hands."""
    sql = Sql()
    clients = []
    for round_ in range(30):
        while len(clients) < 8:
            c = Client()
            try:
                c.request('ApiVersions', 0, client_id='round%d' % round_)
                clients.append(c)
            except Closed:
                time.sleep(0.01)    # the one that has gone is still counted
        ports = {c.sock.getsockname()[1] for c in clients}
        for _ in range(600):
            for c in clients:
                c.request('ApiVersions', 0, client_id='round%d' % round_)
            rows = sql.rows()
            if {r['client_port'] for r in rows} == ports:
                break
        if ({r['client_port'] for r in rows}, {r['client_id'] for r in rows}) != (
                ports, {'round%d' % round_}):
            break
        for c in clients[:5]:
            c.close()
        del clients[:5]
    same(({r['client_port'] for r in rows}, {r['client_id'] for r in rows}),
         (ports, {'round29'}), 'eight connections, eight rows')
    for c in clients:
        c.close()


tests = [software_names]
if not REFERENCE:
    tests += [one_connection, many_connections, readers_and_writers]
    if 'bounded' in sys.argv[1:]:
        tests.append(bounded)
main(*tests)
