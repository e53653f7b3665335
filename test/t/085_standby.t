# A physical standby follows a load of every kind; then its files are the primary's, page for page.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use IPC::Run ();
use KafkaPg;
use Test::More;
use Time::HiRes qw(sleep);

my $primary = KafkaPg->broker('primary', conf => "max_wal_size = 64MB\ncheckpoint_timeout = 30s\nwal_keep_size = 2GB\n");
my $crash = CrashTest->new($primary, seed => 7);
my $standby = KafkaPg->standby($primary, 'standby');

# compare(label): stops both, compares, starts both again.
sub compare
{
	my ($label) = @_;
	my @relations = KafkaTwin::relations($primary);
	my @topics = grep { /^kafka_log:/ } @relations;
	is(scalar(@topics), 3, "$label: three topics to compare");

	# A primary that stops waits until its last record has been received; a standby that stops
	# writes all its pages.
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	$primary->stop('fast');
	$standby->stop('fast');
	my @command = ('test/checker/pages', $primary->data_dir, $standby->data_dir, @relations);
	my $ok = IPC::Run::run(\@command, '>', \my $out);
	ok($ok, "$label: all pages are the same") or diag($out);
	note((split /\n/, $out)[-1]);
	my ($n) = $out =~ /^(\d+) pages in/m;
	cmp_ok($n, '>', 100, "$label: there was much to compare");

	# A difference would be seen: in the third page of a topic; in a row; in an entry of an index
	for my $where ([ 'kafka_log', 2, 0 ], [ 'heap', 0, 24 ], [ 'btree', 1, 8 ])
	{
		my ($kind, $block, $behind_upper) = @$where;
		my ($file) = grep { -s $_ > 8192 * $block }
		  map { /^$kind:(.*)/ ? $standby->data_dir . "/$1" : () } @relations;
		open my $page, '+<', $file or die "$file: $!";
		sysseek $page, 8192 * $block, 0;
		sysread $page, my $header, 24;
		my $at = 8192 * $block + ($behind_upper ? unpack('x14S', $header) + $behind_upper : 100);
		sysseek $page, $at, 0;
		sysread $page, my $byte, 1;
		sysseek $page, $at, 0;
		syswrite $page, $byte ^ "\x01";
		IPC::Run::run(\@command, '>', \$out);
		like($out, qr/^\d+ pages in \d+ files, 1 differ$/m, "$label: a changed byte is found: $kind");
		sysseek $page, $at, 0;
		syswrite $page, $byte;
		close $page;
	}

	$primary->start;
	$standby->start;
	$crash->wait_until_serving;
	return;
}

sub load
{
	my ($label) = @_;
	$crash->command('run');
	sleep 3;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	ok($done{'committed s.insert'} && $done{'seen q.select'}, "$label: work was done");
	is($crash->command('check'), '', "$label: nothing is wrong");
	return;
}

load('first load');
compare('first load');

# Once more with the end of it in a crash of the primary, which resolves what the crash left
load('second load');
$crash->command('run');
sleep 1;
$crash->kill_tree;
$crash->recover;
$crash->command('stop');
is($crash->command('check'), '', 'after a crash: nothing is wrong');
compare('after a crash');

is($crash->command('final'), '', 'at the end: nothing is wrong');
ok($crash->quit, 'the workload ends well');
KafkaPg::done();
