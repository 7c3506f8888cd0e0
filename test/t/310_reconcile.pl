# What a sink holds is compared with the log: what somebody deleted or doubled by
# hand is named, and nothing else.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my %server = map { $_ => sink_server($_) } qw(clickhouse chdb redis);
my $node = new_node('reconcile');
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('coffee', $$flowchart LR
	  idle --> |power_on!| ready
	  ready --> |insert_money| brewing
	  brewing --> |take| ready
	  ready --> |off| dark
	$$);
	CREATE TABLE coffee (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('coffee', 'coffee');
});
create_sink($node, 'postgres', 'ch', $server{clickhouse}, max_rows => 700);
create_sink($node, 'postgres', 'modern', $server{chdb});
create_sink($node, 'postgres', 'queue', $server{redis});
$node->safe_psql('postgres', q{
	CREATE SERVER mq FOREIGN DATA WRAPPER persistomata_rabbitmq OPTIONS (host '127.0.0.1', port '1');
	SELECT persistomata.create_route('c', 'ch');
	SELECT persistomata.create_route('n', 'modern');
	SELECT persistomata.create_route('r', 'queue', options => '{"stream": "{machine}:{type}"}');
	SELECT persistomata.create_route('t', 'queue', options => '{"stream": "short", "maxlen": "100"}');
	SELECT persistomata.create_route('m', 'mq', machine => 'none');
	INSERT INTO coffee SELECT generate_series(1, 2000)});
$node->safe_psql('postgres', q{UPDATE coffee SET state = 'brewing' WHERE id % 2 = 0});
$node->safe_psql('postgres', q{DELETE FROM coffee WHERE id = 7});
ok(wait_for_drain($node, 'postgres', $_), "$_ has drained") for qw(c n r t);

