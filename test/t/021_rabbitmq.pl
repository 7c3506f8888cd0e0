# The RabbitMQ sink against a real broker.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest::Server;
use SinkProbe;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = SinkProbe::cluster();
my $broker = PstTest::Server->start('rabbitmq');
my $port = $broker->port;
my %server = (port => $port);
my @rows;

sub probe
{
	return SinkProbe::probe($node, 'rabbitmq', @_);
}

sub bind_queue
{
	my ($queue, $exchange, $key, $max_length) = @_;
	$node->safe_psql('postgres', sprintf("SELECT sink_probe.amqp_bind(%d, '%s', '%s', '%s', %d)",
		$port, $queue, $exchange, $key // '#', $max_length // 0));
}

sub take
{
	my ($queue, $n) = @_;
	my $rows = $node->safe_psql('postgres',
		"SELECT pg_catalog.jsonb_agg(t ORDER BY nth) FROM sink_probe.amqp_take($port, '$queue', "
		  . ($n // 100000) . ") t");
	return $rows eq '' ? () : SinkProbe::decode($rows);
}

sub expected_ids
{
	return map { "0123456789ab-1-$_/route" } $_[0] .. $_[1];
}

# No queue.
@rows = probe(\%server, {}, 'sink_probe.some(1, 3000)');
is(SinkProbe::count('misconfigured', @rows), 3000, 'without a queue all is misconfigured');
is($rows[0]{code}, 312, 'by the code of the broker');
like($rows[0]{fault}, qr/no queue is bound to exchange "persistomata"/, 'and it is said why');

# Delivery.
bind_queue('all', 'persistomata');
@rows = probe(\%server, {}, SinkProbe::some(1, 3000, event => 'coin',
	headers => '{"traceparent": "00-ab-cd-01", "n": [1, {"x": "}"}], "note": "a\\"b"}'));
is(SinkProbe::count('delivered', @rows), 3000, 'with a queue all is delivered');
is($rows[0]{verdict}, 'none', 'without a fault');
my @messages = take('all');
is_deeply([ map { $_->{message_id} } @messages ], [ expected_ids(1, 3000) ], 'in order, once');
is($messages[0]{routing_key}, 'turnstile.state.coin', 'the routing key follows the template');
is($messages[0]{delivery_mode}, 2, 'the message is persistent');
is($messages[0]{content_type}, 'application/json', 'its content type is JSON');
is($messages[0]{type}, 'state', 'its type is that of the event');
is(SinkProbe::decode_object($messages[0]{body})->{name}, '0123456789ab-1-1', 'its body is the event');
my $headers = SinkProbe::decode_object($messages[0]{headers});
is_deeply($headers, {
	name => '0123456789ab-1-1', position => 1, fsm => 'public.turnstile', key => '1', event => 'coin',
	'x-deduplication-header' => '0123456789ab-1-1/route', traceparent => '00-ab-cd-01', note => 'a"b' },
	'its headers are the event\'s');
@rows = probe(\%server, {}, 'sink_probe.some(1, 1)', format => "'cloudevents'", route => "'other'");
@messages = take('all');
is($messages[0]{content_type}, 'application/cloudevents+json', 'an envelope has its content type');
is($messages[0]{message_id}, '0123456789ab-1-1/other', 'another route has another message_id');
is(SinkProbe::decode_object($messages[0]{body})->{id}, '0123456789ab-1-1', 'and the event\'s name as id');

# Several shipments on one connection, with a small window.
my @answers = split /\n/, $node->safe_psql('postgres', join(';', map {
	SinkProbe::probe_sql('rabbitmq', { %server, window => '7' }, {}, "sink_probe.some($_, 100)", keep => 'true')
} (1, 101, 201)));
is(scalar(grep { SinkProbe::count('delivered', SinkProbe::decode($_)) == 100 } @answers), 3,
	'shipments follow each other on one connection');
is_deeply([ map { $_->{message_id} } take('all') ], [ expected_ids(1, 300) ], 'in order');

# A body of many frames.
@rows = probe(\%server, {}, q{(SELECT pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('payload', pg_catalog.to_json(pg_catalog.repeat('0123456789', 50000))::text)))});
is($rows[1]{verdict}, 'delivered', 'a large message is delivered');
@messages = take('all');
is(length(SinkProbe::decode_object($messages[0]{body})->{payload}), 500000, 'whole');

# Unroutable ones among others.
bind_queue('coins', 'some', '*.*.coin');
my %some = (exchange => 'some');
my $mixed = q{(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('position', p, 'event', CASE WHEN p = %d THEN 'kick' ELSE 'coin' END)) FROM pg_catalog.generate_series(1, 50) p)};
for my $place (1, 20, 50)
{
	@rows = probe(\%server, \%some, sprintf($mixed, $place));
	is(SinkProbe::count('delivered', @rows), 49, "an unroutable event at place $place does not stop the others");
	is($rows[$place]{verdict}, 'rejected', 'it alone is rejected');
	is($rows[$place]{code}, 312, 'by the code of the broker');
	is(scalar(take('coins')), 49, 'the others are there');
}
@rows = probe(\%server, { exchange => 'some', routing_key => '{key}{key}' },
	q{pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('key', pg_catalog.repeat('k', 200)))});
is($rows[1]{verdict}, 'rejected', 'a routing key that is too long is rejected');
like($rows[1]{fault}, qr/longer than 255/, 'and it is said why');

# Unroutable ones alone: where the route has delivered before, a few are refused.
bind_queue('other coins', 'lone', '*.*.coin');
my ($coin, $kick) = map { "sink_probe.some(1, 1, '{\"event\": \"$_\"}')" } qw(coin kick);
my $kicks = q{sink_probe.some(1, 11, '{"event": "kick"}')};
my $lone = sub {
	my $quiet = shift;
	return map { my @rows = SinkProbe::decode($_); $rows[1]{verdict} } split /\n/, $node->safe_psql('postgres', join(';', map {
		SinkProbe::probe_sql('rabbitmq', \%server, { exchange => 'lone' }, $_, keep => 'true', route => "'$quiet'")
	} @_));
};
is_deeply([ $lone->('a', $kick, $coin, $kick, $coin) ], [qw(misconfigured delivered rejected delivered)],
	'one that is unroutable alone is rejected once the route has delivered');
is_deeply([ $lone->('b', $coin, ($kick) x 12, $coin, $kick) ],
	[ 'delivered', ('rejected') x 10, 'misconfigured', 'misconfigured', 'delivered', 'rejected' ],
	'but not many in a row: the queue may be gone');
is_deeply([ $lone->('c', $coin, $kicks) ], [qw(delivered misconfigured)], 'nor many at once');
is(scalar(take('other coins')), 5, 'what can be routed is there');

# A queue that is full.
bind_queue('small', 'narrow', '#', 5);
@rows = probe(\%server, { exchange => 'narrow' }, 'sink_probe.some(1, 50)');
cmp_ok(SinkProbe::count('delivered', @rows), '>=', 5, 'a full queue takes what it can');
cmp_ok(SinkProbe::count('retry', @rows), '>', 0, 'the rest is to be tried again');
like($rows[0]{fault}, qr/nack/, 'because of a nack');
is(scalar(take('small')), SinkProbe::count('delivered', @rows), 'it has what counts as delivered');

# What has to be mended.
@rows = probe(\%server, { exchange => 'some', exchange_type => 'direct' }, 'sink_probe.some(1, 2)');
is(SinkProbe::count('misconfigured', @rows), 2, 'an exchange of another type is misconfigured');
is($rows[0]{code}, 406, 'by the code of the broker');
@rows = probe({ %server, user => 'guest', password => 'wr0ng' }, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'misconfigured', 'so is a wrong password');
is($rows[0]{code}, 403, 'by the code of the broker');
unlike("$rows[0]{fault} $rows[0]{peer_said}", qr/wr0ng/, 'which is not told');
@rows = probe({ %server, vhost => 'nowhere' }, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'misconfigured', 'so is an unknown virtual host');
$broker->ctl('add_user', 'writer', 's3cret');
$broker->ctl('set_permissions', 'writer', '^$', '.*', '^$');
@rows = probe({ %server, user => 'writer', password => 's3cret' }, {}, 'sink_probe.some(1, 2)');
is(SinkProbe::count('delivered', @rows), 2, 'who may not declare an exchange may use it');
$broker->ctl('set_permissions', 'writer', '^$', '^$', '^$');
@rows = probe({ %server, user => 'writer', password => 's3cret' }, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'misconfigured', 'who may not write may not');
is($rows[0]{code}, 403, 'by the code of the broker');
take('all');

# A message that the broker finds too large.
$broker->ctl('eval', 'application:set_env(rabbit, max_message_size, 20000).');
my $large = q{(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('position', p, 'payload', pg_catalog.to_json(pg_catalog.repeat('x', CASE p WHEN 7 THEN 30000 ELSE 10 END))::text)) FROM pg_catalog.generate_series(1, 20) p)};
@rows = probe(\%server, {}, $large);
is($rows[7]{verdict}, 'rejected', 'a message that is too large is rejected');
like($rows[7]{peer_said}, qr/message size/, 'with the reason');
is(SinkProbe::count('rejected', @rows), 1, 'it alone');
is($rows[0]{verdict}, 'retry', 'the others are to be tried again');
$broker->ctl('eval', 'application:set_env(rabbit, max_message_size, 134217728).');
take('all');

