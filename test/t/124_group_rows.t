# A session that has locked the row of an offset goes on from what is in it, whatever happens to the
# page meanwhile.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $node = KafkaPg->broker('main');
$node->create_stop_functions;
$node->safe_psql('postgres', <<'SQL');
ALTER TABLE kafka.group_offset SET (autovacuum_enabled = off);
SELECT kafka.create_topic('t', 2);
INSERT INTO topics.t (partition, value)
  SELECT 0, kafka.to_bytea(n::text) FROM generate_series(0, 9) n;
SQL

# Offsets of the other partition, which has no records: a version of its row each.
sub commit_others
{
	my ($from, $to) = @_;
	$node->safe_psql('postgres',
		join '', map { "SELECT kafka.commit_offset('g', 't', 1, $_);\n" } $from .. $to);
	return;
}

commit_others(1001, 1020);
$node->safe_psql('postgres', q{SELECT kafka.commit_offset('g', 't', 0, 3)});

$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('group-row-locked')});
my $session = $node->background_psql('postgres');
$session->query_until(qr/begun/, q{
\echo begun
SELECT 'got ' || coalesce(string_agg(kafka.to_text(value), ','), 'nothing') FROM kafka.consume('g', 't');
});
ok($node->safe_psql('postgres', q{SELECT kafka_test.stop_await('group-row-locked')}),
	'a session has locked a row');
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('group-row-locked', 'wait', 1000000)});

# What is dead goes, the row moves, and others come to where it was.
$node->safe_psql('postgres', 'VACUUM kafka.group_offset');
commit_others(1021, 1045);
$node->safe_psql('postgres', q{SELECT kafka_test.stop_release('group-row-locked')});
like($session->query_until(qr/got \S+\n/, ''), qr/got 3,4,5,6,7,8,9\n/, 'it has its records');
$session->quit;
is($node->safe_psql('postgres', q{SELECT kafka.committed_offset('g', 't', 0)}), '10',
	'and has moved on from the offset that was committed');
KafkaPg::done();
