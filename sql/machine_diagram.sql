--
-- What is printed of a machine reads as the same machine, in every notation.
-- The definitions are those that test/diagrams/run.sh holds against the real
-- Mermaid, PlantUML and Graphviz.
--
\getenv srcdir PG_ABS_SRCDIR
\set file :srcdir '/test/diagrams/definitions.sql'
\set ECHO none
SET client_min_messages = error;
\i :file
\set ECHO all
SELECT name, code, message FROM definition d, persistomata.validate(d.definition, d.syntax) v WHERE v.severity = 'error';
SELECT count(persistomata.create_machine('d ' || name, definition, syntax)) FROM definition;

-- a definition's states and transitions, in their order, with all that they have
CREATE FUNCTION model(definition text, syntax text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object(
		'states', (SELECT jsonb_agg(to_jsonb(s)) FROM persistomata.definition_states(definition, syntax) s),
		'transitions', (SELECT jsonb_agg(to_jsonb(t)) FROM persistomata.definition_transitions(definition, syntax) t))
$$;
CREATE TABLE drawn AS
SELECT m.name, m.definition, m.syntax, format, n AS counted, text
  FROM persistomata.machine m, unnest(ARRAY['mermaid', 'plantuml']) format, unnest(ARRAY[NULL, '{}', '{"a": 7}']::jsonb[]) n,
	   persistomata.machine_diagram(m.name, m.version, format, n) text
 WHERE m.name LIKE 'd %';
SELECT format, counted, count(*), count(*) FILTER (WHERE model(text, 'auto') = model(definition, syntax)) AS same
  FROM drawn GROUP BY 1, 2 ORDER BY 1, 2;
SELECT name, format, counted FROM drawn WHERE model(text, 'auto') <> model(definition, syntax);
-- and prints as the same text
SELECT count(persistomata.create_machine('e ' || name || format, text)) FROM drawn WHERE counted IS NULL;
SELECT d.name, d.format FROM drawn d
 WHERE counted IS NULL AND persistomata.diagram('e ' || name || format, format) <> text;

-- some of them, to look at
SELECT persistomata.diagram('d every kind');
SELECT persistomata.diagram('d entry and exit');
SELECT persistomata.diagram('d entry and exit', 'plantuml');
SELECT persistomata.diagram('d entry and exit', 'dot');
SELECT persistomata.diagram('d out of order');
SELECT persistomata.diagram('d short names taken', 'plantuml');
SELECT persistomata.diagram('d one state'), persistomata.diagram('d nothing');

-- live counts
CREATE TABLE visit (id int PRIMARY KEY, state text, since timestamptz, urgent bool, n int);
SELECT persistomata.attach('visit', 'd entry and exit');
INSERT INTO visit SELECT i FROM generate_series(1, 5) i;
SELECT count(*) FROM generate_series(1, 2) i, LATERAL persistomata.fire('visit', i, 'leave');
SELECT persistomata.diagram('d entry and exit', counts_from => 'visit');
SELECT persistomata.diagram('d every kind', counts_from => 'visit');
DROP TABLE visit;

SELECT count(persistomata.drop_machine(name)) FROM persistomata.machine WHERE name ~ '^[de] ';
DROP TABLE definition, word, snippet, drawn;
DROP FUNCTION model(text, text);