# Heartbeats keep an idle connection.
@answers = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('rabbitmq', { %server, heartbeat => '1' }, {}, 'sink_probe.some(1, 2)', keep => 'true'),
	'SELECT sink_probe.idle(4500)',
	SinkProbe::probe_sql('rabbitmq', { %server, heartbeat => '1' }, {}, 'sink_probe.some(3, 2)')));
is(SinkProbe::count('delivered', SinkProbe::decode($answers[-1])), 2, 'an idle connection is used again');
is_deeply([ map { $_->{message_id} } take('all') ], [ expected_ids(1, 4) ], 'and works');
my $log = slurp_file("$broker->{dir}/log");
unlike($log, qr/missed heartbeats from client/, 'no heartbeat was missed');

# A memory alarm.
$broker->ctl('set_vm_memory_high_watermark', 'absolute', '1');
sleep(1);
my $start = time();
@rows = probe({ %server, confirm_timeout => '3000' }, {}, 'sink_probe.some(1, 3000)', timeout_ms => 15000);
cmp_ok(time() - $start, '<', 10, 'a broker under a memory alarm is given up in time');
is($rows[0]{verdict}, 'retry', 'to be tried again');
like($rows[0]{fault}, qr/blocks publishers/, 'because it blocks publishers');
like($rows[0]{peer_said}, qr/memory/, 'as its memory is low');
cmp_ok($rows[0]{longest_call_ms}, '<', 300, 'and no call took long');
@rows = probe({ %server, confirm_timeout => '3000' }, {},
	q{(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('position', p, 'payload', pg_catalog.to_json(pg_catalog.repeat('x', 1000000))::text)) FROM pg_catalog.generate_series(1, 40) p)}, timeout_ms => 15000);
