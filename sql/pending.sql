-- The log rows of a statement are gathered and written several at a time;
-- nobody can tell.
SET client_min_messages = warning;
SELECT persistomata.create_machine('tick', $$
flowchart LR
  new -->|begin!| on
  on  -->|"tick / n = n + 1"| on
  on  -->|"stop [n < 1000]"| off
$$);
CREATE TABLE tick (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0);
SELECT persistomata.attach('tick', 'tick');
CREATE FUNCTION logged() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT count(*) FROM persistomata.event WHERE fsm = 'public.tick' $$;
\set VERBOSITY terse

-- many rows, in the order of their ids, each with its own payload
INSERT INTO tick (id) SELECT generate_series(1, 1000);
SELECT logged();
SELECT count(*) FROM persistomata.fire_many('tick', ARRAY(SELECT i::text FROM generate_series(1, 1000) i), 'tick');
UPDATE tick SET n = id;
SELECT type, count(*), count(DISTINCT event_id), count(DISTINCT key),
       count(*) FILTER (WHERE payload->>'id' = key) AS own,
       count(*) FILTER (WHERE type <> 'value' OR payload->>'n' = key) AS right_n
  FROM persistomata.event WHERE fsm = 'public.tick' GROUP BY type ORDER BY type;
-- by each index
SET enable_seqscan = off;
SELECT count(*) FROM persistomata.log_0 l JOIN persistomata.binding b ON b.id = l.binding AND b.fsm = 'public.tick' WHERE l.key = '77';
RESET enable_seqscan;

-- an error in the middle leaves nothing
SELECT logged() AS before \gset
UPDATE tick SET state = 'off' WHERE n >= 990;
SELECT logged() - :before AS more;

-- in one command, one function, one block
DO $$
DECLARE
	o persistomata.outcome;
	before bigint := logged();
BEGIN
	o := persistomata.fire('tick', 1, 'tick');
	RAISE WARNING 'after an expression: %', logged() - before;
	o := persistomata.fire('tick', 1, 'tick');
	BEGIN
		o := persistomata.fire('tick', 2, 'tick');
		RAISE WARNING 'in a block: %', logged() - before;
		o := persistomata.fire('tick', 2, 'tick');
		RAISE EXCEPTION 'back';
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'the block is undone, what was before is not: %', logged() - before;
	END;
	o := persistomata.fire('tick', 1, 'tick');
	BEGIN
		o := persistomata.fire('tick', 2, 'tick');
		BEGIN
			o := persistomata.fire('tick', 2, 'tick');
			RAISE EXCEPTION 'back';
		EXCEPTION WHEN OTHERS THEN
			RAISE WARNING 'inner block undone: %', logged() - before;
		END;
		o := persistomata.fire('tick', 2, 'tick');
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'never';
	END;
	RAISE WARNING 'outer block done: %', logged() - before;
END
$$;
SELECT logged() - :before AS more;
SELECT count(*) = count(DISTINCT event_id) AS once FROM persistomata.event WHERE fsm = 'public.tick';

-- nothing looks in between: written once, and only what was not undone
SELECT logged() AS before \gset
DO $$
DECLARE
	o persistomata.outcome;
BEGIN
	o := persistomata.fire('tick', 3, 'tick');
	BEGIN
		o := persistomata.fire('tick', 4, 'tick');
		PERFORM 1 / (o.event_id - o.event_id);
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	BEGIN
		o := persistomata.fire('tick', 5, 'tick');
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
END
$$;
SELECT key, payload->>'n' AS n FROM (SELECT * FROM persistomata.event WHERE fsm = 'public.tick' ORDER BY event_id DESC LIMIT 2) e;
SELECT logged() - :before AS more;
SELECT id, n FROM tick WHERE id BETWEEN 3 AND 5 ORDER BY id;

-- savepoints
BEGIN;
SELECT logged() AS before \gset
UPDATE tick SET n = n + 1 WHERE id <= 3;
SAVEPOINT a;
UPDATE tick SET n = n + 1 WHERE id <= 5;
SELECT logged() - :before AS more;
ROLLBACK TO a;
SELECT logged() - :before AS more;
SELECT count(*) FROM persistomata.try_fire('tick', 1, 'stop', expected_state => 'off');
RELEASE a;
COMMIT;
SELECT logged() - :before AS more;

-- cursors and COPY
BEGIN;
SELECT logged() AS before \gset
DECLARE c CURSOR FOR SELECT (persistomata.fire('tick', i, 'tick')).status FROM generate_series(1, 3) i;
FETCH 2 FROM c;
SELECT logged() - :before AS more;
CLOSE c;
COPY tick (id) FROM stdin;
2001
2002
\.
SELECT logged() - :before AS more;
COPY tick (id) FROM stdin;
2003
\.
COMMIT;
SELECT logged() - :before AS more;

-- prepared, and back
BEGIN;
DO $$ BEGIN PERFORM persistomata.fire('tick', 1, 'tick'); END $$;
PREPARE TRANSACTION 'regress_pst_pending';
SELECT logged() AS before \gset
COMMIT PREPARED 'regress_pst_pending';
SELECT logged() - :before AS more;
BEGIN;
COPY tick (id) FROM stdin;
2004
\.
ROLLBACK;
SELECT logged() - :before AS more;

-- a deferred trigger of the user's that fires at commit
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	o persistomata.outcome;
BEGIN
	o := persistomata.fire('tick', NEW.id, 'tick');
	RETURN NULL;
END
$$;
CREATE TABLE cause (id int);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON cause DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
SELECT logged() AS before \gset
INSERT INTO cause VALUES (1), (2), (3);
SELECT logged() - :before AS more;

DROP TABLE tick, cause;
DROP FUNCTION logged, late;
SELECT persistomata.drop_machine('tick');
