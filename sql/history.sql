-- The log, read back: history, state_at, verify.
CREATE ROLE regress_pst_reader;
SELECT persistomata.create_machine('visit', $$
flowchart LR
  none   -->|come!| here
  here   -->|"greet / n = n + 1"| here
  here   -->|go| gone
  gone   -->|back| here
$$);
CREATE TABLE visit (a int, b text, state text, n int NOT NULL DEFAULT 0, note text, PRIMARY KEY (a, b));
SELECT persistomata.attach('visit', 'visit');
CREATE TABLE times (name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());
INSERT INTO times VALUES ('before');
INSERT INTO visit (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z');
INSERT INTO times VALUES ('here');
SELECT status FROM persistomata.fire('visit', '[1, "x"]', 'greet', '{"by": "me"}');
SELECT status FROM persistomata.try_fire('visit', '[1, "x"]', 'back');
SELECT status FROM persistomata.fire('visit', '[1, "x"]', 'go');
INSERT INTO times VALUES ('gone');
UPDATE visit SET note = 'late' WHERE a = 1;
SELECT status FROM persistomata.force('visit', '[1, "x"]', 'here', 'came in by the window');
DELETE FROM visit WHERE a = 1;
INSERT INTO times VALUES ('deleted');
INSERT INTO visit (a, b) VALUES (1, 'x');

SELECT type, version, event, from_state, to_state, args, payload, reason, actor = current_user AS me, occurred_at <= now() AS past
  FROM persistomata.history('visit', '[1, "x"]');
SELECT name, persistomata.state_at('visit', '[1, "x"]', at), persistomata.state_at('visit', '["2", "y"]', at),
	   persistomata.state_at('visit', '[9, "q"]', at)
  FROM times ORDER BY at;
SELECT persistomata.state_at('visit', '[1, "x"]', now());
-- not before the beginning, not of what is no FSM table
\set VERBOSITY sqlstate
SELECT persistomata.state_at('visit', '[1, "x"]', now() - interval '1 year');
\set VERBOSITY default
SELECT persistomata.state_at('visit', '[1, "x"]', NULL);
SELECT persistomata.history('times', '1');
SELECT * FROM persistomata.history('visit', '[9, "q"]');

-- a log that fits
SELECT * FROM persistomata.verify('visit');
-- and rows that were written behind its back
BEGIN;
ALTER TABLE visit DISABLE TRIGGER USER;
UPDATE visit SET state = 'gone' WHERE a = 1;
UPDATE visit SET n = 77 WHERE a = 2;
DELETE FROM visit WHERE a = 3;
INSERT INTO visit VALUES (4, 'new', 'here');
ALTER TABLE visit ENABLE TRIGGER USER;
SELECT key, finding, event_id IS NOT NULL AS event, expected, found FROM persistomata.verify('visit') ORDER BY key;
-- what is written next shows that something is missing
UPDATE visit SET state = 'here' WHERE a = 1;
UPDATE visit SET state = 'gone' WHERE a = 1;
SELECT key, finding, expected, found FROM persistomata.verify('visit') WHERE key LIKE '%x%' ORDER BY event_id;
ROLLBACK;
-- a log that was written behind the machine's back
BEGIN;
UPDATE persistomata.log_0 SET event = 'flee' WHERE event = 'greet';
DELETE FROM persistomata.log_0 WHERE type = 's' AND event = 'go';
INSERT INTO persistomata.log_0 SELECT nextval('persistomata.event_id'), xid, occurred_at, binding, machine, timeline, type, key, event, from_state, to_state, actor
  FROM persistomata.log_0 WHERE type = 'i' AND key = '["2", "y"]';
UPDATE persistomata.log_0 SET type = 'd', from_state = 'here', to_state = NULL WHERE key = '["3", "z"]' AND type = 's';
SELECT key, finding, event_id IS NOT NULL AS event, expected, found FROM persistomata.verify('visit') ORDER BY key, event_id;
ROLLBACK;
SELECT * FROM persistomata.verify('visit');

-- who sees all of the table sees its log
SET ROLE regress_pst_reader;
SELECT * FROM persistomata.history('visit', '[1, "x"]');
SELECT persistomata.state_at('visit', '[1, "x"]', now());
SELECT * FROM persistomata.verify('visit');
RESET ROLE;
GRANT SELECT (a, b, state) ON visit TO regress_pst_reader;
SET ROLE regress_pst_reader;
SELECT * FROM persistomata.history('visit', '[1, "x"]');
RESET ROLE;
GRANT SELECT ON visit, times TO regress_pst_reader;
SET ROLE regress_pst_reader;
SELECT count(*) FROM persistomata.history('visit', '[1, "x"]');
SELECT persistomata.state_at('visit', '[1, "x"]', at) FROM times WHERE name = 'gone';
SELECT * FROM persistomata.verify('visit');
SELECT * FROM persistomata.event;
RESET ROLE;
ALTER TABLE visit ENABLE ROW LEVEL SECURITY;
SET ROLE regress_pst_reader;
SELECT * FROM persistomata.history('visit', '[1, "x"]');
SELECT * FROM persistomata.verify('visit');
RESET ROLE;
-- and a role reads all logs
GRANT pg_read_all_data TO regress_pst_reader;
SET ROLE regress_pst_reader;
SELECT count(*) > 0 FROM persistomata.event;
DELETE FROM persistomata.log_0;
RESET ROLE;

-- the log reaches back as far as it was kept
CREATE TABLE kept AS SELECT max(slot) AS slot FROM persistomata.ring WHERE turn = 0;
BEGIN;
DELETE FROM persistomata.log_0 WHERE key IN ('["1", "x"]', '["3", "z"]');
UPDATE persistomata.ring SET emptied_to = (SELECT at FROM times WHERE name = 'gone') WHERE slot = (SELECT slot FROM kept);
SET LOCAL client_min_messages = error;
SELECT count(*) FROM persistomata.history('visit', '[1, "x"]');
SELECT * FROM persistomata.verify('visit');
SELECT persistomata.state_at('visit', '[1, "x"]', at) FROM times WHERE name = 'deleted';	-- as it is: nothing has happened since
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT persistomata.state_at('visit', '[1, "x"]', at) FROM times WHERE name = 'here';
ROLLBACK TO s;
\set VERBOSITY default
ROLLBACK;

-- what is not logged cannot be asked
SELECT persistomata.detach('visit');
SELECT persistomata.attach('visit', 'visit', types => '{init,deleted}');
SELECT persistomata.state_at('visit', '[1, "x"]', now());
SELECT * FROM persistomata.verify('visit');
SELECT type FROM persistomata.history('visit', '[1, "x"]');
-- a table that is only logged may have no state
CREATE TABLE bare (id int PRIMARY KEY, state text, n int);
SELECT persistomata.attach('bare', 'visit', enforce => 'log');
INSERT INTO bare VALUES (1), (2);
UPDATE bare SET state = NULL WHERE id = 1;
SELECT * FROM persistomata.verify('bare');
DROP TABLE bare;
DROP TABLE visit, times, kept;
DROP ROLE regress_pst_reader;
SELECT persistomata.drop_machine('visit');
