package KafkaWire;

# Runs the wire tests of test/wire, which are Python and print TAP, as tests of this file.
#
#	KafkaWire::run($node, 'metadata', 'describe_cluster');

use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename;
use Test::More;

my $dir = abs_path(dirname(__FILE__) . '/../wire');

# The tests of one script: all of it, or the functions named. A script that ends without its plan is
# a failed test.
sub run
{
	my ($node, $script, @functions) = @_;
	my ($code, $out, $err) =
		$node->python({ ok => 0, timeout => 300 }, '-B', "$dir/$script.py", @functions);
	my $planned;

	for my $line (split /\n/, $out)
	{
		if ($line =~ /^(not )?ok \d+ - (.*)/) { ok(!$1, $2); }
		elsif ($line =~ /^1\.\.(\d+)/) { $planned = $1; }
		else { diag($line); }
	}
	ok($planned, "$script.py ran to its end") or diag($err);
	return;
}

1;
