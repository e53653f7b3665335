# A page on the disk that cannot be read: its partition's readers are told, and nobody else notices.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.brokers = 1
kafka_pg.readers = 1
CONF
$node->expect_damage;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Kinds of pages, as in klog_page.h
use constant { PARTITION => 3, DATA => 6, PAGE => 8192, TAG => 48 };

# The block of partition 1's page of that kind; of data, the one with this text on it.
sub block_of
{
	my ($file, $kind, $text) = @_;
	my $all = slurp_file($file);

	for my $block (0 .. length($all) / PAGE - 1)
	{
		my $page = substr($all, $block * PAGE, PAGE);
		my ($magic, $layout, $is, $partition) = unpack('S C C l', substr($page, -TAG));

		return $block
			if $magic == 0x4B4C && $is == $kind && $partition == 1 && index($page, $text) >= 0;
	}
	die "no such page";
}

# Writes these bytes into the middle of a block, and returns what was there.
sub overwrite
{
	my ($file, $block, $bytes) = @_;
	my $was;

	open my $fh, '+<:raw', $file or die "$file: $!";
	sysseek $fh, $block * PAGE + 1000, 0;
	sysread $fh, $was, length $bytes;
	sysseek $fh, $block * PAGE + 1000, 0;
	syswrite $fh, $bytes;
	close $fh;
	return $was;
}

sql(q{SELECT kafka.create_topic('hurt', 2)});
$node->kcat({ in => "other\n" }, qw(-P -t hurt -p 0));
# A start looks at the last 16 MB anyway, to know which transactions are not settled.
$node->kcat({ in => join('', map { "needle-$_-" . 'x' x 100_000 . "\n" } 0 .. 399) },
	qw(-P -t hurt -p 1 -X batch.num.messages=1));
my $file = $node->data_dir . '/' . sql(q{SELECT pg_relation_filepath('topics.hurt')});

for my $case ([ 'page', DATA, 'needle-123-' ], [ 'header', PARTITION, '' ])
{
	my ($test, $kind, $text) = @$case;

	$node->stop;
	my $block = block_of($file, $kind, $text);
	my $was = overwrite($file, $block, 'garbage');
	$node->start;
	$node->wait_for_kafka;
	KafkaWire::run($node, 'unreadable', $test);
	# it is in no buffer, and looked for again after a second
	overwrite($file, $block, $was);
	KafkaWire::run($node, 'unreadable', 'mended');
}
KafkaPg::done();
