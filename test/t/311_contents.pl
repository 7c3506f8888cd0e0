# What a sink holds is as it was sent: what somebody altered or cut short by hand is
# named, with the fields, in all types of columns, and nothing else.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my %server = map { $_ => sink_server($_) } qw(clickhouse chdb redis);
my $node = new_node('contents');
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('coffee', $$flowchart LR
	  idle --> |power_on!| ready
	  ready --> |insert_money| brewing
	  brewing --> |take| ready
	  ready --> |off| dark
	$$);
	CREATE TABLE coffee (id uuid PRIMARY KEY, state text, note text);
	SELECT persistomata.attach('coffee', 'coffee');
	CREATE FUNCTION only_key(e persistomata.event) RETURNS jsonb IMMUTABLE LANGUAGE sql AS
		$$SELECT jsonb_build_object('key', e.key, 'note', e.payload->'note')$$;
});
create_sink($node, 'postgres', $_, $server{$_}, max_rows => 150) for qw(clickhouse chdb redis);

# Tables of one's own, whose columns have other types than an event's fields.
my %ch = map { $_ => client($server{$_}) } qw(clickhouse chdb);
my $both = "position UInt64, name FixedString(60), event_id Int64, type Enum8('init' = -1, 'state' = 2, 'errored' = 3),"
  . " version UInt8, key UUID, event Nullable(String), from_state String, to_state FixedString(10),"
  . " payload Nullable(String), occurred_at DateTime, xid Nullable(UInt64), timeline String, actor Nullable(FixedString(20))";
$ch{clickhouse}->query("CREATE TABLE own ($both) ENGINE = MergeTree ORDER BY position");
$ch{chdb}->query("CREATE TABLE own ($both, machine LowCardinality(String), reason LowCardinality(Nullable(String)),"
	  . ' headers JSON, args String) ENGINE = MergeTree ORDER BY position');
my %time = (millis => "DateTime64(3, 'Asia/Tokyo')", nanos => 'Nullable(DateTime64(9))', day => 'Date', days => 'Date32', second => 'Nullable(DateTime)', text => 'String');
$ch{chdb}->query("CREATE TABLE $_ (position UInt64, name String, occurred_at $time{$_}, key Nullable(UUID),"
	  . " from_state Nullable(Enum16('ready' = 300, 'idle' = -300, 'brewing' = 1, '*' = 0))) ENGINE = MergeTree ORDER BY position")
  for sort keys %time;

$node->safe_psql('postgres', q{
	SELECT persistomata.create_route('c', 'clickhouse');
	SELECT persistomata.create_route('d', 'chdb');
	SELECT persistomata.create_route('r', 'redis');
	SELECT persistomata.create_route('e', 'redis', format => 'only_key', options => '{"stream": "encoded"}');
	SELECT persistomata.create_route('ce', 'redis', format => 'cloudevents', options => '{"stream": "envelopes", "maxlen": "100000"}');
	SELECT persistomata.create_route('c_own', 'clickhouse', options => '{"table": "own", "latest": ""}');
	SELECT persistomata.create_route('log', 'clickhouse', options => '{"table": "log", "latest": "", "engine": "Log"}');
	SELECT persistomata.create_route('memory', 'chdb', options => '{"table": "memory", "latest": "", "engine": "Memory"}');
	SELECT persistomata.create_route('j', 'chdb', options => '{"table": "jsons", "json": "on"}');
	SELECT persistomata.create_route('d_own', 'chdb', options => '{"table": "own", "latest": ""}');
	SET persistomata.headers = '{"tenant": "äöü \"1\""}';
	INSERT INTO coffee SELECT md5(g::text)::uuid, NULL, CASE WHEN g % 3 > 0 THEN 'ä "' || g || '"' END FROM generate_series(1, 200) g;
	UPDATE coffee SET state = 'brewing' WHERE note IS NULL});
$node->safe_psql('postgres', "SELECT persistomata.create_route('$_', 'chdb', start => 'earliest', options => '{\"table\": \"$_\", \"latest\": \"\"}')")
  for sort keys %time;
my @routes = (qw(c d j r e ce log memory c_own d_own), sort keys %time);
ok(wait_for_drain($node, 'postgres', $_), "$_ has drained") for @routes;

