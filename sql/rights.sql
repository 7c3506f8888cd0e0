-- Who may do what.  Every denial is shown.
\set SHOW_CONTEXT never
CREATE ROLE regress_pst_owner;
CREATE ROLE regress_pst_user;
CREATE ROLE regress_pst_other;
CREATE SCHEMA app AUTHORIZATION regress_pst_owner;
GRANT USAGE ON SCHEMA app TO regress_pst_user, regress_pst_other;

SET ROLE regress_pst_owner;
SELECT version FROM (SELECT persistomata.create_machine('ticket', $$
flowchart LR
  new  -->|"take / holder = current_user"| taken
  taken -->|"close [holder = current_user]"| closed
$$) AS version) s;
CREATE TABLE app.ticket (id int PRIMARY KEY, state text, holder text, secret text);
SELECT persistomata.attach('app.ticket', 'ticket', payload_columns => '{-secret}');
INSERT INTO app.ticket (id) VALUES (1), (2), (3);
GRANT SELECT (id, state, holder), UPDATE (state) ON app.ticket TO regress_pst_user;
RESET ROLE;

-- the owner of a table attaches it, nobody else
SET ROLE regress_pst_other;

SELECT persistomata.attach('app.ticket', 'ticket');
SELECT persistomata.detach('app.ticket');
-- nobody else adds a version to a machine or drops it
SELECT persistomata.create_machine('ticket', 'flowchart LR; a -->|b| c');
SELECT persistomata.drop_machine('ticket');
-- firing takes UPDATE on the state column
SELECT persistomata.fire('app.ticket', 1, 'take');
-- nobody reads, forges or erases the log, the bindings and the cursors
SELECT * FROM persistomata.event;
SELECT * FROM persistomata.log_0;
INSERT INTO persistomata.log_0 SELECT * FROM persistomata.log_1;
DELETE FROM persistomata.log_0;
TRUNCATE persistomata.log_0;
UPDATE persistomata.binding SET enforce = 'log';
SELECT nextval('persistomata.event_id');
SELECT setval('persistomata.ring_slot', 3);
INSERT INTO persistomata.timer_entry (binding, key, event, state, due_at) VALUES (1, '1', 'take', 'new', now());
RESET ROLE;

-- with UPDATE on the state alone, actions still set what the machine says
SET ROLE regress_pst_user;
SELECT status, to_state FROM persistomata.fire('app.ticket', 1, 'take');
UPDATE app.ticket SET holder = 'me' WHERE id = 1;
UPDATE app.ticket SET state = 'closed' WHERE id = 1 RETURNING id, state;
UPDATE app.ticket SET state = 'closed' WHERE id = 2;
SELECT id, state, holder FROM app.ticket ORDER BY id;
RESET ROLE;
SELECT key, event, to_state, actor, payload FROM persistomata.event WHERE fsm = 'app.ticket' AND type = 'state' ORDER BY event_id;

-- row security holds for fire() as for any UPDATE
SET ROLE regress_pst_owner;
ALTER TABLE app.ticket ENABLE ROW LEVEL SECURITY;
CREATE POLICY not_three ON app.ticket TO regress_pst_user USING (id <> 3);
SET ROLE regress_pst_user;
SELECT status FROM persistomata.fire('app.ticket', 2, 'take');
SELECT status FROM persistomata.fire('app.ticket', 3, 'take');
RESET ROLE;
-- what became of a hidden instance is hidden, too
SELECT status FROM persistomata.fire('app.ticket', 3, 'take', idempotency_key => 'guessed');
SET ROLE regress_pst_user;
SELECT status FROM persistomata.try_fire('app.ticket', 3, 'take', idempotency_key => 'guessed');
RESET ROLE;

-- reading is for those who may read the table, the override for its owner
SET ROLE regress_pst_other;
SELECT persistomata.can('app.ticket', 1, 'take');
SELECT * FROM persistomata.explain('app.ticket', 1);
SELECT persistomata.try_fire('app.ticket', 1, 'take');
SELECT persistomata.force('app.ticket', 1, 'new', 'because');
SELECT persistomata.fire_at('app.ticket', 1, 'take', now());
RESET ROLE;
SET ROLE regress_pst_user;
SELECT persistomata.force('app.ticket', 1, 'new', 'because');
RESET ROLE;
-- UPDATE without SELECT on the key finds nothing, as in any UPDATE
GRANT UPDATE ON app.ticket TO regress_pst_other;
SET ROLE regress_pst_other;
SELECT persistomata.fire('app.ticket', 1, 'take');
SELECT persistomata.try_fire('app.ticket', 1, 'take');
RESET ROLE;
REVOKE UPDATE ON app.ticket FROM regress_pst_other;

