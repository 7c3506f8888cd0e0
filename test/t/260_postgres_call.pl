# Routes that end in this database: functions called once for each event, whoever
# is killed meanwhile; loops that end; failures that are the event's own; rights;
# notifications.

use strict;
use warnings;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $node = new_node('saga', restart_after_crash => 'on', 'persistomata.max_hops' => 5, deadlock_timeout => "'100ms'");

sub sql { return $node->safe_psql($db, @_) }
sub value_is { return ok(wait_for_value($node, $db, $_[0], $_[1], 60), $_[2]) || diag(log_tail($node, 15)) }
sub state_of { return "SELECT state FROM persistomata.stat_route WHERE route = '$_[0]'" }
sub error_of { return $node->safe_psql($db, "SELECT last_error FROM persistomata.stat_route WHERE route = '$_[0]'") }

# As the role app.
sub app { return sql("SET SESSION AUTHORIZATION app; $_[0]") }

sql(q{
	CREATE EXTENSION persistomata;
	CREATE ROLE app LOGIN;
	CREATE SCHEMA app AUTHORIZATION app;
	SELECT persistomata.create_machine('purchase', $$
	flowchart LR
	  none -->|create!| ordered
	  ordered -->|pay| paid
	$$);
	SELECT persistomata.create_machine('parcel', $$
	flowchart LR
	  none -->|create!| waiting
	  waiting -->|pack| packed
	$$);
	SELECT persistomata.create_machine('top', $$
	flowchart LR
	  none -->|create!| spinning
	  spinning -->|turn| spinning
	$$);
	CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres OPTIONS (max_rows '100');
	GRANT USAGE ON FOREIGN SERVER here TO app;
});
app(q{
	CREATE TABLE app.purchase (id int PRIMARY KEY, state text, note text);
	CREATE TABLE app.parcel (id int PRIMARY KEY, state text);
	CREATE TABLE app.top (id int PRIMARY KEY, state text);
	CREATE TABLE app.seen (name text, key text, who text, at serial);
	SELECT persistomata.attach('app.purchase', 'purchase');
	SELECT persistomata.attach('app.parcel', 'parcel');
	SELECT persistomata.attach('app.top', 'top');
	CREATE FUNCTION app.seen(event jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO app.seen (name, key, who) VALUES (event->>'name', event->>'key', current_user)
	$$;
	CREATE FUNCTION app.on_paid(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM app.seen(event);
		PERFORM persistomata.fire('app.parcel', event->>'key', 'pack');
	END
	$$;
});

# ---- a saga, exactly once ----

app(q{SELECT persistomata.create_route('saga', 'here', machine => 'purchase', events => '{pay}', options => '{"function": "app.on_paid"}')});
my $n = 3000;
app("INSERT INTO app.purchase SELECT generate_series(1, $n); INSERT INTO app.parcel SELECT generate_series(1, $n)");
app(q{SELECT count(*) FROM app.purchase p, LATERAL persistomata.fire('app.purchase', p.id, 'pay') f});
my $in_the_midst = 0;
for my $round (1 .. 3)
{
	my $pid;
	wait_for(sub { $pid = sql(q{SELECT pid FROM persistomata.stat_worker WHERE kind = 'sink' AND server = 'here'}) }, 'a sink worker');
	my $seen = sql('SELECT count(*) FROM app.seen');
	wait_for(sub { sql('SELECT count(*) FROM app.seen') > $seen }, 'it goes on', 10) if $seen < $n;
	$in_the_midst++ if $seen < $n && sql('SELECT count(*) FROM app.seen') < $n;
	kill 'KILL', $pid;
	ok(wait_for(sub { sql('SELECT 1') eq '1' }, 'recovery'), "the worker is killed, round $round");
}
cmp_ok($in_the_midst, '>', 0, 'in the midst of it');
value_is('SELECT count(*) FROM app.seen', $n, 'every event has its call');
ok(wait_for_drain($node, $db, 'saga'), 'and is acknowledged');
is(sql('SELECT count(*), count(DISTINCT name), count(DISTINCT key) FROM app.seen'), "$n|$n|$n", 'each once');
is(sql("SELECT count(*) FROM app.parcel WHERE state = 'packed'"), $n, 'what it fires is done');
is(sql("SELECT count(*) FROM persistomata.event WHERE machine = 'parcel' AND event = 'pack'"), $n, 'and logged, once');
is(sql('SELECT sent, dead, duplicates FROM persistomata.stat_route'), "$n|0|0", 'and counted');
is(sql('SELECT string_agg(DISTINCT who, $$,$$) FROM app.seen'), 'app', 'the function runs as the owner of the route');
is(sql(q{SELECT DISTINCT headers FROM persistomata.event WHERE event = 'pack'}), '{"hops": 1}', 'events of a call count their hops');
is(sql(q{SELECT count(*) FROM (SELECT key::int - lag(key::int) OVER (ORDER BY at) AS step FROM app.seen) s WHERE step <> 1}), 0, 'in order');

# ---- a loop ends ----

app(q{
	CREATE FUNCTION app.turn(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		SET persistomata.headers = '{"mine": true}';
		PERFORM persistomata.fire('app.top', event->>'key', 'turn');
	END
	$$;
	SELECT persistomata.create_route('spin', 'here', machine => 'top', events => '{turn}', options => '{"function": "app.turn"}');
	INSERT INTO app.top VALUES (1);
	SELECT * FROM persistomata.fire('app.top', 1, 'turn');
});
value_is(q{SELECT count(*) FROM persistomata.dead_letter WHERE route = 'spin'}, 1, 'a machine that feeds itself is stopped');
like(sql(q{SELECT reason FROM persistomata.dead_letter}), qr/after 5 calls.*persistomata.max_hops/, 'with a reason');
is(sql(q{SELECT count(*) FROM persistomata.event WHERE machine = 'top' AND event = 'turn'}), 6, 'after so many calls');
is(sql(q{SELECT headers FROM persistomata.event WHERE machine = 'top' ORDER BY event_id DESC LIMIT 1}), '{"hops": 5, "mine": true}',
	'whatever headers the function sets');
app(q{SELECT persistomata.drop_route('spin')});

# ---- failures ----

app(q{
	CREATE FUNCTION app.picky(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM app.seen(event);
		IF (event->>'key')::int % 100 = 50 THEN
			RAISE EXCEPTION 'not this one: %', event->>'key';
		END IF;
	END
	$$;
	TRUNCATE app.seen;
	SELECT persistomata.drop_route('saga');
	SELECT persistomata.create_route('picky', 'here', machine => 'purchase', types => '{init}', options => '{"function": "app.picky"}');
	INSERT INTO app.purchase SELECT generate_series(10001, 10300);
});
ok(wait_for_drain($node, $db, 'picky'), 'failures hold nobody up');
is(sql(q{SELECT string_agg(event->>'key', ',' ORDER BY position) FROM persistomata.dead_letter}), '10050,10150,10250', 'they are isolated');
like(sql(q{SELECT reason FROM persistomata.dead_letter LIMIT 1}), qr/^the call failed: P0001: not this one: 10050/, 'with the error');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE key::int % 100 = 50) FROM app.seen}), '297|0', 'what they did is undone, the others are done once');
app(q{CREATE OR REPLACE FUNCTION app.picky(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT app.seen(event)'});
app('SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter');
value_is('SELECT count(*) FROM app.seen', 300, 'sent again they are done');
value_is('SELECT count(*) FROM persistomata.dead_letter', 0, 'and gone');

app(q{CREATE OR REPLACE FUNCTION app.picky(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT app.seen(event); SELECT 1 / 0';
	INSERT INTO app.purchase SELECT generate_series(10401, 10450)});
value_is(state_of('picky'), 'misconfigured', 'where every call fails, the route waits');
like(error_of('picky'), qr/division by zero/, 'and says why');
is(sql('SELECT count(*) FROM persistomata.dead_letter'), 0, 'and no event is given up');
app(q{DROP FUNCTION app.picky(jsonb)});
ok(wait_for(sub { error_of('picky') =~ /app\.picky\(jsonb\) or app\.picky\(persistomata\.event\) does not exist/ }, 'the message'), 'so it does without the function');
app(q{CREATE FUNCTION app.picky(events jsonb[]) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM unnest(events) e WHERE e->>'key' = '10425') THEN
			RAISE EXCEPTION 'not with that one';
		END IF;
		INSERT INTO app.seen (name, key, who) SELECT e->>'name', e->>'key', cardinality(events)::text FROM unnest(events) e;
		RETURN 1;
	END $$});
value_is('SELECT count(*) FROM app.seen', 349, 'a function may take many events at once');
is(sql(q{SELECT event->>'key' FROM persistomata.dead_letter}), '10425', 'the one that fails is found');
cmp_ok(sql(q{SELECT max(who::int) FROM app.seen WHERE key > '10400'}), '>', 5, 'the others stay together');
app('SELECT persistomata.discard_dead_letter(id) FROM persistomata.dead_letter');

# ---- an event as a row ----

sql(q{CREATE TABLE app.got (LIKE persistomata.event, n int, at serial); ALTER TABLE app.got OWNER TO app});
app(q{
	SELECT persistomata.drop_route('picky');
	CREATE FUNCTION app.typed(e persistomata.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO app.got SELECT (e).*, 1;
		IF e.key = '11003' THEN RAISE EXCEPTION 'not %', e.payload->>'note'; END IF;
	END
	$$;
	SELECT persistomata.create_route('typed', 'here', machine => 'purchase', options => '{"function": "app.typed"}');
	SET persistomata.headers = '{"a": [1]}';
	INSERT INTO app.purchase SELECT g, NULL, 'ä' || g FROM generate_series(11001, 11005) g;
	SELECT * FROM persistomata.try_fire('app.purchase', 11001, 'nothing', '{"x": 1}');
	SELECT * FROM persistomata.fire('app.purchase', 11002, 'pay', '{"x": 2}')});
ok(wait_for_drain($node, $db, 'typed'), 'a function may take an event as a row');
my $all = q{SELECT count(*) FROM persistomata.event WHERE key BETWEEN '11001' AND '11005' AND machine = 'purchase'};
is(sql(q{SELECT count(*) FROM persistomata.event e JOIN app.got g USING (event_id) WHERE to_jsonb(e) = to_jsonb(g) - 'n' - 'at'}), sql($all) - 2,
	'which is the one of the log');
is(sql(q{SELECT count(*), max(reason) FROM persistomata.dead_letter}), '2|the call failed: P0001: not ä11003', 'those that fail are found');
app(q{
	CREATE FUNCTION app.typed(e persistomata.event[]) RETURNS void LANGUAGE sql AS
		$$INSERT INTO app.got SELECT (u).*, cardinality(e) FROM unnest(e) u$$;
	TRUNCATE app.got;
	SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter});
value_is(q{SELECT string_agg(type || key || n, ' ' ORDER BY at) FROM app.got}, 'init110032 state110032', 'or many at once, and dead letters');
is(sql(q{SELECT count(*) FROM persistomata.event e JOIN app.got g USING (event_id) WHERE to_jsonb(e) = to_jsonb(g) - 'n' - 'at'}), 2, 'as they were');
app(q{SELECT persistomata.alter_route('typed', format => 'cloudevents'); INSERT INTO app.purchase VALUES (11006)});
value_is(state_of('typed'), 'misconfigured', 'a format has no place then');
like(error_of('typed'), qr/function app\.typed takes persistomata\.event, but the route has a format/, 'it is told');
app(q{
	CREATE FUNCTION app.typed(e jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO app.seen (name, key, who) VALUES (e->>'specversion', e->'data'->>'key', 'typed')$$;
	DROP FUNCTION app.typed(persistomata.event[])});
app(q{SELECT persistomata.enable_route('typed')});
value_is(q{SELECT string_agg(name || key, ' ') FROM app.seen WHERE who = 'typed'}, '1.011006 1.011006', 'one that takes jsonb gets it');
app(q{SELECT persistomata.drop_route('typed')});

app(q{
	CREATE FUNCTION app.sleepy(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE event->>'key' = '10501' LOOP END LOOP;
	END
	$$;
	SELECT persistomata.create_route('picky', 'here', machine => 'purchase', types => '{init}', options => '{"function": "app.sleepy", "timeout": 300}');
	INSERT INTO app.purchase VALUES (10500), (10501), (10502);
});
ok(wait_for_drain($node, $db, 'picky'), 'a call that does not end is ended');
like(sql('SELECT reason FROM persistomata.dead_letter'), qr/57014: canceling statement due to statement timeout/, 'and is a dead letter');

# ---- a lock, a deadlock ----

app(q{
	SELECT persistomata.drop_route('picky');
	CREATE TABLE app.till (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
	INSERT INTO app.till VALUES (1), (2);
	CREATE FUNCTION app.ring_up(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE app.till SET n = n + 1 WHERE id = 2;
		UPDATE app.till SET n = n + 1 WHERE id = 1;
	END
	$$;
	SELECT persistomata.create_route('till', 'here', machine => 'purchase', types => '{init}', options => '{"function": "app.ring_up", "lock_timeout": 20000}');
});
my ($out, $err) = ('', '');

# Another session, at once.
sub session
{
	my $file = PostgreSQL::Test::Utils::tempdir . '/commands';
	append_to_file($file, $_[0]);
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', $file ],
		'<', '/dev/null', '>', \$out, '2>', \$err);
}

my $other = session(q{
	SET deadlock_timeout = '60s';
	BEGIN;
	UPDATE app.till SET n = n + 100 WHERE id = 1;
	SELECT pg_advisory_lock(1);
	DO $$
	BEGIN
		FOR i IN 1 .. 600 LOOP
			PERFORM pg_stat_clear_snapshot();
			EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'persistomata sink%' AND wait_event_type = 'Lock');
			PERFORM pg_sleep(0.05);
		END LOOP;
	END
	$$;
	UPDATE app.till SET n = n + 100 WHERE id = 2;
	COMMIT;
});
ok(wait_for(sub { sql('SELECT count(*) FROM pg_locks WHERE locktype = $$advisory$$ AND objid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())') eq '1' },
	'the lock'), 'another session holds a row');
app('INSERT INTO app.purchase VALUES (20001)');
$other->finish;
is($err, '', 'it is not the one that the deadlock ends');
value_is('SELECT string_agg(n::text, $$,$$ ORDER BY id) FROM app.till', '101,101', 'the call is tried again');
ok(wait_for_drain($node, $db, 'till'), 'and settled');
cmp_ok(sql(q{SELECT retried FROM persistomata.stat_route WHERE route = 'till'}), '>=', 1, 'as counted');
is(sql('SELECT count(*) FROM persistomata.dead_letter'), 0, 'no dead letter');
like(slurp_file($node->logfile), qr/40P01: deadlock detected/, 'a deadlock it was');

app(q{SELECT persistomata.alter_route('till', options => '{"function": "app.ring_up", "lock_timeout": 100}')});
$other = session(q{
	BEGIN;
	UPDATE app.till SET n = n + 100 WHERE id = 2;
	SELECT pg_advisory_lock(2);
	DO $$
	BEGIN
		FOR i IN 1 .. 600 LOOP
			EXIT WHEN EXISTS (SELECT FROM persistomata.stat_route WHERE route = 'till' AND state = 'retrying');
			PERFORM pg_sleep(0.05);
		END LOOP;
	END
	$$;
	COMMIT;
});
ok(wait_for(sub { sql('SELECT count(*) FROM pg_locks WHERE locktype = $$advisory$$ AND objid = 2') eq '1' }, 'the lock'), 'and again');
app('INSERT INTO app.purchase VALUES (20002)');
$other->finish;
value_is('SELECT string_agg(n::text, $$,$$ ORDER BY id) FROM app.till', '102,202', 'a lock not had in time is tried again');
app(q{SELECT persistomata.drop_route('till')});

# ---- rights ----

sql(q{
	CREATE TABLE treasure (id int); INSERT INTO treasure VALUES (1);
	CREATE ROLE other;
	CREATE SCHEMA other AUTHORIZATION other;
	SET ROLE other;
	CREATE FUNCTION other.theirs(event jsonb) RETURNS void LANGUAGE sql AS '';
	REVOKE ALL ON FUNCTION other.theirs(jsonb) FROM PUBLIC;
	GRANT USAGE ON SCHEMA other TO app;
});
app(q{
	CREATE TABLE app.tried (what text, who text);
	CREATE TABLE app.trap (id int);
	CREATE FUNCTION app.spring() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO app.tried VALUES ('trigger', current_user);
		RETURN NULL;
	END
	$$;
	CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON app.trap DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION app.spring();
	CREATE FUNCTION app.attempt(what text, command text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE command;
		INSERT INTO app.tried VALUES (what, current_user);
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO app.tried VALUES (what, SQLSTATE);
	END
	$$;
	CREATE FUNCTION app.climb(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM app.attempt('role', 'SET ROLE postgres');
		PERFORM app.attempt('reset', 'RESET ROLE');
		PERFORM app.attempt('authorization', 'RESET SESSION AUTHORIZATION');
		PERFORM app.attempt('treasure', 'DELETE FROM public.treasure');
		PERFORM app.attempt('program', 'COPY app.tried TO PROGRAM ''true''');
		PERFORM app.attempt('dead letters', 'DELETE FROM persistomata.dead_letter_entry');
		PERFORM app.attempt('deferred', 'SET CONSTRAINTS ALL DEFERRED; INSERT INTO app.trap VALUES (1)');
		INSERT INTO app.trap VALUES (1);
		SET search_path = app;
		SET enable_indexscan = off;
		INSERT INTO app.tried VALUES ('plain', current_user);
	END
	$$;
	SELECT persistomata.create_route('climb', 'here', machine => 'purchase', types => '{init}', options => '{"function": "app.climb"}');
	INSERT INTO app.purchase VALUES (30001);
});
value_is(q{SELECT string_agg(what || '=' || who, ' ' ORDER BY what) FROM app.tried},
	'authorization=42501 dead letters=42501 deferred=42501 plain=app program=42501 reset=42501 role=42501 treasure=42501 trigger=app',
	'the function is the owner\'s, and cannot become more');
is(sql(q{SELECT reason FROM persistomata.dead_letter}), '', 'it does not fail');
ok(wait_for_drain($node, $db, 'climb'), 'what it sets does not stay');
app(q{SELECT persistomata.alter_route('climb', options => '{"function": "other.theirs"}'); INSERT INTO app.purchase VALUES (30002)});
value_is(state_of('climb'), 'misconfigured', 'a function that the owner may not call is not called');
like(error_of('climb'), qr/owner may not call function other\.theirs/, 'and that is said');
app(q{SELECT persistomata.drop_route('climb')});

# ---- notifications ----

app(q{SELECT persistomata.create_route('news', 'here', machine => 'purchase', types => '{init}', options => '{"mode": "notify", "channel": "news {machine}"}')});
sql(q{SELECT persistomata.seek_route('news', (SELECT end_position FROM (SELECT coalesce(max(c.first_position + c.events), 1) AS end_position FROM persistomata.cuts() c) e))});
$node->psql($db, q{
	LISTEN "news purchase";
	INSERT INTO app.purchase VALUES (40001, NULL, 'short'), (40002, NULL, repeat('x', 9000));
	DO $$
	BEGIN
		FOR i IN 1 .. 600 LOOP
			EXIT WHEN (SELECT sent >= 2 AND lag_events = 0 FROM persistomata.stat_route WHERE route = 'news');
			PERFORM pg_sleep(0.05);
		END LOOP;
	END
	$$;
	SELECT 'end';
}, stdout => \$out);
my @news = $out =~ /Asynchronous notification "news purchase" with payload "(.*)" received/g;
is(scalar @news, 2, 'a listener is told of each event') || diag($out);
my ($short, $long) = map { decode_json($_) } @news;
is("$short->{key} $short->{payload}{note}", '40001 short', 'with the event');
like($long->{name}, qr/^[0-9a-f]{12}-\d+-\d+$/, 'or, if that is too long, with its name');
cmp_ok($long->{'$omitted'}, '>', 8000, 'and its size');
is(sql("SELECT key FROM persistomata.events($long->{position}, $long->{position})"), '40002', 'and its position, where it is read');

# ---- what cannot be ----

for my $case (
	[ '{}', qr/needs the option "function"/ ],
	[ '{"function": "f"}', qr/with its schema/ ],
	[ '{"mode": "notify", "function": "a.f"}', qr/is for routes of mode "call"/ ],
	[ '{"mode": "table", "channel": "c"}', qr/is for routes of mode "notify"/ ],
	[ '{"mode": "tabel"}', qr/one of: call, notify, table/ ])
{
	my ($options, $wanted) = @$case;
	my ($rc, $stdout, $stderr) = $node->psql($db, "SELECT persistomata.create_route('x', 'here', options => '$options')");
	like($stderr, $wanted, "options $options");
}

# ---- a call that does not end holds nobody up ----

app(q{
	SELECT persistomata.create_route('endless', 'here', machine => 'purchase', types => '{init}', options => '{"function": "app.sleepy", "timeout": 0}');
	DELETE FROM app.purchase WHERE id = 10501;
	INSERT INTO app.purchase VALUES (10501);
});
value_is(q{SELECT state FROM persistomata.stat_route WHERE route = 'endless'}, 'sending', 'a call that does not end');
my $start = time;
sql(q{SELECT persistomata.disable_route('endless')});
cmp_ok(time - $start, '<', 2, 'disable_route does not wait for it');
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 2, 'nor does a fast shutdown');
done_testing();