is($rows[0]{verdict}, 'retry', 'the same with messages that fill the socket');
cmp_ok($rows[0]{longest_call_ms}, '<', 300, 'where no call took long either');
$broker->ctl('set_vm_memory_high_watermark', '0.4');
sleep(1);
@rows = probe(\%server, {}, 'sink_probe.some(1, 3000)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 3000, 'when it is over, all is delivered');
my %ids = map { $_->{message_id} => 1 } take('all');
is(scalar(grep { $ids{$_} } expected_ids(1, 3000)), 3000, 'and nothing is lost');

# A broker that hangs.
$broker->pause;
$start = time();
@rows = probe({ %server, connect_timeout => '700' }, {}, 'sink_probe.some(1, 10)');
cmp_ok(time() - $start, '<', 3, 'a broker that does not answer a log-in is given up in time');
ok(!$rows[0]{doubt}, 'without a doubt');
cmp_ok($rows[0]{longest_call_ms}, '<', 300, 'and no call took long');
$broker->resume;
my $hang = sub {
	my ($confirm_timeout) = @_;
	return join(';',
		SinkProbe::probe_sql('rabbitmq', { %server, confirm_timeout => $confirm_timeout }, {}, 'sink_probe.some(1, 10)', keep => 'true'),
		"COPY (SELECT) TO PROGRAM 'kill -STOP `cat $broker->{dir}/pid`'",
		SinkProbe::probe_sql('rabbitmq', \%server, {},
			q{(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('position', p, 'payload', pg_catalog.to_json(pg_catalog.repeat('x', 10000))::text)) FROM pg_catalog.generate_series(11, 2000) p)}));
};
$start = time();
@answers = split /\n/, $node->safe_psql('postgres', $hang->('1500'));
cmp_ok(time() - $start, '<', 6, 'a broker that hangs in a shipment is given up in time');
@rows = SinkProbe::decode($answers[-1]);
is(SinkProbe::count('retry', @rows), 1990, 'to be tried again');
ok($rows[0]{doubt}, 'in doubt');
cmp_ok($rows[0]{longest_call_ms}, '<', 300, 'and no call took long');
$broker->resume;
@rows = probe(\%server, {}, 'sink_probe.some(11, 1990)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 1990, 'when it goes on, all is delivered');

# A broker that restarts while the connection is idle.
@answers = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('rabbitmq', \%server, {}, 'sink_probe.some(1, 2)', keep => 'true'),
	qq{COPY (SELECT) TO PROGRAM '$broker->{script} stop $broker->{dir}'},
	qq{COPY (SELECT) TO PROGRAM '$broker->{script} start $broker->{dir} $port'},
	SinkProbe::probe_sql('rabbitmq', \%server, {}, 'sink_probe.some(3, 2)')));
@rows = SinkProbe::decode($answers[-1]);
is(SinkProbe::count('delivered', @rows), 2, 'after a restart the connection is made anew');
is($rows[0]{verdict}, 'none', 'without a fault');

# Not what it is taken for.
@rows = SinkProbe::probe($node, 'redis', { %server, connect_timeout => '15000', user => 'u', password => 'p' }, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'retry', 'RabbitMQ in the place of Redis is not understood');
ok(!$rows[0]{doubt}, 'without a doubt');

# No broker.
$broker->stop;
@rows = probe(\%server, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'retry', 'a broker that is down is to be tried again');
like($rows[0]{fault}, qr/could not connect/, 'with the reason');

$node->stop;
done_testing();
