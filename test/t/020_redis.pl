# The Redis sink against a real server.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Encode ();
use PstTest::Redis;
use PstTest::Server;
use SinkProbe;
use Test::More;
use Time::HiRes qw(time);

my $node = SinkProbe::cluster();
my $redis = PstTest::Server->start('redis');
my %server = (port => $redis->port);

sub cli
{
	open(my $pipe, '-|', 'redis-cli', '-h', '127.0.0.1', '-p', $redis->port, @_) or die $!;
	my $output = do { local $/; <$pipe> };
	close($pipe);
	$output //= '';
	chomp $output;
	return $output;
}

# The names in a stream, in its order.
sub names
{
	my @lines = split /\n/, cli('XRANGE', $_[0], '-', '+');
	return map { $lines[ $_ + 1 ] } grep { $lines[$_] eq 'name' } 0 .. $#lines;
}

sub expected_names
{
	return map { "0123456789ab-1-$_" } $_[0] .. $_[1];
}

sub probe
{
	return SinkProbe::probe($node, 'redis', @_);
}

my @rows = probe(\%server, {}, 'sink_probe.some(1, 2500)');
is(SinkProbe::count('delivered', @rows), 2500, 'a shipment of several chunks is delivered');
is($rows[0]{verdict}, 'none', 'without a fault');
is_deeply([ names('persistomata:turnstile') ], [ expected_names(1, 2500) ], 'in order');

my @entry = split /\n/, cli('XRANGE', 'persistomata:turnstile', '-', '+', 'COUNT', '1');
is_deeply([ @entry[ 0 .. 8 ] ],
	[ '1700000000000-1', 'name', '0123456789ab-1-1', 'position', '1', 'type', 'state', 'key', '1' ],
	'an entry has the id and the fields of its event');
is(SinkProbe::decode_object($entry[10])->{occurred_at}, '2023-11-14T22:13:20.123456Z', 'and the whole event as JSON');

# Headers.
@rows = probe(\%server, { stream => 'told' }, SinkProbe::some(1, 2,
	headers => '{"traceparent": "00-ab-cd-01", "n": [1, {"x": "}"}], "tenant": "a\\"\\u00e4\\nb", "tracestate": "", "data": "mine"}'));
is(SinkProbe::count('delivered', @rows), 2, 'events with headers are delivered') or diag explain $rows[0];
my @told = @{ PstTest::Redis->connect($redis->port)->command('XRANGE', 'told', '-', '+') };
my %told = @{ $told[1][1] };
delete $told{data};
is_deeply(\%told, { name => '0123456789ab-1-2', position => 2, type => 'state', key => 2,
		traceparent => '00-ab-cd-01', 'header:tenant' => Encode::encode_utf8("a\"\x{e4}\nb"), tracestate => '', 'header:data' => 'mine' },
	'as fields, where they are texts');
is($told[1][1][-2], 'data', 'before the data');

