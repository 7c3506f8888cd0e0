-- Timers: time events are armed with a state and go with it; events can be delayed.
CREATE ROLE regress_pst_clerk;
SELECT persistomata.create_machine('lease', $$
flowchart LR
  new    -->|begin!| free
  free   -->|"take / holder = current_user"| held
  held   -->|"after (term)"| free
  held   -->|"every (1 day) [false]"| held
  held   -->|"after (until) / holder = 'nobody'"| lost
  held   -->|renew| held
  held   -->|give?| free
  free   -->|burn| burnt
$$);
CREATE TABLE lease (id bigint PRIMARY KEY, state text, holder text, term interval, until timestamptz);
SELECT persistomata.attach('lease', 'lease');
INSERT INTO lease (id, term) VALUES (1, '2 days'), (2, '3 days'), (3, NULL);

-- armed when the state is entered, by whatever time the row says; no time, no timer
SELECT count(*) FROM persistomata.timer;
SELECT to_state FROM persistomata.fire_many('lease', '{1,2,3}', 'take');
CREATE VIEW armed AS
SELECT fsm, key, event, CASE WHEN isfinite(due_at) THEN round(extract(epoch FROM due_at - now()) / 3600) END AS hours, tries, last_error
  FROM persistomata.timer ORDER BY key, event, due_at;
SELECT * FROM armed;
-- a self-transition arms anew; going elsewhere, and a DELETE, disarm
SELECT array_agg(id ORDER BY id) AS ids FROM persistomata.timer WHERE key = '1' \gset
UPDATE lease SET term = '5 hours' WHERE id = 1;
SELECT * FROM armed WHERE key = '1';
SELECT to_state FROM persistomata.fire('lease', 1, 'renew');
SELECT *, (SELECT bool_or(id = ANY (:'ids'::bigint[])) FROM persistomata.timer) AS old FROM armed WHERE key = '1';
SELECT to_state FROM persistomata.fire('lease', 2, 'give');
DELETE FROM lease WHERE id = 3;
SELECT * FROM armed;
-- what is rolled back arms nothing
BEGIN;
SAVEPOINT s;
SELECT to_state FROM persistomata.fire('lease', 2, 'take');
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM armed WHERE key = '2';
-- a step of nothing would never end
SELECT persistomata.create_machine('spin', $$
flowchart LR
  idle -->|spin| spinning
  spinning -->|stop| stopped
  spinning -->|"every (step)"| spinning
$$);
CREATE TABLE spin (id int PRIMARY KEY, state text, step interval);
SELECT persistomata.attach('spin', 'spin');
INSERT INTO spin VALUES (1, NULL, '0'), (2, NULL, '-1 day'), (3, NULL, '1 day');
SELECT status, reason FROM persistomata.try_fire('spin', 1, 'spin');
SELECT status, reason FROM persistomata.try_fire('spin', 2, 'spin');
SELECT status, reason FROM persistomata.try_fire('spin', 3, 'spin');

-- delayed events
SELECT persistomata.fire_at('lease', 2, 'burn', now() + interval '1 hour', '{"why": "old"}') AS burn \gset
SELECT persistomata.fire_at('lease', '2', 'take', now() + interval '2 hours') AS take \gset
SELECT * FROM armed WHERE key = '2';
-- they are not bound to the state, so entering another one leaves them
SELECT to_state FROM persistomata.fire('lease', 2, 'take');
SELECT key, event, hours FROM armed WHERE key = '2';
SELECT persistomata.cancel_timer(:burn), persistomata.cancel_timer(:burn), persistomata.cancel_timer(0);
SELECT event FROM armed WHERE key = '2';
DELETE FROM lease WHERE id = 2;
SELECT count(*) FROM armed WHERE key = '2';

SELECT persistomata.fire_at('lease', 1, 'nonsense', now());
SELECT persistomata.fire_at('lease', 1, 'burn', 'infinity');
SELECT persistomata.fire_at('lease', 1, 'burn', NULL);
SELECT persistomata.fire_at('lease', 7, 'burn', now());
SELECT persistomata.fire_at('pg_class', 1, 'burn', now());

-- the owner changes when a timer is due, and nothing else
SELECT id AS after FROM persistomata.timer WHERE key = '1' AND event LIKE 'after%' \gset
UPDATE persistomata.timer SET due_at = now() + interval '7 hours' WHERE id = :after;
SELECT hours FROM armed WHERE key = '1' AND event LIKE 'after%';
UPDATE persistomata.timer SET event = 'burn' WHERE id = :after;
UPDATE persistomata.timer SET due_at = NULL WHERE id = :after;
UPDATE persistomata.timer SET due_at = 'infinity' WHERE id = :after;
SELECT due_at FROM persistomata.timer WHERE id = :after;
DELETE FROM persistomata.timer WHERE id = :after;
SELECT event FROM armed WHERE key = '1';
INSERT INTO persistomata.timer (key) VALUES ('1');

-- whose right it is
SELECT persistomata.fire_at('lease', 1, 'renew', now() + interval '1 day') AS renew \gset
GRANT SELECT (id) ON lease TO regress_pst_clerk;
SET ROLE regress_pst_clerk;
SELECT persistomata.fire_at('lease', 1, 'renew', now() + interval '1 day');
SELECT persistomata.cancel_timer(:renew);
SELECT count(*) FROM persistomata.timer;
SELECT * FROM persistomata.timer_entry;
RESET ROLE;
GRANT SELECT, UPDATE (state) ON lease TO regress_pst_clerk;
SET ROLE regress_pst_clerk;
SELECT persistomata.fire_at('lease', 1, 'renew', now() + interval '1 day') > 0 AS fire_at;
SELECT event FROM persistomata.timer WHERE fsm = 'lease'::regclass ORDER BY event;
UPDATE persistomata.timer SET due_at = now() WHERE id = :renew;
DELETE FROM persistomata.timer WHERE id = :renew;
SELECT persistomata.cancel_timer(:renew);
RESET ROLE;
-- row security holds for them, too
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
SELECT persistomata.fire_at('lease', 1, 'renew', now() + interval '1 day') AS renew \gset
SET ROLE regress_pst_clerk;
SELECT persistomata.fire_at('lease', 1, 'renew', now() + interval '1 day');
SELECT persistomata.cancel_timer(:renew);
SELECT count(*) FROM persistomata.timer WHERE fsm = 'lease'::regclass;
RESET ROLE;

-- detach and DROP TABLE remove all of them
SELECT count(*) > 0 FROM persistomata.timer_entry;
SELECT persistomata.detach('lease');
DROP VIEW armed;
DROP TABLE lease, spin;
SELECT count(*) FROM persistomata.timer_entry;
DROP ROLE regress_pst_clerk;
SELECT persistomata.drop_machine('lease'), persistomata.drop_machine('spin');
