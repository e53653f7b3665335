"""verify.py records|big TOPIC: compares by SQL what a client has produced with the common workload.

Silent when all is as it should be.
"""
import sys

import psycopg2

import workload


def rows(connection, topic, partition):
    cursor = connection.cursor()
    cursor.execute('''SELECT "offset", key, value,
            ARRAY(SELECT h.key FROM unnest(headers) WITH ORDINALITY h(key, value, n) ORDER BY n),
            ARRAY(SELECT h.value FROM unnest(headers) WITH ORDINALITY h(key, value, n) ORDER BY n),
            (extract(epoch FROM "timestamp") * 1000)::bigint
        FROM topics."%s" WHERE partition = %d ORDER BY "offset"''' % (topic, partition))

    def raw(value):
        return None if value is None else bytes(value)
    for offset, key, value, names, values, timestamp in cursor:
        yield (offset, raw(key), raw(value), list(zip(names, [raw(v) for v in values])), timestamp)


def main(kind, topic):
    connection = psycopg2.connect('')
    connection.cursor().execute('SET bytea_output = hex')
    bad = 0
    parts = len(workload.CODECS) if kind == 'records' else 1
    wanted = workload.wanted() if kind == 'records' else workload.wanted_big()
    for partition in range(parts):
        got = list(rows(connection, topic, partition))
        if got == wanted:
            continue
        bad += 1
        print('partition %d: %d records, wanted %d' % (partition, len(got), len(wanted)))
        for g, w in zip(got, wanted):
            if g != w:
                print('first difference: %s, wanted %s' % (repr(g)[:300], repr(w)[:300]))
                break
    return 1 if bad else 0


sys.exit(main(*sys.argv[1:]))
