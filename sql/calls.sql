-- The calls around fire(): try_fire, force, can, explain.
SELECT persistomata.create_machine('door', $$
flowchart LR
  idle    -->|close!| closed
  closed  -->|"open [n < 3] / n = n + 1"| opened
  closed  -->|"open [10 / n > 100]"| broken
  opened  -->|close| closed
  opened  -->|"slam? [n > 1]"| closed
  opened  -->|"kick / n = 10 / (n - 1)"| broken
  opened  -->|"paint / note = args->>'note'"| opened
  opened  -->|pass| inside
  opened  -->|pass| outside
  closed  -->|"knock [note = 'bell']"| closed
$$);
CREATE TABLE door (id bigint PRIMARY KEY, state text NOT NULL, n int NOT NULL DEFAULT 0,
                   note text, CHECK (note <> 'red'));
SELECT persistomata.attach('door', 'door');
INSERT INTO door VALUES (1), (2);
\set VERBOSITY default
\set SHOW_CONTEXT never

-- what could happen, in definition order, and why not
SELECT * FROM persistomata.explain('door', 1);
UPDATE door SET n = 3 WHERE id = 1;
SELECT event, to_state, holds, reason FROM persistomata.explain('door', 1);
UPDATE door SET n = 0 WHERE id = 1;
SELECT persistomata.can('door', 1, 'open') AS open, persistomata.can('door', 1, 'close') AS close,
	   persistomata.can('door', '1', 'knock') AS knock, persistomata.can('door', 1, 'nonsense') AS nonsense;
SELECT status, event, from_state, to_state FROM persistomata.fire('door', 1, 'open');
SELECT event, kind, to_state, holds, reason FROM persistomata.explain('door', 1);
SELECT persistomata.can('door', 1, 'pass') AS pass, persistomata.can('door', 1, 'slam') AS slam;

-- a guard that raises before another one could hold: fire() would fail, so it cannot
UPDATE door SET n = 0 WHERE id = 2;
SELECT persistomata.create_machine('late', $$
flowchart LR
  a -->|"go [1 / n > 0]"| b
  a -->|"go [n = 0]"| c
$$);
CREATE TABLE late (id uuid PRIMARY KEY, state text, n int NOT NULL DEFAULT 0);
SELECT persistomata.attach('late', 'late');
INSERT INTO late VALUES ('00000000-0000-0000-0000-000000000001');
SELECT persistomata.can('late', '00000000-0000-0000-0000-000000000001'::uuid, 'go');
SELECT event, to_state, holds, reason
  FROM persistomata.explain('late', '00000000-0000-0000-0000-000000000001'::uuid);
SELECT status, event, reason FROM persistomata.try_fire('late', '00000000-0000-0000-0000-000000000001'::uuid, 'go');

