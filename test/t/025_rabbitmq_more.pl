# The RabbitMQ sink: TLS, several hosts, types of exchanges, quorum queues, and a
# channel that the broker closes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest::Server;
use PstTest::Tls;
use SinkProbe;
use Test::More;

my $node = SinkProbe::cluster();
my $tls = $ENV{PST_RABBITMQ_TLS} = PstTest::Tls::make(PostgreSQL::Test::Utils::tempdir_short() . '/tls');
my $broker = PstTest::Server->start('rabbitmq');
my $port = $broker->port;
my %server = (port => $port);
my @rows;

sub probe { return SinkProbe::probe($node, 'rabbitmq', @_) }

sub bind_queue
{
	my ($queue, $exchange, $key, %more) = @_;

	$node->safe_psql('postgres', "SELECT sink_probe.amqp_bind($port, '$queue', '$exchange', '$key'"
		  . join('', map { ", $_ => '$more{$_}'" } sort keys %more) . ')');
	return;
}

sub held
{
	return $node->safe_psql('postgres', "SELECT count(*) FROM sink_probe.amqp_take($port, '$_[0]')");
}

# ----- types of queues and exchanges

bind_queue('quorum', 'to_quorum', '#', queue_type => 'quorum');
@rows = probe(\%server, { exchange => 'to_quorum' }, 'sink_probe.some(1, 2000)');
is(SinkProbe::count('delivered', @rows), 2000, 'a quorum queue confirms');
is(held('quorum'), 2000, 'what it has');

bind_queue('straight', 'direct', 'turnstile', exchange_type => 'direct');
bind_queue('one', 'fanout', '', exchange_type => 'fanout');
bind_queue('two', 'fanout', '', exchange_type => 'fanout');
@rows = probe(\%server, { exchange => 'direct', exchange_type => 'direct', routing_key => '{machine}' }, 'sink_probe.some(1, 10)');
is(SinkProbe::count('delivered', @rows), 10, 'by a direct exchange');
is(held('straight'), 10, 'to the queue of that key');
@rows = probe(\%server, { exchange => 'fanout', exchange_type => 'fanout' }, 'sink_probe.some(1, 10)');
is(join('|', held('one'), held('two')), '10|10', 'by a fanout exchange to all of its queues');
@rows = probe(\%server, { exchange => '', routing_key => 'straight' }, 'sink_probe.some(1, 10)');
is(held('straight'), 10, 'and by the default exchange to a queue of that name');

# ----- a channel that is closed

my $delete = q{rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"to_quorum">>), false, <<"test">>).};
(my $command = join(' ', map { "'$_'" } $ENV{PST_TEST_DIR} . '/servers/rabbitmq.sh', 'ctl', $broker->dir, 'eval', $delete)) =~ s/'/''/g;
my @answers = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('rabbitmq', \%server, { exchange => 'to_quorum' }, 'sink_probe.some(1, 5)', keep => 'true'),
	"COPY (SELECT 1) TO PROGRAM '$command >/dev/null'",
	SinkProbe::probe_sql('rabbitmq', \%server, { exchange => 'to_quorum' }, 'sink_probe.some(6, 5)', keep => 'true'),
	SinkProbe::probe_sql('rabbitmq', \%server, { exchange => 'to_quorum' }, 'sink_probe.some(6, 5)', in_doubt => 'true')));
@rows = SinkProbe::decode($answers[1]);
is(SinkProbe::count('misconfigured', @rows), 5, 'an exchange that is gone closes the channel');
is($rows[0]{code}, 404, 'by the code of the broker');
ok($rows[0]{doubt}, 'in doubt');
@rows = SinkProbe::decode($answers[2]);
is($rows[0]{code}, 312, 'the next time it is declared again, and has no queue');

# ----- TLS and hosts

my %secure = (port => $port + 3, tls => 'on', ca_file => "$tls/ca.pem");
bind_queue('secured', 'secure', '#');
@rows = probe(\%secure, { exchange => 'secure' }, SinkProbe::some(1, 3000, payload => '"' . 'x' x 600 . '"'));
is(SinkProbe::count('delivered', @rows), 3000, 'over TLS') or diag explain $rows[0];
is(held('secured'), 3000, 'all of it');
cmp_ok($rows[0]{longest_call_ms}, '<', 500, 'and no call took long');
@rows = probe({ %secure, window => '5' }, { exchange => 'secure' }, 'sink_probe.some(1, 200)');
is(SinkProbe::count('delivered', @rows), 200, 'with a small window, too');
@rows = probe({ port => $port + 3, tls => 'on' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a certificate that nobody vouches for is refused');
like($rows[0]{fault}, qr/certificate of "127.0.0.1" is refused/, 'with the reason');
@rows = probe({ port => $port + 3, tls => 'on', tls_verify => 'off' }, { exchange => 'secure' }, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'unless it is not to be verified');
@rows = probe({ host => "127.0.0.1:1,localhost:$port" }, { exchange => 'secure' }, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'of several hosts, the one that is up is found') or diag explain $rows[0];
@rows = probe({ host => '127.0.0.1:1,127.0.0.1:2' }, { exchange => 'secure' }, 'sink_probe.some(1, 1)');
like($rows[0]{fault}, qr/could not connect to "127.0.0.1", port 2/, 'if none is, the last one is told');
@rows = probe({ host => ',' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a list that cannot be read is misconfigured');
ok($broker->ctl('list_connections', 'ssl') !~ /true/, 'connections are closed behind us');

$node->stop;
done_testing();
