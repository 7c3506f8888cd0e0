-- fire() writes a row by itself where an UPDATE would do no more; what an UPDATE
-- of the table would do besides must happen all the same.
SET client_min_messages = warning;
SELECT persistomata.create_machine('lamp', $$
flowchart LR
  new -->|plug| off
  off -->|"on / uses = uses + 1"| on
  on  -->|off| off
  off -->|"move / room = (args->>'room')::int"| off
  off -->|"tag / label = args->>'label'"| off
$$);
CREATE TABLE room (id int PRIMARY KEY);
INSERT INTO room VALUES (1), (2);
CREATE TABLE lamp (id int PRIMARY KEY, state text NOT NULL, uses int NOT NULL DEFAULT 0 CHECK (uses < 3),
                   room int, label text DEFAULT 'none');
SELECT persistomata.attach('lamp', 'lamp');
INSERT INTO lamp (id) VALUES (1), (2), (3);
SELECT count(*) FROM persistomata.fire_many('lamp', '{1,2,3}', 'plug');

\set VERBOSITY terse
CREATE FUNCTION fires(event text, args jsonb DEFAULT NULL, id int DEFAULT 1) RETURNS text
LANGUAGE sql AS $$ SELECT status || ' ' || to_state FROM persistomata.fire('lamp', id, event, args) $$;

-- constraints
SELECT fires('on'), fires('off'), fires('on'), fires('off');
SELECT fires('on');
SELECT fires('tag', '{"label": "a"}');
ALTER TABLE lamp ALTER label SET NOT NULL;
SELECT fires('tag');
SELECT id, state, uses, label FROM lamp WHERE id = 1;

-- indexes: unique, partial, on an expression, on the state
CREATE UNIQUE INDEX lamp_label ON lamp (label) WHERE label <> 'none';
CREATE INDEX lamp_upper ON lamp (upper(label));
CREATE INDEX lamp_state ON lamp (state);
SELECT fires('tag', '{"label": "b"}');
SELECT fires('tag', '{"label": "b"}', 2);
SELECT fires('on', NULL, 2);
SET enable_seqscan = off;
SELECT id FROM lamp WHERE upper(label) = 'B';
SELECT id FROM lamp WHERE upper(label) = 'A';
SELECT id FROM lamp WHERE state = 'on';
SELECT id FROM lamp WHERE label = 'b';
RESET enable_seqscan;

-- foreign keys: of the table, also of a row that this transaction has inserted
ALTER TABLE lamp ADD FOREIGN KEY (room) REFERENCES room DEFERRABLE;
SELECT fires('move', '{"room": 2}');
SELECT fires('move', '{"room": 3}');
SELECT persistomata.create_machine('bulb', $$
flowchart LR
  new -->|screw| used
$$);
CREATE TABLE bulb (id int PRIMARY KEY, state text, lamp int REFERENCES lamp DEFERRABLE INITIALLY DEFERRED);
SELECT persistomata.attach('bulb', 'bulb');
BEGIN;
INSERT INTO bulb (id, lamp) VALUES (1, 99);
SELECT status FROM persistomata.fire('bulb', 1, 'screw');
COMMIT;
INSERT INTO bulb (id, lamp) VALUES (1, 1);
SELECT status FROM persistomata.fire('bulb', 1, 'screw');
-- and to the table
CREATE UNIQUE INDEX lamp_label_all ON lamp (label, id);
CREATE TABLE shade (label text, lamp int, FOREIGN KEY (label, lamp) REFERENCES lamp (label, id));
INSERT INTO shade VALUES ('none', 3);
SELECT fires('tag', '{"label": "y"}', 3);
SELECT fires('on', NULL, 3);
DROP TABLE shade;
DELETE FROM bulb;

-- other triggers, from when they are there until they are gone
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING '% % %', TG_WHEN, TG_LEVEL, TG_OP;
	IF TG_LEVEL = 'ROW' AND TG_WHEN = 'BEFORE' THEN
		NEW.label := NEW.label || '!';
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER a_before BEFORE UPDATE ON lamp FOR EACH ROW EXECUTE FUNCTION note();
SELECT fires('off', NULL, 2);
DROP TRIGGER a_before ON lamp;
CREATE TRIGGER b_after AFTER UPDATE ON lamp FOR EACH ROW EXECUTE FUNCTION note();
SELECT fires('on', NULL, 2);
DROP TRIGGER b_after ON lamp;
CREATE TRIGGER c_statement AFTER UPDATE OF state ON lamp EXECUTE FUNCTION note();
SELECT fires('off', NULL, 2);
ALTER TABLE lamp DISABLE TRIGGER c_statement;
SELECT fires('tag', '{"label": "c"}', 2);
ALTER TABLE lamp ENABLE REPLICA TRIGGER c_statement;
SELECT fires('tag', '{"label": "d"}', 2);
SET session_replication_role = replica;
SELECT fires('tag', '{"label": "e"}', 2);
RESET session_replication_role;
DROP TRIGGER c_statement ON lamp;
SELECT id, state, label FROM lamp WHERE id = 2;

-- generated columns
ALTER TABLE lamp ADD twice int GENERATED ALWAYS AS (uses * 2) STORED;
SELECT fires('off', NULL, 3), fires('on', NULL, 3);
SELECT uses, twice FROM lamp WHERE id = 3;
ALTER TABLE lamp DROP twice;

