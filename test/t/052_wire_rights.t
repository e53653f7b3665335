# What clients may do: the rights of kafka_pg.anonymous_role, which are its GRANTs.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.auto_create_topics = on\n");

sub become
{
	my ($role) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET kafka_pg.anonymous_role = '$role'");
	$node->reload;
	# The broker has read it when a client sees the difference; the scripts wait for that.
	return;
}

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE clients;
GRANT USAGE ON SCHEMA topics TO clients;
SELECT kafka.create_topic(t) FROM unnest('{readable,writable,both,hidden,granted,owned}'::text[]) t;
GRANT SELECT ON topics.readable, topics.both TO clients;
GRANT INSERT ON topics.writable, topics.both TO clients;
ALTER TABLE topics.owned OWNER TO clients;
SELECT kafka.produce('readable', 'hello');
SQL

become('clients');
KafkaWire::run($node, 'rights', 'limited_role');

$node->safe_psql('postgres', 'GRANT SELECT ON topics.granted TO clients');
KafkaWire::run($node, 'rights', 'after_grant');
$node->safe_psql('postgres', 'REVOKE SELECT ON topics.granted FROM clients');
KafkaWire::run($node, 'rights', 'after_revoke');

$node->safe_psql('postgres', 'GRANT CREATE ON SCHEMA topics TO clients');
KafkaWire::run($node, 'rights', 'may_create');
is($node->safe_psql('postgres', q{SELECT tableowner FROM pg_tables WHERE tablename = 'made'}),
	'clients', 'a topic belongs to the role of the client who made it');

# A table with row security is no topic, whoever asks: the broker would show all rows.
$node->safe_psql('postgres', 'ALTER TABLE topics.readable ENABLE ROW LEVEL SECURITY');
my ($code, $out, $err) = $node->kcat({ ok => 0 }, qw(-C -t readable -p 0 -o beginning -c 1 -q),
	qw(-X topic.metadata.propagation.max.ms=0 -m 5));
unlike($out, qr/hello/, 'row security is not gone round');
$node->safe_psql('postgres', 'ALTER TABLE topics.readable DISABLE ROW LEVEL SECURITY');
is($node->kcat(qw(-C -t readable -p 0 -o beginning -c 1 -q)), "hello\n", 'as it was without');

$node->safe_psql('postgres', 'GRANT SELECT ON topics.readable TO PUBLIC');
become('nobody_of_this_name');
KafkaWire::run($node, 'rights', 'no_such_role');

become('');
KafkaWire::run($node, 'rights', 'refused');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile),
	qr/refusing Kafka client 127\.0\.0\.1:\d+: it is not authenticated\n.*HINT:.*anonymous_role/,
	'the log says why');

KafkaPg::done();
