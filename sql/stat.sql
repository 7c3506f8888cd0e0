-- Sight: instances by state, the metrics' form, and the rights to see them.
SET client_min_messages = warning;
SELECT persistomata.create_machine('stat_lamp', $$
flowchart LR
  none -->|on!| red
  red -->|go| green
  green -->|off| dark
$$);
CREATE TABLE stat_lamp (id bigint PRIMARY KEY, state text);
INSERT INTO stat_lamp VALUES (1, 'red');
SELECT persistomata.attach('stat_lamp', 'stat_lamp', baseline => false);
INSERT INTO stat_lamp SELECT generate_series(2, 5);
SELECT status FROM persistomata.fire('stat_lamp', 2, 'go');
SELECT status FROM persistomata.fire('stat_lamp', 3, 'go');
DELETE FROM stat_lamp WHERE id = 5;

-- of the instance that was there before attach nobody knows since when
CREATE VIEW seen AS
SELECT machine, version, fsm, state, instances, timed,
	   min_seconds >= 0 AND min_seconds <= avg_seconds AND avg_seconds <= max_seconds AND max_seconds < 600 AS times
  FROM persistomata.stat_machine WHERE fsm::text LIKE '%stat\_%' ORDER BY fsm::text, state;
SELECT * FROM seen;

-- keys of several columns, of types whose text depends on settings; enums
CREATE TYPE stat_color AS ENUM ('none', 'red', 'green', 'dark', '*');
CREATE TABLE "Stat odd" (at timestamptz, flag bool, word text, state stat_color, PRIMARY KEY (at, flag, word));
SELECT persistomata.attach('"Stat odd"', 'stat_lamp');
SET datestyle = 'German';
SET timezone = 'Asia/Tokyo';
INSERT INTO "Stat odd" VALUES ('2026-01-02 03:04:05+00', true, 'quote " and \ and é');
SELECT state, instances, timed FROM persistomata.stat_machine WHERE fsm = '"Stat odd"'::regclass;
RESET datestyle;
RESET timezone;

-- a caller sees the tables that he may read, and of the log no more than that
CREATE ROLE regress_stat_reader;
CREATE ROLE regress_stat_stranger;
GRANT SELECT ON stat_lamp TO regress_stat_reader;
GRANT SELECT ON seen TO PUBLIC;
SET ROLE regress_stat_reader;
SELECT fsm, state, instances, timed FROM persistomata.stat_machine WHERE fsm::text LIKE '%tat%' ORDER BY state;
SELECT count(*) FROM persistomata.entry;
SET ROLE regress_stat_stranger;
SELECT count(*) FROM persistomata.stat_machine;
SELECT count(*) FROM persistomata.entry;
RESET ROLE;
-- row security: only the rows that he sees are counted, and the log says nothing of them
ALTER TABLE stat_lamp ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON stat_lamp USING (id = 2);
SET ROLE regress_stat_reader;
SELECT fsm, state, instances, timed FROM persistomata.stat_machine WHERE fsm::text LIKE '%tat%' ORDER BY state;
SELECT count(*) FROM persistomata.entry;
RESET ROLE;

DROP VIEW seen;
DROP TABLE stat_lamp, "Stat odd";
DROP TYPE stat_color;
SELECT persistomata.drop_machine('stat_lamp');
DROP ROLE regress_stat_reader;
DROP ROLE regress_stat_stranger;
