# What a worker does while a sink digests a shipment: RabbitMQ is sent the next
# one behind it; ClickHouse is not asked about a backlog shipment by shipment.
use strict;
use warnings;
use PstTest;
use Test::More;

my %server = map { $_ => sink_server($_) } qw(rabbitmq clickhouse);
my $proxy = sink_proxy($server{rabbitmq});
my $node = new_node('main');
my $queue = client($server{rabbitmq});
my $store = client($server{clickhouse});

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('tick', 'flowchart LR; off -->|on| on; on -->|end| gone');
CREATE TABLE tick (id int PRIMARY KEY, state text);
SELECT persistomata.attach('tick', 'tick');
SQL

sub row { $node->safe_psql('postgres', "INSERT INTO tick VALUES ($_[0])"); return }
sub sent { return $node->safe_psql('postgres', "SELECT sent FROM persistomata.stat_route WHERE route = '$_[0]'") }

# ---- RabbitMQ ----
$queue->declare_exchange('persistomata', 'topic');
$queue->declare_queue('q');
$queue->bind_queue('q', 'persistomata', '#');
create_sink($node, 'postgres', 'broker', $server{rabbitmq}, via => $proxy);
$node->safe_psql('postgres', "SELECT persistomata.create_route('m', 'broker', 'tick')");
row(1);
ok(wait_for_drain($node, 'postgres', 'm'), 'the route has delivered');

$proxy->deaf;
row(2);
ok(wait_for(sub { $queue->count('q') == 2 }), 'a message whose confirm does not come');
row(3);
ok(wait_for(sub { $queue->count('q') == 3 }), 'the next shipment does not wait for it');
is(sent('m'), 1, 'though nothing more is acknowledged');
row(4);
$proxy->refuse;
ok(wait_for_value($node, 'postgres', "SELECT state FROM persistomata.stat_route WHERE route = 'm'", 'retrying'), 'the connection is lost');
$proxy->pass;
ok(wait_for_drain($node, 'postgres', 'm'), 'what was not confirmed is sent again');
is(sent('m'), 4, 'each event is counted once');
my %times;
my @ids = map { $_->{properties}{message_id} // $_->{message_id} // '' } $queue->get_all('q');
$times{$_}++ for @ids;
is(scalar(keys %times), 4, 'all four are there');
cmp_ok(scalar(grep { $_ > 2 } values %times), '==', 0, 'none more often than it was doubted');

# ---- ClickHouse ----
# the events are there before the worker: it does not know whether some were sent
$node->safe_psql('postgres', 'INSERT INTO tick SELECT g FROM generate_series(5, 2000) g');
create_sink($node, 'postgres', 'store', $server{clickhouse}, max_rows => 100);
my $asked = $store->value("SELECT value FROM system.events WHERE event = 'SelectQuery'");
$node->safe_psql('postgres', "SELECT persistomata.create_route('c', 'store', 'tick', start => 'earliest')");
ok(wait_for_drain($node, 'postgres', 'c'), 'a backlog of twenty shipments');
is($store->value('SELECT count() FROM tick'), 2000, 'is there');
cmp_ok($store->value("SELECT value FROM system.events WHERE event = 'SelectQuery'") - $asked, '<', 15, 'with few questions');

# what landed without our knowing is found by that one question
$node->safe_psql('postgres', "SELECT persistomata.disable_route('c')");
$node->safe_psql('postgres', "INSERT INTO tick SELECT g FROM generate_series(2001, 2300) g");
$node->safe_psql('postgres', <<'SQL');
SELECT persistomata.create_route('shadow', 'store', 'tick', start => 'earliest');
SQL
ok(wait_for_drain($node, 'postgres', 'shadow'), 'another route sends the same events to the same table');
$node->safe_psql('postgres', "SELECT persistomata.enable_route('c')");
ok(wait_for_drain($node, 'postgres', 'c'), 'the first goes on');
is($store->value("SELECT concat(toString(count()), '|', toString(uniqExact(name))) FROM tick"), '2300|2300', 'and finds what is there');

$node->stop('fast');
done_testing();
