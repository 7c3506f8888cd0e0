# Timers, fired by the scheduler: once, late after a restart, as the table's
# owner, and none of their troubles is anybody else's.

use strict;
use warnings;
use PstTest;
use Test::More;

my $node = new_node('timers', 'persistomata.timer_retries' => 2, 'persistomata.timer_timeout' => "'1s'");
my $owner = $node->connstr('postgres') . ' user=tina';

$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	CREATE ROLE tina LOGIN;
	CREATE SCHEMA tina AUTHORIZATION tina;
});

sub as_owner
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', "SET search_path = tina; SET ROLE tina; $sql");
}

# the events of one instance, in order
sub events
{
	my ($fsm, $key) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT string_agg(concat_ws(':', type, event, to_state, reason), ' ' ORDER BY event_id)
		  FROM persistomata.event WHERE fsm = 'tina.$fsm' AND key = '$key' AND type <> 'init'});
}

sub events_are
{
	my ($fsm, $key, $expected, $name) = @_;
	my $last;
	ok(wait_for(sub { ($last = events($fsm, $key)) eq $expected }, $name), $name) or diag("last: $last");
	return;
}

sub state_is
{
	my ($fsm, $id, $state, $name) = @_;
	ok(wait_for_value($node, 'postgres', "SELECT state FROM tina.$fsm WHERE id = $id", $state), $name);
	return;
}

# the scheduler has been round: what was due before it is settled
sub scheduler_has_been_round
{
	my $id = as_owner(q{
		WITH i AS (INSERT INTO beacon VALUES (DEFAULT) RETURNING id)
		SELECT id FROM i});
	$id =~ s/\D//g;
	as_owner("SELECT persistomata.fire_at('beacon', $id, 'light', now())");
	state_is('beacon', $id, 'lit', 'the scheduler goes on');
	return;
}

as_owner(q{
	CREATE FUNCTION me() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_user::text';
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none   -->|on!| red
	  red    -->|"after (wait) [me() = 'tina'] / who = current_user"| green
	  red    -->|stop| dark
	  green  -->|"after (1 millisecond) [false]"| dark
	  green  -->|off| dark
	$$);
	CREATE TABLE lamp (id int PRIMARY KEY, state text, wait interval, who text);
	SELECT persistomata.attach('lamp', 'lamp');
	SELECT persistomata.create_machine('beacon', $$
	flowchart LR
	  none -->|on!| dark
	  dark -->|light| lit
	$$);
	CREATE TABLE beacon (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text);
	SELECT persistomata.attach('beacon', 'beacon');
});

# ---- once, as the owner; dropped when the guard does not hold ----
as_owner(q{INSERT INTO lamp VALUES (1, NULL, '0', NULL), (2, NULL, '1 hour', NULL), (3, NULL, '1 hour', NULL)});
state_is('lamp', 1, 'green', 'a timer that is due fires');
is($node->safe_psql('postgres', 'SELECT who FROM tina.lamp WHERE id = 1'), 'tina', 'as the owner of the table');
is($node->safe_psql('postgres', q{SELECT actor FROM persistomata.event WHERE fsm = 'tina.lamp' AND key = '1' AND event LIKE 'after%'}),
	'tina', 'who is the actor');
ok(wait_for_value($node, 'postgres', q{SELECT count(*) FROM persistomata.timer WHERE key = '1'}, '0'),
	'a timer whose guard does not hold is dropped');
scheduler_has_been_round();
is(events('lamp', 1), 'state:on:red state:after (wait):green', 'nothing else has happened');

# ---- late, when the server was down ----
as_owner(q{SELECT persistomata.fire('lamp', 3, 'stop'); UPDATE persistomata.timer SET due_at = now() + interval '3 seconds' WHERE key = '2'});
my $due = time + 3;
$node->stop('immediate');
wait_for(sub { time > $due + 1 }, 'the time', 60);
$node->start;
state_is('lamp', 2, 'green', 'what was due while the server was down fires late');
is($node->safe_psql('postgres', q{SELECT occurred_at > pg_postmaster_start_time() FROM persistomata.event WHERE key = '2' AND event LIKE 'after%'}),
	't', 'after the restart');
