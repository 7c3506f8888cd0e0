-- Who may do what.  Every denial is shown.
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

SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP ROLE regress_pst_owner, regress_pst_user, regress_pst_other;
SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
