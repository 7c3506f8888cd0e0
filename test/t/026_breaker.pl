# A server that is down is tried less and less, by one attempt for all of its
# routes, and never at quite the same intervals; another server's routes go on.
use strict;
use warnings;
use PstTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep);

my $redis = sink_server('redis');
my $proxy = sink_proxy($redis);
my $node = new_node('main');
my $sink = client($redis);

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('tick', 'flowchart LR; off -->|on| on; on -->|end| gone');
CREATE TABLE tick (id int PRIMARY KEY, state text);
SELECT persistomata.attach('tick', 'tick');
SQL
create_sink($node, 'postgres', 'weak', $redis, via => $proxy);
create_sink($node, 'postgres', 'strong', $redis);
$node->safe_psql('postgres', "SELECT persistomata.create_route('$_->[0]', '$_->[1]', 'tick', options => '{\"stream\": \"$_->[0]\"}')")
  for [ 'one', 'weak' ], [ 'two', 'weak' ], [ 'sound', 'strong' ];
$node->safe_psql('postgres', 'INSERT INTO tick VALUES (1)');
ok(wait_for_drain($node, 'postgres', $_), "$_ works") for qw(one two sound);

$proxy->refuse;
my $before = $proxy->connections;
$node->safe_psql('postgres', 'INSERT INTO tick SELECT g FROM generate_series(2, 100) g');
my %wait;
ok(wait_for(sub {
	for my $line (split /\n/, $node->safe_psql('postgres', q{
		SELECT last_error_at, round(1000 * extract(epoch FROM next_attempt_at - last_error_at))
		  FROM persistomata.stat_route WHERE state = 'retrying' AND next_attempt_at > last_error_at}))
	{
		my ($at, $ms) = split /\|/, $line;
		$wait{$at} = $ms;
	}
	return grep { $_ > 3200 } values %wait;
}, 'a long wait', 60), 'the waits grow');
my $tries = $proxy->connections - $before;
my @waits = map { $wait{$_} } sort keys %wait;
note("$tries connections, waits of @waits ms");
# 100, 200, 400, 800, 1600, 3200, 6400: and the connection that was there
cmp_ok($tries, '<=', 9, 'both routes together try as one would');
is(scalar(grep { my $ms = $_; !grep { $ms >= 0.74 * 100 * 2**$_ && $ms <= 1.01 * 100 * 2**$_ } 0 .. 9 } @waits), 0,
	'each wait is from three quarters to all of its time');
cmp_ok(scalar(grep { my $ms = $_; !grep { $ms == 100 * 2**$_ } 0 .. 9 } @waits), '>', 0, 'and differs from it');
like($node->safe_psql('postgres', "SELECT last_error FROM persistomata.stat_route WHERE route = 'one' OR route = 'two' ORDER BY last_error_at DESC NULLS LAST LIMIT 1"),
	qr/Redis closed the connection|lost the connection|could not connect/, 'the reason is told');

$node->safe_psql('postgres', 'INSERT INTO tick VALUES (101)');
ok(wait_for_drain($node, 'postgres', 'sound'), 'the other server gets its events meanwhile');
is($sink->command('XLEN', 'sound'), 101, 'all of them');

$proxy->pass;
ok(wait_for_drain($node, 'postgres', $_), "$_ goes on by itself") for qw(one two);
is($sink->command('XLEN', $_), 101, "$_: each event once") for qw(one two);
is($node->safe_psql('postgres', "SELECT count(*) FROM persistomata.stat_route WHERE state IN ('retrying', 'misconfigured')"), 0, 'all is well');
$node->stop('fast');
done_testing();