# reconcile($route, $arguments): what it found, once it is done.
sub reconcile
{
	my ($route, $more) = @_;
	my $run = $node->safe_psql('postgres', "SELECT persistomata.reconcile('$route'" . ($more // '') . ')');
	ok(wait_for_value($node, 'postgres',
			"SELECT finished_at IS NOT NULL FROM persistomata.reconciliation WHERE run = $run", 't', 60), "$route is compared");
	return ($run, $node->safe_psql('postgres',
			"SELECT state, expected, found, unknown, missing, doubled, refilled FROM persistomata.reconciliation WHERE run = $run"));
}

sub named
{
	my ($run, $what) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(name, ' ' ORDER BY name)
		FROM persistomata.reconciliation_detail d, unnest(d.${what}_names) name WHERE run = $run");
}

# ---- nothing is wrong ----

my ($run, $found) = reconcile('c');
is($found, 'done|5001|5001|0|0|0|0', 'ClickHouse holds all');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM persistomata.reconciliation_detail WHERE run = $run"), '>', 6, 'in ranges');
($run, $found) = reconcile('c', ', 101, 300');
is($found, 'done|200|200|0|0|0|0', 'a part of it');
($run, $found) = reconcile('n');
is($found, 'done|5001|5001|0|0|0|0', 'so does the current one');
($run, $found) = reconcile('r');
is($found, 'done|5001|5001|0|0|0|0', 'Redis holds all');
($run, $found) = reconcile('t');
like($found, qr/^done\|5001\|\d+\|\d+\|0\|0\|0$/, 'what a stream has trimmed is not missing');
cmp_ok((split /\|/, $found)[3], '>', 1000, 'but unknown');

# ---- deleted and doubled by hand ----

my $name = sub {
	$node->safe_psql('postgres', "SELECT name FROM persistomata.events($_[0], $_[0])");
};
my ($gone, $gone_too, $twice) = map { $name->($_) } 1234, 5001, 2345;
my $ch = client($server{clickhouse});
$ch->query("ALTER TABLE coffee DELETE WHERE name IN ('$gone', '$gone_too')");
$ch->query("ALTER TABLE coffee_latest DELETE WHERE key IN ('11', '12')");
ok(wait_for(sub { $ch->value('SELECT count() FROM coffee') == 4999 && $ch->value('SELECT count() FROM coffee_latest FINAL') == 1998 }, 'the mutations'), 'rows are deleted');
$ch->query("INSERT INTO coffee SELECT * FROM coffee WHERE name = '$twice'");
$ch->query("INSERT INTO coffee (position, name) SELECT position, 'anotherlog-1-' || toString(position) FROM coffee LIMIT 5");
($run, $found) = reconcile('c');
is($found, 'done|5001|5000|0|2|1|2', 'counted');
is(named($run, 'missing'), join(' ', sort $gone, $gone_too), 'what is missing is named');
is(named($run, 'doubled'), $twice, 'and what is there twice');
is($ch->value("SELECT groupArray(state) FROM (SELECT state FROM coffee_latest FINAL WHERE key IN ('11', '12') ORDER BY key)"),
	"['ready','brewing']", 'latest states are mended');
($run, $found) = reconcile('c');
is($found, 'done|5001|5000|0|2|1|0', 'once');
my $modern = client($server{chdb});
$modern->query("ALTER TABLE coffee DELETE WHERE name = '$gone' SETTINGS mutations_sync = 1");
$modern->query("ALTER TABLE coffee_latest DELETE WHERE key IN ('11', '12') SETTINGS mutations_sync = 1");
($run, $found) = reconcile('n');
is($found, 'done|5001|5000|0|1|0|2', 'and at the current one');
is($modern->value("SELECT groupArray(state) FROM (SELECT state FROM coffee_latest FINAL WHERE key IN ('11', '12') ORDER BY key)"),
	"['ready','brewing']", 'where they are mended, too');

my $redis = client($server{redis});
my %entry = map { $_->{fields}{name} => [ $_, $_->{stream} ] }
  map { my $stream = $_; map { { %$_, stream => $stream } } $redis->entries($stream) } qw(coffee:init coffee:state coffee:deleted);
$redis->command('XDEL', $entry{$_}[1], $entry{$_}[0]{id}) for $gone, $gone_too;
$redis->command('XADD', $entry{$twice}[1], '*', %{ $entry{$twice}[0]{fields} });
($run, $found) = reconcile('r');
is($found, 'done|5001|5000|0|2|1|0', 'counted in Redis');
is(named($run, 'missing'), join(' ', sort $gone, $gone_too), 'what is missing is named');
is(named($run, 'doubled'), $twice, 'and what is there twice');

# what is in its place no more, but there, is neither
$redis->command('XADD', $entry{$gone}[1], '*', %{ $entry{$gone}[0]{fields} });
($run, $found) = reconcile('r');
is($found, 'done|5001|5001|0|1|1|0', 'what was sent again later is there');
is(named($run, 'missing'), $gone_too, 'the other is missing still');

# a dropped table holds nothing; what was refused is not missing
$ch->query("DROP TABLE coffee_latest_feed");
$ch->query("DROP TABLE coffee");
$node->safe_psql('postgres', "INSERT INTO persistomata.dead_letter_entry (route, position, name, event, reason)
	SELECT r.id, 1234, '$gone', '{}', 'by hand' FROM persistomata.route r WHERE name = 'c'");
($run, $found) = reconcile('c');
is($found, 'done|5000|0|0|5000|0|0', 'all is missing but what was refused');

# ---- nothing is held open while the sink thinks ----

$server{redis}->pause;
$run = $node->safe_psql('postgres', "SELECT persistomata.reconcile('r')");
ok(wait_for_value($node, 'postgres', "SELECT doing FROM persistomata.stat_worker WHERE server = 'queue'",
		'comparing, waiting for the sink'), 'the worker waits for the sink');
is($node->safe_psql('postgres', "SELECT backend_xmin IS NULL AND xact_start IS NULL FROM pg_stat_activity
		WHERE application_name = 'persistomata sink queue'"), 't', 'without a snapshot');
is($node->safe_psql('postgres', "SELECT state FROM persistomata.reconciliation WHERE run = $run"), 'running', 'it is under way');
$server{redis}->resume;
ok(wait_for_value($node, 'postgres', "SELECT state FROM persistomata.reconciliation WHERE run = $run", 'done', 60), 'and ends');
$server{redis}->stop;
($run, $found) = reconcile('r');
like($node->safe_psql('postgres', "SELECT state, error FROM persistomata.reconciliation WHERE run = $run"),
	qr/^failed\|.*connect/, 'a sink that is down is told');
($run, $found) = reconcile('m');
is($node->safe_psql('postgres', "SELECT state, error FROM persistomata.reconciliation WHERE run = $run"),
	'failed|a sink of kind "rabbitmq" cannot be asked what it holds', 'a sink that cannot be asked, too');

# ---- what a route left out, what was given up, what was sent otherwise ----

$ch->query('CREATE TABLE own (position UInt64, name String, key String, to_state String) ENGINE = MergeTree ORDER BY position');
$ch->query('CREATE TABLE own_latest (key String, state String, position UInt64) ENGINE = MergeTree ORDER BY key');
$ch->query('CREATE MATERIALIZED VIEW own_latest_feed TO own_latest AS SELECT key, to_state AS state, position FROM own');
$node->safe_psql('postgres', q{
	SELECT persistomata.disable_route(r) FROM unnest('{r,t}'::text[]) r;
	SELECT persistomata.create_route('l', 'ch', throttle => 'last', options => '{"table": "lastly", "max_rows": "150"}');
	SELECT persistomata.create_route('o', 'ch', options => '{"table": "own"}');
	SELECT persistomata.create_route('a', 'ch', types => '{init}', options => '{"table": "altered"}');
	INSERT INTO coffee SELECT generate_series(3001, 3100)});
ok(wait_for_drain($node, 'postgres', $_), "$_ has drained") for qw(l o a);
$node->safe_psql('postgres', q{SELECT persistomata.alter_route('a', types => '{}')});
my $first = $node->safe_psql('postgres', 'SELECT position + 1 FROM persistomata.stat_log');
$node->safe_psql('postgres', q{
	BEGIN;
	UPDATE coffee SET state = 'brewing' WHERE id > 3000;
	UPDATE coffee SET state = 'ready' WHERE id > 3000;
	COMMIT});
ok(wait_for_drain($node, 'postgres', $_), "$_ has drained") for qw(l o a);
ok($node->safe_psql('postgres', "SELECT coalesced FROM persistomata.stat_route WHERE route = 'l'") >= 100, 'events were left out');
($run, $found) = reconcile('l', ", $first");
is($found, 'done|150|150|0|0|0|0', 'what was sent instead is there');
# ranges that end within what was a shipment
($run, $found) = reconcile('l', ', ' . ($first - 29));
like($found, qr/^done\|\d+\|\d+\|[1-9]\d*\|0\|0\|0$/, 'what was left out is not missing, but unknown');
($run, $found) = reconcile('o');
is($found, 'done|400|400|0|0|0|0', "a table of one's own needs only names and positions");
($run, $found) = reconcile('a');
is($found, 'done|300|300|0|0|0|0', 'each range is judged by what the route was then');

$gone = $name->($first);
$ch->query("ALTER TABLE own DELETE WHERE name = '$gone'");
ok(wait_for(sub { $ch->value('SELECT count() FROM own') == 399 }, 'the mutation'), 'one is gone');
($run, $found) = reconcile('o');
is($found, 'done|400|399|0|1|0|0', 'it is missing');
my $letter = $node->safe_psql('postgres', "INSERT INTO persistomata.dead_letter_entry (route, position, name, event, reason)
	SELECT r.id, $first, '$gone', '{}', 'by hand' FROM persistomata.route r WHERE name = 'o' RETURNING id");
$node->safe_psql('postgres', "SELECT persistomata.discard_dead_letter($letter)");
($run, $found) = reconcile('o');
is($found, 'done|399|399|0|0|0|0', 'a dead letter that was given up is not');
$node->safe_psql('postgres', "SELECT persistomata.drop_route('o')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM persistomata.discarded_letter'), '0', 'nothing of it stays with a dropped route');

# ---- who may ----

$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor');
my @as = (extra_params => [ '-U', 'stranger' ]);
my ($rc, $out, $err) = $node->psql('postgres', "SELECT persistomata.reconcile('c')", @as);
like($err, qr/must be owner of route "c"/, "another's route");
is($node->safe_psql('postgres', 'SELECT count(*) FROM persistomata.reconciliation', @as), '0', 'is not to be seen');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM persistomata.reconciliation_detail', extra_params => [ '-U', 'watcher' ]),
	'>', 10, 'but by monitors');
($rc, $out, $err) = $node->psql('postgres', "SELECT persistomata.reconcile('nobody')");
like($err, qr/route "nobody" does not exist/, 'no such route');
$node->safe_psql('postgres', "SELECT persistomata.disable_route('c')");
($rc, $out, $err) = $node->psql('postgres', "SELECT persistomata.reconcile('c')");
like($err, qr/route "c" is disabled/, 'a disabled one has no worker');
$node->stop;
done_testing();