# Repeats.
@rows = probe(\%server, {}, 'sink_probe.some(1, 2500)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 2500, 'a repeat counts as delivered');
is($rows[0]{duplicates}, 2500, 'every one of it is known as a duplicate');
is(cli('XLEN', 'persistomata:turnstile'), 2500, 'and nothing is there twice');
@rows = probe(\%server, {}, 'sink_probe.some(2001, 1500)', in_doubt => 'true');
is($rows[0]{duplicates}, 500, 'of a repeat that goes on, the part that had landed is known');
is_deeply([ names('persistomata:turnstile') ], [ expected_names(1, 3500) ], 'and the rest is added');

# No memory in the middle of a shipment.
my ($used) = cli('INFO', 'memory') =~ /used_memory:(\d+)/;
cli('CONFIG', 'SET', 'maxmemory', $used + 5_000_000);
my $bulky = SinkProbe::some(1, 8000, payload => '"' . 'x' x 1000 . '"');
@rows = probe(\%server, { stream => 'full' }, $bulky);
my $landed = SinkProbe::count('delivered', @rows);
cmp_ok($landed, '>', 0, 'out of memory: some events got in');
cmp_ok($landed, '<', 8000, 'others did not');
ok(SinkProbe::is_prefix(@rows), 'those delivered are the first');
is($rows[0]{verdict}, 'retry', 'to be tried again');
like($rows[0]{peer_said}, qr/^OOM/, 'with the reason');
is(cli('XLEN', 'full'), $landed, 'the stream has those that count as delivered');
cli('CONFIG', 'SET', 'maxmemory', '0');
@rows = probe(\%server, { stream => 'full' }, $bulky, in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 8000, 'with memory again, all are delivered');
is_deeply([ names('full') ], [ expected_names(1, 8000) ], 'none hidden, none lost, in order');

# Entries of others.
cli('XADD', 'foreign', '1700000000000-5', 'name', 'not ours');
@rows = probe(\%server, { stream => 'foreign' }, 'sink_probe.some(1, 5)');
is($rows[0]{verdict}, 'misconfigured', 'a foreign entry in the stream is not taken for ours');
is(SinkProbe::count('delivered', @rows), 0, 'nothing is skipped');
like($rows[0]{fault}, qr/entries that are not of this route/, 'and said to be foreign');
ok(!$rows[0]{doubt}, 'without a doubt');
@rows = probe(\%server, { stream => 'foreign' }, 'sink_probe.some(1, 5)', in_doubt => 'true');
is(SinkProbe::count('misconfigured', @rows), 5, 'the same in doubt');

# A stream that is trimmed.
my %trimmed = (stream => 'trimmed', maxlen => '500');
probe(\%server, \%trimmed, 'sink_probe.some(1, 3000)');
cmp_ok(cli('XLEN', 'trimmed'), '<', 1000, 'a stream with maxlen is trimmed');
@rows = probe(\%server, \%trimmed, 'sink_probe.some(1, 3000)', in_doubt => 'true');
is($rows[0]{duplicates}, 3000, 'a repeat of what was trimmed meanwhile is known as such');
@rows = probe(\%server, \%trimmed, 'sink_probe.some(1, 10)');
is($rows[0]{verdict}, 'misconfigured', 'but not if there is no doubt');
cli('XTRIM', 'trimmed', 'MAXLEN', '0');
cli('XADD', 'trimmed', '*', 'name', 'not ours');
@rows = probe(\%server, \%trimmed, 'sink_probe.some(1, 10)', in_doubt => 'true');
is($rows[0]{verdict}, 'misconfigured', 'nor if the stream begins with an entry of others');

# Log-in.
cli('ACL', 'SETUSER', 'writer', 'on', '>s3cret', '~*', '+@all');
cli('ACL', 'SETUSER', 'reader', 'on', '>s3cret', '~*', '+@all', '-xadd');
@rows = probe({ %server, user => 'writer', password => 's3cret', database => '3' }, {}, 'sink_probe.some(1, 1)');
is($rows[1]{verdict}, 'delivered', 'log-in with user and password, into another database');
is(cli('-n', '3', 'XLEN', 'persistomata:turnstile'), 1, 'where the event is');
@rows = probe({ %server, user => 'writer', password => 'wr0ng' }, {}, 'sink_probe.some(1, 1)');
is($rows[0]{verdict}, 'misconfigured', 'a wrong password is misconfigured');
like($rows[0]{peer_said}, qr/^WRONGPASS/, 'with the reason');
unlike("$rows[0]{fault} $rows[0]{peer_said}", qr/wr0ng/, 'and without the password');
@rows = probe({ %server, user => 'reader', password => 's3cret' }, { stream => 'denied' }, 'sink_probe.some(1, 3)');
is($rows[0]{verdict}, 'misconfigured', 'so is a missing right');
like($rows[0]{peer_said}, qr/^NOPERM/, 'with the reason');
cli('ACL', 'SETUSER', 'reader', '+xadd', '-multi');
@rows = probe({ %server, user => 'reader', password => 's3cret' }, { stream => 'denied' }, 'sink_probe.some(1, 3)');
is($rows[0]{verdict}, 'misconfigured', 'so is a missing right to MULTI');
ok($rows[0]{doubt}, 'where events may have landed one by one');
@rows = probe(\%server, { stream => 'denied' }, 'sink_probe.some(1, 3)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 3, 'the next try finds out');
is(cli('XLEN', 'denied'), 3, 'without doubling them');
cli('SET', 'text', 'x');
@rows = probe(\%server, { stream => 'text' }, 'sink_probe.some(1, 3)');
is(SinkProbe::count('misconfigured', @rows), 3, 'a key of another type is misconfigured');
like($rows[0]{peer_said}, qr/^WRONGTYPE/, 'with the reason');

# A replica.
cli('REPLICAOF', '127.0.0.1', '1');
@rows = probe(\%server, { stream => 'replica' }, 'sink_probe.some(1, 3)');
is($rows[0]{verdict}, 'retry', 'a replica is to be tried again');
like($rows[0]{peer_said}, qr/^READONLY/, 'with the reason');
cli('REPLICAOF', 'NO', 'ONE');

# A server that hangs: before anything was sent, and in the midst of it.
$redis->pause;
my $start = time();
@rows = probe({ %server, reply_timeout => '700' }, { stream => 'hung' }, 'sink_probe.some(1, 5000)');
cmp_ok(time() - $start, '<', 5, 'a server that hangs from the start is given up in time');
ok(!$rows[0]{doubt}, 'without a doubt');
$redis->resume;
my %slow = (%server, reply_timeout => '700');
my @hung = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('redis', \%slow, { stream => 'hung' }, 'sink_probe.some(1, 1)', keep => 'true'),
	"COPY (SELECT 1) TO PROGRAM 'kill -STOP " . $redis->pid . "'",
	SinkProbe::probe_sql('redis', \%slow, { stream => 'hung' }, 'sink_probe.some(2, 4999)')));
