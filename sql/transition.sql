-- Raw writes obey the machine, whatever statement they come in.
SELECT persistomata.create_machine('job', $$
flowchart LR
  born    -->|create!| new
  new     -->|"start [not held] / worker = args->>'worker'"| running
  running -->|"done / note = 'by done'"| finished
  running -->|"fail [tries >= 2]"| broken
  running -->|"fail / tries = tries + 1"| new
  finished -->|"archive?"| archived
  finished -->|"archive! [note = 'auto']"| archived
  new     -->|drop| broken
$$);
CREATE TABLE job (id int PRIMARY KEY, state text, held bool NOT NULL DEFAULT false, worker text,
                  tries int NOT NULL DEFAULT 0, note text, secret bytea, twice int GENERATED ALWAYS AS (tries * 2) STORED);
SELECT persistomata.attach('job', 'job', payload_columns => '{-note}');

-- INSERT takes NULL or the entry state
INSERT INTO job (id) VALUES (1);
INSERT INTO job (id, state, held) VALUES (2, 'born', true), (3, NULL, false);
INSERT INTO job (id, state) VALUES (4, 'running');
COPY job (id, state) FROM stdin;
4	finished
\.
COPY job (id, state) FROM stdin;
5	\N
6	born
\.
SELECT id, state FROM job ORDER BY id;

-- UPDATE: edges and guards, which see the row before
UPDATE job SET state = 'finished' WHERE id = 1;
UPDATE job SET state = 'running', held = false WHERE id = 2;
UPDATE job SET state = 'running', worker = 'me' WHERE id = 1;
UPDATE job SET state = 'elsewhere' WHERE id = 1;
UPDATE job SET state = NULL WHERE id = 1;
UPDATE job SET id = 10 WHERE id = 1;
-- the own action runs only through fire; hard hops do run
UPDATE job SET state = 'finished', note = 'auto' WHERE id = 1 RETURNING id, state, note;
SELECT status, to_state FROM persistomata.fire('job', 3, 'start', '{"worker": "w"}');
SELECT status, to_state FROM persistomata.fire('job', 3, 'done');
SELECT id, state, worker, note FROM job WHERE id = 3;
-- the first edge in definition order whose guard holds
SELECT status, to_state FROM persistomata.fire('job', 5, 'start');
SELECT status, to_state FROM persistomata.fire('job', 5, 'fail');
SELECT status, to_state FROM persistomata.fire('job', 5, 'start');
SELECT status, to_state FROM persistomata.fire('job', 5, 'fail');
SELECT status, to_state FROM persistomata.fire('job', 5, 'start');
SELECT status, to_state FROM persistomata.fire('job', 5, 'fail');
-- args of raw writes come from a setting
SET persistomata.args = '{"worker": "raw"}';
SET persistomata.headers = '{"traceparent": "00-1"}';
UPDATE job SET state = 'running' WHERE id = 6;
RESET persistomata.args;
RESET persistomata.headers;
SELECT event, args, headers FROM persistomata.event WHERE fsm = 'public.job' AND key = '6' ORDER BY event_id DESC LIMIT 1;

-- value events, for columns of the payload only
UPDATE job SET note = 'not in the payload' WHERE id = 2;
UPDATE job SET tries = tries WHERE id = 2;
UPDATE job SET tries = 1, secret = '\x00' WHERE id = 2;
SELECT type, from_state, to_state, payload FROM persistomata.event WHERE fsm = 'public.job' AND key = '2' ORDER BY event_id;

-- ON CONFLICT, MERGE, DELETE, TRUNCATE
INSERT INTO job (id) VALUES (2) ON CONFLICT DO NOTHING;
INSERT INTO job (id) VALUES (2) ON CONFLICT (id) DO UPDATE SET state = 'broken' RETURNING id, state;
MERGE INTO job USING (VALUES (3, 'x'), (7, 'y')) v(id, w) ON job.id = v.id
 WHEN MATCHED THEN UPDATE SET worker = v.w
 WHEN NOT MATCHED THEN INSERT (id, worker) VALUES (v.id, v.w);
DELETE FROM job WHERE id = 7;
TRUNCATE job;
SELECT type, key, event, from_state, to_state FROM persistomata.event WHERE fsm = 'public.job' AND key IN ('2', '3', '7') ORDER BY event_id;
-- a delete and an insert of one key in one statement
WITH d AS (DELETE FROM job WHERE id = 6 RETURNING id) INSERT INTO job (id) SELECT id + 100 FROM d;

-- other triggers of the user's
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.note = 'early' THEN NEW.state := 'broken'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER early BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO job (id) VALUES (8);
UPDATE job SET note = 'early' WHERE id = 8 RETURNING state;	-- seen: drop
DROP TRIGGER early ON job;
CREATE FUNCTION meddle_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.state := 'archived';
	RETURN NEW;
END $$;
CREATE TRIGGER "~~late" BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION meddle_late();
INSERT INTO job (id) VALUES (9);
UPDATE job SET tries = 5 WHERE id = 9;
UPDATE job SET state = 'broken' WHERE id = 9;
DROP TRIGGER "~~late" ON job;
-- an AFTER trigger that moves the same row on: its event comes after
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE job SET state = 'broken' WHERE id = NEW.id AND state = 'new';
	RETURN NULL;
END $$;
CREATE TRIGGER after_insert AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION go_on();
INSERT INTO job (id) VALUES (11);
SELECT type, event, from_state, to_state FROM persistomata.event WHERE fsm = 'public.job' AND key = '11' ORDER BY event_id;
DROP TRIGGER after_insert ON job;

-- one statement, many rows
INSERT INTO job (id) SELECT g FROM generate_series(1001, 3000) g;
UPDATE job SET state = 'running' WHERE id > 1000;
SELECT count(*), count(DISTINCT event_id) FROM persistomata.event WHERE fsm = 'public.job' AND CASE WHEN key ~ '^[0-9]+$' THEN key::int END > 1000;

-- names in guards are resolved as they were at attach, whatever the caller's path
CREATE SCHEMA evil;
CREATE FUNCTION evil.notheld(bool) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.always(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.>= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.always);
INSERT INTO job (id) VALUES (12);
SELECT status FROM persistomata.fire('job', 12, 'start');
SET search_path = evil, pg_catalog, public;
SELECT to_state FROM persistomata.fire('public.job', 12, 'fail');	-- new: tries is 0
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;

-- a dropped table takes its binding with it; a trigger without one refuses writes
SET client_min_messages = warning;
DROP TABLE job;
RESET client_min_messages;
SELECT * FROM persistomata.fsm;
SELECT DISTINCT fsm FROM persistomata.event WHERE machine = 'job';
CREATE TABLE orphan (id int PRIMARY KEY, state text);
CREATE TRIGGER "~persistomata" BEFORE INSERT ON orphan FOR EACH ROW EXECUTE FUNCTION persistomata.decide();
INSERT INTO orphan VALUES (1);
SET client_min_messages = warning;
SELECT persistomata.detach('orphan');
RESET client_min_messages;
INSERT INTO orphan VALUES (1);
DROP TABLE orphan;
DROP FUNCTION meddle, meddle_late, go_on;
SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