my $scheduler = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'persistomata scheduler'};
my $pid = $node->safe_psql('postgres', $scheduler);
scheduler_has_been_round();
is(events('lamp', 2), 'state:on:red state:after (wait):green', 'once');
is(events('lamp', 3), 'state:on:red state:stop:dark', 'what was left does not');

# ---- again and again ----
as_owner(q{
	SELECT persistomata.create_machine('clock', $$
	flowchart LR
	  none -->|on!| going
	  going -->|"every (step) [go] / n = n + 1"| going
	  going -->|stop| stopped
	$$);
	CREATE TABLE clock (id int PRIMARY KEY, state text, step interval, go bool, n int DEFAULT 0);
	SELECT persistomata.attach('clock', 'clock');
	INSERT INTO clock VALUES (1, NULL, '50 milliseconds', true), (2, NULL, '1 day', false);
});
ok(wait_for(sub { $node->safe_psql('postgres', 'SELECT n > 3 FROM tina.clock WHERE id = 1') eq 't' }, 'four ticks'),
	'a repeating timer fires again and again');
as_owner(q{
	SELECT persistomata.fire('clock', 1, 'stop');
	UPDATE persistomata.timer SET due_at = due_at - interval '10 days 1 hour' WHERE key = '2' AND fsm = 'clock'::regclass});
ok(wait_for_value($node, 'postgres',
		q{SELECT due_at > now() + interval '22 hours' AND due_at < now() + interval '24 hours' FROM persistomata.timer WHERE fsm = 'tina.clock'::regclass}, 't'),
	'the ticks that were missed are skipped, and the guard asked again at the next');

# ---- the end of an instance ----
as_owner(q{
	SELECT persistomata.create_machine('fuse', $$
	flowchart LR
	  none -->|on!| burning
	  burning -->|"after (0 seconds)"| out
	$$);
	CREATE TABLE fuse (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('fuse', 'fuse', on_final => 'delete');
	INSERT INTO fuse VALUES (1);
});
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM tina.fuse', '0'), 'a row goes when a timer ends its instance');
events_are('fuse', 1, 'state:on:burning state:after (0 seconds):out deleted', 'after its last event');

# ---- delayed events ----
as_owner(q{INSERT INTO lamp VALUES (4, NULL, NULL, NULL), (5, NULL, NULL, NULL)});
my $then = as_owner(q{SELECT persistomata.fire_at('lamp', 4, 'off', now() + interval '1 hour', '{"by": "me"}')});
as_owner(q{SELECT persistomata.force('lamp', 4, 'green', 'for a test'); SELECT persistomata.fire_at('lamp', 5, 'off', now())});
as_owner("UPDATE persistomata.timer SET due_at = now() WHERE id = $then");
state_is('lamp', 4, 'dark', 'a delayed event fires at whatever state the instance is in');
is($node->safe_psql('postgres', q{SELECT args FROM persistomata.event WHERE fsm = 'tina.lamp' AND event = 'off' AND type = 'state'}),
	'{"by": "me"}', 'with its args');
events_are('lamp', 5, 'state:on:red errored:off:red:PF001: no transition from "red" on event "off"',
	'refused, it is an errored event');
scheduler_has_been_round();
is($node->safe_psql('postgres', q{SELECT count(*) FROM persistomata.timer WHERE fsm = 'tina.lamp'::regclass}), 0, 'and is not tried again');

# ---- what fails is tried again, and parked in the end ----
as_owner(q{
	CREATE TABLE bank (money int);
	INSERT INTO bank VALUES (0);
	SELECT persistomata.create_machine('bill', $$
	flowchart LR
	  none -->|on!| open
	  open -->|"after (0 seconds) / share = 100 / (select money from bank)"| paid
	$$);
	CREATE TABLE bill (id int PRIMARY KEY, state text, share int);
	SELECT persistomata.attach('bill', 'bill');
	INSERT INTO bill VALUES (1);
});
ok(wait_for_value($node, 'postgres', q{SELECT tries, last_error, due_at FROM persistomata.timer WHERE fsm = 'tina.bill'::regclass},
		'2|22012: division by zero|infinity'),
	'a timer that fails is tried again and then parked');
my $error = 'errored:after (0 seconds):open:22012: division by zero';
is(events('bill', 1), "state:on:open $error $error", 'each failure is logged');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT actor, ' ') FROM persistomata.event WHERE type = 'errored'}), 'tina',
	'under the name of the owner');