-- guards and actions run as whoever fires
SET ROLE regress_pst_owner;
ALTER TABLE app.ticket DISABLE ROW LEVEL SECURITY;
CREATE TABLE app.hidden (id int);
CREATE FUNCTION app.is_open(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 100';
SET search_path = app, public;
-- code behind a type looks names up when it runs
CREATE FUNCTION app.most() RETURNS int LANGUAGE sql AS 'SELECT 5';
CREATE FUNCTION app.fits(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN $1 < most(); END';
CREATE DOMAIN app.fitting AS int CHECK (app.fits(VALUE));
SELECT persistomata.create_machine('desk', $$
flowchart LR
  new -->|"open [is_open(id)]"| opened
  new -->|"same [id = 1000]"| opened
  new -->|"peek [exists (select from hidden)]"| opened
  new -->|"write / note"| opened
  new -->|"fit [(args->>'n')::fitting > 0]"| opened
  new -->|"name [to_regclass('of_evil') is not null]"| opened
$$);
CREATE TABLE app.desk (id int PRIMARY KEY, state text, holder text, secret text);
CREATE FUNCTION app.note(r app.desk, args jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO app.hidden VALUES (1)';
SELECT persistomata.attach('desk', 'desk');
INSERT INTO app.desk (id) VALUES (1), (2);
INSERT INTO app.hidden VALUES (1);
GRANT SELECT, UPDATE (state) ON app.desk TO regress_pst_user;
RESET search_path;
SET ROLE regress_pst_user;
SELECT persistomata.fire('app.desk', 1, 'peek');
SELECT persistomata.fire('app.desk', 1, 'write');
-- functions, operators and tables of one's own are not what the machine means
RESET ROLE;
CREATE SCHEMA evil AUTHORIZATION regress_pst_user;
SET ROLE regress_pst_user;
CREATE FUNCTION evil.is_open(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.always(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.always);
CREATE FUNCTION evil.always(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.always);
CREATE FUNCTION pg_temp.is_open(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.most() RETURNS int LANGUAGE sql AS 'SELECT 500';
CREATE TABLE evil.of_evil (id int);
CREATE TEMP TABLE hidden (id int);
INSERT INTO hidden VALUES (1);
CREATE TEMP TABLE machine_version AS SELECT 1;
SET search_path = pg_temp, evil, pg_catalog, app;
SELECT persistomata.fire('app.desk', 1, 'open');
SELECT persistomata.fire('app.desk', 1, 'same');
SELECT persistomata.fire('app.desk', 1, 'peek');
SELECT persistomata.fire('app.desk', 1, 'fit', '{"n": 100}');
SELECT persistomata.fire('app.desk', 1, 'name');
UPDATE app.desk SET state = 'opened' WHERE id OPERATOR(pg_catalog.=) 1;
\c -
SET ROLE regress_pst_user;
SET search_path = evil, pg_catalog, app;
SELECT persistomata.fire('app.desk', 1, 'open');	-- compiled here for the first time
SELECT persistomata.can('app.desk', 1, 'same');
RESET search_path;
RESET ROLE;
SELECT id, state FROM app.desk ORDER BY id;

-- the log is read by whom the administrator lets, and by pg_read_all_data
GRANT SELECT ON persistomata.event TO regress_pst_user;
GRANT pg_read_all_data TO regress_pst_other;
SET ROLE regress_pst_user;
SELECT count(*) > 0 AS readable FROM persistomata.event;
SELECT * FROM persistomata.log_0;
SET ROLE regress_pst_other;
SELECT count(*) > 0 AS readable FROM persistomata.event;
INSERT INTO persistomata.log_0 SELECT * FROM persistomata.log_0;
RESET ROLE;
REVOKE pg_read_all_data FROM regress_pst_other;
REVOKE SELECT ON persistomata.event FROM regress_pst_user;

-- nobody forges: not by triggers of one's own, not by internal functions, not by DDL
SET ROLE regress_pst_other;
CREATE TEMP TABLE mine (id int PRIMARY KEY, state text);
CREATE TRIGGER "!persistomata" AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION persistomata.record();
INSERT INTO mine VALUES (1, 'taken');
SELECT persistomata.cut();
SELECT persistomata.lock_cuts();
SELECT persistomata.turn(true);
SELECT persistomata.empty_slot();
SELECT persistomata.log_intact();
SELECT persistomata.position(1);
SELECT count(*) FROM persistomata.events(0, 1);
SELECT persistomata.takeover();
SELECT persistomata.wake();
SELECT * FROM persistomata.stat_ring;
SELECT persistomata.table_altered('app.desk'::regclass);
ALTER TABLE persistomata.log_0 ADD COLUMN x int;
CREATE TRIGGER t BEFORE INSERT ON persistomata.log_0 FOR EACH ROW EXECUTE FUNCTION persistomata.touch();
DROP EVENT TRIGGER persistomata_follow_tables;
CREATE TABLE persistomata.mine (id int);
RESET ROLE;

-- who has nothing to do with us is not in our way, nor we in theirs
REVOKE USAGE ON SCHEMA persistomata FROM PUBLIC;
SET ROLE regress_pst_other;
CREATE TEMP TABLE theirs (id int);
ALTER TABLE theirs ADD COLUMN more int;
ALTER TABLE theirs RENAME COLUMN more TO less;
DROP TABLE theirs;
RESET ROLE;
GRANT USAGE ON SCHEMA persistomata TO PUBLIC;
-- a partition that an owner adds is taken in with the owner's rights
SET ROLE regress_pst_owner;
CREATE TABLE app.parts (id int PRIMARY KEY, state text, holder text) PARTITION BY LIST (id);
SELECT persistomata.attach('app.parts', 'ticket');
CREATE TABLE app.part7 (id int NOT NULL, state text, holder text);
INSERT INTO app.part7 VALUES (7, 'new', 'me');
ALTER TABLE app.parts ATTACH PARTITION app.part7 FOR VALUES IN (7);
TRUNCATE app.part7;
SELECT to_state FROM persistomata.fire('app.parts', 7, 'take');
RESET ROLE;
SELECT type, key, to_state, actor FROM persistomata.event WHERE fsm = 'app.parts' ORDER BY event_id;

-- who makes machines is the administrator's choice
REVOKE EXECUTE ON FUNCTION persistomata.create_machine FROM PUBLIC;
SET ROLE regress_pst_other;
SELECT persistomata.create_machine('mine', 'flowchart LR; a -->|b| c');
RESET ROLE;
GRANT EXECUTE ON FUNCTION persistomata.create_machine TO PUBLIC;

-- what runs SQL of ours runs it under a search_path of its own; the one exception
-- makes tables where the caller's path says
SELECT p.oid::regprocedure
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'persistomata'::regnamespace AND l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL
   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=pg_catalog, pg_temp');
-- SECURITY DEFINER is for triggers, and for what only reads
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'persistomata'::regnamespace AND p.prosecdef AND p.provolatile = 'v'
   AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype);
-- everything says what it is
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'persistomata'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;

-- a definer's trigger function on a table of one's own would do to ours as one likes
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'persistomata'::regnamespace AND p.prosecdef AND p.prorettype = 'trigger'::regtype
   AND has_function_privilege('regress_pst_other', p.oid, 'EXECUTE');

-- one's own view is no view of timers
SET ROLE regress_pst_other;
CREATE TEMP VIEW mine_too AS SELECT 'x'::text AS id;
CREATE TRIGGER t INSTEAD OF UPDATE OR DELETE ON mine_too FOR EACH ROW EXECUTE FUNCTION persistomata.change_timer();
UPDATE mine_too SET id = 'y';
DELETE FROM mine_too;
DROP VIEW mine_too;
RESET ROLE;

DROP TABLE pg_temp.mine;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
DROP SCHEMA app CASCADE;
DROP ROLE regress_pst_owner, regress_pst_user, regress_pst_other;
SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