@rows = SinkProbe::decode($hung[-1]);
is(SinkProbe::count('retry', @rows), 4999, 'to be tried again');
ok($rows[0]{doubt}, 'in doubt');
cmp_ok($rows[0]{longest_call_ms}, '<', 200, 'and no call took long');
$redis->resume;
@rows = probe(\%server, { stream => 'hung' }, 'sink_probe.some(1, 5000)', in_doubt => 'true');
is(SinkProbe::count('delivered', @rows), 5000, 'when it goes on, all are delivered');
is_deeply([ names('hung') ], [ expected_names(1, 5000) ], 'once');

# A connection that the server closed meanwhile.
my @answers = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('redis', \%server, { stream => 'kept' }, 'sink_probe.some(1, 3)', keep => 'true'),
	"SELECT pg_sleep(2)",
	SinkProbe::probe_sql('redis', \%server, { stream => 'kept' }, 'sink_probe.some(4, 3)')))
  if cli('CONFIG', 'SET', 'timeout', '1') eq 'OK';
@rows = SinkProbe::decode($answers[-1]);
is(SinkProbe::count('delivered', @rows), 3, 'a connection closed while idle is made anew');
is($rows[0]{verdict}, 'none', 'without a fault');

# Not what it is taken for.
@rows = SinkProbe::probe($node, 'rabbitmq', \%server, {}, 'sink_probe.some(1, 2)');
is($rows[0]{verdict}, 'retry', 'Redis in the place of RabbitMQ is not understood');
ok(!$rows[0]{doubt}, 'without a doubt');

# No server.
$redis->stop;
$start = time();
@rows = probe(\%server, {}, 'sink_probe.some(1, 2)');
cmp_ok(time() - $start, '<', 2, 'a server that is down is known at once');
is($rows[0]{verdict}, 'retry', 'to be tried again');
ok(!$rows[0]{doubt}, 'without a doubt');
like($rows[0]{fault}, qr/could not connect/, 'with the reason');

$node->stop;
done_testing();