as_owner(q{UPDATE bank SET money = 5; UPDATE persistomata.timer SET due_at = now() WHERE fsm = 'bill'::regclass});
state_is('bill', 1, 'paid', 'a parked one gets a new life with a new time');

# ---- a row that row security hides from the owner, too ----
as_owner(q{
	CREATE TABLE hidden (id int PRIMARY KEY, state text, wait interval, who text);
	SELECT persistomata.attach('hidden', 'lamp');
	INSERT INTO hidden VALUES (1, NULL, '1 hour', NULL);
	ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
	ALTER TABLE hidden FORCE ROW LEVEL SECURITY});
$node->safe_psql('postgres', q{UPDATE persistomata.timer SET due_at = now() WHERE fsm = 'tina.hidden'::regclass});
ok(wait_for_value($node, 'postgres', q{SELECT tries, last_error, due_at FROM persistomata.timer WHERE fsm = 'tina.hidden'::regclass},
		'2|PF004: "tina.hidden" has no instance 1|infinity'),
	'its timer is not lost');
as_owner(q{ALTER TABLE hidden NO FORCE ROW LEVEL SECURITY; UPDATE persistomata.timer SET due_at = now() WHERE fsm = 'hidden'::regclass});
state_is('hidden', 1, 'green', 'and fires when it can be seen');

# ---- whatever the owner's code does ----
as_owner(q{
	CREATE TABLE did (what text, who text);
	CREATE FUNCTION do_it(what text) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		IF what = 'internal' THEN RAISE EXCEPTION 'broken' USING ERRCODE = 'XX000'; END IF;
		IF what = 'sleep' THEN PERFORM pg_sleep(600); END IF;
		IF what = 'set' THEN
			PERFORM set_config('default_transaction_read_only', 'on', false), set_config('session_authorization', 'tina', false);
		END IF;
		IF what = 'role' THEN EXECUTE 'RESET ROLE'; END IF;
		IF what = 'read-only' THEN PERFORM set_config('default_transaction_read_only', 'on', false); END IF;
		IF what = 'defer' THEN SET CONSTRAINTS ALL DEFERRED; END IF;
		INSERT INTO did VALUES (what, current_user);
		RETURN true;
	END $$;
	CREATE TABLE seen (what text, who text);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES (NEW.what, current_user);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER see AFTER INSERT ON did DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see();
	SELECT persistomata.create_machine('deed', $$
	flowchart LR
	  none -->|on!| todo
	  todo -->|"after (0 seconds) [do_it(what)]"| done
	$$);
	CREATE TABLE deed (id int PRIMARY KEY, state text, what text);
	SELECT persistomata.attach('deed', 'deed');
	INSERT INTO deed VALUES (1, NULL, 'internal'), (2, NULL, 'sleep'), (3, NULL, 'set'), (4, NULL, 'role'),
		(5, NULL, 'defer'), (6, NULL, 'read-only'), (7, NULL, 'nothing');
});
state_is('deed', 7, 'done', 'one timer\'s trouble is its own');
state_is('deed', 6, 'done', 'also if it would make all that follows fail');
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM persistomata.timer WHERE fsm = \'tina.deed\'::regclass AND due_at = \'infinity\'', '5'),
	'the others are parked');
is($node->safe_psql('postgres', q{SELECT string_agg(key || ' ' || last_error, E'\n' ORDER BY key) FROM persistomata.timer WHERE fsm = 'tina.deed'::regclass}),
	q{1 XX000: broken
2 57014: canceling statement due to statement timeout
3 42501: cannot set parameter "session_authorization" within security-definer function
4 42501: cannot set parameter "role" within security-definer function
5 42501: cannot fire deferred trigger within security-restricted operation},
	'each with its own error');
