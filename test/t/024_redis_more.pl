# The Redis sink beyond streams: whose a stream is, channels, lists, hashes of
# latest states, TLS, several hosts, Sentinel and WAIT.
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
use Time::HiRes qw(sleep time);

my $node = SinkProbe::cluster();
my $tls = PstTest::Tls::make(PostgreSQL::Test::Utils::tempdir_short() . '/tls');
my $port = PstTest::Server::free_port();
my $redis = PstTest::Server->start('redis', port => $port,
	options => [ '--tls-port', $port + 1, '--tls-cert-file', "$tls/cert.pem", '--tls-key-file', "$tls/key.pem",
		'--tls-ca-cert-file', "$tls/ca.pem", '--tls-auth-clients', 'optional' ]);
my %server = (port => $port);

sub cli_at
{
	my ($at, @words) = @_;

	open(my $pipe, '-|', 'redis-cli', '-h', '127.0.0.1', '-p', $at, @words) or die $!;
	my $output = do { local $/; <$pipe> };
	close($pipe);
	$output //= '';
	chomp $output;
	return $output;
}

sub cli { return cli_at($port, @_) }

sub probe { return SinkProbe::probe($node, 'redis', @_) }

sub wait_until
{
	my ($code) = @_;

	for (1 .. 600)
	{
		return 1 if $code->();
		sleep 0.1;
	}
	return 0;
}

# ----- whose a stream is

my %ours = (stream => 'ours');
my @rows = probe(\%server, \%ours, 'sink_probe.some(1, 3)');
is(SinkProbe::count('delivered', @rows), 3, 'who comes first has the stream');
is(cli('GET', '{ours}:persistomata'), '0123456789ab route', 'and says so: log and route');
@rows = probe(\%server, \%ours, 'sink_probe.some(1, 6)', route => SinkProbe::quoted('other'));
is(SinkProbe::count('misconfigured', @rows), 6, 'another route does not get in');
like($rows[0]{fault}, qr/stream "ours" is claimed by another route or database: see key "\{ours\}:persistomata"/, 'and is told');
is($rows[0]{peer_said}, '0123456789ab route', 'by whom');
ok(!$rows[0]{doubt}, 'without a doubt');
@rows = probe(\%server, \%ours, SinkProbe::some(1, 4, name => 'ba9876543210-1-7'), in_doubt => 'true');
is(SinkProbe::count('misconfigured', @rows), 4, 'nor does another database');
is(cli('XLEN', 'ours'), 3, 'nothing is added');
@rows = probe(\%server, \%ours, 'sink_probe.some(4, 2)');
is(SinkProbe::count('delivered', @rows), 2, 'the first goes on');
cli('DEL', '{ours}:persistomata', 'ours');
@rows = probe(\%server, \%ours, 'sink_probe.some(1, 6)', route => SinkProbe::quoted('other'));
is(SinkProbe::count('delivered', @rows), 6, 'a claim that is given up is free');

my $mixed = q{(SELECT jsonb_agg(jsonb_build_object('position', p, 'machine', 'm' || p % 3, 'key', 'k' || p) ORDER BY p) FROM generate_series(1, 300) p)};
@rows = probe(\%server, { stream => 'each:{machine}:{key}' }, $mixed);
is(SinkProbe::count('delivered', @rows), 300, 'a stream for each instance');
is(scalar(split /\n/, cli('KEYS', '{each:*}:persistomata')), 3, 'is claimed by what stands before its key');
cli('SET', '{each:m1:}:persistomata', 'somebody else');
@rows = probe(\%server, { stream => 'each:{machine}:{key}' }, $mixed, in_doubt => 'true');
is(SinkProbe::count('misconfigured', @rows), 300, 'one foreign claim stops the shipment');

# ----- lists and channels

@rows = probe(\%server, { mode => 'list', key => 'l:{machine}' }, 'sink_probe.some(1, 2500)');
is(SinkProbe::count('delivered', @rows), 2500, 'a list takes the events');
my @list = map { SinkProbe::decode_object($_)->{position} } split /\n/, cli('LRANGE', 'l:turnstile', 0, -1);
is_deeply(\@list, [ 1 .. 2500 ], 'in order');
cli('SET', 'l:text', 'x');
@rows = probe(\%server, { mode => 'list', key => 'l:text' }, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'misconfigured', 'a key of another type is misconfigured');

