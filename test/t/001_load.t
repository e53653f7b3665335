# Loading: refused without shared_preload_libraries, with a hint; settings; CREATE and DROP
# EXTENSION.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $node = KafkaPg->broker('main', extension => 0);

is($node->safe_psql('postgres', 'SHOW kafka_pg.database'), 'postgres', 'settings are known');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event IS NULL
		AND backend_type LIKE 'kafka%'}),
	'0', 'no worker is busy while the extension is not created');

my ($code, $out, $err) = $node->psql('postgres', 'SET kafka_pg.no_such_setting = 1');
like($err, qr/kafka_pg.*reserved prefix|unrecognized configuration parameter|invalid configuration/,
	'a misspelt setting is refused');

for my $round (1 .. 2)
{
	$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg');
	is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'kafka_pg'}),
		'0.1', "created, round $round");
	$node->safe_psql('postgres', 'DROP EXTENSION kafka_pg');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_namespace WHERE nspname IN ('kafka', 'topics')}),
		'0', "dropped without remains, round $round");
}

# Only one database is served.
$node->safe_psql('postgres', 'CREATE DATABASE other');
($code, $out, $err) = $node->psql('other', 'CREATE EXTENSION kafka_pg');
like($err, qr/topics are served in database "postgres", not in "other"/,
	'another database: CREATE EXTENSION says which one is served');
like($err, qr/HINT:.*kafka_pg.database/, 'and how to change that');
is($node->safe_psql('other', q{SELECT count(*) FROM pg_namespace WHERE nspname IN ('kafka', 'topics')}),
	'0', 'and leaves nothing there');

# A server that does not preload the library
my $plain = KafkaPg->broker('plain', start => 0);
$plain->adjust_conf('postgresql.conf', 'shared_preload_libraries', undef);
$plain->adjust_conf('postgresql.conf', 'wal_consistency_checking', undef);
$plain->start;
($code, $out, $err) = $plain->psql('postgres', 'CREATE EXTENSION kafka_pg');
isnt($code, 0, 'not preloaded: CREATE EXTENSION fails');
like($err, qr/kafka_pg must be loaded when the server starts/, 'with a clear message');
like($err, qr/HINT:.*shared_preload_libraries/, 'and a hint');

KafkaPg::done();
