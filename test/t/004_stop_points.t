# Stop points: a process waits at one, fails there, or is killed there; from SQL and from a setting.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

# Where a commit is about to append: no page is locked there.
my $point = 'ktable-before-append';
my $node = KafkaPg->broker('main', conf => "kafka_pg.test_stop_points = '$point=error, other'\n");
$node->expect_crashes;
$node->create_stop_functions;
$node->safe_psql('postgres', q{SELECT kafka.create_topic('t')});

sub produced
{
	return $node->safe_psql('postgres', q{SELECT string_agg(convert_from(value, 'UTF8'), ',' ORDER BY
		partition, "offset") FROM topics.t});
}

# Armed by the setting from the start
my ($code, $out, $err) = $node->psql('postgres', q{SELECT kafka.produce('t', 'not to be')});
like($err, qr/stop point $point/, 'error: thrown at the stop point');
is($node->safe_psql('postgres', "SELECT kafka_test.stop_release('$point')"), 't', 'was armed');
is($node->safe_psql('postgres', "SELECT kafka_test.stop_release('$point')"), 'f', 'is no more');
is($node->safe_psql('postgres', q{SELECT kafka_test.stop_release('other')}), 't',
	'the setting has a list');

$node->safe_psql('postgres', q{SELECT kafka.produce('t', 'one')});
is(produced(), 'one', 'nothing stops where nothing is armed');

# wait, and skip
$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'wait', 1)");
$node->safe_psql('postgres', q{SELECT kafka.produce('t', 'two')});
my $session = $node->background_psql('postgres');
$session->query_until(qr/started/, q{
\echo started
SELECT kafka.produce('t', 'three');
});
is($node->safe_psql('postgres', "SELECT kafka_test.stop_await('$point')"), 't',
	'wait: the second pass stops');
is(produced(), 'one,two', 'and nobody sees its record');
is($node->safe_psql('postgres', "SELECT kafka_test.stop_await('$point', 2, 10)"), 'f',
	'awaiting another has an end');
$node->safe_psql('postgres', "SELECT kafka_test.stop_release('$point')");
$session->quit;
is(produced(), 'one,two,three', 'released, it goes on');

# kill
$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'kill')");
($code) = $node->crash(sub { $node->psql('postgres', q{SELECT kafka.produce('t', 'never')}) });
isnt($code, 0, 'kill: the session is gone');
# A crash makes shared memory anew, so what the setting says is armed again.
($code, $out, $err) = $node->psql('postgres', q{SELECT kafka.produce('t', 'not to be')});
like($err, qr/stop point $point/, 'and has armed what the setting says');
$node->safe_psql('postgres', "SELECT kafka_test.stop_release('$point')");
$node->safe_psql('postgres', q{SELECT kafka.produce('t', 'four')});
is(produced(), 'one,two,three,four', 'nothing is lost, nothing is there that was not committed');

($code, $out, $err) = $node->psql('postgres', q{SELECT kafka_test.stop_arm('x', 'dance')});
like($err, qr/no stop point action "dance"/, 'an unknown action is refused');

KafkaPg::done();
