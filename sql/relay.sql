-- Cuts, positions, the ring, and a log that was restored elsewhere.
SET client_min_messages = warning;
SELECT persistomata.stop_workers();
\set SHOW_CONTEXT never
SELECT persistomata.create_machine('lamp', $$
flowchart LR
  none -->|on!| red
  red -->|go| green
  green -->|stop| red
$$);
CREATE TABLE lamp (id int PRIMARY KEY, state text);
DO $$ BEGIN PERFORM persistomata.attach('lamp', 'lamp'); END $$;

-- nothing new: no cut, and no transaction number is used up
SELECT count(*) > 0 AS made FROM (SELECT persistomata.cut()) c;
SELECT persistomata.cut();
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written FROM persistomata.cut();

-- positions have no gaps, in the order of event ids within a cut
SELECT coalesce(max(first_position + events), 1) AS base, coalesce(max(cut), 0) AS last FROM persistomata.cuts() \gset
INSERT INTO lamp SELECT n FROM generate_series(1, 3) n;
SELECT persistomata.cut() - :last AS cut;
BEGIN;
INSERT INTO lamp VALUES (4);
SAVEPOINT s;
INSERT INTO lamp VALUES (5);
ROLLBACK TO s;
INSERT INTO lamp VALUES (6);
COMMIT;
DELETE FROM lamp WHERE id = 1;
SELECT persistomata.cut() - :last AS cut;
SELECT e.position - :base AS position, e.type, e.machine, e.version, e.fsm, e.key, e.event, e.from_state, e.to_state, e.payload
  FROM persistomata.events(:base, 9223372036854775807) e;
SELECT count(*) AS agree FROM persistomata.events(:base, 9223372036854775807) e
 WHERE persistomata.position(e.event_id) = e.position;
SELECT count(*) FROM persistomata.events(:base + 2, :base + 3);
SELECT persistomata.position(-1) IS NULL AS unknown;

-- a cut is made by whom has not written
BEGIN;
INSERT INTO lamp VALUES (7);
SELECT persistomata.cut();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- the ring turns; cuts follow it, and what is passed is emptied
SELECT slot AS was FROM persistomata.ring ORDER BY turn DESC LIMIT 1 \gset
SELECT persistomata.turn(false);
INSERT INTO lamp VALUES (8);
SELECT persistomata.turn(true);
INSERT INTO lamp VALUES (9);
SELECT persistomata.cut() - :last AS cut;
SELECT slot = (:was + 1) % 8 AS next, first_cut - :last AS first_cut, last_cut IS NULL AS open FROM persistomata.ring ORDER BY turn DESC LIMIT 1;
SELECT last_cut - :last AS closed_at FROM persistomata.ring WHERE slot = :was;
SELECT persistomata.empty_slot();		-- retention
SELECT e.position - :base AS position, e.key, e.to_state FROM persistomata.events(:base + 13, 9223372036854775807) e;
SELECT count(*) AS slots_with_rows FROM (SELECT tableoid FROM persistomata.log_0 UNION SELECT tableoid FROM persistomata.log_1) t;

-- rights
CREATE ROLE regress_relay;
SET ROLE regress_relay;
SELECT persistomata.cut();
SELECT persistomata.turn(false);
SELECT persistomata.events(1, 2);
SELECT persistomata.takeover();
SELECT persistomata.start_workers();
SELECT persistomata.stop_workers();
\set SHOW_CONTEXT never
RESET ROLE;
DROP ROLE regress_relay;

-- a log of another system is left alone until it is taken over
SELECT persistomata.takeover();
\echo :LAST_ERROR_SQLSTATE
SELECT log_id AS old_id FROM persistomata.log_home \gset
UPDATE persistomata.log_home SET system_identifier = '1';
INSERT INTO lamp VALUES (10);
SELECT persistomata.cut();
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.takeover() <> :'old_id' AS new_id;
SELECT count(*) AS homes FROM persistomata.log_home;
SELECT persistomata.cut();				-- what was written before is not ours
INSERT INTO lamp VALUES (11);
SELECT persistomata.cut() IS NOT NULL AS cut;
SELECT e.key, e.to_state, e.position >= 4294967296 AS far_ahead, e.name LIKE :'old_id' || '%' AS old_name
  FROM persistomata.events(4294967296, 9223372036854775807) e;
DROP TABLE lamp;
SELECT persistomata.drop_machine('lamp');
SELECT persistomata.start_workers();