my $heard = PostgreSQL::Test::Utils::tempdir() . '/heard';
my $listener = fork() // die $!;
if ($listener == 0)
{
	open(STDOUT, '>', $heard) or die $!;
	exec('redis-cli', '-h', '127.0.0.1', '-p', $port, 'PSUBSCRIBE', 'c:*') or die $!;
}
ok(wait_until(sub { cli('PUBSUB', 'NUMPAT') == 1 }), 'somebody listens');
@rows = probe(\%server, { mode => 'pubsub', key => 'c:{type}' }, 'sink_probe.some(1, 50)', format => SinkProbe::quoted('cloudevents'));
is(SinkProbe::count('delivered', @rows), 50, 'a channel takes the events');
ok(wait_until(sub { () = slurp_file($heard) =~ /^c:state$/mg; return (() = slurp_file($heard) =~ /"specversion"/g) == 50 }), 'they are heard');
kill 'KILL', $listener;
waitpid $listener, 0;
@rows = probe(\%server, { mode => 'pubsub' }, 'sink_probe.some(1, 2)');
is(SinkProbe::count('delivered', @rows), 2, 'where nobody listens, too');

# ----- latest states

sub state_of { return join '|', split /\n/, cli('HMGET', $_[0], qw(position state type)) }

my %hash = (mode => 'hash', key => 'h:{key}');
@rows = probe(\%server, \%hash, q{'[{"position": 9, "key": "a", "to_state": "s9"}, {"position": 10, "key": "a", "to_state": "s10"}, {"position": 11, "key": "b", "to_state": "t"}]'});
is(SinkProbe::count('delivered', @rows), 3, 'a hash takes the events');
is(state_of('h:a'), '10|s10|state', 'and has the latest of each instance');
@rows = probe(\%server, \%hash, q{'[{"position": 9, "key": "a", "to_state": "s9"}]'}, in_doubt => 'true');
is($rows[0]{duplicates}, 1, 'an older event is known as such');
is(state_of('h:a'), '10|s10|state', 'and takes nothing back');
probe(\%server, \%hash, q{'[{"position": 9007199254740993, "key": "a", "to_state": "big"}]'});
probe(\%server, \%hash, q{'[{"position": 9007199254740992, "key": "a", "to_state": "small"}]'});
is(state_of('h:a'), '9007199254740993|big|state', 'positions are compared to the last digit');
@rows = probe(\%server, \%hash, q{'[{"position": 9007199254740994, "key": "a", "to_state": "no", "type": "errored"}]'});
is(SinkProbe::count('delivered', @rows), 1, 'an error is taken');
is(state_of('h:a'), '9007199254740993|big|state', 'and changes no state');
probe(\%server, \%hash, q{'[{"position": 3, "name": "ba9876543210-1-3", "key": "a", "to_state": "anew"}]'});
is(state_of('h:a'), '3|anew|state', 'another log begins anew');
@rows = probe(\%server, { mode => 'hash' }, SinkProbe::some(1, 2500, to_state => 'opened'));
is(state_of('persistomata:public.turnstile:7'), '2407|opened|state', 'each instance has its own');

# ----- TLS

