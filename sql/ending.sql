-- on_final => 'delete': the row goes when its instance ends.
CREATE ROLE regress_pst_guest;
SELECT persistomata.create_machine('guest', $$
stateDiagram-v2
  [*] --> asked : ask
  asked --> here : come
  asked --> [*] : decline
  here --> fed : feed! [hungry]
  here --> here : talk
  here --> [*] : leave
  here --> [*] : after (0 seconds) [tired]
  fed --> asleep : sleep
$$);
CREATE TABLE guest (id int PRIMARY KEY, state text, hungry bool NOT NULL DEFAULT false, tired bool NOT NULL DEFAULT false);
CREATE TABLE coat (guest int REFERENCES guest ON DELETE CASCADE);
SELECT persistomata.attach('guest', 'guest', on_final => 'delete');
INSERT INTO guest (id) SELECT generate_series(1, 8);
INSERT INTO coat VALUES (1), (2);

-- by an event to [*], by a state without exits, by a raw write, by force
SELECT to_state FROM persistomata.fire_many('guest', '{1,2,3,4,5}', 'come');
SELECT status, from_state, to_state FROM persistomata.fire('guest', 1, 'leave');
UPDATE guest SET state = '*' WHERE id = 2;
UPDATE guest SET hungry = true WHERE id = 6;
SELECT status, to_state FROM persistomata.fire('guest', 6, 'come');
SELECT status, to_state FROM persistomata.fire('guest', 6, 'sleep');
SELECT status, to_state FROM persistomata.force('guest', 7, '*', 'out');
SELECT status, to_state FROM persistomata.fire('guest', 3, 'talk');
SELECT id, state FROM guest ORDER BY id;
SELECT * FROM coat;
SELECT key, type, event, from_state, to_state, reason FROM persistomata.event
 WHERE fsm = 'public.guest' AND key IN ('1', '2', '6', '7') AND type <> 'init' ORDER BY key::int, event_id;
SELECT * FROM persistomata.verify('guest');
SELECT persistomata.fire('guest', 1, 'come');
SELECT status, reason FROM persistomata.try_fire('guest', 1, 'come');

-- all in one statement
UPDATE guest SET state = '*' WHERE state = 'here' AND id > 3;
SELECT id, state FROM guest ORDER BY id;
-- it can come back, and its timers do not
INSERT INTO guest (id) VALUES (1);
SELECT persistomata.fire_at('guest', 1, 'come', now() + interval '1 day') > 0 AS timer;
SELECT status, to_state FROM persistomata.fire('guest', 1, 'decline', idempotency_key => 'no');
SELECT count(*) FROM persistomata.timer WHERE key = '1';
-- sent again, the last event is not sent twice
SELECT status, event, to_state FROM persistomata.fire('guest', 1, 'decline', idempotency_key => 'no');
SELECT persistomata.fire('guest', 1, 'come', idempotency_key => 'no');

DELETE FROM persistomata.idempotency WHERE key = '1' AND idempotency_key = 'no';

-- who may fire need not be allowed to delete
GRANT SELECT, UPDATE (state) ON guest TO regress_pst_guest;
SET ROLE regress_pst_guest;
DELETE FROM guest WHERE id = 3;
SELECT status, to_state FROM persistomata.fire('guest', 3, 'leave');
RESET ROLE;
SELECT type, actor = current_user AS owner FROM persistomata.event WHERE fsm = 'public.guest' AND key = '3' AND type <> 'value' ORDER BY event_id DESC LIMIT 2;

-- rolled back, the row is there
BEGIN;
SELECT to_state FROM persistomata.fire('guest', 8, 'decline');
SELECT count(*) FROM guest WHERE id = 8;
ROLLBACK;
SELECT state FROM guest WHERE id = 8;
-- what refers to it may keep it
CREATE TABLE debt (guest int REFERENCES guest);
INSERT INTO debt VALUES (8);
SELECT to_state FROM persistomata.fire('guest', 8, 'decline');
SELECT status, reason FROM persistomata.try_fire('guest', 8, 'decline');
SELECT state FROM guest WHERE id = 8;
DROP TABLE debt;

-- a chain that ends where it begins
SELECT persistomata.create_machine('spark', $$
stateDiagram-v2
  [*] --> lit : light
  lit --> [*] : out! [short]
$$);
CREATE TABLE spark (id int PRIMARY KEY, state text, short bool) PARTITION BY HASH (id);
CREATE TABLE spark_0 PARTITION OF spark FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE spark_1 PARTITION OF spark FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT persistomata.attach('spark', 'spark', on_final => 'delete');
INSERT INTO spark SELECT g, NULL, g < 3 FROM generate_series(1, 4) g;
SELECT id, state FROM spark ORDER BY id;
SELECT key, type, to_state FROM persistomata.event WHERE fsm = 'public.spark' AND key IN ('1', '4') ORDER BY key, event_id;
SELECT persistomata.detach('spark');
-- without it, the row stays
SELECT persistomata.attach('spark', 'spark');
INSERT INTO spark VALUES (5, NULL, true);
SELECT id, state FROM spark WHERE id = 5;
DROP TABLE coat, guest, spark;
DROP ROLE regress_pst_guest;
SELECT persistomata.drop_machine('guest'), persistomata.drop_machine('spark');
