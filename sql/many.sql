-- fire_many: one event for many instances.
SELECT persistomata.create_machine('batch', $$
flowchart LR
  todo  -->|"start [n > 0] / n = n + coalesce((args->>'n')::int, 1)"| doing
  todo  -->|skip?| skipped
  doing -->|"done / n = 100 / (n - 5)"| over
$$);
CREATE TABLE batch (a int, b text, state text, n int NOT NULL DEFAULT 1, PRIMARY KEY (a, b));
SELECT persistomata.attach('batch', 'batch');
INSERT INTO batch (a, b, n) VALUES (1, 'x', 1), (1, 'y', 0), (2, 'x', 3), (3, 'z', 4);

-- an outcome per key, in the order given; refused and missing ones do not undo the others
SELECT ord, status, event, from_state, to_state, reason
  FROM persistomata.fire_many('batch', '{"[2,\"x\"]","[1,\"y\"]","[1, \"x\"]","[9,\"x\"]"}', 'start', '{"n": 2}')
	   WITH ORDINALITY AS f(event_id, status, event, from_state, to_state, reason, ord);
SELECT * FROM batch ORDER BY a, b;

-- an error undoes all
SELECT status FROM persistomata.fire_many('batch', '{"[3,\"z\"]"}', 'start');
SELECT * FROM persistomata.fire_many('batch', '{"[1,\"x\"]","[2,\"x\"]","[3,\"z\"]"}', 'done');
SELECT * FROM batch ORDER BY a, b;

-- twice the same key: once; none: nothing; NULL: no
SELECT status, count(*), count(DISTINCT event_id)
  FROM persistomata.fire_many('batch', '{"[1,\"x\"]","[1, \"x\"]"}', 'done') GROUP BY status;
SELECT * FROM persistomata.fire_many('batch', '{}', 'done');
SELECT * FROM persistomata.fire_many('batch', '{NULL}', 'done');
SELECT status FROM persistomata.fire_many('batch', '{"[1,\"y\"]"}', 'done');

-- a key of several columns: texts, numbers and booleans, but no less and no more
SELECT status FROM persistomata.fire('batch', '["2", "x"]', 'done');
SELECT status FROM persistomata.fire('batch', '[null, "x"]', 'done');
SELECT status FROM persistomata.fire('batch', '[2]', 'done');
SELECT status FROM persistomata.fire('batch', '[2, "x", 3]', 'done');
SELECT status FROM persistomata.fire('batch', '[[2], "x"]', 'done');
CREATE TABLE flagged (a boolean, b numeric, state text, n int DEFAULT 1, PRIMARY KEY (a, b));
SELECT persistomata.attach('flagged', 'batch');
INSERT INTO flagged VALUES (true, 1.50);
SELECT status FROM persistomata.fire('flagged', '[true, 1.50]', 'start');
SELECT key FROM persistomata.event WHERE fsm = 'public.flagged' AND type = 'state';

-- many
CREATE TABLE heap (id bigint PRIMARY KEY, state text, n int NOT NULL DEFAULT 1);
SELECT persistomata.attach('heap', 'batch');
INSERT INTO heap (id, n) SELECT g, g % 2 FROM generate_series(1, 2000) g;
SELECT status, count(*) FROM persistomata.fire_many('heap', (SELECT array_agg(id::text) FROM heap), 'start')
 GROUP BY status ORDER BY status;
SELECT state, n, count(*) FROM heap GROUP BY state, n ORDER BY state, n;
SELECT count(*) FROM persistomata.event WHERE fsm = 'public.heap' AND event = 'start';
DROP TABLE batch, flagged, heap;
SELECT persistomata.drop_machine('batch');
