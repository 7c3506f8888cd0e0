# The real servers that other tests stand on: that they start, can be frozen,
# crash, come back with their data, and that the clients read them.

use strict;
use warnings;
use PstTest::ClickHouse;
use PstTest::RabbitMQ;
use PstTest::Redis;
use PstTest::Server;
use Test::More;

my $redis = PstTest::Server->start('redis', options => [ '--appendonly', 'yes' ]);
my $stream = PstTest::Redis->connect($redis->port);
$stream->command('XADD', 's', '5-1', 'name', 'a', 'data', "line\r\nline");
is_deeply(
	[ $stream->entries('s') ],
	[ { id => '5-1', fields => { name => 'a', data => "line\r\nline" } } ],
	'Redis: an entry as it was written');
ok(!eval { $stream->command('XADD', 's', '5-1', 'name', 'b'); 1 }, 'Redis: an error is raised');
like($@, qr/equal or smaller/, 'Redis: in its own words');

$redis->pause;
ok(!eval { PstTest::Redis->connect($redis->port, timeout => 0.3)->command('PING') },
	'Redis: no answer while it is frozen');
$redis->resume;
is(PstTest::Redis->connect($redis->port)->command('PING'), 'PONG', 'Redis: an answer after');

$redis->restart;
is(scalar(PstTest::Redis->connect($redis->port)->entries('s')),
	1, 'Redis: its data survive a restart');
$redis->kill;
ok(!$redis->is_running, 'Redis: killed');

my $rabbitmq = PstTest::Server->start('rabbitmq');
my $broker = PstTest::RabbitMQ->connect($rabbitmq->port);
$broker->declare_exchange('x', 'topic');
is($broker->declare_queue('q'), 0, 'RabbitMQ: an empty queue');
$broker->bind_queue('q', 'x', 'a.#');
$broker->publish('x', 'a.b', 'one', message_id => 'id-1', type => 'state',
	headers => { n => 12, s => 'text' });
$broker->publish('x', 'b', 'no queue takes it');
$broker->publish('x', 'a', 'two', delivery_mode => 2);
$broker->close;

$rabbitmq->restart;
$broker = PstTest::RabbitMQ->connect($rabbitmq->port);
is($broker->count('q'), 1, 'RabbitMQ: persistent messages survive a restart');
is($broker->get('q')->{body}, 'two', 'RabbitMQ: and only they');
is($broker->get('q'), undef, 'RabbitMQ: nothing more');

$broker->consume('q');
$broker->publish('x', 'a.b', 'one', message_id => 'id-1', type => 'state', timestamp => 1767225600,
	headers => { n => 12, s => 'text' });
is_deeply(
	$broker->next_message,
	{
		exchange => 'x', routing_key => 'a.b', redelivered => 0, body => 'one',
		message_id => 'id-1', type => 'state', timestamp => 1767225600,
		headers => { n => 12, s => 'text' }
	},
	'RabbitMQ: a message with its properties');
is($broker->next_message(0.2), undef, 'RabbitMQ: then none');
ok(!eval { $broker->count('nowhere') }, 'RabbitMQ: an error is raised');
like($@, qr/404 NOT_FOUND/, 'RabbitMQ: in its own words');
like($rabbitmq->ctl('list_queues', 'name'), qr/^q$/m, 'RabbitMQ: rabbitmqctl reaches it');

for my $kind ('clickhouse', 'chdb')
{
	my $server = PstTest::Server->start($kind);
	my $clickhouse = PstTest::ClickHouse->connect($server->port);
	$clickhouse->query('CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n');
	$clickhouse->query("INSERT INTO t VALUES (1, 'one'), (2, 'two')");
	is_deeply(
		[ map { "$_->{n} $_->{s}" } $clickhouse->rows('SELECT * FROM t ORDER BY n') ],
		[ '1 one', '2 two' ],
		"$kind: rows as they were written");
	ok(!eval { $clickhouse->query('SELECT nothing') }, "$kind: an error is raised");
	like($@, qr/Code: 47/, "$kind: in its own words");
	$server->restart;
	is(PstTest::ClickHouse->connect($server->port)->value('SELECT count() FROM t'),
		2, "$kind: its data survive a restart");
	$server->stop;
	ok(!$server->is_running, "$kind: stopped");
}

done_testing();
