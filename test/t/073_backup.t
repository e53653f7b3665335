# Base backups taken under load and started as servers of their own, checked by Postgres' own
# tools; pg_rewind of an old primary.
use strict;
use warnings;

use KafkaLoad;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

# no twin: pg_rewind writes files without WAL. The standby that is promoted has one.
my $node = KafkaPg->broker('main', twin => 0, conf => "wal_keep_size = 512MB\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# KafkaPg imports a function of the name of the parent's method.
sub command
{
	my ($what, @command) = @_;
	return $node->PostgreSQL::Test::Cluster::command_ok(\@command, $what);
}

KafkaLoad::create($node);

# ------------------------------------------------------------------------------------------
# pg_basebackup under load
# ------------------------------------------------------------------------------------------
my $load = KafkaLoad->start($node);
$load->wait_for_more;
$node->backup('one', backup_options => [ '--manifest-checksums=SHA256' ]);
$load->wait_for_more;
$node->backup('two', backup_options => [ '--wal-method=fetch', '--checkpoint=spread' ]);
$load->stop;
for my $name ('one', 'two')
{
	command("pg_verifybackup of $name", 'pg_verifybackup', $node->backup_dir . "/$name");
	my $copy = KafkaPg->restored($node, $name, "copy_$name");
	$copy->start;
	KafkaLoad::check($copy, $name);
	KafkaLoad::goes_on($copy, $name);
	$copy->stop('fast');
	command("pg_checksums of $name", 'pg_checksums', '--check', '-D', $copy->data_dir);
}

# ------------------------------------------------------------------------------------------
# pg_rewind of the old primary after a promotion it did not hear of
# ------------------------------------------------------------------------------------------
my $standby = KafkaPg->standby($node, 'standby');
$load = KafkaLoad->start($node);
$load->wait_for_more;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
$load->wait_for_more;			# on the old primary: this will be lost
$load->stop;
sql(q{SELECT kafka.produce('sql', 'lost', 'lost', partition => 0); SELECT kafka.create_topic('lost')});
KafkaLoad::check($standby, 'promoted');
$standby->safe_psql('postgres', q{SELECT kafka.produce('sql', 'kept', '1', partition => 0);
	INSERT INTO ledger VALUES (1, 0)});
KafkaLoad::goes_on($standby, 'promoted');
$node->stop('fast');
$standby->safe_psql('postgres', 'CHECKPOINT');
command('pg_rewind', 'pg_rewind', '--no-sync', '--source-server=' . $standby->connstr('postgres'),
	'--target-pgdata=' . $node->data_dir);
$node->append_conf('postgresql.conf', 'port = ' . $node->port . "\nkafka_pg.port = "
	. $node->kafka_port . "\nprimary_conninfo = '" . $standby->connstr . "'\n");
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
$standby->wait_for_catchup($node);
my $sum = q{SELECT count(*), md5(string_agg(t::text, '' ORDER BY partition, "offset")) FROM topics.};
for my $topic ('sql', 'wire')
{
	my $expected = $standby->safe_psql('postgres', $sum . $topic . ' t');
	$node->poll_query_until('postgres', $sum . $topic . ' t', $expected);
	is(sql($sum . $topic . ' t'), $expected, "rewound: $topic is the new primary's");
}
is(sql(q{SELECT to_regclass('topics.lost'), count(*) FROM topics.sql WHERE key = 'lost'}), '|0',
	'rewound: nothing of the other history');
KafkaLoad::check($node, 'rewound');
$standby->stop('fast');
$node->promote;
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
KafkaLoad::goes_on($node, 'rewound and promoted');
is(sql('SELECT epoch FROM kafka.leader_epoch'), '2', 'in the third leader epoch');
KafkaLoad::check($node, 'at last');

KafkaPg::done();
