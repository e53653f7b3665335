package PowerLoss;

# A server on a disk that loses, when the power goes, all that was not fsynced: see powerloss.c.
#
#	my $node = PowerLoss->broker('name', conf => text);	# a KafkaPg
#	$node->stop_disk_after(10);			# the tenth fsync from now is the last
#	... kill all processes ...
#	$node->restore;						# the data directory as the disk has it
#	$node->start;
#	$node->scrap;						# looked at as by KafkaPg::done(), and deleted

use strict;
use warnings;
use parent -norequire, 'KafkaPg';

use Cwd qw(abs_path);
use KafkaPg;
use PostgreSQL::Test::Utils;

sub broker
{
	my ($class, $name, %param) = @_;

	# small WAL files: each flush copies a whole one
	my $node = $class->SUPER::broker($name, %param, start => 0,
		init => { extra => ['--wal-segsize=1'] });
	my $data = abs_path($node->data_dir);
	my $disk = abs_path($node->basedir) . '/disk';
	my $state = abs_path($node->basedir) . '/disk_state';

	system('cp', '-a', $data, $disk) == 0 or die 'cp';
	open my $out, '>', $state or die $!;
	print $out pack('QQ', 0, 0);
	close $out;
	$node->{disk} = {
		POWERLOSS_ROOT => $data,
		POWERLOSS_DISK => $disk,
		POWERLOSS_STATE => $state,
		LD_PRELOAD => abs_path('build/crash/powerloss.so') };
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg');
	return $node;
}

# The server writes to that disk; no other program does.
sub start
{
	my ($self, %param) = @_;
	local %ENV = (%ENV, %{ $self->{disk} });
	return $self->SUPER::start(%param);
}

# How often the server has fsynced something.
sub fsyncs
{
	my ($self) = @_;
	open my $in, '<', $self->{disk}{POWERLOSS_STATE} or die $!;
	read $in, my $bytes, 16;
	close $in;
	return (unpack 'QQ', $bytes)[0];
}

# n more fsyncs, and the disk answers no more; 0: it works on.
sub stop_disk_after
{
	my ($self, $n) = @_;
	open my $out, '+<', $self->{disk}{POWERLOSS_STATE} or die $!;
	seek $out, 8, 0;
	print $out pack('Q', $n ? $self->fsyncs + $n : 0);
	close $out;
	return;
}

# After all processes were killed: the data directory becomes what the disk has.
sub restore
{
	my ($self) = @_;
	my $data = $self->data_dir;
	my $disk = $self->{disk}{POWERLOSS_DISK};

	$self->stop_disk_after(0);
	# half-made copies, of fsyncs that never returned
	system("find '$disk' -name '*.fsync*' -delete") == 0 or die 'find';
	system("rm -rf '$data' && cp -a '$disk' '$data'") == 0 or die 'restore';
	unlink "$data/postmaster.pid";
	return;
}

sub scrap
{
	my ($self) = @_;

	$self->finish;
	system('rm', '-rf', $self->data_dir, $self->{disk}{POWERLOSS_DISK}) == 0 or die 'rm';
	return;
}

1;
