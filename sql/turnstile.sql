-- The turnstile: a machine as text, a table, events, and what holds them.
\set VERBOSITY default
SELECT persistomata.create_machine('turnstile', $$
flowchart LR
  idle   -->|close!| closed
  closed -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"walk [(args->>'n')::int = coins] / coins = 0"| closed
  opened -->|"walk [(args->>'n')::int < coins] / coins = coins - (args->>'n')::int"| opened
  closed -->|"off [coins = 0]"| inactive
$$);

CREATE TABLE turnstile (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        state text NOT NULL, coins int NOT NULL DEFAULT 0);
SELECT persistomata.attach('turnstile', machine => 'turnstile');
SELECT * FROM persistomata.fsm;

INSERT INTO turnstile DEFAULT VALUES RETURNING *;            -- state 'closed': idle was left by close!
SELECT status, event, from_state, to_state, reason FROM persistomata.fire('turnstile', '1', 'coin', '{"n": 1}');
UPDATE turnstile SET state = 'inactive' WHERE id = 1;        -- ERROR: no transition from "opened" to "inactive"

-- every refusal has a SQLSTATE of its own
\set SHOW_CONTEXT never
SELECT persistomata.fire('turnstile', 1, 'walk', '{"n": 5}');	-- PF002
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 1, 'walk');				-- PF002: the guard is NULL
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 1, 'off');				-- PF001
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 1, 'jump');				-- PF001: unknown event
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 2, 'coin');				-- PF004
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 1, 'coin', '{"n": 1}', expected_state => 'closed');	-- PF003
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 1, 'coin', '{"n": 1}', to_state => 'closed');	-- PF001
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('turnstile', 'x', 'coin');				-- not a key
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire('pg_class', '1', 'coin');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.fire(NULL, '1', 'coin');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default

-- a guard's or an action's error says where it was
SELECT persistomata.fire('turnstile', 1, 'coin', '{"n": "many"}');
\set SHOW_CONTEXT errors
SELECT persistomata.fire('turnstile', 1, 'coin', '{"n": "many"}');

SELECT status, from_state, to_state FROM persistomata.fire('turnstile', 1, 'coin', '{"n": 2}', 'opened');
SELECT status, from_state, to_state FROM persistomata.fire('turnstile', 1, 'walk', '{"n": 1}');
SELECT status, from_state, to_state FROM persistomata.fire('turnstile', 1, 'walk', '{"n": 2}');
SELECT status, from_state, to_state FROM persistomata.fire('turnstile', 1, 'off');
\set VERBOSITY sqlstate
SELECT persistomata.fire('turnstile', 1, 'coin', '{"n": 1}');	-- PF005
\set VERBOSITY default
SELECT * FROM turnstile;

-- one log row an occurrence, in order; refusals and errors left none
SELECT type, machine, version, fsm, key, event, from_state, to_state, args, payload, reason,
       occurred_at <= clock_timestamp() AS past, xid < pg_snapshot_xmax(pg_current_snapshot()) AS xid, actor = current_user AS me
  FROM persistomata.event WHERE fsm = 'public.turnstile' ORDER BY event_id;

-- rollback and savepoint rollback leave no event
BEGIN;
INSERT INTO turnstile DEFAULT VALUES;
ROLLBACK;
BEGIN;
INSERT INTO turnstile DEFAULT VALUES;
SAVEPOINT s;
SELECT status FROM persistomata.fire('turnstile', 3, 'coin', '{"n": 1}');
ROLLBACK TO s;
SELECT status FROM persistomata.fire('turnstile', 3, 'coin', '{"n": 7}');
COMMIT;
SELECT type, key, event, args, payload FROM persistomata.event WHERE fsm = 'public.turnstile' AND key <> '1' ORDER BY event_id;
SELECT persistomata.detach('turnstile');
DROP TABLE turnstile;
SELECT persistomata.drop_machine('turnstile');
SELECT count(*) FROM persistomata.fsm;
