# The SQL tests, sql/*.sql with expected/*.out, by pg_regress; one test here for each of them.
use strict;
use warnings;

use File::Basename;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my @tests = map { basename($_, '.sql') } grep { !m{/kafka_pg--} } sort glob('sql/*.sql');
plan skip_all => 'no SQL tests' if !@tests;

my $node = KafkaPg->broker('regress');
$node->regress('pg_regress', '.', @tests);
KafkaPg::done();
