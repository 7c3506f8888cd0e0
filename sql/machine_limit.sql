--
-- Limits, and that all is linear: large definitions of every shape
--

-- each shape in some size n; a megabyte at the most
CREATE FUNCTION shapes(n int) RETURNS TABLE (shape text, definition text) LANGUAGE sql AS $f$
	SELECT 'chain', string_agg(format('s%s --> |e| s%s', i, i + 1), E'\n') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'chain on one line', string_agg(format('s%s --> |e| s%s', i, i + 1), ';') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'chain of arrows', 's0 ' || string_agg(format('--> |e%s| s%s', i, i), ' ') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'chain of hard events', string_agg(format('s%s --> |e!| s%s', i, i + 1), E'\n') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'state diagram', E'[*] --> s1\n' || string_agg(format('s%s --> s%s : e', i, i + 1), ';') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'PlantUML', E'@startuml\n[*] --> s1;' || string_agg(format('s%s --> s%s : e', i, i + 1), ';') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'entry and exit', E'[*] --> s1\n' || string_agg(format(E's%s --> s%s : e\ns%1$s : entry / a = 1\ns%1$s : exit / b', i, i + 1), E'\n') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'loops at one state', E's --> |go| a\n' || string_agg(format('a --> |e%s [x = %s] / n = %s| a', i, i, i), E'\n') FROM generate_series(1, n) i
	UNION ALL SELECT 'fan', string_agg(format('a --> |e| s%s', i), E'\n') FROM generate_series(1, n - 1) i
	UNION ALL SELECT 'dense', format('a --> |x| %s --> |y| %1$s', string_agg('s' || i, ',')) FROM generate_series(1, sqrt(n)::int * 3) i
	UNION ALL SELECT 'repeated edges', repeat(E'a --> |e| b\n', n)
	UNION ALL SELECT 'unreachable', E'[*] --> s\n' || string_agg(format('s%s --> s%s : e', i, i + 1), E'\n') FROM generate_series(1, n - 2) i
	UNION ALL SELECT 'aliases', E'flowchart LR\n' || string_agg(format('%%%% persistomata: s%s is t%s', i, i), E'\n') || E'\ns1-->|x|b' FROM generate_series(1, n) i
	UNION ALL SELECT 'subgraphs', E'flowchart LR\n' || string_agg(format(E'subgraph s%s\nend', i), E'\n') || E'\na-->|x|b' FROM generate_series(1, n) i
	UNION ALL SELECT 'long guard', 'a --> |"x [' || repeat('a = ''x'' AND ', n * 8) || 'true]"| b'
	UNION ALL SELECT 'character codes', 'a --> |"x [' || repeat('#quot;a#quot; = 1 AND ', n * 4) || 'true]"| b'
	UNION ALL SELECT 'line breaks', E'@startuml\n[*] --> a\na --> b : x [' || repeat('a\nAND ', n * 10) || 'true]'
	UNION ALL SELECT 'parentheses', 'a --> |"x [' || repeat('(', n * 50) || repeat(')', n * 50) || ']"| b'
	UNION ALL SELECT 'errors', repeat('a -> b; ', n * 12)
	UNION ALL SELECT 'comment at the end', E'@startuml\n[*]-->a\n' || repeat('a --> b : x;', n * 7) || ' /'' x ''/'
	UNION ALL SELECT d || s, d || repeat(s, n * 25 / length(s)) FROM unnest(ARRAY['[', '(', '"', '|', '$', '$$', '/*', '--', '#', '''', '%%{', '/''', ' /''', 'a,', '-', E'a["\n', E'note\n', 'a -- ', E'a-->|"\n',
		E'[*]-[\n', E'a:entry/\n', E'a --> b : [\n', E'state "\n', '$a$b', E'skinparam {\n', 'accDescr {', 'e@{', '[[', '<<', '#x;', '<U+', '%%persistomata:a is ']) s,
		unnest(ARRAY['a --> |x', 'stateDiagram;[*] --> x : y', E'@startuml\n[*] --> x : y']) d
$f$;

