package KafkaPg;

# A test cluster with kafka_pg: PostgreSQL::Test::Cluster, and what a broker needs beyond it.
#
#	use KafkaPg;
#	my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 1\n");
#	$node->safe_psql('postgres', q{SELECT kafka.create_topic('t')});
#	$node->kcat({ in => "hello\n" }, '-P', '-t', 't');
#	is($node->kcat('-C', '-t', 't', '-e', '-q'), "hello\n", 'kcat reads what it wrote');
#	KafkaPg::done();
#
# Every test file ends with done(): it looks for problems in every topic of every running primary,
# stops the nodes, compares each with what a standby would have (KafkaTwin), looks for crashes in
# their logs, and ends the plan.

use strict;
use warnings;
use parent -norequire, 'PostgreSQL::Test::Cluster';

use Exporter 'import';
use IPC::Run ();
use KafkaTwin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT_OK = qw(done);

my @nodes;

# Every node is strict about its pages: checksums, and each page's redo compared with its
# original. restart_after_crash is on as in production; done() sees crashes in the log.
my $settings = <<'CONF';
shared_preload_libraries = 'kafka_pg'
wal_consistency_checking = 'kafka_log'
fsync = on
restart_after_crash = on
log_statement = none
shared_buffers = 64MB
max_connections = 50
max_worker_processes = 32
max_wal_size = 1GB
kafka_pg.listen_addresses = '127.0.0.1'
kafka_pg.drop_behind = on
CONF

# broker(name, conf => text, start => bool, extension => bool, twin => bool, new => {...},
#	init => {...})
#
# A started node with the extension created. Unless conf says otherwise clients may do
# everything: they are the superuser. twin => 0: its WAL does not tell all that is done to its
# files, so done() is not to compare it.
sub broker
{
	my ($class, $name, %param) = @_;
	my $node = $class->new($name, %{ $param{new} || {} });

	$node->init(allows_streaming => 1, %{ $param{init} || {} },
		extra => [ '-k', '-E', 'UTF8', '--locale=C.UTF-8', @{ $param{init}{extra} || [] } ]);
	my $user = getpwuid($<);
	$node->append_conf('postgresql.conf', $settings);
	$node->append_conf('postgresql.conf', "kafka_pg.anonymous_role = '$user'\n");
	$node->_choose_kafka_port;
	$node->append_conf('postgresql.conf', $param{conf}) if defined $param{conf};
	KafkaTwin::prepare($node) if $param{twin} // 1;
	push @nodes, $node;

	if ($param{start} // 1)
	{
		$node->start;
		$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg') if $param{extension} // 1;
	}
	return $node;
}

# standby(primary, name, conf => text, twin => bool): a started physical standby that streams from
# the primary. done() compares it if it has been promoted.
sub standby
{
	my ($class, $primary, $name, %param) = @_;
	my $node = $class->new($name);

	$primary->backup("for_$name");
	$node->init_from_backup($primary, "for_$name", has_streaming => 1);
	$node->_choose_kafka_port;
	$node->append_conf('postgresql.conf', $param{conf}) if defined $param{conf};
	KafkaTwin::prepare($node) if $param{twin} // 1;
	push @nodes, $node;
	$node->start;
	return $node;
}

# restored(node, backup, name, archive => bool): a server of its own made from a backup, not
# started yet; archive: it will recover from the first one's archive.
sub restored
{
	my ($class, $from, $backup, $name, %param) = @_;
	my $node = $class->new($name);

	$node->init_from_backup($from, $backup, has_restoring => $param{archive} // 0, standby => 0);
	$node->append_conf('postgresql.conf', 'archive_mode = off');
	$node->_choose_kafka_port;
	push @nodes, $node;
	return $node;
}

sub _choose_kafka_port
{
	my ($self) = @_;

	$self->{kafka_port} = PostgreSQL::Test::Cluster::get_free_port();
	$self->append_conf('postgresql.conf', "kafka_pg.port = $self->{kafka_port}\n");
	return;
}

# As the parent's, but a server that does not start or stop fails this test file, and not the
# whole run, as BAIL_OUT would.
sub start
{
	my ($self, %param) = @_;
	my $ok = $self->SUPER::start(%param, fail_ok => 1);
	die 'node "' . $self->name . "\" did not start\n" . $self->_log_tail if !$ok && !$param{fail_ok};
	return $ok;
}

sub stop
{
	my ($self, $mode, %param) = @_;
	my $ok = $self->SUPER::stop($mode, %param, fail_ok => 1);
	die 'node "' . $self->name . "\" did not stop\n" . $self->_log_tail if !$ok && !$param{fail_ok};
	return $ok;
}

# psql may be gone before it has read what it is to run, when the server goes away under it; the
# parent's methods die of that broken pipe. Here it is a failure of psql, or to be asked again.
sub psql
{
	my ($self, $database, $sql, %param) = @_;
	my @result = eval { $self->SUPER::psql($database, $sql, %param) };

	if ($@)
	{
		die $@ if $@ !~ /Broken pipe/ || $param{on_error_die};
		@result = (2, '', "psql: the connection failed\n");
		${ $param{stdout} } = $result[1] if $param{stdout};
		${ $param{stderr} } = $result[2] if $param{stderr};
	}
	return wantarray ? @result : $result[0];
}

sub poll_query_until
{
	my ($self, @args) = @_;

	for my $attempt (1 .. 100)
	{
		my $result = eval { $self->SUPER::poll_query_until(@args) };
		return $result if !$@;
		die $@ if $@ !~ /Broken pipe/ || $attempt == 100;
		select(undef, undef, undef, 0.1);
	}
	return;
}

# Does what makes the server crash and restart by itself; back when the server is. Returns what the
# action does.
sub crash
{
	my ($self, $action) = @_;
	my $from = -s $self->logfile;
	my @result = $action->();

	$self->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	$self->wait_for_server;
	return @result;
}

# Waits until a server that restarts by itself accepts connections again.
sub wait_for_server
{
	my ($self) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if IPC::Run::run([ 'pg_isready', '-q', '-h', $self->host, '-p', $self->port ]);
		select(undef, undef, undef, 0.1);
	}
	die 'node "' . $self->name . "\" does not come back\n" . $self->_log_tail;
}

# Waits until Kafka clients are served: a little later than SQL after a start or a promotion.
sub wait_for_kafka
{
	my ($self) = @_;

	# the brokers of a standby live for a moment longer than it is one
	$self->poll_query_until('postgres', <<'SQL') or die 'no flusher';
SELECT pg_is_in_recovery()
    OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'kafka flusher')
SQL
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code) = $self->kcat({ ok => 0 }, '-L');
		return if $code == 0;
		select(undef, undef, undef, 0.1);
	}
	die 'node "' . $self->name . "\" does not serve Kafka clients\n" . $self->_log_tail;
}

