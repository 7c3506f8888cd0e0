-- Keys whose equal values may be written differently: an event finds its instance
-- however the key is written, and the log has it as the row has it.
SELECT persistomata.create_machine('key', $$
flowchart LR
  new -->|go| there
  there -->|stay| there
  there -->|end| gone
$$);
CREATE TABLE num (id numeric PRIMARY KEY, state text);
SELECT persistomata.attach('num', 'key');
INSERT INTO num VALUES (1.50), (2);
SELECT status FROM persistomata.fire('num', '1.5', 'go');
SELECT status FROM persistomata.fire('num', '1.500', 'stay', idempotency_key => 'k');
SELECT status FROM persistomata.fire('num', '1.5', 'stay', idempotency_key => 'k');
SELECT status FROM persistomata.try_fire('num', '1.5', 'go');
SELECT persistomata.fire_at('num', '1.5', 'stay', now() + interval '1 day') > 0 AS timer;
SELECT key FROM persistomata.timer WHERE fsm = 'num'::regclass;
SELECT status FROM persistomata.fire_many('num', '{1.5,1.50,2.0}', 'stay');
-- also where the row is written by an UPDATE
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE UPDATE ON num FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT status FROM persistomata.fire('num', '1.500', 'stay');
SELECT status FROM persistomata.force('num', '2.000', 'there', 'for a test');
SELECT persistomata.fire('num', '2.5', 'stay');
SELECT key, type, event FROM persistomata.event WHERE fsm = 'public.num' AND type <> 'init' ORDER BY event_id;
SELECT count(*) FROM persistomata.history('num', '1.5000');
SELECT * FROM persistomata.verify('num');
CREATE TABLE padded (a char(5), b float8, state text, PRIMARY KEY (a, b));
SELECT persistomata.attach('padded', 'key');
INSERT INTO padded VALUES ('x', '-0');
SELECT status FROM persistomata.fire('padded', '["x", 0]', 'go');
SELECT key FROM persistomata.event WHERE fsm = 'public.padded' AND type = 'state';
-- what no index of ours could hold is refused where it would come in
CREATE TABLE long (id text PRIMARY KEY, state text);
SELECT persistomata.attach('long', 'key');
INSERT INTO long SELECT string_agg(md5(i::text), '') FROM generate_series(1, 64) AS i;
INSERT INTO long SELECT string_agg(md5(i::text), '') || 'x' FROM generate_series(1, 64) AS i;
INSERT INTO long VALUES (repeat('x', 10000));
SELECT status FROM persistomata.fire('long', (SELECT id FROM long), 'go',
	idempotency_key => (SELECT substr(string_agg(md5(i::text), ''), 1, 512) FROM generate_series(1, 20) AS i));
SELECT persistomata.fire('long', 'x', 'go', idempotency_key => repeat('x', 513));
SELECT persistomata.detach('long');
INSERT INTO long VALUES (repeat('x', 10000), 'there');
SELECT persistomata.attach('long', 'key');
CREATE TABLE wide (a bytea, b bytea, state text, PRIMARY KEY (a, b));
SELECT persistomata.attach('wide', 'key');
INSERT INTO wide SELECT decode(string_agg(md5(i::text), ''), 'hex'), '\x22' FROM generate_series(1, 70) AS i;
DROP TABLE long, wide;
DROP TABLE num, padded;
DROP FUNCTION nothing;
SELECT persistomata.drop_machine('key');
