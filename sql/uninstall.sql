-- DROP EXTENSION, with and without what hangs from it, and back again.  The name of
-- this file keeps it behind the others: whatever they made is gone.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT version FROM persistomata.create_machine('u', E'flowchart LR\n a -->|"x / n = n + 1"| b\n b -->|y| c') AS version;
CREATE TABLE u (id int PRIMARY KEY, state text, n int DEFAULT 0);
CREATE TABLE p (id int PRIMARY KEY, state text, n int DEFAULT 0) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
SELECT persistomata.attach(t, 'u') FROM unnest('{u,p}'::regclass[]) t;
INSERT INTO u VALUES (1);
INSERT INTO p VALUES (1);
SELECT to_state FROM persistomata.fire('u', 1, 'x');
DROP EXTENSION persistomata;
SELECT to_state FROM persistomata.fire('p', 1, 'x');
DROP EXTENSION persistomata CASCADE;
-- the tables are as they were, and free
SELECT * FROM u, p;
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('u'::regclass, 'p'::regclass, 'p1'::regclass);
SELECT evtname FROM pg_event_trigger;
UPDATE u SET state = 'b';
INSERT INTO p VALUES (2, 'anything');
TRUNCATE p;
ALTER TABLE u ADD COLUMN more int;
-- this session knows the new extension from the old
CREATE EXTENSION persistomata;
SELECT persistomata.fire('u', 1, 'y');
SELECT version FROM persistomata.create_machine('u', E'flowchart LR\n a -->|x| b\n b -->|"z / n = n + 10"| c') AS version;
SELECT persistomata.attach(t, 'u') FROM unnest('{u,p}'::regclass[]) t;
INSERT INTO p VALUES (3);
UPDATE u SET state = 'a';
SELECT to_state FROM persistomata.fire('u', 1, 'z');
SELECT type, fsm, key, event, from_state, to_state, payload FROM persistomata.event ORDER BY event_id;
-- undone, it is there as before
BEGIN;
DROP EXTENSION persistomata CASCADE;
ROLLBACK;
SELECT to_state FROM persistomata.fire('p', 3, 'x');
DROP TABLE u, p;
SELECT persistomata.drop_machine('u');