sub _log_tail
{
	my ($self) = @_;
	return '' if !-e $self->logfile;
	my @lines = split /^/, slurp_file($self->logfile);
	return join('', @lines > 20 ? @lines[ -20 .. -1 ] : @lines);
}

sub kafka_port { my ($self) = @_; return $self->{kafka_port}; }
sub bootstrap { my ($self) = @_; return "127.0.0.1:$self->{kafka_port}"; }

# The test makes this node crash on purpose: done() overlooks processes killed by SIGKILL, and
# what the postmaster says about it.
sub expect_crashes { my ($self) = @_; $self->{expect_crashes} = 1; return; }

# The test lets the disk run full, or files reach their size limit: done() overlooks the PANICs that
# say so, and their consequences.
sub expect_full_disk { my ($self) = @_; $self->{expect_full_disk} = 1; return; }

# The test damages pages itself.
sub expect_damage { my ($self) = @_; $self->{expect_damage} = 1; return; }

# kcat([{ in => text, ok => bool }], args...): its output; dies when it fails, unless ok is 0:
# then returns (exit code, output, error output).
sub kcat
{
	my ($self, @args) = @_;
	my $param = ref $args[0] ? shift @args : {};
	return $self->_run($param, 'kcat', '-b', $self->bootstrap, @args);
}

# python([{...}], script, args...): like kcat, for a script of this test suite. It finds the server
# through the environment: KAFKA_BOOTSTRAP, PGHOST, PGPORT, PGDATABASE.
sub python
{
	my ($self, @args) = @_;
	my $param = ref $args[0] ? shift @args : {};
	local %ENV = $self->_get_env(KAFKA_BOOTSTRAP => $self->bootstrap, PGDATABASE => 'postgres');
	return $self->_run($param, '/usr/bin/python3', @args);
}

