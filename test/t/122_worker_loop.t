# The worker of README.md, as it stands there: two in psql and two in Python share a group, and one
# is killed.
use strict;
use warnings;

use IPC::Run ();
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $readme = slurp_file('README.md');
my %worker;
for my $name ('worker.sql', 'worker.py')
{
	my ($text) = $readme =~ /<!-- \Q$name\E -->\n```\w+\n(.*?)```/s;
	ok(defined $text, "README.md has $name") or BAIL_OUT("no $name");
	$worker{$name} = PostgreSQL::Test::Utils::tempdir() . "/$name";
	append_to_file($worker{$name}, $text);
}

my $node = KafkaPg->broker('main');
my $articles = 20;
my $total = 0;

# Prices rise with each record, so that the latest is the greatest.
sub produce
{
	my ($n) = @_;
	$node->safe_psql('postgres', <<"SQL");
SELECT kafka.produce('prices', jsonb_build_object('price', n), 'article ' || n % $articles)
  FROM generate_series($total, $total + $n - 1) n
SQL
	$total += $n;
	return;
}

sub latest_price_is_there
{
	my ($what) = @_;
	my $least = $total - $articles;

	ok($node->poll_query_until('postgres',
		"SELECT count(*) = $articles AND min(price) >= $least FROM price"), $what);
	is($node->safe_psql('postgres', "SELECT count(*), min(price), max(price) FROM price"),
		join('|', $articles, $least, $total - 1), "$what, and nothing else");
	is($node->safe_psql('postgres', q{SELECT sum(lag) FROM kafka.group_lag WHERE group_id = 'pricing'}),
		'0', "$what: no lag");
	return;
}

$node->safe_psql('postgres', q{SELECT kafka.create_topic('prices', 3)});
$node->safe_psql('postgres', 'CREATE TABLE price (article text PRIMARY KEY, price numeric)');

my @workers;
my %errors;
{
	local %ENV = $node->_get_env(PGDATABASE => 'postgres');
	for my $command (([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $worker{'worker.sql'} ],
		[ '/usr/bin/python3', $worker{'worker.py'} ]) x 2)
	{
		my $n = @workers;
		$errors{$n} = '';
		push @workers, IPC::Run::start($command, '<', \undef, '>', \my $out, '2>', \$errors{$n});
	}
}
ok($node->poll_query_until('postgres', <<'SQL'), 'four workers wait');
SELECT count(*) = 4 FROM pg_stat_activity
 WHERE wait_event = 'Extension' AND query LIKE '%kafka.wait_group%' AND backend_xmin IS NULL
SQL
produce(2000);
latest_price_is_there('all is done');
for (1 .. 5)
{
	produce(1000);
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.02)');
}
$workers[0]->kill_kill;
$node->safe_psql('postgres', q{DELETE FROM price});
produce(3000);
latest_price_is_there('three go on');
ok($workers[$_]->pumpable, "worker $_ works") for 1 .. 3;
$_->kill_kill for @workers[ 1 .. 3 ];
KafkaPg::done();