-- a dry run changes nothing, also where a guard does
CREATE TABLE noted (what text);
CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE sql AS 'INSERT INTO noted VALUES (what) RETURNING true';
SELECT persistomata.create_machine('noisy', 'flowchart LR
  a -->|"go [note(''go'')]"| b');
CREATE TABLE noisy (id int PRIMARY KEY, state text);
SELECT persistomata.attach('noisy', 'noisy');
INSERT INTO noisy VALUES (1);
SELECT persistomata.can('noisy', 1, 'go');
SELECT count(*) FROM noted;
BEGIN TRANSACTION READ ONLY;
SELECT event, holds, reason FROM persistomata.explain('noisy', 1);
SELECT event, holds FROM persistomata.explain('door', 2);
COMMIT;

-- no instance, no table
SELECT persistomata.can('door', 7, 'open');
SELECT * FROM persistomata.explain('door', 7);
SELECT persistomata.can('door', 1, NULL);
SELECT persistomata.explain('pg_class', 1);

-- try_fire: a refusal and a failure are outcomes, and events
CREATE VIEW last_event AS SELECT type, event, from_state, to_state, reason, args, payload->>'note' AS note, payload->>'n' AS n
  FROM persistomata.event ORDER BY event_id DESC LIMIT 1;
SELECT status, event, from_state, to_state, reason FROM persistomata.try_fire('door', 1, 'paint', '{"note": "blue"}');
SELECT * FROM last_event;
SELECT status, event, from_state, to_state, reason FROM persistomata.try_fire('door', 1, 'knock');
SELECT * FROM last_event;
SELECT status, event, from_state, to_state, reason FROM persistomata.try_fire('door', 1, 'kick');	-- the action fails
SELECT * FROM last_event;
SELECT status, event, reason FROM persistomata.try_fire('door', 1, 'paint', '{"note": "red"}');	-- the table refuses
SELECT * FROM last_event;
SELECT * FROM door WHERE id = 1;
SELECT status, event, reason FROM persistomata.try_fire('door', 1, 'pass');
SELECT status, event, reason FROM persistomata.try_fire('door', 1, 'close', expected_state => 'inside');
-- its event_id is the errored event's
SELECT event_id FROM persistomata.try_fire('door', 1, 'jump') \gset
SELECT type, event FROM persistomata.event WHERE event_id = :event_id;
-- a soft event that is refused, and an instance that is not there, are no events
SELECT count(*) AS before FROM persistomata.event \gset
SELECT event_id, status, reason FROM persistomata.try_fire('door', 1, 'slam');
SELECT event_id, status, reason FROM persistomata.try_fire('door', 7, 'open');
SELECT count(*) - :before AS more FROM persistomata.event;

-- what was done before and after stays; what is undone is undone with it
BEGIN;
UPDATE door SET note = 'kept' WHERE id = 2;
SELECT status FROM persistomata.try_fire('door', 2, 'open');
SELECT status FROM persistomata.try_fire('door', 2, 'kick');
SELECT status FROM persistomata.try_fire('door', 2, 'close');
COMMIT;
SELECT * FROM door WHERE id = 2;
BEGIN;
SELECT status FROM persistomata.try_fire('door', 2, 'kick');
ROLLBACK;
SELECT type, event FROM last_event;

-- many tries in one statement, failing and not
INSERT INTO door(id) SELECT generate_series(100, 1099);
SELECT status, count(*) FROM door, LATERAL persistomata.try_fire('door', id, CASE WHEN id % 2 = 0 THEN 'open' ELSE 'kick' END) f
 WHERE id >= 100 GROUP BY status ORDER BY status;
SELECT state, count(*) FROM door WHERE id >= 100 GROUP BY state ORDER BY state;

-- errors that are not the instance's own are thrown
CREATE FUNCTION fail(code text) RETURNS boolean LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'failed on purpose' USING ERRCODE = code; END$$;
SELECT persistomata.create_machine('failing', $$
flowchart LR
  a -->|"go [fail(args->>'code')]"| b
$$);
CREATE TABLE failing (id int PRIMARY KEY, state text);
SELECT persistomata.attach('failing', 'failing');
INSERT INTO failing VALUES (1);
SELECT status, reason FROM persistomata.try_fire('failing', 1, 'go', '{"code": "P0001"}');
SELECT status, reason FROM persistomata.try_fire('failing', 1, 'go', '{"code": "40001"}');
SELECT status, reason FROM persistomata.try_fire('failing', 1, 'go', '{"code": "57014"}');
SELECT status, reason FROM persistomata.try_fire('failing', 1, 'go', '{"code": "53100"}');
SELECT persistomata.can('failing', 1, 'go', '{"code": "P0001"}');
SELECT persistomata.can('failing', 1, 'go', '{"code": "40001"}');

-- force: the owner's override
SELECT status, event, from_state, to_state, reason FROM persistomata.force('door', 1, 'broken', 'the hinge is gone');
SELECT * FROM last_event;
SELECT state FROM door WHERE id = 1;
SELECT persistomata.force('door', 1, 'gone', 'why not');
SELECT persistomata.force('door', 7, 'closed', 'why not');
SELECT persistomata.force('door', 1, 'closed', NULL);
SELECT status, to_state FROM persistomata.force('door', '1', '*', 'over');
SELECT * FROM persistomata.fire('door', 1, 'open');
SELECT * FROM persistomata.explain('door', 1);

-- whose right it is
CREATE ROLE doorman;
GRANT USAGE ON SCHEMA public TO doorman;
SET ROLE doorman;
SELECT persistomata.can('door', 2, 'open');
SELECT status FROM persistomata.try_fire('door', 2, 'open');
RESET ROLE;
GRANT SELECT ON door TO doorman;
SET ROLE doorman;
SELECT persistomata.can('door', 2, 'open');
SELECT status FROM persistomata.try_fire('door', 2, 'open');
RESET ROLE;
GRANT UPDATE (state) ON door TO doorman;
SET ROLE doorman;
SELECT status FROM persistomata.try_fire('door', 2, 'open');
SELECT persistomata.force('door', 2, 'closed', 'I say so');
RESET ROLE;
DROP OWNED BY doorman;
DROP ROLE doorman;

DROP VIEW last_event;
DROP TABLE door, late, noisy, noted, failing;
DROP FUNCTION note, fail;
SELECT persistomata.drop_machine(name) FROM (VALUES ('door'), ('late'), ('noisy'), ('failing')) AS m(name);
