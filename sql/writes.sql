-- Raw writes among the triggers and statements of others.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT persistomata.create_machine('w', $$
flowchart LR
  born -->|"start! / n = n + 1"| a
  a -->|x| b
  b -->|"y [n > 0]"| c
  c -->|"hop!"| d
$$);
CREATE TABLE w (id int PRIMARY KEY, state text, n int DEFAULT 0, note text, big text, CHECK (n < 1000));
SELECT persistomata.attach('w', 'w', payload_columns => '{id,n,big}');
CREATE VIEW w_log AS SELECT type, key, event, from_state, to_state, payload->'n' AS n
  FROM persistomata.event WHERE fsm = 'public.w' ORDER BY event_id;

-- what was decided and then undone, or suppressed by a later trigger, is forgotten
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
INSERT INTO w VALUES (1, NULL, 5);
BEGIN;
CREATE TRIGGER "~~keep" BEFORE DELETE ON w FOR EACH ROW EXECUTE FUNCTION nothing();
DELETE FROM w;
UPDATE w SET note = 'no event';
SAVEPOINT s;
UPDATE w SET state = 'b', n = 1000;
ROLLBACK TO s;
UPDATE w SET note = 'none either';
SAVEPOINT s;
UPDATE w SET n = 1000;
ROLLBACK TO s;
UPDATE w SET note = note;
INSERT INTO w (id, n) VALUES (1, 7) ON CONFLICT DO NOTHING;
DROP TRIGGER "~~keep" ON w;
DELETE FROM w;
INSERT INTO w (id) VALUES (1);
COMMIT;
SELECT * FROM w_log;

-- other triggers, whatever their names: seen, or refused
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.note = 'count' THEN NEW.n := NEW.n + 10; END IF;
	IF NEW.note = 'key' THEN NEW.id := NEW.id + 10; END IF;
	IF NEW.note = 'state' THEN NEW.state := 'd'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER "~~later" BEFORE INSERT OR UPDATE ON w FOR EACH ROW EXECUTE FUNCTION later();
SELECT count(*) AS before FROM w_log \gset
UPDATE w SET note = 'count';
UPDATE w SET note = 'key';
UPDATE w SET note = 'state';
UPDATE w SET note = 'state', state = 'b';
SELECT status, to_state FROM persistomata.fire('w', 1, 'x');	-- once more: note is still 'count'
INSERT INTO w (id, note) VALUES (2, 'state');
INSERT INTO w (id, note) VALUES (3, 'key');
INSERT INTO w (id, note) VALUES (4, 'count');
DROP TRIGGER "~~later" ON w;
SELECT * FROM w_log OFFSET :before;
CREATE TRIGGER early BEFORE INSERT OR UPDATE ON w FOR EACH ROW EXECUTE FUNCTION later();
UPDATE w SET note = 'state', n = 1 WHERE id = 1;	-- from b: no edge to d
UPDATE w SET note = 'count' WHERE id = 1;
DROP TRIGGER early ON w;
-- one that moves the same row on, after an UPDATE: its event comes after
SELECT count(*) AS before FROM w_log \gset
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE w SET state = 'c' WHERE id = NEW.id AND state = 'b';
	RETURN NULL;
END $$;
INSERT INTO w (id) VALUES (5);
CREATE TRIGGER aaa AFTER UPDATE ON w FOR EACH ROW EXECUTE FUNCTION go_on();
UPDATE w SET state = 'b' WHERE id = 5;
DROP TRIGGER aaa ON w;
SELECT state FROM w WHERE id = 5;
SELECT * FROM w_log OFFSET :before;

-- our functions in triggers of one's own
CREATE TRIGGER forged AFTER UPDATE ON w FOR EACH ROW EXECUTE FUNCTION persistomata.record();
UPDATE w SET n = n + 1 WHERE id = 5;
DROP TRIGGER forged ON w;
CREATE TRIGGER forged BEFORE UPDATE ON w FOR EACH ROW EXECUTE FUNCTION persistomata.decide();
UPDATE w SET n = n + 1 WHERE id = 5;
DROP TRIGGER forged ON w;
ALTER TRIGGER "~persistomata" ON w RENAME TO aaa;
UPDATE w SET n = n + 1 WHERE id = 5;
ALTER TRIGGER aaa ON w RENAME TO "~persistomata";
CREATE TABLE w2 (id int PRIMARY KEY, state text);
CREATE TRIGGER "!persistomata" BEFORE INSERT ON w2 FOR EACH ROW EXECUTE FUNCTION persistomata.record();
INSERT INTO w2 VALUES (1);
CREATE OR REPLACE TRIGGER "!persistomata" AFTER INSERT ON w2 FOR EACH ROW EXECUTE FUNCTION persistomata.record();
INSERT INTO w2 VALUES (1);
DROP TABLE w2;
SELECT persistomata.decide();
SELECT persistomata.record();