is($node->safe_psql('postgres', q{SELECT string_agg(what || ' ' || who, ', ' ORDER BY what) FROM tina.seen}), 'nothing tina, read-only tina',
	'a deferred constraint trigger runs as the owner');
scheduler_has_been_round();

# ---- code behind a column's type ----
as_owner(q{
	CREATE TYPE tint AS ENUM ('pale', 'dark', 'odd');
	CREATE TABLE tinted (tint tint, who text);
	CREATE FUNCTION show_tint(t tint) RETURNS json LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO tinted VALUES (t, current_user);
		IF t = 'odd' AND pg_trigger_depth() = 0 THEN RAISE EXCEPTION 'broken' USING ERRCODE = 'XX000'; END IF;
		RETURN to_json(t::text);
	END $$;
	CREATE CAST (tint AS json) WITH FUNCTION show_tint(tint);
	SELECT persistomata.create_machine('glass', $$
	flowchart LR
	  none -->|on!| blown
	  blown -->|break / n = 1 / (n - n)| broken
	$$);
	CREATE TABLE glass (id int PRIMARY KEY, state text, n int DEFAULT 0, tint tint);
	SELECT persistomata.attach('glass', 'glass', types => '{errored}');
	INSERT INTO glass VALUES (1, NULL, 1, 'dark'), (2, NULL, 1, 'odd');
	TRUNCATE tinted;	-- the INSERT's own
	SELECT persistomata.fire_at('glass', id, 'break', now()) FROM glass;
});
ok(wait_for_value($node, 'postgres', q{SELECT count(*) FROM persistomata.timer WHERE fsm = 'tina.glass'::regclass AND due_at = 'infinity'}, '2'),
	'events that fail are parked, whatever is in their rows');
is($node->safe_psql('postgres', 'SELECT DISTINCT tint, who FROM tina.tinted'), 'dark|tina', 'the row is printed as the owner');
is($node->safe_psql('postgres', q{SELECT DISTINCT key, payload->>'tint', reason FROM persistomata.event WHERE fsm = 'tina.glass' AND type = 'errored' ORDER BY 1}),
	"1|dark|22012: division by zero\n2||22012: division by zero", 'one that cannot be printed is left out');
scheduler_has_been_round();

# ---- a row that somebody holds ----
as_owner(q{INSERT INTO lamp VALUES (6, NULL, '1 hour', NULL), (7, NULL, '1 hour', NULL)});
my $holder = $node->background_psql('postgres', on_error_stop => 1);
$holder->query_safe(q{BEGIN; SELECT FROM tina.lamp WHERE id = 6 FOR UPDATE});
$holder->query_safe(q{UPDATE persistomata.timer SET due_at = now() + interval '2 hours' WHERE key = '7' AND fsm = 'tina.lamp'::regclass});
as_owner(q{UPDATE persistomata.timer SET due_at = now() WHERE key = '6' AND fsm = 'lamp'::regclass});
ok(wait_for(sub { $node->safe_psql('postgres', q{SELECT last_error FROM persistomata.timer WHERE key = '6'}) =~ /^55P03/ }, 'busy'),
	'an instance that is locked is left for later');
scheduler_has_been_round();
is($node->safe_psql('postgres', q{SELECT tries FROM persistomata.timer WHERE key = '6'}), 0, 'which is not a failure');
$holder->query_safe('COMMIT');
$holder->quit;
state_is('lamp', 6, 'green', 'and then it fires');
is(events('lamp', 6), 'state:on:red state:after (wait):green', 'without an error');

# ---- a table that is gone, or no longer an FSM table ----
as_owner(q{
	INSERT INTO lamp VALUES (8, NULL, '300 milliseconds', NULL);
	SELECT persistomata.detach('lamp')});
scheduler_has_been_round();
is($node->safe_psql('postgres', q{SELECT count(*) FROM persistomata.timer_entry t JOIN persistomata.binding b ON b.id = t.binding WHERE b.fsm = 'tina.lamp'}),
	0, 'detach removes timers');
is($node->safe_psql('postgres', $scheduler), $pid, 'the scheduler has survived all of it');
$node->stop;
done_testing();
