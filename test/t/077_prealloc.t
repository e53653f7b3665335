# WAL files are made before they are needed, once somebody fills them; and what is in them is right.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
min_wal_size = 160MB
checkpoint_timeout = 1h
CONF
$node->expect_crashes;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Files behind the one that WAL is written to.
my $ahead = <<'SQL';
SELECT count(*) FROM pg_ls_waldir()
 WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_flush_lsn())
SQL

# Records of incompressible values, of more than one WAL file.
sub produce
{
	return sql(<<'SQL');
INSERT INTO topics.t (value)
SELECT decode(string_agg(md5(n::text || i), '' ORDER BY i), 'hex')
  FROM generate_series(1, 1100) n, generate_series(1, 1024) i GROUP BY n
SQL
}

sub counted { return sql('SELECT count(*), count(DISTINCT "offset"), max("offset") FROM topics.t'); }

sql(q{SELECT kafka.create_topic('t')});
sql(q{INSERT INTO topics.t (value) VALUES ('a')});
my $few = sql($ahead);
cmp_ok($few, '<=', 1, 'a server on which nobody fills WAL files does not make any');

sql(q{ALTER SYSTEM SET kafka_pg.wal_prealloc_size = 0});
$node->reload;
produce();
cmp_ok(sql($ahead), '<=', 1, 'nor one that shall not');

sql(q{ALTER SYSTEM SET kafka_pg.wal_prealloc_size = '32MB'});
$node->reload;
produce();
$node->poll_query_until('postgres', "SELECT ($ahead) >= 2") or die 'no file is made';
pass('as many as the setting says are made');
$node->poll_query_until('postgres', <<"SQL") or die 'min_wal_size';
SELECT count(*) >= 10 FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}\$'
   AND name >= pg_walfile_name((SELECT redo_lsn FROM pg_control_checkpoint()))
SQL
pass('and those that min_wal_size keeps');
my $files = sql(q{SELECT count(*) FROM pg_ls_waldir()});

is(counted(), '2201|2201|2200', 'all is there');
$node->stop('immediate');
$node->start;
is(counted(), '2201|2201|2200', 'also after a crash: files that were never written to end the WAL');
produce();
is(counted(), '3301|3301|3300', 'and it goes on');
sql('CHECKPOINT');
cmp_ok(sql(q{SELECT count(*) FROM pg_ls_waldir()}), '<=', $files + 8, 'no more are made than that');

# The server's tools compute checksums in their own way.
my $from = sql('SELECT pg_current_wal_lsn()');
produce();
my $to = sql('SELECT pg_current_wal_flush_lsn()');
is(counted(), '4401|4401|4400', 'and on');
$node->stop;
$node->PostgreSQL::Test::Cluster::command_ok(
	[ 'pg_waldump', '--quiet', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to ],
	'pg_waldump finds the checksums of WAL right');
$node->PostgreSQL::Test::Cluster::command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ],
	'and pg_checksums those of pages');
$node->start;

done_testing();