sub reconcile
{
	my ($route, $more) = @_;
	my $run = $node->safe_psql('postgres', "SELECT persistomata.reconcile('$route'" . ($more // '') . ')');
	wait_for_value($node, 'postgres',
		"SELECT finished_at IS NOT NULL FROM persistomata.reconciliation WHERE run = $run", 't', 60) or return 'not compared';
	return $node->safe_psql('postgres', "SELECT concat_ws('|', state, error, expected, found, missing, doubled, altered, refilled)
		|| coalesce((SELECT ' ' || string_agg(DISTINCT name, ' ') FROM persistomata.reconciliation_detail d, unnest(altered_names) name WHERE d.run = $run), '')
		|| coalesce((SELECT ' ' || string_agg(DISTINCT f, ',') FROM persistomata.reconciliation_detail d, unnest(altered_fields) f WHERE d.run = $run), '')
		FROM persistomata.reconciliation WHERE run = $run");
}

sub name_of
{
	return $node->safe_psql('postgres', "SELECT name FROM persistomata.events($_[0], $_[0])");
}

# ---- nothing is altered ----

my $n = $node->safe_psql('postgres', "SELECT count(*) FROM persistomata.event");
is(reconcile($_), "done|$n|$n|0|0|0|0", "$_ is as it was sent") for @routes;

# ---- ClickHouse: a row, a field cut short, one of many types ----

# A mutation, awaited.
sub alter
{
	my ($ch, $table, $set, $where) = @_;
	$ch->query("ALTER TABLE $table UPDATE $set WHERE $where");
	ok(wait_for(sub { $ch->value("SELECT count() FROM system.mutations WHERE NOT is_done AND table = '$table'") == 0 }, 'the mutation'),
		"$table: $set");
	return;
}

my @name = map { name_of($_) } 0 .. 9;
for my $kind (qw(clickhouse chdb))
{
	my ($ch, $route) = ($ch{$kind}, $kind eq 'chdb' ? 'd' : 'c');
	alter($ch, 'coffee', "payload = substring(payload, 1, 10)", "name = '$name[7]'");
	is(reconcile($route), "done|$n|$n|0|0|1|0 $name[7] payload", "$kind: a field that was cut short is named");
	alter($ch, 'coffee', "to_state = 'dark', actor = ''", "name = '$name[5]'");
	is(reconcile($route), "done|$n|$n|0|0|2|0 " . join(' ', sort @name[ 5, 7 ]) . ' actor,payload,to_state',
		"$kind: another state, too");
	is(reconcile($route, ', 6, 100'), "done|95|95|0|0|1|0 $name[7] payload", "$kind: by its range");

	# two rows that exchanged a value: the columns' sums are the same
	alter($ch, 'own', "event_id = if(event_id = 3, 4, 3)", 'event_id IN (3, 4)');
	my %id = map { $_ => $node->safe_psql('postgres', "SELECT name FROM persistomata.events(0, 1000) WHERE event_id = $_") } 3, 4;
	is(reconcile($route . '_own'), "done|$n|$n|0|0|2|0 " . join(' ', sort values %id) . ' event_id', "$kind: values that changed places");
	alter($ch, 'own', $_->[0], "event_id = 9"), is(reconcile($route . '_own'),
		"done|$n|$n|0|0|3|0 " . join(' ', sort values %id, name9()) . ' ' . join(',', sort 'event_id', @$_[ 1 .. $#$_ ]), "$kind: $_->[0]")
	  for (
		["payload = NULL", 'payload'],
		["payload = ''", 'payload'],
		["event = ''", 'event', 'payload'],
		["xid = NULL, version = toUInt8(9)", 'event', 'payload', 'version', 'xid'],
		["to_state = materialize(toFixedString('x', 10)), actor = materialize(toFixedString('y', 20))", 'actor', 'event', 'payload', 'to_state', 'version', 'xid'],
		["occurred_at = occurred_at + 1", 'actor', 'event', 'occurred_at', 'payload', 'to_state', 'version', 'xid']);
}

sub name9
{
	return $node->safe_psql('postgres', "SELECT name FROM persistomata.events(0, 1000) WHERE event_id = 9");
}
# no server of 2018 can do this to an Enum
alter($ch{chdb}, 'own', "type = 'errored', key = generateUUIDv4(), machine = '', reason = 'none'", "event_id = 12");
like(reconcile('d_own', ', 10'), qr/^done\|\d+\|\d+\|0\|0\|1\|0 \S+ key,machine,reason,type$/, 'the other types of columns');
for (sort keys %time)
{
	alter($ch{chdb}, $_, $_ eq 'text' ? "occurred_at = concat(occurred_at, '0')" : $_ eq 'millis' ? 'occurred_at = occurred_at + toIntervalMillisecond(1)'
		: $_ eq 'nanos' ? 'occurred_at = occurred_at + toIntervalNanosecond(1)' : 'occurred_at = occurred_at + 1', "name = '$name[8]'");
	is(reconcile($_), "done|$n|$n|0|0|1|0 $name[8] occurred_at", "a time as $time{$_}");
}
alter($ch{chdb}, 'days', "key = NULL, from_state = NULL", "name = '$name[8]'");
is(reconcile('days'), "done|$n|$n|0|0|1|0 $name[8] " . ($node->safe_psql('postgres', "SELECT from_state IS NULL FROM persistomata.events(0, 1000) WHERE name = '$name[8]'") eq 't' ? '' : 'from_state,')
	  . 'key,occurred_at', 'a key that was taken away');

# ---- ClickHouse: the latest states ----

# The events are mended first: what was altered is no source.
for my $kind (qw(clickhouse chdb))
{
	my ($ch, $route) = ($ch{$kind}, $kind eq 'chdb' ? 'd' : 'c');
	my ($key, $other) = map { $node->safe_psql('postgres', "SELECT md5('$_')::uuid") } 150, 151;
	my $latest = sub { $ch->value("SELECT state FROM coffee_latest FINAL WHERE key = '$_[0]'") };
	alter($ch, 'coffee_latest', "state = 'dark'", "key IN ('$key', '$other')");
	is($latest->($key), 'dark', "$kind: a latest state is altered");
	like(reconcile($route), qr/^done\|$n\|$n\|0\|0\|2\|0 /, "$kind: it is left while events are altered");
	is(reconcile($route, ', 100'), 'done|' . ($n - 99) . '|' . ($n - 99) . '|0|0|0|2', "$kind: and mended by those that are not");
	is($latest->($key) . $latest->($other), 'brewingready', "$kind: to what they say");
	is(reconcile($route, ', 100'), 'done|' . ($n - 99) . '|' . ($n - 99) . '|0|0|0|0', "$kind: once");
}

my $key = $node->safe_psql('postgres', "SELECT md5('151')::uuid");
alter($ch{chdb}, 'jsons_latest', 'payload = \'{"a": 5}\'', "key = '$key'");
is(reconcile('j'), "done|$n|$n|0|0|0|1", 'a payload of type JSON, too');
is($ch{chdb}->value("SELECT toString(payload.note) FROM jsons_latest FINAL WHERE key = '$key'"), 'ä "151"', 'is mended');
is(reconcile('j'), "done|$n|$n|0|0|0|0", 'once');

# ---- Redis: an entry of the same id with another content ----

my $redis = client($server{redis});

# Write a stream anew, entry for entry, each as the code returns its fields.
sub rewrite
{
	my ($stream, $code) = @_;
	my $entries = $redis->command('XRANGE', $stream, '-', '+');
	$redis->command('DEL', $stream);
	for (@$entries)
	{
		my ($id, $fields) = @$_;
		my %field = @$fields;
		$redis->command('XADD', $stream, $id, $code->($field{position}, @$fields));
	}
	return;
}
my $change = sub {
	my ($which, $how) = @_;
	return sub { my ($position, @f) = @_; @f = $how->(@f) if $position == $which; return @f; };
};
my $stream = 'persistomata:coffee';
rewrite($stream, sub { my (undef, @f) = @_; return @f });
is(reconcile('r'), "done|$n|$n|0|0|0|0", 'an entry that is written again is the same');
rewrite($stream, $change->(5, sub { my @f = @_; substr($f[-1], -5) = ''; return @f }));
is(reconcile('r'), "done|$n|$n|0|0|1|0 $name[5] data", 'data that was cut short are named');
rewrite($stream, $change->(7, sub { my @f = @_; $f[7] = 'x'; return @f }));
is(reconcile('r'), "done|$n|$n|0|0|2|0 " . join(' ', sort @name[ 5, 7 ]) . ' data,key', 'another key');
rewrite($stream, $change->(8, sub { return (@_, more => 'x') }));
is(reconcile('r'), "done|$n|$n|0|0|3|0 " . join(' ', sort @name[ 5, 7, 8 ]) . ' data,key,more', 'a field more');
rewrite($stream, $change->(8, sub { my @f = @_; return @f[ 0 .. $#f - 4 ] }));
is(reconcile('r', ', 8, 8'), "done|1|1|0|0|1|0 $name[8] data", 'a field less');
rewrite('encoded', $change->(6, sub { my @f = @_; $f[-1] =~ s/key/kea/; return @f }));
is(reconcile('e'), "done|$n|$n|0|0|1|0 $name[6] data", "what a route's own encoder made is compared");
rewrite('envelopes', $change->(6, sub { my @f = @_; $f[-1] =~ s/specversion":"1.0/specversion":"1.1/; return @f }));
is(reconcile('ce'), "done|$n|$n|0|0|1|0 $name[6] data", 'and an envelope');

# ---- what changed by rights ----

# An event that is sent again as a dead letter is the same.
my $letter = $node->safe_psql('postgres', "INSERT INTO persistomata.dead_letter_entry (route, position, name, event, reason)
	SELECT r.id, 60, e.name, to_jsonb(e), 'by hand' FROM persistomata.route r, persistomata.events(60, 60) e WHERE r.name = 'c' RETURNING id");
my $name = name_of(60);
$ch{clickhouse}->query("ALTER TABLE coffee DELETE WHERE name = '$name'");
ok(wait_for(sub { $ch{clickhouse}->value('SELECT count() FROM coffee') == $n - 1 }, 'the mutation'), 'one is gone');
$node->safe_psql('postgres', "SELECT persistomata.retry_dead_letter($letter)");
ok(wait_for(sub { $ch{clickhouse}->value('SELECT count() FROM coffee') == $n }, 'the letter'), 'and sent again');
is(reconcile('c', ', 50, 70'), 'done|21|21|0|0|0|0', 'as it was');
# A table that has another name now has had the old one.
$node->safe_psql('postgres', 'ALTER TABLE coffee RENAME TO tea');
is(reconcile('c', ', 50'), 'done|' . ($n - 49) . '|' . ($n - 49) . '|0|0|0|0', "a table's new name alters nothing at ClickHouse");
is(reconcile('r', ', 50'), 'done|' . ($n - 49) . '|' . ($n - 49) . '|0|0|0|0', 'nor at Redis');
$node->stop;
done_testing();
