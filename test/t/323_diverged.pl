# A standby that is promoted without the last events of its primary, which the
# sinks have: they are told as diverged, at ClickHouse and in a Redis stream, and
# neither taken for the new primary's nor for doubled.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $db = 'postgres';
my %server = map { $_ => sink_server($_) } qw(clickhouse redis);
my $node = new_node('primary', allows_streaming => 1, autovacuum => 'off');
$node->safe_psql($db, q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|off| dark
	$$);
	CREATE TABLE lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp');
});
create_sink($node, $db, 'ch', $server{clickhouse});
create_sink($node, $db, 'queue', $server{redis});
# two routes to one table: what is in the log has not diverged, whosever it is
$node->safe_psql($db, q{
	SELECT persistomata.create_route('c', 'ch', types => '{init}', options => '{"table": "t"}');
	SELECT persistomata.create_route('other', 'ch', types => '{state}', options => '{"table": "t"}');
	SELECT persistomata.create_route('r', 'queue', options => '{"stream": "s"}');
	INSERT INTO lamp SELECT generate_series(1, 20);
	UPDATE lamp SET state = 'green' WHERE id <= 10;
});
my @routes = qw(c other r);
sub drains
{
	my ($on, $what) = @_;
	ok(wait_for_drain($on, $db, $_, 60), "$what: $_") || diag(log_tail($on, 20)) for @routes;
}
drains($node, 'the primary sends');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql($db, 'INSERT INTO lamp SELECT generate_series(21, 22)');
drains($node, 'the primary sends more');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$standby->stop;
my $ch = client($server{clickhouse});
my $end = $ch->value('SELECT max(position) FROM t');

# what the standby will never see
$node->safe_psql($db, q{
	INSERT INTO lamp SELECT generate_series(101, 107);
	UPDATE lamp SET state = 'green' WHERE id IN (11, 12, 101);
});
drains($node, 'and what the standby lacks');
my $lost = join(' ', sort split ' ', $ch->query("SELECT name FROM t WHERE position > $end"));
is(scalar(my @lost = split ' ', $lost), 17, 'seventeen events');
$node->stop('immediate');

# ---- promoted ----
$standby->start;
$standby->promote;
$standby->safe_psql($db, q{INSERT INTO lamp SELECT generate_series(201, 203); UPDATE lamp SET state = 'green' WHERE id IN (13, 201)});
drains($standby, 'the promoted standby sends');

sub run
{
	my ($route, $run) = @_;
	ok(wait_for_value($standby, $db, "SELECT state FROM persistomata.reconciliation WHERE run = $run", 'done', 60), "$route is compared");
	return $standby->safe_psql($db, "SELECT missing, doubled, diverged FROM persistomata.reconciliation WHERE run = $run");
}

sub names
{
	my ($run) = @_;
	return $standby->safe_psql($db, "SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\")
		FROM persistomata.reconciliation_detail d, unnest(d.diverged_names) name WHERE run = $run");
}

# by itself, since a promotion left a gap in the positions
for my $route (@routes)
{
	ok(wait_for_value($standby, $db, "SELECT count(*) FROM persistomata.reconciliation WHERE route = '$route' AND state = 'done'", 1, 60),
		"the route has its sink looked at: $route");
	my $run = $standby->safe_psql($db, "SELECT min(run) FROM persistomata.reconciliation WHERE route = '$route'");
	is(run($route, $run), '0|0|' . 17, 'what diverged is counted');
	is(names($run), $lost, 'and named');
	like(slurp_file($standby->logfile), qr/WARNING:  server "\w+" holds 17 events that this log lacks where route "$route" delivers/, 'and the log tells');
}

# and asked for, over the whole log, and over a part without it
for my $route (@routes)
{
	my $run = $standby->safe_psql($db, "SELECT persistomata.reconcile('$route')");
	is(run($route, $run), '0|0|' . 17, 'the same over the whole log');
	is(names($run), $lost, 'by name');
	$run = $standby->safe_psql($db, "SELECT persistomata.reconcile('$route', 1, 25)");
	is(run($route, $run), '0|0|0', 'nothing in a part without it');
}

# ---- what is there twice is doubled still, of both timelines ----
my %twice = map { my $key = $_; $key => (split ' ', $ch->query("SELECT name FROM t WHERE type = 'init' AND key = '$key'"))[0] } qw(5 201);
$ch->query("INSERT INTO t SELECT * FROM t WHERE name IN ('$twice{5}', '$twice{201}')");
my $redis = client($server{redis});
my %entry = map { $_->{fields}{name} => $_ } $redis->entries('s');
$redis->command('XADD', 's', '*', %{ $entry{ $twice{$_} }{fields} }) for qw(5 201);
for my $route (qw(c r))
{
	my $run = $standby->safe_psql($db, "SELECT persistomata.reconcile('$route')");
	is(run($route, $run), '0|2|' . 17, 'what is doubled is told apart');
}
$standby->stop;
done_testing();
