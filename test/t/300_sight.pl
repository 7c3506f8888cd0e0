# Sight: latencies are what they say, a worker says what it does and waits for,
# and the figures reach Prometheus.

use strict;
use warnings;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $redis = sink_server('redis');
my $proxy = sink_proxy($redis);
my $node = new_node('sight');
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('coffee', $$flowchart LR
	  idle --> |power_on!| ready
	  ready --> |insert_money| brewing
	  brewing --> |"after (1 hour)"| done
	  done --> |power_off| off
	$$);
	CREATE TABLE coffee (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('coffee', 'coffee');
});
create_sink($node, 'postgres', 'queue', $redis, via => $proxy);
$node->safe_psql('postgres', "SELECT persistomata.create_route('r', 'queue')");

sub stat_of
{
	my ($what) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM persistomata.stat_route WHERE route = 'r'");
}

# ---- latencies: from commit, not from when the event occurred ----

my $start = time;
$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO coffee SELECT generate_series(1, 100);
	SELECT pg_sleep(4);
	COMMIT});
ok(wait_for_drain($node, 'postgres', 'r'), 'a transaction that was open for long is delivered');
my $slack = (time - $start - 4) * 1000;
my ($p50, $p99) = split /\|/, stat_of('p50_ms, p99_ms');
cmp_ok($p50, '>', 0, 'half of the events took some time');
cmp_ok($p50, '<=', 1.2 * $slack + 1, "and none of it before their commit: $p50 ms");
cmp_ok($p99, '>=', $p50, 'most take longer than half');

# ---- what is held up by the sink counts ----

$redis->pause;
$start = time;
$node->safe_psql('postgres', q{INSERT INTO coffee SELECT generate_series(101, 1000)});
ok(wait_for_value($node, 'postgres',
		"SELECT state, doing, doing_since <= clock_timestamp() FROM persistomata.stat_worker WHERE kind = 'sink'",
		'running|sending, waiting for the sink|t'), 'a worker says that it waits for the sink');
is($node->safe_psql('postgres',
		"SELECT state, query, wait_event_type FROM pg_stat_activity WHERE backend_type = 'persistomata sink'"),
	'active|sending, waiting for the sink|Extension', 'in pg_stat_activity too');
sleep 2;
$redis->resume;
ok(wait_for_drain($node, 'postgres', 'r'), 'delivered');
my $took = (time - $start) * 1000;
$p50 = stat_of('p50_ms');
cmp_ok($p50, '>=', 1900, "the sink's pause counts: $p50 ms");
cmp_ok($p50, '<=', 1.2 * $took, 'and no more than it took');

is($node->safe_psql('postgres',
		"SELECT kind, server, state, doing IS NOT NULL, restarts FROM persistomata.stat_worker WHERE kind <> 'launcher' ORDER BY 1"),
	"scheduler||running|t|0\nsink|queue|running|t|0", 'workers');
ok(wait_for_value($node, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'persistomata%' AND state = 'idle' AND query LIKE 'waiting for %'
			AND application_name LIKE 'persistomata%'", '3'), 'those that have nothing to do say what they wait for');

# ---- trouble shows ----

$redis->stop;
$node->safe_psql('postgres', q{INSERT INTO coffee SELECT generate_series(1001, 1100)});
ok(wait_for_value($node, 'postgres', "SELECT state, state_since > now() - interval '1 minute', caught_up_at IS NULL
			FROM persistomata.stat_route", 'retrying|t|t'), 'a route that waits says so, and since when');
ok(wait_for_value($node, 'postgres',
		"SELECT query FROM pg_stat_activity WHERE backend_type = 'persistomata sink'", 'waiting to try again'), 'so does its worker');
$redis->restart;
ok(wait_for_drain($node, 'postgres', 'r'), 'delivered');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM persistomata.stat_worker WHERE kind = 'sink'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for_value($node, 'postgres', "SELECT restarts, state FROM persistomata.stat_worker WHERE kind = 'sink'", '1|running'),
	'a worker that had to be started again is counted');

# ---- long work tells how far it is ----

$node->safe_psql('postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, state text);
	INSERT INTO big SELECT g, 'ready' FROM generate_series(1, 100000) g;
	ANALYZE big});
my $watch = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{
	DO $$
	DECLARE
		seen text;
	BEGIN
		FOR i IN 1 .. 20000 LOOP
			PERFORM pg_stat_clear_snapshot();
			SELECT query INTO seen FROM pg_stat_activity WHERE query LIKE 'reading all of big: % rows of about %, % s to go';
			EXIT WHEN seen IS NOT NULL;
			PERFORM pg_sleep(0.001);
		END LOOP;
		CREATE TABLE told AS SELECT seen AS query;
	END $$} ]);
