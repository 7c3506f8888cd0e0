# A sink that lost what it had acknowledged: on_loss says what becomes of it.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $redis = sink_server('redis');
my $clickhouse = sink_server('clickhouse');
my $node = new_node('loss');
my $key = 0;

$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|off| dark
	$$);
	CREATE TABLE lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
});
create_sink($node, 'postgres', 'queue', $redis);
create_sink($node, 'postgres', 'ch', $clickhouse);
my %values = (resend => 'resend', hold => 'hold', continue => undef);
for my $how (sort keys %values)
{
	my $on_loss = defined $values{$how} ? qq{, "on_loss": "$values{$how}"} : '';
	$node->safe_psql('postgres', qq{
		SELECT persistomata.create_route('r_$how', 'queue', options => '{"stream": "s_$how"$on_loss}');
		SELECT persistomata.create_route('c_$how', 'ch', options => '{"table": "t_$how"$on_loss}')});
}
my @routes = map { ("r_$_", "c_$_") } sort keys %values;

sub make
{
	my ($n) = @_;
	my $from = $key + 1;
	$key += $n;
	$node->safe_psql('postgres', "INSERT INTO lamp SELECT generate_series($from, $key)");
}

sub drained
{
	my $fine = 1;
	$fine &&= wait_for_drain($node, 'postgres', $_) for @_;
	return $fine;
}

