--
-- Each static check and each mistake: its code, place, message and hint
--
CREATE FUNCTION findings(definition text, syntax text DEFAULT 'auto') RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format(E'%s %s at %s:%s: %s\n%s\n%s', severity, code, line, "column", message, excerpt, hint)
	  FROM persistomata.validate(definition, syntax)
$$;
\pset format unaligned
\pset tuples_only on

-- entries
SELECT findings('a -->|x| b -->|y| a');
SELECT findings(E'a -->|x| c\nb -->|y| c');
SELECT findings(E'stateDiagram-v2\na --> [*] : x');
SELECT findings(E'[*] --> a\n[*] --> b\na --> [*] : x\nb --> [*] : x');
SELECT findings(E'[*] --> a,b : go');
-- unreachable, at the place of its first mention
SELECT findings(E'a -->|x| b\nc -->|y| d\nd -->|z| c');
SELECT findings(E'[*] --> a\na --> [*]\nb --> [*]');
-- names
SELECT findings('[*] -->|x| a');
SELECT findings(E'[*] --> "a b"');
SELECT findings('a -->|two words| b');
SELECT findings('a -->|x /* y */| b');
SELECT findings('a -->|x!?| b');
SELECT findings('a -->|__end__| b');
SELECT findings(U&'a -->|x| b\00A0');
SELECT findings(repeat('n', 256) || ' --> |x| b');
SELECT findings('a -->|' || repeat('n', 256) || '| b');
SELECT findings('a -->|after (' || repeat('n', 1001) || ')| b');
-- warnings
SELECT findings(E'a -->|x| b\nb -->|y| b');
SELECT findings(E'a -->|x| b\nb -->|y| c\nc -->|z| b\na -->|w| d');
SELECT findings(E'a -->|x!| b\na -->|y| c');
SELECT findings(E's -->|x!| a\na -->|y!| b\nb -->|z!| a\nb -->|w [k]| c');
SELECT findings(E'a -->|x| b\na -->|x| b,c');
SELECT findings(E'a -->|x| b\na -->|x| c');
SELECT findings(E'a -->|x!| b & c');
SELECT findings(E'[*] --> a\na --> [*]\na : do / f');
-- and what is none
SELECT findings(E'a -->|x [k]| b\na -->|x| c\na -->|x! [k]| b\na -->|y| d\nd -->|x [k]| b & c');
-- limits
SELECT findings(repeat(' ', 1048577));
SELECT left(findings('a -->|x| ' || string_agg('s' || i, ',')), 60) FROM generate_series(1, 10000) i;
SELECT left(findings(string_agg('s' || i, ',') || '-->|x|' || string_agg('t' || i, ',')), 60) FROM generate_series(1, 317) i;
-- all at once, errors first of all: of half a graph nothing is said
SELECT findings(E'a -> b\nb -->|x| c\nc -->|x y| d\nd -->|x| d');
-- every message has its line, the caret below the place, and a hint
SELECT count(*), bool_and(hint <> '' AND excerpt ~ '\n[ \t]*\^$' AND line > 0 AND "column" > 0)
  FROM unnest(ARRAY['', 'a', 'a -->', 'a -->|', 'a -->|x| b c', 'a[', 'a -->|[x]| b', 'a -->|x []| b', 'a -->|"x [k"| b', 'a -->|x [k] /| b', 'a -->|x [k] y| b', 'a -->|"after (1"| b', 'a -->|after ()| b',
	E'[*] --> a\na --> b', E'[*] --> a\nstate b {', E'[*] --> a\n--', E'[*] --> a\nstate b <<fork>>', E'[*] --> a\n"b" --> a : x', E'[*] --> a : x y', E'[*] --> a\na : entry / x\na : entry / y', E'[*] --> a\na : exit /',
	E'[*] -> a\n%% persistomata: a is b', E'%% persistomata: a b\n[*] --> a']) d,
	   LATERAL persistomata.validate(d);
\pset format aligned
\pset tuples_only off

-- a long line, wide characters, tabs
\set VERBOSITY verbose
SELECT persistomata.create_machine('bad', E'flowchart LR\n\t状態 -->|"x [' || repeat('длинное = 1 AND ', 10) || E'true] oops"| b\n');
\set VERBOSITY default
-- an error is raised alone, a warning each
SELECT persistomata.create_machine('bad', E'a -->|x y| b\nb -->|z| c -->|w w| d');
SELECT persistomata.create_machine('warned', E'a -->|x!| b\na -->|y| c\na -->|y| b');
SELECT persistomata.drop_machine('warned');
SELECT count(*) FROM persistomata.machine WHERE name IN ('bad', 'warned');

DROP FUNCTION findings(text, text);