wait_for_value($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INTO seen%' AND pid <> pg_backend_pid()}, 1);
$node->safe_psql('postgres', "SELECT persistomata.attach('big', 'coffee', types => '{init}')");
$watch->finish;
my $told = $node->safe_psql('postgres', 'SELECT query FROM told');
like($told, qr/^reading all of big: \d+ rows of about (?:9[5-9]|10[0-5])\d{3}, \d+ s to go$/, 'attach says how far it is');
ok(wait_for_drain($node, 'postgres', 'r', 120), 'the baseline is delivered');
cmp_ok(stat_of('events_per_second'), '>', 100, 'and how fast is known');

# What stat_progress shows of something while it is done: at least two looks, which differ.
sub watched
{
	my ($what, $table, $sql) = @_;
	my $rows = $node->safe_psql('postgres', "SELECT count(*) FROM $table");
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS told; CREATE TABLE told (LIKE persistomata.stat_progress, seen_at timestamptz)');
	my $eye = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', qq{
		DO \$\$
		DECLARE
			looks int := 0;
		BEGIN
			FOR i IN 1 .. 20000 LOOP
				PERFORM pg_stat_clear_snapshot();
				INSERT INTO told SELECT p.*, clock_timestamp() FROM persistomata.stat_progress p WHERE what = '$what' AND object = '$table' AND done > 0 AND total > 0
					AND NOT EXISTS (SELECT FROM told t WHERE t.done = p.done);
				looks := (SELECT count(*) FROM told);
				EXIT WHEN looks >= 2;
				PERFORM pg_sleep(0.001);
			END LOOP;
		END \$\$} ]);
	wait_for_value($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INTO told%' AND pid <> pg_backend_pid()}, 1);
	$node->safe_psql('postgres', $sql);
	$eye->finish;
	return $node->safe_psql('postgres', qq{SELECT count(*) >= 2, bool_and(done < total * 1.1), bool_and(total BETWEEN 0.9 * $rows AND 1.2 * $rows),
		bool_and(estimated_end >= seen_at - interval '1 second'), bool_and(seen_at >= started_at), bool_and(pid > 0) FROM told});
}
$node->safe_psql('postgres', q{
	CREATE TABLE large (id int PRIMARY KEY, state text);
	ALTER TABLE large SET (autovacuum_enabled = off);
	INSERT INTO large SELECT g, 'ready' FROM generate_series(1, 100000) g});
is(watched('baseline', 'large', q{SELECT persistomata.attach('large', 'coffee', types => '{deleted}')}), 't|t|t|t|t|t',
	'so it does as numbers, though nothing of the table is known');
is(watched('snapshot', 'large', q{
	CREATE SERVER nowhere FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port '1');
	SELECT persistomata.create_route('whole', 'nowhere', start => 'snapshot', types => '{init}')}), 't|t|t|t|t|t', 'so does a snapshot');
$node->safe_psql('postgres', q{SELECT persistomata.drop_route('whole')});
is(watched('truncate', 'large', q{SET persistomata.allow_truncate = on; TRUNCATE large}), 't|t|t|t|t|t', 'and a TRUNCATE');
$node->safe_psql('postgres', q{
	SELECT persistomata.create_machine('lamp', $$flowchart LR
	  off -->|on| lit
	$$);
	CREATE TABLE lamps (id int PRIMARY KEY, state text);
	INSERT INTO lamps SELECT g, 'off' FROM generate_series(1, 20000) g;
	ANALYZE lamps;
	SELECT persistomata.attach('lamps', 'lamp', baseline => false);
	SELECT persistomata.create_machine('lamp', $$flowchart LR
	  dark -->|on| lit
	$$)});
is(watched('upgrade', 'lamps', q{SELECT persistomata.upgrade('lamps', 2, '{"off": "dark"}')}), 't|t|t|t|t|t', 'and an upgrade');
ok(wait_for_drain($node, 'postgres', 'r', 120), 'delivered');
is($node->safe_psql('postgres', 'SELECT count(*) FROM persistomata.stat_progress'), '0', 'nothing is left of it');

# Of routes: a sink that stands still, so that it can be looked at.
my $progress = sub {
	return "SELECT string_agg(concat_ws('|', route.server, CASE WHEN what <> 'catch-up' THEN p.done END, p.total - CASE WHEN what = 'catch-up' THEN p.done ELSE 0 END, p.pid = w.pid, p.started_at < clock_timestamp()), ' ')
		FROM persistomata.stat_progress p JOIN persistomata.stat_route route ON route.route = p.object
		JOIN persistomata.stat_worker w ON w.kind = 'sink' AND w.server = route.server WHERE p.what = '$_[0]'";
};
my $end = $node->safe_psql('postgres', q{SELECT position FROM persistomata.stat_log});
$redis->pause;
$node->safe_psql('postgres', q{INSERT INTO large SELECT generate_series(1, 500); DELETE FROM large});
ok(wait_for_value($node, 'postgres', $progress->('catch-up'), 'queue|500|t|t'), 'a route that has to catch up');
$redis->resume;
ok(wait_for_drain($node, 'postgres', 'r'), 'delivered');
is($node->safe_psql('postgres', 'SELECT count(*) FROM persistomata.stat_progress'), '0', 'has no work then');
$redis->pause;
$node->safe_psql('postgres', sprintf(q{SELECT persistomata.replay('r', %d, %d)}, $end + 1, $end + 400));
ok(wait_for_value($node, 'postgres', $progress->('replay'), 'queue|0|400|t|t'), 'a replay');
$redis->resume;
ok(wait_for_value($node, 'postgres', $progress->('replay'), ''), 'which ends');
$redis->pause;
$node->safe_psql('postgres', sprintf(q{SELECT persistomata.reconcile('r', %d, %d)}, $end + 1, $end + 300));
ok(wait_for_value($node, 'postgres', $progress->('reconcile'), 'queue|0|300|t|t'), 'a comparison');
$redis->resume;
ok(wait_for_value($node, 'postgres', $progress->('reconcile'), ''), 'which ends, too');
is($node->safe_psql('postgres', 'CREATE ROLE nobody; SET ROLE nobody; SELECT count(*) FROM persistomata.stat_progress'), '0', 'anybody may look');
$node->safe_psql('postgres', 'DROP TABLE large, lamps; DROP ROLE nobody');
$node->safe_psql('postgres', 'DROP TABLE big, told');

