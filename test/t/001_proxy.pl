# The network that other tests put in trouble: each kind of trouble is what it
# says, as a Redis client sees it.

use strict;
use warnings;
use PstTest::Proxy;
use PstTest::Redis;
use PstTest::Server;
use Test::More;

my $redis = PstTest::Server->start('redis');
my $proxy = PstTest::Proxy->start($redis->port);
my $direct = PstTest::Redis->connect($redis->port);

sub through { return PstTest::Redis->connect($proxy->port, timeout => 0.5) }
sub failing { my ($code) = @_; return eval { $code->(); 1 } ? '' : $@ }

my $client = through();
is($client->command('INCR', 'n'), 1, 'pass: an answer');
my $large = 'x' x 3_000_000;
$client->command('SET', 'large', $large);
ok($client->command('GET', 'large') eq $large, 'pass: a large value, both ways');
is($proxy->connections, 1, 'one connection');

$proxy->hold;
like(failing(sub { $client->command('INCR', 'n') }), qr/no answer/, 'hold: no answer');
is($direct->command('GET', 'n'), 1, 'hold: nothing arrived');
$proxy->pass;
is($client->command('GET', 'n'), 2, 'pass: what was held arrives after all');

$client = through();
$client->command('PING');
$proxy->deaf;
like(failing(sub { $client->command('INCR', 'n') }), qr/no answer/, 'deaf: no answer');
is($direct->command('GET', 'n'), 3, 'deaf: but it has arrived');

$proxy->refuse;
like(failing(sub { $client->command('PING') }), qr/closed|reset|pipe/i, 'refuse: connections are reset');
ok(failing(sub { through()->command('PING') }), 'refuse: new ones too');
$proxy->pass;
is(through()->command('PING'), 'PONG', 'pass: as before');

$client = through();
$client->command('PING');
my $sent = $proxy->sent;
$proxy->cut(10);
like(failing(sub { $client->command('INCR', 'n') }), qr/closed|reset/i, 'cut: the connection is reset');
is($proxy->sent - $sent, 10, 'cut: after so many bytes');
is($direct->command('GET', 'n'), 3, 'cut: a part of a command does nothing');
is(through()->command('INCR', 'n'), 4, 'cut: the next connection passes');

$client = through();
$redis->kill;
like(failing(sub { $client->command('PING') }), qr/closed|reset/i, 'a server that ends is seen');
$proxy->stop;
ok(failing(sub { through() }), 'stopped');

done_testing();