# The keys that a route's sink holds, in order, as "first-last (number)".
sub keys_of
{
	my ($route) = @_;
	my ($kind, $how) = split /_/, $route;
	my @keys = $kind eq 'r'
	  ? map { $_->{fields}{key} } client($redis)->entries("s_$how")
	  : split /\n/, client($clickhouse)->query("SELECT key FROM t_$how ORDER BY position");
	return 'none' unless @keys;
	my $rising = grep({ $keys[$_] <= $keys[ $_ - 1 ] } 1 .. $#keys) ? ', not rising' : '';
	return "$keys[0]-$keys[-1] (" . scalar(@keys) . ")$rising";
}

sub stat_of
{
	my ($route, $column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM persistomata.stat_route WHERE route = '$route'");
}

# ---- what is refused ----

my ($status, $out, $error) = $node->psql('postgres',
	q{SELECT persistomata.create_route('x', 'queue', options => '{"mode": "list", "on_loss": "hold"}')});
like($error, qr/on_loss must be continue in other modes/, 'a list cannot be asked');
($status, $out, $error) = $node->psql('postgres',
	q{SELECT persistomata.create_route('x', 'ch', options => '{"on_loss": "cry"}')});
like($error, qr/invalid value for option "on_loss": "cry".*resend, continue, hold/s, 'the values are named');

# ---- nothing is lost: nothing is sent twice ----

make(100);
ok(drained(@routes), 'all is sent');
$node->restart;
make(50);
ok(drained(@routes), 'and goes on after a restart');
is(keys_of($_), '1-150 (150)', "$_ has each event once") for @routes;

# ---- everything is lost ----

client($redis)->command('FLUSHALL');
client($clickhouse)->query("DROP TABLE t_$_") for keys %values;
make(50);
ok(drained(qw(r_resend c_resend r_continue c_continue)), 'routes that are not to hold go on');
is(keys_of($_), '1-200 (200)', "$_ has all again") for qw(r_resend c_resend);
is(keys_of($_), '151-200 (50)', "$_ goes on where it was") for qw(r_continue c_continue);
like(stat_of($_, 'last_error'), qr/the sink lost what it had acknowledged: positions 1 to 150 \(150\) are sent again/,
	"$_ says what it sends again") for qw(r_resend c_resend);
for my $route (qw(r_hold c_hold))
{
	ok(wait_for_value($node, 'postgres', "SELECT state FROM persistomata.stat_route WHERE route = '$route'", 'misconfigured'),
		"$route is held");
	like(stat_of($route, 'last_error'), qr/holds events up to position 0, and was sent those up to 150/, 'and says why');
}
is(keys_of('r_hold'), 'none', 'nothing was sent');
is(client($clickhouse)->value('EXISTS TABLE t_hold'), 0, 'not even a table was made');

# It holds over a restart, until it is enabled; then it goes on.
$node->restart;
ok(wait_for_value($node, 'postgres', q{SELECT count(*) FROM persistomata.stat_route WHERE state = 'misconfigured'}, 2), 'held yet');
$node->safe_psql('postgres', qq{SELECT persistomata.enable_route('r_hold')});
ok(drained('r_hold'), 'enabled, it goes on');
is(keys_of('r_hold'), '151-200 (50)', 'after what was lost');
make(10);
ok(drained('r_hold'), 'and on');
is(stat_of('c_hold', 'state'), 'misconfigured', 'the other one is held yet');
# altered, it does as it is told then
$node->safe_psql('postgres', q{SELECT persistomata.alter_route('c_hold', options => '{"table": "t_hold", "on_loss": "resend"}')});
ok(drained('c_hold'), 'altered to resend');
is(keys_of('c_hold'), '1-210 (210)', 'it sends all again');

# ---- an older copy: part is lost ----

ok(drained(@routes), 'all is sent');
my $rdb = client($redis);
# the newest entries of the streams, as if a copy from before them had been restored
for my $how (keys %values)
{
	my @entries = $rdb->entries("s_$how");
	$rdb->command('DEL', "s_$how");
	$rdb->command('XADD', "s_$how", $_->{id}, %{ $_->{fields} }) for @entries[ 0 .. 29 ];
}
$rdb->command('SAVE');
$redis->restart;
$clickhouse->stop;
$node->safe_psql('postgres', 'INSERT INTO lamp VALUES (0)');
ok(wait_for_value($node, 'postgres', q{SELECT state FROM persistomata.stat_route WHERE route = 'c_resend'}, 'retrying'), 'ClickHouse is down');
$node->safe_psql('postgres', 'SELECT persistomata.disable_route(route) FROM persistomata.stat_route');
$clickhouse->restart;
client($clickhouse)->query("CREATE TABLE keep AS t_resend");
client($clickhouse)->query("INSERT INTO keep SELECT * FROM t_resend WHERE position < 101 AND position <> 50");
client($clickhouse)->query("DROP TABLE t_resend");
client($clickhouse)->query("RENAME TABLE keep TO t_resend");
$node->safe_psql('postgres', 'SELECT persistomata.enable_route(route) FROM persistomata.stat_route');
ok(drained(@routes[ grep { $routes[$_] ne 'r_hold' } 0 .. $#routes ]), 'all go on but the one that holds');
is(client($clickhouse)->value('SELECT count() FROM t_resend'), 210, 'ClickHouse has what followed the copy, once each');
is(client($clickhouse)->value('SELECT uniqExact(name) FROM t_resend'), 210, 'and nothing twice');
is(scalar(client($redis)->entries('s_resend')), 211, 'the stream has all again');
like(stat_of('r_hold', 'last_error'), qr/holds events up to position 180, and was sent those up to 210/, 'and the other says where it ends');

# ---- what the sink refused it has not lost ----

client($clickhouse)->query('CREATE TABLE narrow (position UInt64, name String, key UInt8) ENGINE = MergeTree ORDER BY position');
$node->safe_psql('postgres', q{SELECT persistomata.create_route('n', 'ch', options => '{"table": "narrow", "latest": "", "on_loss": "hold"}')});
make(9);
ok(wait_for_drain($node, 'postgres', 'n'), 'nine pass');
$node->safe_psql('postgres', 'INSERT INTO lamp VALUES (1000)');
ok(wait_for_value($node, 'postgres', q{SELECT count(*) FROM persistomata.dead_letter WHERE route = 'n'}, 1), 'the last one does not fit');
$node->restart;
make(1);
ok(wait_for_drain($node, 'postgres', 'n'), 'which is no loss');
is(client($clickhouse)->value('SELECT count() FROM narrow'), 10, 'the next one passes');
$node->safe_psql('postgres', q{SELECT persistomata.drop_route('n')});
done_testing();
