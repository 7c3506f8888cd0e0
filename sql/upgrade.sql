-- upgrade: a table and its instances move to another version of their machine.
CREATE ROLE regress_pst_upgrader;
SELECT persistomata.create_machine('order', $$
flowchart LR
  new      -->|place!| open
  open     -->|"pay / paid = now()"| paid
  open     -->|"after (1 day)"| expired
  open     -->|"every (2 days) [false]"| open
  paid     -->|"after (7 days)"| done
  paid     -->|ship| done
$$);
CREATE TABLE orders (id int PRIMARY KEY, state text CHECK (state <> 'forbidden'), paid timestamptz, n int);
SELECT persistomata.attach('orders', 'order');
INSERT INTO orders (id) SELECT generate_series(1, 6);
SELECT to_state FROM persistomata.fire_many('orders', '{3,4,5}', 'pay');
SELECT to_state FROM persistomata.fire('orders', 5, 'ship');
SELECT status FROM persistomata.force('orders', 6, 'expired', 'for a test');
SELECT persistomata.fire_at('orders', 3, 'ship', now() + interval '1 hour') > 0 AS timer;
UPDATE persistomata.timer SET due_at = now() + interval '90 minutes' WHERE key = '1' AND event = 'after (1 day)';
CREATE VIEW armed AS
SELECT key, event, round(extract(epoch FROM due_at - now()) / 3600, 1) AS hours FROM persistomata.timer ORDER BY key, event;
SELECT * FROM armed;

-- open is called pending now, paid is in_transit, expired is gone; no ship any more
SELECT persistomata.create_machine('order', $$
flowchart LR
  new        -->|place!| pending
  pending    -->|"pay [n > 1] / paid = now()"| in_transit
  pending    -->|"pay [nonsense]"| in_transit
  pending    -->|"after (1 day)"| cancelled
  pending    -->|"after (1 hour)"| cancelled
  in_transit -->|"arrive / quantity = 1"| done
$$);
SELECT * FROM persistomata.upgrade('orders', 2, dry_run => true);
SELECT * FROM persistomata.upgrade('orders', 2);
SELECT * FROM persistomata.upgrade('orders', 2, '{"open": "pending", "paid": "in_transit"}', dry_run => true);
SELECT * FROM persistomata.fsm;

SELECT persistomata.create_machine('order', $$
flowchart LR
  new        -->|place!| pending
  pending    -->|"pay [n > 1] / paid = now()"| in_transit
  pending    -->|"pay / n = 10"| pending
  pending    -->|"after (1 day)"| cancelled
  pending    -->|"after (1 hour)"| cancelled
  in_transit -->|"after (7 days)"| done
  in_transit -->|"arrive / n = 1"| done
$$);
SELECT * FROM persistomata.upgrade('orders', 3, '{"open": "pending", "paid": "in_transit", "expired": "*"}', dry_run => true);
SELECT version FROM persistomata.fsm;
SELECT * FROM persistomata.upgrade('orders', 3, '{"open": "pending", "paid": "in_transit", "expired": "*"}');
SELECT version FROM persistomata.fsm;
SELECT id, state, paid IS NOT NULL AS paid FROM orders ORDER BY id;
-- a timer that is in both keeps its time; a new one is armed, others are gone
SELECT * FROM armed;
SELECT key, version, event, from_state, to_state, reason FROM persistomata.event
 WHERE fsm = 'public.orders' AND reason LIKE 'upgrade%' ORDER BY key;
SELECT * FROM persistomata.verify('orders');
-- the new version rules
SELECT status, to_state FROM persistomata.fire('orders', 1, 'pay');
SELECT status, to_state FROM persistomata.fire('orders', 1, 'pay');
SELECT status, to_state FROM persistomata.fire('orders', 3, 'arrive');
UPDATE orders SET state = 'paid' WHERE id = 2;
INSERT INTO orders (id) VALUES (7) RETURNING state;
-- the newest version again: nothing moves
SELECT * FROM persistomata.upgrade('orders', 0);
SELECT count(*) FROM persistomata.event WHERE fsm = 'public.orders' AND reason LIKE 'upgrade%';
-- and back
SELECT * FROM persistomata.upgrade('orders', 1, '{"pending": "open", "in_transit": "paid", "cancelled": "expired"}');
SELECT state, count(*) FROM orders GROUP BY state ORDER BY state;
SELECT * FROM armed;

-- what cannot be
SELECT * FROM persistomata.upgrade('orders', 9);
SELECT * FROM persistomata.upgrade('orders', 3, '{"open": "nowhere"}');
SELECT * FROM persistomata.upgrade('orders', 3, '{"nowhere": "pending"}');
SELECT * FROM persistomata.upgrade('orders', 3, '["open"]');
SELECT * FROM persistomata.upgrade('orders', 3, '{"open": 1}');
SELECT * FROM persistomata.upgrade('armed', 3);
SELECT persistomata.create_machine('order', $$
flowchart LR
  new -->|place!| forbidden
  forbidden -->|pay| paid
  paid -->|ship| done
$$);
SELECT * FROM persistomata.upgrade('orders', 4, '{"open": "forbidden"}');
SELECT version FROM persistomata.fsm;
SET ROLE regress_pst_upgrader;
SELECT * FROM persistomata.upgrade('orders', 3);
SELECT * FROM persistomata.upgrade('orders', 3, dry_run => true);
RESET ROLE;

-- a partitioned table
SELECT persistomata.create_machine('parts', 'flowchart LR; a -->|go| b; b -->|end| c');
CREATE TABLE parts (id int PRIMARY KEY, state text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
SELECT persistomata.attach('parts', 'parts');
INSERT INTO parts VALUES (1), (11);
SELECT to_state FROM persistomata.fire_many('parts', '{1,11}', 'go');
SELECT persistomata.create_machine('parts', 'flowchart LR; a -->|go| bb; bb -->|finish| c');
SELECT * FROM persistomata.upgrade('parts', 2, '{"b": "bb"}');
SELECT to_state FROM persistomata.fire_many('parts', '{1,11}', 'finish');
SELECT * FROM persistomata.upgrade('parts_1', 1);
DROP VIEW armed;
DROP TABLE orders, parts;
DROP ROLE regress_pst_upgrader;
SELECT persistomata.drop_machine('order'), persistomata.drop_machine('parts');
