package KafkaTwin;

# The proof that redo does what the server did: a copy of a node's data directory, from before its
# first start, replays all WAL that the node has written, and then is the same, page for page.
#
#	KafkaTwin::prepare($node);	# initialised, not started yet: keeps its WAL from now on
#	... the test ...
#	KafkaTwin::compare($node);	# stops it for good
#
# KafkaPg does this for every node. wal_consistency_checking looks at each page in the moment of
# its redo; this looks at what is there in the end, also of pages that no record should have
# touched, and after all crashes of the node, whose own recovery has been through it already.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

# Tests may change their directory.
my $pages = abs_path(dirname(__FILE__) . '/../checker/pages');

sub _directory { my ($node) = @_; return $node->basedir . '/twin'; }

sub prepare
{
	my ($node) = @_;

	$node->append_conf('postgresql.conf', "wal_keep_size = 1TB\n");
	system('cp', '-a', '--reflink=auto', $node->data_dir, _directory($node)) == 0 or die 'cp';
	$node->{twin} = 1;
	return;
}

# The relations to compare, as checker/pages wants them: topics, in all databases; what the test
# calls a log ($node->{logs}); and the catalog of topics with its indexes. Not its sequences: what a
# sequence will give out is in WAL in advance.
sub relations
{
	my ($node) = @_;
	my @found =
	  map { $node->safe_psql('postgres', "SELECT 'kafka_log:' || pg_relation_filepath('$_')") }
	  @{ $node->{logs} // [] };

	for my $database (split /\n/, $node->safe_psql('postgres',
			'SELECT datname FROM pg_database WHERE datallowconn'))
	{
		push @found, split /\n/, $node->safe_psql($database, <<'SQL');
SELECT concat_ws(':', a.amname, pg_relation_filepath(c.oid))
  FROM pg_class c JOIN pg_am a ON a.oid = c.relam
 WHERE a.amname = 'kafka_log' AND c.relkind = 'r'
    OR a.amname IN ('heap', 'btree') AND EXISTS (
       SELECT FROM pg_class t LEFT JOIN pg_index i ON i.indrelid IN (t.oid, t.reltoastrelid)
        WHERE t.relnamespace = to_regnamespace('kafka') AND t.relkind = 'r'
          AND c.oid IN (t.oid, t.reltoastrelid, i.indexrelid))
 ORDER BY 1, c.oid::regclass::text
SQL
	}
	return @found;
}

# What pg_control says about itself.
sub _control
{
	my ($directory, $field) = @_;
	my ($out, $err) = run_command([ 'pg_controldata', $directory ]);
	return $out =~ /^\Q$field\E:\s+(.*)$/m ? $1 : die "pg_controldata: $err";
}

# Gives the twin the WAL of the node, which has been shut down for good, to replay.
sub _replay
{
	my ($node) = @_;
	my $twin = _directory($node);
	my $log = $node->logfile =~ s/(?:\.log)?$/_twin.log/r;
	my $end = _control($node->data_dir, 'Latest checkpoint location');
	my %setting = (
		restore_command => 'false',		# all is in pg_wal
		recovery_target_lsn => $end,
		recovery_target_action => 'shutdown',
		recovery_target_timeline => 'latest',
		hot_standby => 'off',			# none of our processes run in it
		shared_preload_libraries => 'kafka_pg',
		allow_in_place_tablespaces => 'on',
		# what is of no use here
		fsync => 'off',
		max_wal_size => '1TB',
		checkpoint_timeout => '1d',
		archive_mode => 'off',
		synchronous_standby_names => '',
		wal_keep_size => '0',
		primary_conninfo => '',
		'kafka_pg.test_stop_points' => '',
		# the node does not need its own now
		listen_addresses => '',
		unix_socket_directories => $node->host,
		port => $node->port);

	append_to_file("$twin/recovery.signal", '');
	system('find', $node->data_dir . '/pg_wal',
		'-type', 'f', '-exec', 'mv', '-t', "$twin/pg_wal", '{}', '+') == 0 or die 'mv';
	my $ok = IPC::Run::run(
		[ 'postgres', '-D', $twin, map { ('-c', "$_=$setting{$_}") } sort keys %setting ],
		'>', $log, '2>&1',
		IPC::Run::timeout(10 * $PostgreSQL::Test::Utils::timeout_default));
	return '' if $ok && _control($twin, 'Latest checkpoint location') eq $end;
	my @lines = split /^/, slurp_file($log);
	return "it did not replay all WAL: $log ends with\n"
	  . join '', @lines > 10 ? @lines[ -10 .. -1 ] : @lines;
}

# Compares the node with its twin, as one test, and stops both for good. There is no test where
# there is nothing to compare: in a node that never ran, has nothing of ours in it, or is a standby.
sub compare
{
	my ($node) = @_;
	my $name = $node->name . ': what is replayed from WAL is the same, page for page';

	return if !$node->{twin} || !-e $node->logfile;
	$node->{twin} = 0;
	$node->start if !defined $node->{_pid};
	return if $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 't';
	my @relations = relations($node);
	$node->stop('fast');
	return if !@relations;

	my $problem = _replay($node);
	if ($problem eq '')
	{
		IPC::Run::run([ $pages, $node->data_dir, _directory($node), @relations ],
			'>', \$problem, '2>&1');
		note($node->name . ': ' . $1) if $problem =~ s/^(\d+ pages in \d+ files, 0 differ)\n\z//m;
	}
	is($problem, '', $name);
	system('rm', '-rf', _directory($node)) if $problem eq '';
	return;
}

1;
