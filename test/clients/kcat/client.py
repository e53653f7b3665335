"""kcat's command line: one key, value and set of headers a line or file."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, '..')

import psycopg2

import workload
from workload import CODECS, RECORDS, Report

report = Report()
sql = psycopg2.connect('')
sql.autocommit = True


def kcat(*args, data=b''):
    done = subprocess.run(['kcat', '-b', os.environ['KAFKA_BOOTSTRAP'], *args], input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    if done.returncode != 0:
        report.ok(False, 'kcat ' + ' '.join(args))
        print('# ' + done.stderr.decode())
    return done.stdout


def create(topic, partitions, config='{}'):
    sql.cursor().execute('SELECT kafka.create_topic(%s, %s, %s)', (topic, partitions, config))


def read(topic, *args):
    """Records as (partition, offset, key, headers, timestamp, value); no byte 0x1e or 0x1f in them."""
    text = kcat('-C', '-t', topic, '-e', '-q', '-f', '%p\x1f%o\x1f%K\x1f%k\x1f%h\x1f%T\x1f%S\x1f%s\x1e', *args)
    return [line.split(b'\x1f') for line in text.split(b'\x1e')[:-1]]


def main():
    report.ok(b' broker 1 at ' in kcat('-L'), 'list')

    # Lines with keys and headers through every codec, idempotent.
    create('kcat-lines', len(CODECS))
    for partition, codec in enumerate(CODECS):
        lines = b''.join(b'key-%d:%s\n' % (i, b'line %d ' % i * (i % 50)) for i in range(5000))
        kcat('-P', '-t', 'kcat-lines', '-p', str(partition), '-K', ':', '-H', 'a=1', '-H', 'a=', '-H', 'b',
             '-z', codec, '-X', 'enable.idempotence=true', data=lines)
        # An empty value (every 50th line) is read back as such, a header without = as null.
        wanted = [[b'%d' % partition, b'%d' % i, b'%d' % len(b'key-%d' % i), b'key-%d' % i, b'a=1,a=,b=NULL',
                   b'%d' % len(b'line %d ' % i * (i % 50)), b'line %d ' % i * (i % 50)] for i in range(5000)]
        got = read('kcat-lines', '-p', str(partition), '-o', 'beginning')
        report.same([r[:5] + r[6:] for r in got], wanted, 'lines with ' + codec)

    # Whole files as values, up to 5 MB.
    create('kcat-files', 1, '{"max.message.bytes": 10485760}')
    files = []
    for i, codec in enumerate(workload.BIG_CODECS):
        name = os.path.join(os.environ['BUILD'], 'value-%d' % i)
        with open(name, 'wb') as f:
            f.write(workload.big_record(i)[1])
        kcat('-P', '-t', 'kcat-files', '-p', '0', '-k', 'big-%d' % i, '-z', CODECS[codec],
             '-X', 'message.max.bytes=10000000', name)
        files.append(name)
    for i, name in enumerate(files):
        got = kcat('-C', '-t', 'kcat-files', '-p', '0', '-o', str(i), '-c', '1', '-q', '-D', '')
        report.ok(got == workload.big_record(i)[1], 'a value of %d bytes, %s'
                  % (workload.BIG_SIZES[i], CODECS[workload.BIG_CODECS[i]]))
        os.remove(name)

    # Nulls and places to start from.
    create('kcat-places', 1)
    kcat('-P', '-t', 'kcat-places', '-K', ':', '-Z', data=b''.join(b'%d:\n' % i for i in range(RECORDS)))
    got = read('kcat-places')
    report.same([(r[1], r[3], r[6]) for r in got], [(b'%d' % i, b'%d' % i, b'-1') for i in range(RECORDS)],
                'null values')
    report.same([r[1] for r in read('kcat-places', '-o', '100')], [b'%d' % i for i in range(100, RECORDS)],
                'from an offset')
    report.same([r[1] for r in read('kcat-places', '-o', '-7')], [b'%d' % i for i in range(113, RECORDS)],
                'the last seven')
    report.same(read('kcat-places', '-o', 'end'), [], 'from the end')
    time = int(got[0][5])
    report.same([r[1] for r in read('kcat-places', '-o', 's@%d' % time)],
                [b'%d' % i for i in range(RECORDS)], 'from a timestamp')
    report.same(read('kcat-places', '-o', 's@%d' % (time + 3600000)), [], 'from a timestamp to come')
    report.same(kcat('-Q', '-t', 'kcat-places:0:%d' % time), b'kcat-places [0] offset 0\n',
                'the offset of a timestamp')

    kcat('-P', '-t', 'kcat-auto', '-z', 'lz4', data=b'hello\n')
    report.same(kcat('-C', '-t', 'kcat-auto', '-e', '-q'), b'hello\n', 'a topic that was created on its own')
    sql.cursor().execute("SELECT kafka.drop_topic('kcat-auto')")
    report.ok(b'kcat-auto' not in kcat('-L'), 'a dropped topic is gone')


main()
sys.exit(report.exit_code())