sub _run
{
	my ($self, $param, @command) = @_;
	my ($out, $err) = ('', '');
	my $in = $param->{in} // '';
	my $timeout = IPC::Run::timeout($param->{timeout} // $PostgreSQL::Test::Utils::timeout_default);

	my $ok = IPC::Run::run(\@command, '<', \$in, '>', \$out, '2>', \$err, $timeout);
	my $code = $? >> 8;
	return ($code, $out, $err) if !($param->{ok} // 1);
	die "@command: exit code $code\n$err" if !$ok;
	return $out;
}

# Declares the stop points' functions in schema kafka_test: stop_arm(name, action, skip),
# stop_await(name, n, timeout_ms), stop_release(name). See src/kstop.h.
sub create_stop_functions
{
	my ($self, $database) = @_;

	$self->safe_psql($database // 'postgres', <<'SQL');
CREATE SCHEMA kafka_test;
CREATE FUNCTION kafka_test.stop_arm(name text, action text DEFAULT 'wait', skip int DEFAULT 0)
	RETURNS void STRICT LANGUAGE c AS '$libdir/kafka_pg', 'kstop_sql_arm';
CREATE FUNCTION kafka_test.stop_await(name text, n int DEFAULT 1, timeout_ms int DEFAULT 60000)
	RETURNS bool STRICT LANGUAGE c AS '$libdir/kafka_pg', 'kstop_sql_await';
CREATE FUNCTION kafka_test.stop_release(name text)
	RETURNS bool STRICT LANGUAGE c AS '$libdir/kafka_pg', 'kstop_sql_release';
SQL
	return;
}

# append_in_vain(topic, records): a transaction appends to partition 0 and fails then, as one test:
# a dead batch is there. The stop points' functions are declared.
sub append_in_vain
{
	my ($self, $topic, $records) = @_;

	my (undef, undef, $error) = $self->psql('postgres', <<"SQL", on_error_stop => 0);
SELECT kafka_test.stop_arm('ktable-after-append', 'error');
SELECT kafka.produce('$topic', 'dead ' || i, partition => 0) FROM generate_series(1, $records) i;
SELECT kafka_test.stop_release('ktable-after-append');
SQL
	like($error, qr/stop point ktable-after-append/, "$topic: $records records are appended in vain");
	return;
}

# offsets_from(topic, offset): what a client reads in partition 0 from there to the end, as a list
# of offsets. It fails when the offset is out of range, and would hang if it could not get to the
# end.
sub offsets_from
{
	my ($self, $topic, $offset) = @_;

	return $self->kcat(qw(-C -e -q -p 0 -X auto.offset.reset=error -f), '%o ', '-t', $topic, '-o',
		$offset) =~ s/ $//r;
}

# Declares kafka_test.keep_topics(), which takes all topics out of the way of the next test, but
# leaves their files for done() to compare.
sub create_keep_function
{
	my ($self) = @_;

	$self->safe_psql('postgres', <<'SQL');
CREATE SCHEMA IF NOT EXISTS kafka_test;
CREATE SCHEMA kept;
CREATE FUNCTION kafka_test.keep_topics() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT "table" FROM kafka.topics LOOP
		EXECUTE format('ALTER TABLE %s RENAME TO kept_%s', t, t::oid);
		EXECUTE format('ALTER TABLE %s SET SCHEMA kept', t);
	END LOOP;
	DELETE FROM kafka.partition;
	DELETE FROM kafka.topic;
END $$;
SQL
	return;
}

# regress(program, inputdir, tests...): runs pg_regress or pg_isolation_regress in database
# postgres, as one test for each of theirs; the differences are printed. Tests end with
# kafka_test.keep_topics() rather than drop what they have written.
sub regress
{
	my ($self, $program, $inputdir, @tests) = @_;
	my $binary = $ENV{ uc $program } || $ENV{PG_REGRESS};
	my $outputdir = $self->basedir . '/regress';
	my %result;

	mkdir $outputdir or die "$outputdir: $!";
	$self->create_keep_function;
	local %ENV = $self->_get_env();
	IPC::Run::run(
		[
			$binary, '--use-existing', '--dbname=postgres', '--bindir=',
			"--inputdir=$inputdir", "--outputdir=$outputdir",
			'--host=' . $self->host, '--port=' . $self->port, @tests
		],
		'>&', \my $out);
	note($out);
	$result{$1} = $2 while $out =~ /^(?:test )?(\S+)\s+\.\.\. (\w+)/mg;
	is($result{$_}, 'ok', "$program: $_") for @tests;
	diag(slurp_file("$outputdir/regression.diffs")) if -s "$outputdir/regression.diffs";
	return;
}

# Rows of kafka.check_topic over every topic of the database, as text: '' when all is well.
sub problems
{
	my ($self, $database) = @_;
	return $self->safe_psql($database // 'postgres', <<'SQL');
SELECT c.oid::regclass, problem.*
  FROM pg_class c JOIN pg_am a ON a.oid = c.relam, kafka.check_topic(c.oid::regclass) problem
 WHERE a.amname = 'kafka_log'
SQL
}

# What the node's log says about crashes and damage, as text.
sub crashes
{
	my ($self) = @_;
	my @found;

	for my $line (split /\n/, slurp_file($self->logfile))
	{
		next if $line !~ /\b(?:PANIC|TRAP|was\ terminated\ by\ signal|inconsistent\ page\ found
			|invalid\ page\ in\ block|page\ verification\ failed|stuck\ spinlock)\b/x;
		next if $self->{expect_crashes} && $line =~ /was terminated by signal 9\b/;
		next if $self->{expect_damage}
			&& $line =~ /\b(?:invalid\ page\ in\ block|page\ verification\ failed)\b/x;
		next if $self->{expect_full_disk}
			&& $line =~ /PANIC:.*(?:No\ space\ left\ on\ device|File\ too\ large)
				|was\ terminated\ by\ signal\ 6\b/x;
		push @found, $line;
	}
	return join("\n", @found);
}

# The end of a node: what done() does to all that are left.
sub finish
{
	my ($self) = @_;
	my $name = $self->name;

	if (defined $self->{_pid} && $self->safe_psql('postgres', <<'SQL'))
SELECT 1 FROM pg_extension WHERE extname = 'kafka_pg' AND NOT pg_is_in_recovery()
SQL
	{
		is($self->problems, '', "$name: no problem in any topic");
	}
	KafkaTwin::compare($self);
	$self->stop('fast') if defined $self->{_pid};
	is($self->crashes, '', "$name: no crash in the log") if -e $self->logfile;
	@nodes = grep { $_ != $self } @nodes;
	return;
}

sub done
{
	my @left = @nodes;

	$_->finish for @left;
	done_testing();
	return;
}

1;