-- every statement that writes
SELECT count(*) AS before FROM w_log \gset
INSERT INTO w (id) VALUES (6), (7), (8);
INSERT INTO w (id, n) VALUES (6, 50) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n;	-- its n has been through the chain
INSERT INTO w (id) VALUES (6) ON CONFLICT (id) DO UPDATE SET state = 'b';
INSERT INTO w (id) VALUES (6) ON CONFLICT (id) DO UPDATE SET state = EXCLUDED.state;	-- no way back
UPDATE w SET state = v.s, note = 'from' FROM (VALUES (6, 'c'), (7, 'b')) v(id, s) WHERE w.id = v.id RETURNING w.id, state;
MERGE INTO w USING (VALUES (7), (8), (9)) v(id) ON w.id = v.id
 WHEN MATCHED AND v.id = 8 THEN DELETE WHEN MATCHED THEN UPDATE SET state = 'c' WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
WITH gone AS (DELETE FROM w WHERE id = 9 RETURNING id) INSERT INTO w (id) SELECT id FROM gone;
BEGIN;
DECLARE cur CURSOR FOR SELECT * FROM w WHERE id = 9 FOR UPDATE;
FETCH cur;
UPDATE w SET state = 'b' WHERE CURRENT OF cur;
COMMIT;
DELETE FROM w USING (VALUES (9)) v(id) WHERE w.id = v.id;
SELECT * FROM w_log OFFSET :before;
SET persistomata.args = 'no json';
UPDATE w SET state = 'b' WHERE id = 4;
RESET persistomata.args;

-- replica mode is outside
SET session_replication_role = replica;
UPDATE w SET state = 'anywhere' WHERE id = 4;
SELECT persistomata.fire('w', 4, 'x');
RESET session_replication_role;
SELECT persistomata.fire('w', 4, 'x');
ALTER TABLE w DISABLE TRIGGER "~persistomata";
SELECT persistomata.fire('w', 5, 'x');
UPDATE w SET state = 'b' WHERE id = 5;
INSERT INTO w VALUES (30, 'c');
ALTER TABLE w ENABLE TRIGGER "~persistomata";
UPDATE w SET state = 'b' WHERE id = 4;

-- a large value beside the state costs nothing, and does not get into the way
INSERT INTO w (id, big) SELECT 20, string_agg(md5(g::text), '') FROM generate_series(1, 32768) g;
SELECT pg_current_wal_insert_lsn() AS lsn \gset
SELECT status FROM persistomata.fire('w', 20, 'x');
SELECT pg_current_wal_insert_lsn() - :'lsn' < 100000 AS little_wal;
SELECT type, event, payload->'big' AS big FROM persistomata.event WHERE fsm = 'public.w' AND key = '20' ORDER BY event_id;
DROP VIEW w_log;
DROP TABLE w;

-- enforce, and types of events
CREATE TABLE e (id int PRIMARY KEY, state text, n int DEFAULT 0);
SELECT persistomata.attach('e', 'w', enforce => 'edges', types => '{state,deleted}');
SELECT enforced FROM persistomata.fsm;
INSERT INTO e VALUES (1, NULL), (2, 'born');
INSERT INTO e VALUES (3, 'b');
UPDATE e SET state = 'a';
UPDATE e SET state = 'b', n = -1;
UPDATE e SET state = 'c' WHERE id = 1;	-- the guard is fire's
UPDATE e SET state = 'a' WHERE id = 2;
SELECT persistomata.fire('e', 2, 'y');
UPDATE e SET n = 5;
DELETE FROM e WHERE id = 1;
SELECT type, key, event, from_state, to_state FROM persistomata.event WHERE fsm = 'public.e' ORDER BY event_id;
SELECT persistomata.detach('e');
TRUNCATE e;
SELECT persistomata.attach('e', 'w', enforce => 'log', baseline => false);
INSERT INTO e VALUES (10, 'b'), (11, NULL);
UPDATE e SET state = 'a' WHERE id = 10;
UPDATE e SET state = 'elsewhere' WHERE id = 11;
SELECT to_state FROM persistomata.fire('e', 10, 'x');
SELECT persistomata.fire('e', 11, 'x');
SELECT type, key, event, from_state, to_state FROM persistomata.event WHERE fsm = 'public.e' AND key IN ('10', '11') ORDER BY event_id;
DROP TABLE e;
DROP FUNCTION nothing, later, go_on;
SELECT persistomata.drop_machine('w');
