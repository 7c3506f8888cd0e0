-- What a transition does: SET lists, functions, entry and exit, chains; and which
-- of several it is.
CREATE TABLE desk (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0, trace text NOT NULL DEFAULT '',
				   note text, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE told (what text);

-- a function of the row and args gives the row after, and may choose among targets
CREATE FUNCTION sort_out(d desk, args jsonb) RETURNS desk LANGUAGE plpgsql AS $$
BEGIN
	d.trace := d.trace || ' sort_out(' || d.state || ',' || d.twice || ')';
	d.n := d.n + 1;
	d.state := coalesce(args->>'to', CASE WHEN d.n > 1 THEN 'high' ELSE 'low' END);
	RETURN d;
END $$;
CREATE FUNCTION stamp(d desk, args jsonb) RETURNS desk LANGUAGE sql AS
$$ SELECT ROW(d.id, d.state, d.n + 10, d.trace || ' stamp', args->>'note', NULL)::desk $$;
CREATE FUNCTION steal(d desk, args jsonb) RETURNS desk LANGUAGE sql AS
$$ SELECT ROW(d.id + 1, d.state, d.n, d.trace, d.note, NULL)::desk $$;
CREATE FUNCTION vanish(d desk, args jsonb) RETURNS desk LANGUAGE sql AS $$ SELECT NULL::desk $$;
-- one that returns void sees the row as it was written
CREATE FUNCTION tell(d desk, args jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO told VALUES (format('%s is %s, %s in the table, args %s', d.id, d.state, (SELECT state FROM desk WHERE id = d.id), args)) $$;
CREATE FUNCTION complain(d desk, args jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;

SELECT persistomata.create_machine('desk', $$
stateDiagram-v2
  [*] --> in : arrive
  in : entry / trace = trace || ' +in'
  in : exit / trace = trace || ' -in'
  in --> low : sort / sort_out
  in --> high : sort / sort_out
  in --> in : stamp / stamp
  in --> in : poke / n = n + 1, trace = trace || ' poke' || n
  in --> out : steal / steal
  in --> out : vanish / vanish
  in --> low : tell / tell
  in --> low : complain / complain
  low : entry / trace = trace || ' +low', n = n + 100
  low : exit / tell
  high --> middle : settle! [n > 1] / trace = trace || ' settle'
  middle : entry / trace = trace || ' +middle'
  middle --> out : leave! [note = 'go'] / trace = trace || ' leave'
  low --> [*] : close
  middle --> [*] : close? [n > 100]
  out --> in : pass
  out --> low : pass
  out --> [*] : close
  low --> high : pick [args->>'p' = '1']
  low --> in : pick [args->>'p' <> '0']
  low --> out : pick
$$);
SELECT persistomata.attach('desk', 'desk');
INSERT INTO desk (id) SELECT generate_series(1, 9);
SELECT id, state, trace FROM desk WHERE id = 1;

-- the order: exit, the transition's own, entry, and then what follows by itself
SELECT to_state FROM persistomata.fire('desk', 1, 'poke');
SELECT to_state FROM persistomata.fire('desk', 1, 'stamp', '{"note": "go"}');
SELECT id, state, n, trace, note, twice FROM desk WHERE id = 1;
SELECT status, event, from_state, to_state FROM persistomata.fire('desk', 1, 'sort', '{"to": "high"}');
SELECT id, state, n, trace, note, twice FROM desk WHERE id = 1;
SELECT event, from_state, to_state FROM persistomata.history('desk', 1) WHERE type = 'state';

-- a function chooses the target: by itself, by to_state, and not what is no target
SELECT to_state FROM persistomata.fire('desk', 2, 'sort');
SELECT n, trace FROM desk WHERE id = 2;
SELECT to_state FROM persistomata.fire('desk', 3, 'sort', to_state => 'high');
SELECT persistomata.fire('desk', 4, 'sort', '{"to": "out"}');
SELECT persistomata.fire('desk', 4, 'steal');
SELECT persistomata.fire('desk', 4, 'vanish');
SELECT status, reason FROM persistomata.try_fire('desk', 4, 'steal');
SELECT state, trace FROM desk WHERE id = 4;
-- void functions, once the row is written; what they raise undoes it
SELECT to_state FROM persistomata.fire('desk', 4, 'tell', '{"x": 1}');
SELECT to_state FROM persistomata.fire('desk', 2, 'close');
SELECT * FROM told;
SELECT persistomata.fire('desk', 5, 'complain');
SELECT status, reason FROM persistomata.try_fire('desk', 5, 'complain');
SELECT state, n FROM desk WHERE id = 5;

-- targets by guard, in the order of the definition, and by to_state
SELECT to_state FROM persistomata.fire('desk', 5, 'sort', '{"to": "low"}');
SELECT to_state FROM persistomata.fire('desk', 6, 'sort', '{"to": "low"}');
SELECT to_state FROM persistomata.fire('desk', 7, 'sort', '{"to": "low"}');
SELECT to_state FROM persistomata.fire('desk', 5, 'pick', '{"p": 1}');
SELECT to_state FROM persistomata.fire('desk', 6, 'pick', '{"p": 2}');
SELECT to_state FROM persistomata.fire('desk', 7, 'pick', '{"p": 0}');
SELECT persistomata.fire('desk', 7, 'pass');
SELECT to_state FROM persistomata.fire('desk', 7, 'pass', to_state => 'low');
SELECT persistomata.fire('desk', 7, 'pick', '{"p": 2}', to_state => 'high');

-- a soft event is refused without a word; an ended instance takes none
UPDATE desk SET n = 50 WHERE id = 5;
SELECT status, reason FROM persistomata.fire('desk', 5, 'close?');
SELECT count(*) FROM persistomata.history('desk', 5) WHERE type = 'errored' AND event LIKE 'close%';
UPDATE desk SET n = 101 WHERE id = 5;
SELECT status, to_state FROM persistomata.fire('desk', 5, 'close', expected_state => 'middle');
SELECT persistomata.fire('desk', 5, 'close');
SELECT persistomata.fire('desk', 6, 'poke', expected_state => 'out');
UPDATE desk SET state = 'in' WHERE id = 5;

-- raw writes run entry and exit and the chain, not the event's own action
UPDATE desk SET state = 'high', n = 2, note = 'go' WHERE id = 8 RETURNING state, trace;
UPDATE desk SET state = 'low' WHERE id = 9 RETURNING state, n, trace;

-- a chain is bounded
SELECT persistomata.create_machine('loop', $$
flowchart LR
  a -->|go| b
  b -->|"x! [true] / n = n + 1"| c
  c -->|"y! [n < args::text::int]"| b
  c -->|"z! [n < 1000]"| d
$$);
CREATE TABLE loop (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0);
SELECT persistomata.attach('loop', 'loop');
INSERT INTO loop VALUES (1), (2);
SELECT status, to_state FROM persistomata.fire('loop', 1, 'go', '7');
SELECT state, n, (SELECT count(*) FROM persistomata.history('loop', 1) WHERE type = 'state') AS hops FROM loop WHERE id = 1;
SELECT persistomata.fire('loop', 2, 'go', '700');
SELECT state, n FROM loop WHERE id = 2;
SET persistomata.max_chain = 2000;
SELECT status, to_state FROM persistomata.fire('loop', 2, 'go', '700');
RESET persistomata.max_chain;
SELECT state, n FROM loop WHERE id = 2;
SELECT * FROM persistomata.verify('loop');
SELECT * FROM persistomata.verify('desk');

-- functions of a partitioned table's row, where partitions have their columns elsewhere
CREATE TABLE parcel (id int PRIMARY KEY, gone int, state text, n int NOT NULL DEFAULT 0, note text) PARTITION BY RANGE (id);
ALTER TABLE parcel DROP COLUMN gone;
CREATE TABLE parcel_1 PARTITION OF parcel FOR VALUES FROM (0) TO (10);
CREATE TABLE parcel_2 (note text, lost int, n int NOT NULL DEFAULT 0, state text, id int NOT NULL PRIMARY KEY);
ALTER TABLE parcel_2 DROP COLUMN lost;
ALTER TABLE parcel ATTACH PARTITION parcel_2 FOR VALUES FROM (10) TO (20);
CREATE FUNCTION weigh(p parcel, args jsonb) RETURNS parcel LANGUAGE plpgsql AS $$
BEGIN
	p.n := p.n + p.id;
	p.note := concat_ws('/', p.note, p.state, args);
	IF p.n > 100 THEN p.id := 0; END IF;
	RETURN p;
END $$;
CREATE FUNCTION whisper(p parcel, args jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO told VALUES (format('%s %s %s %s', p.id, p.state, p.n, p.note)) $$;
SELECT persistomata.create_machine('parcel', $$
flowchart LR
  new -->|come!| here
  here -->|weigh / weigh| here
  here -->|go / whisper| away
$$);
SELECT persistomata.attach('parcel', 'parcel');
INSERT INTO parcel (id, note) VALUES (1, 'a'), (11, 'b');
SELECT status FROM persistomata.fire_many('parcel', '{1,11}', 'weigh', '{"g": 5}');
SELECT id, state, n, note FROM parcel ORDER BY id;
SELECT status FROM persistomata.fire_many('parcel', '{1,11}', 'go');
UPDATE parcel SET n = 100;
INSERT INTO parcel (id, n) VALUES (2, 99), (12, 99);
SELECT persistomata.fire('parcel', 12, 'weigh');
TABLE told;
-- a function that is dropped and made again is found again
CREATE TABLE kiosk (id int PRIMARY KEY, state text, n int);
CREATE FUNCTION serve(k kiosk, args jsonb) RETURNS kiosk LANGUAGE plpgsql AS
$$ BEGIN k.n := 1; RETURN k; END $$;
CREATE FUNCTION run(k kiosk, args jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE args->>'sql'; END $$;
SELECT persistomata.create_machine('kiosk', $$
flowchart LR
  new -->|come!| here
  here -->|serve / serve| here
  here -->|run / run| away
$$);
SELECT persistomata.attach('kiosk', 'kiosk');
INSERT INTO kiosk VALUES (1);
SELECT status FROM persistomata.fire('kiosk', 1, 'serve');
DROP FUNCTION serve;
SELECT persistomata.fire('kiosk', 1, 'serve');
CREATE FUNCTION serve(k kiosk, args jsonb) RETURNS kiosk LANGUAGE plpgsql AS
$$ BEGIN k.n := 2; RETURN k; END $$;
SELECT status FROM persistomata.fire('kiosk', 1, 'serve');
TABLE kiosk;
-- an action may not take the table's machine away under itself
SELECT persistomata.create_machine('kiosk', $$
flowchart LR
  new -->|come!| here
  here -->|run / run| away
$$);
SELECT persistomata.fire('kiosk', 1, 'run', '{"sql": "SELECT persistomata.detach(''kiosk'')"}');
SELECT persistomata.fire('kiosk', 1, 'run', '{"sql": "SELECT persistomata.upgrade(''kiosk'', 2)"}');
SELECT status FROM persistomata.fire('kiosk', 1, 'run', '{"sql": "SELECT 1"}');

SET client_min_messages = warning;
DROP TABLE kiosk CASCADE;
DROP TABLE desk, told, loop, parcel CASCADE;
RESET client_min_messages;
SELECT persistomata.drop_machine(name) FROM (VALUES ('desk'), ('loop'), ('parcel'), ('kiosk')) AS m(name);