-- Four times the size may take nine times as long, and no more: sixteen times
-- would be quadratic.  It is the processor's time that counts, as the machine
-- may have others to serve.
CREATE FUNCTION processor_ms() RETURNS float8 LANGUAGE sql VOLATILE AS $$
	SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e6
$$;
-- ms a run, of as many as the kernel's clock needs
CREATE FUNCTION cost(definition text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	start float8 := processor_ms();
BEGIN
	FOR run IN 1..50 LOOP
		PERFORM count(*) FROM persistomata.validate(definition);
		IF processor_ms() - start >= 16 OR run = 50 THEN
			RETURN (processor_ms() - start) / run;
		END IF;
	END LOOP;
END
$$;
CREATE TABLE measured AS
SELECT shape, length(l.definition) AS size, cost(s.definition) AS small, cost(l.definition) AS large
  FROM shapes(2500) s JOIN shapes(10000) l USING (shape);
SELECT count(*) > 100 AS enough FROM measured;
SELECT shape, size, small, large, large / nullif(small, 0) AS ratio FROM measured WHERE large > 9 * small + 2;

-- what is accepted of it works, too
SELECT count(persistomata.create_machine('l ' || shape, definition)) FROM shapes(10000)
 WHERE shape LIKE 'chain%' OR shape IN ('entry and exit', 'loops at one state', 'long guard');
SELECT machine, count(*) FROM persistomata.machine_transition WHERE machine LIKE 'l %' GROUP BY 1 ORDER BY 1;
SELECT m.name, format, length(persistomata.diagram(m.name, format)) > 100000 AS drawn
  FROM persistomata.machine m, unnest(ARRAY['mermaid', 'plantuml', 'dot']) format WHERE m.name IN ('l chain', 'l entry and exit') ORDER BY 1, 2;
SELECT array_length(states, 1), array_length(events, 1) FROM persistomata.paths('l chain');
SELECT count(persistomata.drop_machine(name)) FROM persistomata.machine WHERE name LIKE 'l %';

-- the limits themselves
SELECT n, (SELECT format('%s %s', code, message) FROM persistomata.validate((SELECT string_agg(format('s%s --> |e| s%s', i, i + 1), ';') FROM generate_series(1, n - 1) i)))
  FROM unnest(ARRAY[10000, 10001]) n;
SELECT n, (SELECT format('%s %s', code, message) FROM persistomata.validate((SELECT 'a -->|x| ' || string_agg('s' || i, ',') || ' -->|y| ' || string_agg('t' || i, ',') FROM generate_series(1, n) i)) LIMIT 1)
  FROM unnest(ARRAY[315, 316]) n;
SELECT n, (SELECT format('%s %s', code, message) FROM persistomata.validate(rpad('a -->|x| b', n))) FROM unnest(ARRAY[1048576, 1048577]) n;
SELECT n, (SELECT format('%s %s', code, message) FROM persistomata.validate(format('%s --> |%1$s| b', repeat('n', n))) LIMIT 1) FROM unnest(ARRAY[255, 256]) n;
SELECT count(*) FROM persistomata.validate(repeat(E'a b\n', 1001));
\set VERBOSITY sqlstate
SELECT persistomata.create_machine('l', rpad('a -->|x| b', 1048577));
\set VERBOSITY default

-- a search that would take for ever can be cancelled: two ways on at each of 60 steps, and none to an end
SELECT persistomata.create_machine('l maze', 'stateDiagram;[*] --> a0;' || string_agg(format('a%s --> a%s : l;a%1$s --> b%2$s : r;b%1$s --> a%2$s : l;b%1$s --> b%2$s : r', i, i + 1), ';') || ';a60-->a59 : u; b60 --> a59 : v; a0 --> b0 : b')
  FROM generate_series(0, 59) i;
SET statement_timeout = '300ms';
SELECT * FROM persistomata.paths('l maze');
RESET statement_timeout;
SELECT persistomata.drop_machine('l maze');

DROP TABLE measured;
DROP FUNCTION shapes(int), cost(text), processor_ms();
