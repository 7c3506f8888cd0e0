-- Tables as people have them, and what DDL does to them afterwards.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT persistomata.create_machine('part', $$
flowchart LR
  a -->|"x [twice > 2] / n = n + 1"| b
  b -->|y| c
$$);

-- generated columns: guards and actions use what they are made of
CREATE TABLE made (id int PRIMARY KEY, state text, n int DEFAULT 0, legacy int,
                   twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE FUNCTION take_twice(r made, args jsonb) RETURNS made LANGUAGE plpgsql AS $$
BEGIN
	r.legacy := r.twice;
	RETURN r;
END $$;
SELECT persistomata.create_machine('chain', $$
flowchart LR
  born -->|"begin!"| start
  start -->|"go! [twice = 10] / n = n * 2"| big
  big   -->|"more! [twice = 20] / take_twice"| bigger
  big   -->|"done"| done
  bigger -->|"back / n = twice + 1"| start
$$);
SELECT persistomata.attach('made', 'chain', payload_columns => '{twice}');
INSERT INTO made (id, n) VALUES (1, 5), (2, 4) RETURNING *;
UPDATE made SET n = 5, legacy = 0 WHERE id = 2 RETURNING *;
SELECT to_state FROM persistomata.fire('made', 1, 'back');
SELECT * FROM made ORDER BY id;
SELECT type, key, event, to_state, payload FROM persistomata.event WHERE fsm = 'public.made' ORDER BY event_id;
SELECT persistomata.detach('made');
DROP FUNCTION take_twice;
UPDATE made SET n = 5, state = 'a';

-- keys of other types, printed as they are everywhere
SELECT max(event_id) AS before FROM persistomata.event \gset
CREATE TABLE k1 (at timestamptz PRIMARY KEY, state varchar(3), n int, twice int);
CREATE TABLE k2 (b bytea PRIMARY KEY, state text, n int, twice int);
CREATE TABLE k3 (d numeric PRIMARY KEY, state text, n int, twice int);
CREATE TABLE k4 (c char(4) PRIMARY KEY, state text, n int, twice int, gone int);
ALTER TABLE k4 DROP COLUMN gone;
SELECT persistomata.attach(t, 'part') FROM unnest('{k1,k2,k3,k4}'::regclass[]) t;
SET timezone = 'Asia/Tokyo';
SET bytea_output = 'escape';
INSERT INTO k1 VALUES ('2026-01-02 03:04:05+00', NULL, 1, 4);
INSERT INTO k2 VALUES ('\x00ff', NULL, 1, 4);
INSERT INTO k3 VALUES (1.50, NULL, 1, 4);
INSERT INTO k4 VALUES ('ab', NULL, 1, 4);
SELECT to_state FROM persistomata.fire('k1', '2026-01-02 03:04:05+00', 'x');
SET datestyle = 'SQL, DMY';
SELECT to_state FROM persistomata.fire('k1', '2026-01-02 03:04:05', 'y');
SELECT to_state FROM persistomata.fire('k2', '\x00ff', 'x');
SELECT to_state FROM persistomata.fire('k3', '1.50', 'x');
SELECT to_state FROM persistomata.fire('k3', '1.5', 'y');	-- the same number
SELECT persistomata.fire('k3', '1.7', 'y');
SELECT to_state FROM persistomata.fire('k4', 'ab', 'x');
CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE k5 (t text COLLATE ignore_case, i interval, state text, n int, twice int, PRIMARY KEY (t, i));
SELECT persistomata.attach('k5', 'part');
INSERT INTO k5 VALUES ('Straße', '1 day', NULL, 1, 4);
SELECT to_state FROM persistomata.fire('k5', '["STRAßE", "24:00"]', 'x');
SELECT status, reason FROM persistomata.try_fire('k5', '["straße", "1 day"]', 'x');
RESET timezone;
RESET bytea_output;
RESET datestyle;
SELECT fsm, key, event FROM persistomata.event WHERE event_id > :before AND type = 'state' ORDER BY event_id;
DROP TABLE k1, k2, k3, k4, k5;
DROP COLLATION ignore_case;

-- states that the column cannot hold
CREATE TYPE letter AS ENUM ('a', 'b');
CREATE DOMAIN upto_b AS text CHECK (VALUE < 'c');
CREATE TABLE narrow (id int PRIMARY KEY, e letter, d upto_b, n int, twice int);
SELECT persistomata.attach('narrow', 'part', state_column => 'e');
SELECT persistomata.attach('narrow', 'part', state_column => 'd');
SELECT persistomata.create_machine('ending', E'stateDiagram-v2\n[*] --> a\na --> b : go\nb --> [*] : end');
SELECT persistomata.attach('narrow', 'ending', state_column => 'e');
SELECT persistomata.attach('narrow', 'ending', state_column => 'd');
INSERT INTO narrow VALUES (1);
SELECT from_state, to_state FROM persistomata.fire('narrow', 1, 'go');
SELECT from_state, to_state FROM persistomata.fire('narrow', 1, 'end');
SELECT d FROM narrow;
DROP TABLE narrow;
DROP TYPE letter;
DROP DOMAIN upto_b;

-- the state's strangers are all counted, row security or not
CREATE TABLE strange (id int PRIMARY KEY, state text);
ALTER TABLE strange ENABLE ROW LEVEL SECURITY;
ALTER TABLE strange FORCE ROW LEVEL SECURITY;
CREATE ROLE regress_pst_strange;
ALTER TABLE strange OWNER TO regress_pst_strange;
INSERT INTO strange SELECT g, 's' || g % 7 FROM generate_series(1, 70) g;
INSERT INTO strange VALUES (0, 'a'), (100, NULL);
SET ROLE regress_pst_strange;
SELECT persistomata.attach('strange', 'part');
RESET ROLE;
DROP TABLE strange;
DROP ROLE regress_pst_strange;

-- columns: renamed ones are followed, what the machine names stays
SELECT persistomata.attach('made', 'part');
ALTER TABLE made DROP COLUMN legacy;
ALTER TABLE made RENAME COLUMN state TO st;
ALTER TABLE made RENAME COLUMN id TO key;
UPDATE made SET n = 6 WHERE key = 1;
SELECT to_state FROM persistomata.fire('made', 1, 'x');
SELECT type, key, event, payload FROM persistomata.event WHERE fsm = 'public.made' AND type <> 'init' ORDER BY event_id DESC LIMIT 2;
SELECT state_column, key_columns FROM persistomata.fsm;
ALTER TABLE made RENAME COLUMN twice TO thrice;
ALTER TABLE made DROP COLUMN twice;
ALTER TABLE made DROP COLUMN st;
ALTER TABLE made ALTER COLUMN st TYPE int USING 1;
ALTER TABLE made ALTER COLUMN st TYPE varchar(20);
ALTER TABLE made DROP CONSTRAINT made_pkey;
ALTER TABLE made SET UNLOGGED;
CREATE RULE r AS ON INSERT TO made DO ALSO NOTHING;
CREATE TABLE child () INHERITS (made);
SELECT to_state FROM persistomata.fire('made', 1, 'y');

-- other names; a dropped table takes all along but its log
ALTER TABLE made RENAME TO made2;
CREATE SCHEMA elsewhere;
ALTER TABLE made2 SET SCHEMA elsewhere;
SELECT to_state FROM persistomata.fire('elsewhere.made2', 2, 'x');
SELECT DISTINCT fsm FROM persistomata.event WHERE machine = 'part' AND payload ? 'st';
DROP SCHEMA elsewhere CASCADE;
SELECT DISTINCT fsm FROM persistomata.event WHERE machine = 'part' AND payload ? 'st';
SELECT * FROM persistomata.fsm;

-- what a transaction does to a binding goes with it
CREATE TABLE undone (id int PRIMARY KEY, state text, n int DEFAULT 3, twice int DEFAULT 3);
BEGIN;
SELECT persistomata.attach('undone', 'part');
INSERT INTO undone VALUES (1);
ROLLBACK;
INSERT INTO undone VALUES (1, 'a'), (2, 'a');
SELECT persistomata.attach('undone', 'part');
BEGIN;
ALTER TABLE undone RENAME COLUMN state TO st;
SELECT to_state FROM persistomata.fire('undone', 1, 'x');
SAVEPOINT s;
ALTER TABLE undone DROP COLUMN n;
ROLLBACK TO s;
ALTER TABLE undone RENAME COLUMN id TO key;
SELECT to_state FROM persistomata.fire('undone', 1, 'y');
ROLLBACK;
SELECT to_state FROM persistomata.fire('undone', 2, 'x');
BEGIN;
SELECT persistomata.detach('undone');
UPDATE undone SET state = 'free';
ROLLBACK;
UPDATE undone SET state = 'free';
UPDATE undone SET state = 'b' WHERE id = 1;
SELECT type, key, event, to_state, payload FROM persistomata.event WHERE fsm = 'public.undone' ORDER BY event_id;
DROP TABLE undone;
-- a binding that no longer fits can be ended
CREATE FUNCTION fine(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
SELECT persistomata.create_machine('guarded', 'flowchart LR; a -->|x [fine(n)]| b');
CREATE TABLE broken (id int PRIMARY KEY, state text, n int);
SELECT persistomata.attach('broken', 'guarded');
INSERT INTO broken VALUES (1);
DROP FUNCTION fine;
SELECT persistomata.fire('broken', 1, 'x');
UPDATE broken SET n = 1;
SELECT persistomata.detach('broken');
UPDATE broken SET state = 'anything';
DROP TABLE broken;

-- partitions: new ones are taken in with their rows, each refuses TRUNCATE
SELECT persistomata.create_machine('plain', E'stateDiagram-v2\n[*] --> a\na --> b : x / n = n + 1\nb --> c : y\nb --> c : after (1 hour)');
CREATE TABLE part (region int, id int, state text, n int DEFAULT 0, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1);
INSERT INTO part VALUES (1, 1, 'a');
SELECT persistomata.attach('part', 'plain');
CREATE TABLE part2 PARTITION OF part FOR VALUES IN (2) PARTITION BY RANGE (id);
CREATE TABLE part2a PARTITION OF part2 FOR VALUES FROM (0) TO (10);
INSERT INTO part VALUES (2, 1, 'a');
CREATE TABLE part3 (n int, gone int, state text, id int NOT NULL, region int NOT NULL);
ALTER TABLE part3 DROP COLUMN gone;
INSERT INTO part3 VALUES (1, 'nope', 1, 3);
ALTER TABLE part ATTACH PARTITION part3 FOR VALUES IN (3);
UPDATE part3 SET state = 'b';
ALTER TABLE part ATTACH PARTITION part3 FOR VALUES IN (3);
SELECT to_state FROM (VALUES ('["1", "1"]'), ('["2", "1"]')) v(k), LATERAL persistomata.fire('part', k, 'x');
SELECT to_state FROM persistomata.fire('part', '["3","1"]', 'y');
UPDATE part SET region = 1 WHERE region = 2;
MERGE INTO part USING (VALUES (1, 1), (2, 2)) v(r, i) ON part.region = v.r AND part.id = v.i
 WHEN MATCHED THEN UPDATE SET state = 'c' WHEN NOT MATCHED THEN INSERT (region, id) VALUES (r, i);
SELECT tableoid::regclass, * FROM part ORDER BY region, id;
TRUNCATE part3;
TRUNCATE part2;
TRUNCATE part;
-- enforced looks at every partition and at this session
SELECT * FROM persistomata.fsm;
ALTER TABLE part2a DISABLE TRIGGER USER;
SELECT enforced FROM persistomata.fsm;
ALTER TABLE part2a ENABLE TRIGGER USER;
SELECT enforced FROM persistomata.fsm;
SET session_replication_role = replica;
SELECT enforced FROM persistomata.fsm;
RESET session_replication_role;
-- a partition that was detached is a table again
ALTER TABLE part DETACH PARTITION part3;
UPDATE part3 SET state = 'free';
TRUNCATE part3;
-- TRUNCATE where it is allowed logs each row
UPDATE part SET state = 'b' WHERE region = 2;
SELECT count(*) FROM persistomata.timer;
SET persistomata.allow_truncate = on;
TRUNCATE part;
RESET persistomata.allow_truncate;
SELECT count(*) FROM persistomata.timer;
SELECT type, key, event, from_state, to_state, reason FROM persistomata.event WHERE fsm = 'public.part' ORDER BY event_id;
DROP TABLE part, part3;
SELECT persistomata.create_machine('near', 'flowchart LR; a -->|x| b; b -->|"y [10 / (id - id) > 0]"| c');
CREATE TABLE far (id int PRIMARY KEY, state text);
SELECT persistomata.attach('far', 'near');
INSERT INTO far VALUES (2);
-- no guard is asked that the state does not call for
SELECT persistomata.fire('far', 2, 'y');
SELECT to_state FROM persistomata.fire('far', 2, 'x');
SELECT persistomata.fire('far', 2, 'y');
DROP TABLE far;
-- attach can be interrupted, and leaves nothing behind
CREATE TABLE many (id int PRIMARY KEY, state text);
INSERT INTO many SELECT g, 'a' FROM generate_series(1, 100000) g;
SET statement_timeout = '50ms';
SELECT persistomata.attach('many', 'near');
RESET statement_timeout;
SELECT count(*) FROM persistomata.event WHERE fsm = 'public.many';
SELECT tgname FROM pg_trigger WHERE tgrelid = 'many'::regclass;
DROP TABLE many;
-- functions get and give the table's row, whatever the partition's columns look like
CREATE TABLE zone (region int, id int, state text, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE zone1 PARTITION OF zone FOR VALUES IN (1);
CREATE TABLE zone2 (twice int GENERATED ALWAYS AS (n * 2) STORED, gone int, n int, state text, id int NOT NULL, region int NOT NULL);
ALTER TABLE zone2 DROP COLUMN gone;
ALTER TABLE zone ATTACH PARTITION zone2 FOR VALUES IN (2);
CREATE FUNCTION stamp(r zone, args jsonb) RETURNS zone LANGUAGE plpgsql AS $$
BEGIN
	r.n := r.twice * 100 + r.region;
	RETURN r;
END $$;
CREATE TABLE marks (LIKE zone);
CREATE FUNCTION mark(r zone, args jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO marks SELECT r.*';
SELECT persistomata.create_machine('zone', E'flowchart LR\n a -->|go / stamp| b\n b -->|mark / mark| c');
SELECT persistomata.attach('zone', 'zone');
INSERT INTO zone (region, id, n) VALUES (1, 1, 3), (2, 1, 4);
SELECT to_state FROM (VALUES ('["1", "1"]'), ('["2", "1"]')) v(k), (VALUES ('go'), ('mark')) e(e), LATERAL persistomata.fire('zone', k, e) ORDER BY k, e;
SELECT * FROM zone ORDER BY region;
SELECT * FROM marks ORDER BY region;
DROP TABLE zone CASCADE;
DROP TABLE marks;
-- timers go with their table
CREATE TABLE timed (id int PRIMARY KEY, state text, n int DEFAULT 0);
SELECT persistomata.attach('timed', 'plain');
INSERT INTO timed VALUES (1);
SELECT to_state FROM persistomata.fire('timed', 1, 'x');
DROP TABLE timed;
SELECT count(*) FROM persistomata.timer;

-- foreign keys: a cascade does not change a key; a deletion is logged
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE status (state text PRIMARY KEY);
INSERT INTO status VALUES ('a'), ('b'), ('c');
CREATE TABLE orders (customer int REFERENCES customer ON UPDATE CASCADE ON DELETE CASCADE, nr int,
                     state text REFERENCES status ON UPDATE CASCADE, n int DEFAULT 0,
                     buddy int REFERENCES customer ON DELETE SET NULL, PRIMARY KEY (customer, nr));
SELECT persistomata.attach('orders', 'plain');
INSERT INTO customer VALUES (1, 'one'), (2, 'two'), (3, 'three');
INSERT INTO orders (customer, nr, buddy) VALUES (1, 1, 3), (2, 1, 3);
UPDATE customer SET id = 10 WHERE id = 1;
UPDATE status SET state = 'd' WHERE state = 'a';
UPDATE status SET state = 'd' WHERE state = 'c';
DELETE FROM customer WHERE id IN (2, 3);
SELECT type, key, from_state, to_state, payload->'buddy' AS buddy FROM persistomata.event WHERE fsm = 'public.orders' ORDER BY event_id;
DROP TABLE orders, customer, status;

-- a view shows an FSM table and is none
CREATE TABLE seen (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, state text, n int DEFAULT 0);
SELECT persistomata.attach('seen', 'plain');
CREATE VIEW seeing AS SELECT * FROM seen WHERE n < 10 WITH CHECK OPTION;
INSERT INTO seeing DEFAULT VALUES RETURNING *;
UPDATE seeing SET state = 'c';
UPDATE seeing SET state = 'b';
SELECT persistomata.fire('seeing', 1, 'y');
SELECT persistomata.attach('seeing', 'plain');
DROP TABLE seen CASCADE;

-- a table whose schema is renamed; the trigger keeps fire() from writing the row by itself
CREATE SCHEMA regress_pst_here;
CREATE TABLE regress_pst_here.moved (id int PRIMARY KEY, state text, n int);
SELECT persistomata.attach('regress_pst_here.moved', 'plain');
CREATE FUNCTION regress_pst_here.said() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE WARNING '% %', TG_OP, TG_LEVEL; RETURN NULL; END $$;
CREATE TRIGGER said AFTER UPDATE ON regress_pst_here.moved
FOR EACH STATEMENT EXECUTE FUNCTION regress_pst_here.said();
INSERT INTO regress_pst_here.moved VALUES (1), (2);
SELECT to_state FROM persistomata.fire('regress_pst_here.moved', 1, 'x');
ALTER SCHEMA regress_pst_here RENAME TO regress_pst_there;
SELECT to_state FROM persistomata.fire('regress_pst_there.moved', 2, 'x');
-- a missing row is looked for once
SELECT status FROM persistomata.try_fire('regress_pst_there.moved', 3, 'x');
DROP SCHEMA regress_pst_there CASCADE;
SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
