-- What may be attached, and what is said about what may not.
SELECT persistomata.create_machine('light', $$
flowchart LR
  none -->|on!| red
  red -->|go| green
  green -->|slow| yellow
  yellow -->|stop| red
$$);
\set SHOW_CONTEXT never
CREATE TABLE t1 (id int PRIMARY KEY, state text);
SELECT persistomata.attach('t1', 'lamp');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('nowhere', 'light');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', state_column => 'colour');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', state_column => 'id');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', key_columns => '{state}');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', payload_columns => '{id,-state}');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', payload_columns => '{nothing}');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', enforce => 'never');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', types => '{birth}');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach('t1', 'light', on_final => 'explode');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.attach(NULL, 'light');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
CREATE TABLE nokey (id int, state text);
SELECT persistomata.attach('nokey', 'light');
CREATE TEMP TABLE temporary (id int PRIMARY KEY, state text);
SELECT persistomata.attach('temporary', 'light');
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, state text);
SELECT persistomata.attach('unlogged', 'light');
CREATE VIEW v1 AS SELECT * FROM t1;
SELECT persistomata.attach('v1', 'light');
CREATE TABLE child () INHERITS (t1);
SELECT persistomata.attach('t1', 'light');
SELECT persistomata.attach('child', 'light');
DROP TABLE child;
CREATE TABLE ruled (id int PRIMARY KEY, state text);
CREATE RULE r AS ON INSERT TO ruled DO ALSO NOTHING;
SELECT persistomata.attach('ruled', 'light');
CREATE TABLE bystate (id int, state text, PRIMARY KEY (id, state)) PARTITION BY LIST (state);
SELECT persistomata.attach('bystate', 'light', key_columns => '{id}');
CREATE TABLE short (id int PRIMARY KEY, state varchar(4));
SELECT persistomata.attach('short', 'light');

-- rows in states that the machine does not have: an error, nothing changed
\set VERBOSITY default
INSERT INTO t1 VALUES (1, 'red'), (2, 'blue'), (3, NULL), (4, 'blue');
SELECT persistomata.attach('t1', 'light');
SELECT count(*) FROM persistomata.fsm;
UPDATE t1 SET state = 'green' WHERE id > 1;
-- the baseline gives each row an init
SELECT persistomata.attach('t1', 'light');
SELECT persistomata.attach('t1', 'light');
SELECT type, key, from_state, to_state, reason FROM persistomata.event WHERE fsm = 'public.t1' ORDER BY event_id;
SELECT persistomata.detach('t1');
SELECT persistomata.detach('t1');
UPDATE t1 SET state = 'blue';
DROP VIEW v1;
DROP TABLE t1, nokey, unlogged, ruled, bystate, short;

-- mistakes in guards and actions are found at attach, with their place
CREATE TABLE checked (id int PRIMARY KEY, state text, n int, doc jsonb, total numeric GENERATED ALWAYS AS (n * 2) STORED);
CREATE PROCEDURE try_label(label text) LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	PERFORM persistomata.create_machine('m' || md5(label), E'flowchart LR\n  a -->|x| b\n  b -->|"' || label || '"| c');
	PERFORM persistomata.attach('checked', 'm' || md5(label));
	PERFORM persistomata.detach('checked');
	RAISE NOTICE '% is fine', label;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS context = pg_exception_context;
	RAISE NOTICE '% % (%)', sqlstate, sqlerrm, split_part(context, E'\n', 1);
END $$;
SET client_min_messages = notice;
CALL try_label('y [n > 1]');
CALL try_label('y [m > 1]');
CALL try_label('y [n + 1]');
CALL try_label('y [n > ]');
CALL try_label('y [false) or (true]');
CALL try_label('y [true from pg_class]');
CALL try_label('y [count(*) > 1]');
CALL try_label('y [exists (select 1 from pg_class where oid::int = checked.n)]');
CALL try_label('y [exists (select 1 from nowhere)]');
CALL try_label('y / n = n + 1, doc = doc || args');
CALL try_label('y / n = 1 where true');
CALL try_label('y / n = 1; delete from pg_class');
CALL try_label('y / z = 1');
CALL try_label('y / state = 1');
CALL try_label('y / id = 1');
CALL try_label('y / total = 1');
CALL try_label('y / n = true');
CALL try_label('y / doc[1] = 2');
CALL try_label('y / (n, doc) = (1, null)');
CALL try_label('y / no_such_function');
CALL try_label('after (5 minutes)');
CALL try_label('after (n * interval ''1 second'')');
CALL try_label('after (n)');
-- a place is that in the definition, where a snippet's text may be written in codes
CALL try_label('y [n > 1 #amp;#amp; m > 1]');
CALL try_label('y [doc #lt;> #quot;doc#quot; or m > 1]');
CALL try_label('y / n = 1 #35; 2, z = 1');
CALL try_label('y [n > 1<br/>and m > 1]');
CALL try_label('y [''é'' <> ''#233;'' and m > 1]');
SELECT persistomata.create_machine('caret', $$flowchart LR
  a -->|x| b
  b -->|"y [n > 0 and nn < 5]"| c
$$);
SELECT persistomata.attach('checked', 'caret');
DROP TABLE checked;
DROP PROCEDURE try_label;

-- keys: text, uuid, composite, enum and domain states
CREATE TYPE colour AS ENUM ('none', 'red', 'green', 'yellow');
CREATE DOMAIN lamp AS varchar(10) CHECK (VALUE <> 'off');
CREATE TABLE k1 (id text PRIMARY KEY, state colour);
CREATE TABLE k2 (a timestamptz, b text, colour lamp, PRIMARY KEY (b, a));
CREATE TABLE k3 (id uuid PRIMARY KEY, state name);
SELECT persistomata.attach('k1', 'light');
SELECT persistomata.attach('k2', 'light', state_column => 'colour');
SELECT persistomata.attach('k3', 'light');
INSERT INTO k1 VALUES ('one'), ('1');
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
INSERT INTO k2 VALUES ('2026-01-02 03:04:05+00', 'a "b"');
INSERT INTO k3 VALUES ('00000000-0000-0000-0000-00000000000a');
SELECT to_state FROM persistomata.fire('k1', 'one', 'go');
SELECT to_state FROM persistomata.fire('k1', 1, 'go');
SELECT to_state FROM persistomata.fire('k2', '["a \"b\"", "2026-01-02 03:04:05+00"]', 'go');
SELECT to_state FROM persistomata.fire('k3', '00000000-0000-0000-0000-00000000000a'::uuid, 'go');
SELECT to_state FROM persistomata.fire('k2', 'a', 'go');
SELECT to_state FROM persistomata.fire('k2', '["a"]', 'go');
RESET timezone;
RESET datestyle;
SELECT fsm, key, event, payload FROM persistomata.event WHERE fsm LIKE 'public.k_' ORDER BY event_id;
DROP TABLE k1, k2, k3;
DROP DOMAIN lamp;
DROP TYPE colour;

-- a table of persistomata's own making
SELECT persistomata.create_fsm_table('lamps', machine => 'light', columns => 'watts int');
INSERT INTO lamps (id, watts) VALUES ('l1', 40) RETURNING id, state, payload, watts;
SELECT to_state FROM persistomata.fire('lamps', 'l1', 'go');
SELECT updated_at > created_at AS touched FROM lamps;
DROP TABLE lamps;

-- a machine without states
SELECT persistomata.create_machine('void', E'stateDiagram-v2\n  [*] --> [*] : nothing');
CREATE TABLE empty (id int PRIMARY KEY, state text);
SELECT persistomata.attach('empty', 'void');
DROP TABLE empty;

SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
