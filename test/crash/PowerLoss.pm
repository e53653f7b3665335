package PowerLoss;

# A server on a disk that loses, when the power goes, all that was not fsynced: see powerloss.c.
#
#	my $node = PowerLoss::broker('name', conf => text);	# like KafkaPg->broker
#	PowerLoss::stop_disk_after($node, 10);	# the tenth fsync from now is the last
#	... kill all processes ...
#	PowerLoss::restore($node);				# the data directory as the disk has it
#	$node->start;

use strict;
use warnings;

use Cwd qw(abs_path);
use KafkaPg;
use PostgreSQL::Test::Utils;

sub broker
{
	my ($name, %param) = @_;

	# small WAL files: each flush copies a whole one
	my $node = KafkaPg->broker($name, %param, start => 0,
		init => { extra => ['--wal-segsize=1'] });
	my $data = abs_path($node->data_dir);
	my $disk = $node->basedir . '/disk';
	my $state = $node->basedir . '/disk_state';

	system('cp', '-a', $data, $disk) == 0 or die 'cp';
	open my $out, '>', $state or die $!;
	print $out pack('QQ', 0, 0);
	close $out;
	$ENV{POWERLOSS_ROOT} = $data;
	$ENV{POWERLOSS_DISK} = abs_path($disk);
	$ENV{POWERLOSS_STATE} = abs_path($state);
	$ENV{LD_PRELOAD} = abs_path('build/crash/powerloss.so');
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg');
	return $node;
}

# How often the server has fsynced something.
sub fsyncs
{
	open my $in, '<', $ENV{POWERLOSS_STATE} or die $!;
	read $in, my $bytes, 16;
	close $in;
	return (unpack 'QQ', $bytes)[0];
}

# n more fsyncs, and the disk answers no more; 0: it works on.
sub stop_disk_after
{
	my ($n) = @_;
	open my $out, '+<', $ENV{POWERLOSS_STATE} or die $!;
	seek $out, 8, 0;
	print $out pack('Q', $n ? fsyncs() + $n : 0);
	close $out;
	return;
}

# After all processes were killed: the data directory becomes what the disk has.
sub restore
{
	my ($node) = @_;
	my $data = $node->data_dir;

	stop_disk_after(0);
	system("rm -rf '$data' && cp -a '$ENV{POWERLOSS_DISK}' '$data'") == 0 or die 'restore';
	unlink "$data/postmaster.pid";
	# half-made copies, of fsyncs that never returned
	system("find '$data' '$ENV{POWERLOSS_DISK}' -name '*.fsync*' -delete") == 0 or die 'find';
	return;
}

1;
