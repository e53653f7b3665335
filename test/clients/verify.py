"""verify.py records|big TOPIC: compares what a client has produced with the common workload.

The records by SQL; and by a raw fetch, whether the client used the codec that it was told to.
Silent when all is as it should be.
"""
import os
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../wire'))

import psycopg2

import workload
from ktap import fetch
from kwire import Client


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


def codecs(client, topic, partition, end):
    """Codecs of a partition's batches: {base offset: number}."""
    found = {}
    offset = 0
    while offset < end:
        data = fetch(client, topic, offset, partition)['records']
        pos = 0
        while pos + 61 <= len(data):
            base, length = struct.unpack_from('>qi', data, pos)
            attributes, last = struct.unpack_from('>hi', data, pos + 21)
            found[base] = attributes & 7
            offset = base + last + 1
            pos += 12 + length
    return found


def check_codecs(kind, topic):
    """A client may leave a batch alone that would only become longer."""
    bad = 0
    with Client() as client:
        if kind == 'big':
            found = codecs(client, topic, 0, len(workload.BIG_SIZES))
            wanted = dict(enumerate(workload.BIG_CODECS))
            if found != wanted:
                print('codecs %s, wanted %s' % (found, wanted))
                bad += 1
        for partition in range(len(workload.CODECS) if kind == 'records' else 0):
            found = set(codecs(client, topic, partition, workload.RECORDS).values())
            if partition not in found or found - {0, partition}:
                print('partition %d: codecs %s' % (partition, found))
                bad += 1
    return bad


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
    return 1 if bad + check_codecs(kind, topic) else 0


sys.exit(main(*sys.argv[1:]))
