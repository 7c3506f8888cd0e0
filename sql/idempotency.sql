-- Idempotency keys: an event that is sent again happens once.
SELECT persistomata.create_machine('till', $$
flowchart LR
  open -->|"pay [args->>'n' <> '13'] / sum = sum + (args->>'n')::int"| open
  open -->|shut| closed
$$);
CREATE TABLE till (id text PRIMARY KEY, state text, sum int NOT NULL DEFAULT 0);
SELECT persistomata.attach('till', 'till');
INSERT INTO till VALUES ('a'), ('b');

SELECT event_id AS first, status FROM persistomata.fire('till', 'a', 'pay', '{"n": 5}', idempotency_key => 'k1') \gset
SELECT :'status' AS status;
SELECT status, event, from_state, to_state, event_id = :first AS same_event
  FROM persistomata.fire('till', 'a', 'pay', '{"n": 5}', idempotency_key => 'k1');
SELECT status, event_id = :first AS same_event
  FROM persistomata.try_fire('till', 'a', 'pay', '{"n": 5}', idempotency_key => 'k1');
SELECT sum FROM till WHERE id = 'a';

-- it belongs to the instance, and to the event
SELECT status FROM persistomata.fire('till', 'b', 'pay', '{"n": 7}', idempotency_key => 'k1');
SELECT persistomata.fire('till', 'a', 'shut', idempotency_key => 'k1');
\echo :LAST_ERROR_SQLSTATE
SELECT status, reason FROM persistomata.try_fire('till', 'a', 'shut', idempotency_key => 'k1');

-- a refusal is not remembered, nor what is rolled back
SELECT persistomata.fire('till', 'a', 'pay', '{"n": 13}', idempotency_key => 'k2');
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 1}', idempotency_key => 'k2');
BEGIN;
SAVEPOINT s;
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 100}', idempotency_key => 'k3');
ROLLBACK TO s;
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 1}', idempotency_key => 'k3');
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 1}', idempotency_key => 'k3');
COMMIT;
SELECT id, sum FROM till ORDER BY id;

-- expired ones are free again
UPDATE persistomata.idempotency SET used_at = now() - interval '2 days' WHERE key = 'a';
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 1}', idempotency_key => 'k1');
SELECT status FROM persistomata.fire('till', 'a', 'pay', '{"n": 1}', idempotency_key => 'k1');
SELECT count(*) FROM persistomata.idempotency;

-- nobody else reads or writes them
CREATE ROLE till_user;
GRANT SELECT, UPDATE ON till TO till_user;
SET ROLE till_user;
SELECT status FROM persistomata.fire('till', 'b', 'pay', '{"n": 1}', idempotency_key => 'k9');
SELECT status FROM persistomata.fire('till', 'b', 'pay', '{"n": 1}', idempotency_key => 'k9');
SELECT * FROM persistomata.idempotency;
INSERT INTO persistomata.idempotency VALUES (1, 'b', 'k', 1, 'pay', 'pay', 'a', 'b');
RESET ROLE;
DROP OWNED BY till_user;
DROP ROLE till_user;
DROP TABLE till;
SELECT persistomata.drop_machine('till');