# ---- OpenMetrics ----

$node->safe_psql('postgres', q{
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE ROLE stranger LOGIN;
	GRANT SELECT ON coffee TO monitor;
	SELECT persistomata.create_route(E'odd "name" \\\\ with\nlines', 'queue', machine => 'none');
	SELECT persistomata.fire('coffee', 1, 'insert_money');
});
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT persistomata.metrics()', extra_params => [ '-U', 'stranger' ]);
like($err, qr/permission denied/, 'metrics are for monitors');
ok(wait_for_drain($node, 'postgres', 'r'), 'delivered');
my $text = $node->safe_psql('postgres', 'SELECT persistomata.metrics()', extra_params => [ '-U', 'monitor' ]);
my $sent = stat_of('sent');
my $file = "${PostgreSQL::Test::Utils::tmp_check}/metrics";
append_to_file($file, $text);
my $parsed = `/usr/bin/python3 '$ENV{PST_TEST_DIR}/lib/openmetrics.py' < '$file' 2>&1`;
is($?, 0, 'a strict parser of OpenMetrics takes them') or diag($parsed, $text);
my %value = map { split /\t/ } split /\n/, $parsed;
is($value{'persistomata_route_sent_total route=r'}, $sent, 'a counter');
is($value{'persistomata_route_state route=r state=idle'}, 1, 'a state');
is($value{'persistomata_instances fsm=public.coffee machine=coffee state=ready version=1'}, 1099, 'instances');
is($value{'persistomata_timers_armed fsm=public.coffee'}, 1, 'timers');
ok(exists $value{'persistomata_route_enabled route=odd "name" \\ with\nlines'}, 'labels are escaped');
cmp_ok($value{'persistomata_route_latency_seconds quantile=0.99 route=r'}, '>', 1, 'latencies, in seconds');
cmp_ok($value{'persistomata_log_size_bytes'}, '>', 100000, 'the size of the log');
is($value{'persistomata_log_slots state=current'}, 1, 'slots');

# ---- Prometheus, through the exporter ----

my $dsn = 'host=' . $node->host . ' port=' . $node->port . ' user=monitor dbname=postgres sslmode=disable';
my $prometheus = sink_server('prometheus',
	options => [ $dsn, "$ENV{PST_TEST_DIR}/../doc/prometheus-queries.yml" ]);

sub asked
{
	my ($query) = @_;
	$query =~ s/([^A-Za-z0-9_])/sprintf('%%%02X', ord $1)/ge;
	my $answer = HTTP::Tiny->new(timeout => 10)->get('http://127.0.0.1:' . $prometheus->port . "/api/v1/query?query=$query");
	return join ' ', map { $_->{value}[1] } @{ decode_json($answer->{content})->{data}{result} };
}

ok(wait_for(sub { asked('persistomata_route_sent_total{route="r"}') eq $sent }, 'the scrape', 60), 'Prometheus has the counter')
  or diag(slurp_file($prometheus->dir . '/exporter.log'));
my %wanted = (
	'persistomata_route_in_state_now{route="r",state="idle"}' => 1,
	'persistomata_worker_running{kind="sink",sink="queue"}' => 1,
	'persistomata_worker_restarts_total{kind="sink"}' => 1,
	'persistomata_log_ring_slots{state="current"}' => 1,
	'persistomata_timers_armed' => 1,
	'persistomata_instances{fsm="coffee",state="ready"}' => 1099,
	'persistomata_route_dead_letters{route="r"}' => 0);
is(asked($_), $wanted{$_}, $_) for sort keys %wanted;
cmp_ok(asked('persistomata_log_position'), '>', 1000, 'the position');
is($node->safe_psql('postgres', 'SELECT persistomata.metrics()') =~ /ERROR/, '', 'and the server is well');
$prometheus->stop;
$node->stop;
done_testing();
