# Races between sessions, test/specs/*.spec with test/expected/*.out; they find the stop points'
# functions in schema kafka_test.
use strict;
use warnings;

use File::Basename;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my @tests = map { basename($_, '.spec') } sort glob('test/specs/*.spec');
plan skip_all => 'no isolation tests' if !@tests;

my $node = KafkaPg->broker('isolation');
$node->create_stop_functions;
$node->regress('pg_isolation_regress', 'test', @tests);
KafkaPg::done();