-- rights: the columns that the UPDATE reads and writes
CREATE ROLE regress_pst_direct;
GRANT USAGE ON SCHEMA public TO regress_pst_direct;
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire('lamp', 3, 'off');
RESET ROLE;
GRANT UPDATE (state) ON lamp TO regress_pst_direct;
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire('lamp', 3, 'off');
RESET ROLE;
GRANT SELECT (id, state) ON lamp TO regress_pst_direct;
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire('lamp', 3, 'off');
RESET ROLE;
-- row security
ALTER TABLE lamp ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON lamp USING (id = 3);
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire('lamp', 2, 'on');
SELECT status FROM persistomata.fire('lamp', 3, 'off');
SELECT status FROM persistomata.fire('lamp', 2, 'off');
RESET ROLE;
ALTER TABLE lamp DISABLE ROW LEVEL SECURITY;
DROP POLICY mine ON lamp;

-- the schema
CREATE SCHEMA regress_pst_direct;
CREATE TABLE regress_pst_direct.bulb (id int PRIMARY KEY, state text);
SELECT persistomata.attach('regress_pst_direct.bulb', 'bulb');
INSERT INTO regress_pst_direct.bulb VALUES (1);
GRANT ALL ON regress_pst_direct.bulb TO regress_pst_direct;
SELECT 'regress_pst_direct.bulb'::regclass::oid AS bulb \gset
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire(:bulb, 1, 'screw');
RESET ROLE;
GRANT USAGE ON SCHEMA regress_pst_direct TO regress_pst_direct;
SET ROLE regress_pst_direct;
SELECT status FROM persistomata.fire(:bulb, 1, 'screw');
RESET ROLE;
DROP TABLE regress_pst_direct.bulb;
DROP SCHEMA regress_pst_direct;

-- read-only transactions
BEGIN READ ONLY;
SELECT fires('on', NULL, 2);
ROLLBACK;
BEGIN READ ONLY;
SELECT persistomata.try_fire('lamp', 2, 'on');
ROLLBACK;

-- no replica identity where one is needed
CREATE TABLE loose (id int NOT NULL UNIQUE, state text);
SELECT persistomata.attach('loose', 'bulb', key_columns => '{id}');
INSERT INTO loose VALUES (1);
SET client_min_messages = error;	-- each version words its warning of wal_level in its own way
CREATE PUBLICATION regress_pst_direct FOR TABLE loose;
SET client_min_messages = warning;
SELECT status FROM persistomata.fire('loose', 1, 'screw');
DROP PUBLICATION regress_pst_direct;
SELECT status FROM persistomata.fire('loose', 1, 'screw');

-- an action that writes its own row
CREATE TABLE diary (id int PRIMARY KEY, state text, n int DEFAULT 0);
CREATE FUNCTION meddle(r diary, args jsonb) RETURNS diary LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	UPDATE diary SET n = 7 WHERE id = r.id;
	RETURN r;
END
$$;
-- one that fires another instance
CREATE FUNCTION pass_on(r diary, args jsonb) RETURNS diary LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	PERFORM persistomata.fire('diary', r.id + 1, 'add');
	RETURN r;
END
$$;
SELECT persistomata.create_machine('diary', $$
flowchart LR
  new  -->|begin!| open
  open -->|"meddle / meddle"| open
  open -->|"pass / pass_on"| open
  open -->|"add / n = n + 1"| open
  open -->|close| closed
$$);
SELECT persistomata.attach('diary', 'diary');
INSERT INTO diary (id) VALUES (1), (2);
SELECT status FROM persistomata.fire('diary', 1, 'meddle');
SELECT status FROM persistomata.fire('diary', 1, 'pass');
SELECT status FROM persistomata.fire('diary', 2, 'pass');
SELECT key, event, payload->>'n' AS n FROM persistomata.event WHERE fsm = 'public.diary' AND type = 'state' ORDER BY event_id;

-- one instance several times in one statement: in order
SELECT (persistomata.fire('diary', 1, 'add')).status, (persistomata.fire('diary', 1, 'add')).status,
       (persistomata.fire('diary', 1, 'close')).to_state;
SELECT event, from_state, to_state, payload->>'n' AS n FROM persistomata.event
 WHERE fsm = 'public.diary' AND key = '1' ORDER BY event_id DESC LIMIT 3;

-- keys of other kinds
CREATE DOMAIN serial_number AS varchar(12) CHECK (VALUE <> '');
CREATE TABLE piece (a serial_number, b uuid, c char(3), state text, PRIMARY KEY (c, a, b));
SELECT persistomata.attach('piece', 'bulb');
INSERT INTO piece VALUES ('x', '00000000-0000-0000-0000-000000000001', 'y');
SELECT status FROM persistomata.fire('piece', '["y", "x", "00000000-0000-0000-0000-000000000001"]', 'screw');
SELECT key, to_state FROM persistomata.event WHERE fsm = 'public.piece' ORDER BY event_id DESC LIMIT 1;
CREATE COLLATION regress_pst_ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE named (name text COLLATE regress_pst_ci PRIMARY KEY, state text);
SELECT persistomata.attach('named', 'bulb');
INSERT INTO named VALUES ('Bulb');
SELECT status FROM persistomata.fire('named', 'BULB', 'screw');
CREATE TABLE numbered (n numeric PRIMARY KEY, state text);
SELECT persistomata.attach('numbered', 'bulb');
INSERT INTO numbered VALUES (1.50);
SELECT status FROM persistomata.fire('numbered', '1.5', 'screw');
-- the log has each key as the row has it
SELECT fsm, key FROM persistomata.event WHERE type = 'state' ORDER BY event_id DESC LIMIT 2;

DROP TABLE bulb, lamp, room, loose, piece, named, numbered, diary CASCADE;
DROP FUNCTION note, fires;
DROP OWNED BY regress_pst_direct;
DROP ROLE regress_pst_direct;
SELECT persistomata.drop_machine(name) FROM persistomata.machine WHERE name IN ('lamp', 'bulb', 'diary');