my %secure = (port => $port + 1, tls => 'on', ca_file => "$tls/ca.pem");
@rows = probe(\%secure, { stream => 'secure' }, SinkProbe::some(1, 5000, payload => '"' . 'x' x 800 . '"'));
is(SinkProbe::count('delivered', @rows), 5000, 'over TLS') or diag explain $rows[0];
is(cli('XLEN', 'secure'), 5000, 'all of it');
cmp_ok($rows[0]{longest_call_ms}, '<', 300, 'and no call took long');
@rows = probe(\%secure, { stream => 'secure' }, SinkProbe::some(1, 5000), in_doubt => 'true');
is($rows[0]{duplicates}, 5000, 'and long answers are read');
@rows = probe({ port => $port + 1, tls => 'on' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a certificate that nobody vouches for is refused');
like($rows[0]{fault}, qr/certificate of "127.0.0.1" is refused/, 'with the reason');
@rows = probe({ port => $port + 1, tls => 'on', tls_verify => 'off' }, { stream => 'unverified' }, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'unless it is not to be verified');
@rows = probe({ %secure, cert_file => "$tls/cert.pem", key_file => "$tls/key.pem" }, { stream => 'known' }, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'with a certificate of ours');
@rows = probe({ %secure, ca_file => '/nowhere' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a file that is not there is misconfigured');
@rows = probe({ %secure, port => $port }, {}, 'sink_probe.some(1, 1)', timeout_ms => 15000);
is($rows[0]{verdict}, 'retry', 'TLS to a port without it is to be tried again');
@rows = probe({ port => $port + 1, connect_timeout => 1000 }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'retry', 'so is a port with TLS without it');
my $wrong = PstTest::Tls::make("$tls-wrong", subject_alt_name => 'DNS:elsewhere');
my $other = PstTest::Server::free_port();
my $elsewhere = PstTest::Server->start('redis', port => $other,
	options => [ '--tls-port', $other + 1, '--tls-cert-file', "$wrong/cert.pem", '--tls-key-file', "$wrong/key.pem",
		'--tls-ca-cert-file', "$wrong/ca.pem", '--tls-auth-clients', 'no' ]);
@rows = probe({ port => $other + 1, tls => 'on', ca_file => "$wrong/ca.pem" }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a certificate of another host is refused');

# ----- several hosts, replicas, Sentinel

@rows = probe({ host => "127.0.0.1:1, 127.0.0.1:$port" }, { stream => 'hosts' }, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'of several hosts, the one that is up is found') or diag explain $rows[0];

my %wait = (%server, wait_replicas => '1', wait_timeout => '300');
@rows = probe(\%wait, { stream => 'waited' }, 'sink_probe.some(1, 1500)');
is(SinkProbe::count('retry', @rows), 1500, 'what no replica has does not count');
like($rows[0]{fault}, qr/0 of 1 replicas have the events/, 'and it is said why');
ok($rows[0]{doubt}, 'in doubt');
cli_at($other, 'REPLICAOF', '127.0.0.1', $port);
ok(wait_until(sub { cli('INFO', 'replication') =~ /slave0:.*state=online/ }), 'a replica comes');
@rows = probe({ %wait, wait_timeout => '10000' }, { stream => 'waited' }, 'sink_probe.some(1, 1500)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 1500, 'with it they count') or diag explain $rows[0];
is(cli_at($other, 'XLEN', 'waited'), 1500, 'and it has them');

my $sentinel = PstTest::Server->start('sentinel', options => [$port]);
my %watched = (sentinels => '127.0.0.1:1,127.0.0.1:' . $sentinel->port, master => 'main');
@rows = probe(\%watched, { stream => 'watched' }, 'sink_probe.some(1, 10)');
is(SinkProbe::count('delivered', @rows), 10, 'a sentinel tells where the master is') or diag explain $rows[0];
@rows = probe({ %watched, master => 'unknown' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a name that it does not know is misconfigured');
like($rows[0]{fault}, qr/knows no master "unknown"/, 'and it is said');
@rows = probe({ port => $other }, { stream => 'watched' }, 'sink_probe.some(11, 1)');
is($rows[0]{verdict}, 'retry', 'a replica is to be tried again');
ok(wait_until(sub { cli_at($sentinel->port, 'SENTINEL', 'replicas', 'main') =~ /\b$other\b/ }), 'the sentinel knows the replica');
ok(wait_until(sub { cli_at($other, 'XLEN', 'watched') == 10 }), 'which has what the master has');
$redis->kill;
ok(wait_until(sub { cli_at($sentinel->port, 'SENTINEL', 'get-master-addr-by-name', 'main') =~ /\b$other\b/ }), 'when the master is gone, another is chosen');
ok(wait_until(sub { cli_at($other, 'ROLE') =~ /^master/ }), 'and promoted');
@rows = probe(\%watched, { stream => 'watched' }, 'sink_probe.some(1, 20)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 20, 'and gets the events') or diag explain $rows[0];
is(cli_at($other, 'XLEN', 'watched'), 20, 'each once');

$node->stop;
done_testing();
