package CrashTest;

# A KafkaPg node under the load of test/checker/workload, killed in every way.
#
#	my $crash = CrashTest->new($node, seed => 1);	# topics exist, nothing runs yet
#	$crash->command('run');
#	$crash->kill_tree;			# or kill_process('kafka broker')
#	$crash->recover;			# until SQL and the wire serve again
#	$crash->command('stop');
#	is($crash->command('check'), '', 'nothing is wrong');

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# Topics by what they are for: several partitions; small segments; large records, which are
# written as long batches. 1 MB is the least that segment.bytes allows.
my $topics = <<'SQL';
SELECT kafka.create_topic('crash_a', 4);
SELECT kafka.create_topic('crash_b', 2, '{"segment.bytes": 1048576}');
SELECT kafka.create_topic('crash_c', 1);
CREATE TABLE crash_ledger (actor text, seq int);
SQL

# new(node, seed => n, wire => bool, only => regular expression of actors, liar => bool)
sub new
{
	my ($class, $node, %param) = @_;
	my $self = bless { node => $node, journal => $node->basedir . '/journal', crashes => 0 }, $class;
	my @command = (
		'/usr/bin/python3', '-B', 'test/checker/workload', '--journal', $self->{journal},
		'--topics', 'crash_a:4,crash_b:2,crash_c:1', '--seed', $param{seed} // 1);

	push @command, '--no-wire' if !($param{wire} // 1);
	push @command, '--only', $param{only} if defined $param{only};
	push @command, '--liar' if $param{liar};
	$node->safe_psql('postgres', $topics);
	$node->expect_crashes;
	local %ENV = $node->_get_env(KAFKA_BOOTSTRAP => $node->bootstrap, PGDATABASE => 'postgres');
	$self->{timer} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$self->{in} = $self->{out} = '';
	$self->{run} = IPC::Run::start(\@command, '<', \$self->{in}, '>', \$self->{out}, $self->{timer});
	return $self;
}

# Waits until all that was appended may be read. A commit that did not wait for its flush holds
# back, for that moment, what others have committed behind it.
sub _settle
{
	my ($self) = @_;
	my $end = time + 30;

	while (time < $end)
	{
		my ($code, $out) = $self->{node}->psql('postgres',
			'SELECT bool_and(high_watermark = end_offset) FROM kafka.partitions');
		last if $code == 0 && $out eq 't';
		sleep 0.02;
	}
	return;
}

# The workload's answer to a command.
sub command
{
	my ($self, $command) = @_;

	$self->_settle if $command =~ /^(?:check|final)$/;
	$self->{in} .= "$command\n";
	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	$self->{run}->pump until $self->{out} =~ /^\.\n/m;
	$self->{timer}->reset;
	$self->{out} =~ s/\A(.*?)^\.\n//ms;
	return $1;
}

sub quit
{
	my ($self) = @_;
	$self->{in} .= "quit\n";
	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	return $self->{run}->finish;
}

sub random_of { my (@list) = @_; return $list[ rand @list ]; }

# All processes of the server.
sub _tree
{
	my ($self) = @_;
	my $postmaster = $self->{node}{_pid};
	my @pids = ($postmaster);

	for my $file (glob '/proc/[0-9]*/stat')
	{
		open my $in, '<', $file or next;
		my $line = <$in> // '';
		close $in;
		push @pids, $1 if $line =~ /^(\d+) \(.*\) \S $postmaster /;
	}
	return @pids;
}

# SIGKILL for the postmaster and all its children at once: shared memory, and with it the WAL that
# has not been written, is gone. The postmaster stops first, so that it starts no more of them.
# Returns how many there were.
sub kill_tree
{
	my ($self) = @_;

	$self->command('crash tree');
	return $self->kill_tree_now;
}

# The same for who has told the workload already.
sub kill_tree_now
{
	my ($self) = @_;

	$self->{tree} = 1;
	return $self->_kill_tree;
}

sub _kill_tree
{
	my ($self) = @_;
	my $node = $self->{node};
	my $postmaster = $node->{_pid};
	my $end = time + 10;

	# Until it has stopped it may start one more, whom nobody would kill.
	kill 'STOP', $postmaster;
	sleep 0.001 while _state($postmaster) =~ /^[^TtZ]$/ && time < $end;
	my @pids = $self->_tree;
	my $n = kill 'KILL', reverse @pids;
	for my $pid (@pids)
	{
		sleep 0.005 while _state($pid) !~ /^Z?$/;
	}

	# Where init is slow to reap it the next postmaster takes its pid file seriously.
	sleep 0.01 while _state($postmaster) && time < $end;
	unlink $node->data_dir . '/postmaster.pid' if _state($postmaster);
	$node->{_pid} = undef;
	return $n;
}

# The state letter of a process; '' when there is none.
sub _state
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/stat" or return '';
	my $line = <$in> // '';
	close $in;
	return $line =~ /^\d+ \(.*\) (\S)/ ? $1 : '';
}

# SIGKILL for one process whose backend_type begins with type; false when there is none. The
# postmaster kills all others and recovers.
sub kill_process
{
	my ($self, $type) = @_;
	my @pids = split /\n/, $self->{node}->safe_psql('postgres', <<"SQL");
SELECT pid FROM pg_stat_activity
 WHERE backend_type LIKE '$type%' AND pid <> pg_backend_pid()
SQL
	return 0 if !@pids;
	$self->command("crash $type");
	return kill 'KILL', random_of(@pids);
}

# How often something is in the server's log.
sub _count
{
	my ($self, $what) = @_;
	return scalar(() = slurp_file($self->{node}->logfile) =~ /$what/g);
}

# How often the server has recovered from a crash, by its own log.
sub _recoveries { my ($self) = @_; return $self->_count(qr/automatic recovery in progress/); }

sub _postmaster
{
	my ($self) = @_;
	return slurp_file($self->{node}->data_dir . '/postmaster.pid') =~ /^(\d+)/;
}

# recover(again => seconds): starts the server if all of it was killed, waits until it serves
# again, and makes sure that it had crashed. again: kills all of it once more, that time after redo
# has begun.
sub recover
{
	my ($self, %param) = @_;
	my $node = $self->{node};
	my $started = time;

	if ($self->{tree})
	{
		if (defined $param{again})
		{
			my $redone = $self->_count(qr/redo starts at/);

			# pg_ctl is not to wait for this one
			system('pg_ctl', '-W', '-s', '-D', $node->data_dir, '-l', $node->logfile,
				'-o', '--cluster-name=' . $node->name, 'start') == 0 or die 'pg_ctl failed';
			sleep 0.002 while $self->_count(qr/redo starts at/) == $redone;
			sleep $param{again};
			($node->{_pid}) = $self->_postmaster;
			$self->_kill_tree > 1 or die 'there was nothing to kill';
		}
		$node->start;
		$self->{tree} = 0;
	}
	$self->wait_until_recovered($self->{crashes} + 1);
	$self->{crashes} = $self->_recoveries;
	$self->wait_until_serving;
	$self->command('up');
	return time - $started;
}

# Waits until the log tells of n recoveries.
sub wait_until_recovered
{
	my ($self, $n) = @_;
	my $end = time + 30;

	while ($self->_recoveries < $n)
	{
		die 'the server did not crash' if time > $end;
		sleep 0.02;
	}
	return;
}

sub wait_until_serving
{
	my ($self) = @_;
	my $node = $self->{node};
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		my ($code) = $node->psql('postgres', 'SELECT 1');
		my ($wire, $out) = $code == 0 ? $node->kcat({ ok => 0 }, '-L', '-m', '2') : (1, '');
		last if $code == 0 && $wire == 0 && $out =~ /topic "crash_a" with 4 partitions/;
		die "the server does not serve again: $out" if time > $end;
		sleep 0.05;
	}
	return;
}

1;
