# ClickHouse, the old one (18.16) and the current engine: a request that times out
# while the server still works, and bodies that are cut off, leave each event once.

use strict;
use warnings;
use PstTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep);

for my $kind ('clickhouse', 'chdb')
{
	my $server = sink_server($kind);
	my $proxy = sink_proxy($server);
	my $node = new_node($kind);
	my $sink = client($server);
	my $held = sub { return $sink->value('SELECT count() FROM tick') . '|' . $sink->value('SELECT uniqExact(name) FROM tick') };

	$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('tick', 'flowchart LR; off -->|on| on; on -->|end| gone');
CREATE TABLE tick (id int PRIMARY KEY, state text);
SELECT persistomata.attach('tick', 'tick');
SQL
	create_sink($node, 'postgres', 'ch', $server, via => $proxy, request_timeout => 1000);
	$node->safe_psql('postgres', "SELECT persistomata.create_route('r', 'ch', 'tick')");
	$node->safe_psql('postgres', 'INSERT INTO tick VALUES (0)');
	ok(wait_for_drain($node, 'postgres', 'r'), "$kind: the tables are made");
	is($held->(), '1|1', "$kind: and hold the first event");
	my $latest = sub { return $sink->value('SELECT count() FROM tick_latest FINAL') };
	ok(wait_for(sub { $latest->() == 1 }), "$kind: so does the latest state");

	# bodies cut off in the middle
	my $rows = 1;
	for my $bytes (2_000, 20_000, 80_000)
	{
		$proxy->cut($bytes);
		$node->safe_psql('postgres', "INSERT INTO tick SELECT g FROM generate_series($rows, $rows + 999) g");
		$rows += 1000;
		ok(wait_for_drain($node, 'postgres', 'r'), "$kind: drains after a cut at $bytes bytes");
		is($held->(), "$rows|$rows", "$kind: each event once");
	}

	# the answer never comes, though the rows have landed
	$proxy->deaf;
	$node->safe_psql('postgres', "INSERT INTO tick SELECT g FROM generate_series($rows, $rows + 999) g");
	$rows += 1000;
	ok(wait_for_value($node, 'postgres', 'SELECT state FROM persistomata.stat_route', 'retrying'),
		"$kind: without an answer it is in doubt");
	$proxy->pass;
	ok(wait_for_drain($node, 'postgres', 'r'), "$kind: the doubt is settled");
	is($held->(), "$rows|$rows", "$kind: each event once");

	# the server stops in the midst of it, and works on later
	$server->pause;
	$node->safe_psql('postgres', "INSERT INTO tick SELECT g FROM generate_series($rows, $rows + 999) g");
	$rows += 1000;
	ok(wait_for_value($node, 'postgres', 'SELECT state FROM persistomata.stat_route', 'retrying'),
		"$kind: a server that stands still is waited for");
	sleep 1;
	$server->resume;
	ok(wait_for_drain($node, 'postgres', 'r'), "$kind: it goes on");
	is($held->(), "$rows|$rows", "$kind: each event once");

	# an INSERT that is still running when it is sent again (18.16 works on)
	if ($kind eq 'clickhouse')
	{
		$sink->query('CREATE TABLE slow_target (x UInt8) ENGINE = Null');
		$sink->query('CREATE MATERIALIZED VIEW slow TO slow_target AS SELECT sleep(2) AS x FROM tick');
		my $retried = $node->safe_psql('postgres', 'SELECT retried FROM persistomata.stat_route');
		$node->safe_psql('postgres', "INSERT INTO tick SELECT g FROM generate_series($rows, $rows + 999) g");
		$rows += 1000;
		ok(wait_for_value($node, 'postgres', "SELECT retried > $retried FROM persistomata.stat_route", 't'),
			"$kind: the INSERT outlasts its time");
		ok(wait_for_drain($node, 'postgres', 'r'), "$kind: its end is waited for");
		is($held->(), "$rows|$rows", "$kind: each event once");
	}
	is($node->safe_psql('postgres', 'SELECT sent FROM persistomata.stat_route'), $rows, "$kind: as counted");
	$node->stop('fast');
}
done_testing();
