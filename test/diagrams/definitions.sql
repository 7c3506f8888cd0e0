-- The definitions that test/diagrams/run.sh draws: words of the notations as
-- names, and SQL that looks like something else.
CREATE TABLE definition (name text, definition text, syntax text DEFAULT 'auto');

-- words as names of states: alone, and with what may follow a word in a name
CREATE TABLE word AS SELECT w, row_number() OVER () AS n FROM unnest(string_to_array(
	'end graph flowchart subgraph style linkStyle classDef class click call href interpolate default state note direction title '
	'as left right of fork join choice hide scale accTitle accDescr x o up down stateDiagram TD LR BT TB v one_way root_start '
	'constructor __proto__ toString hasOwnProperty prototype undefined null true empty description skinparam legend header footer '
	'caption center endlegend endnote enduml startuml page newpage rotate together remove set show mainframe sprite json frame '
	'begin concurrent divider root not if else all par group namespace h start historical 1 1a état Жук 状態 straße İstanbul δ '
	'_ _a a__b entry exit after every do', ' ')) w;
INSERT INTO definition
SELECT format('words%s, a flowchart', suffix),
	   string_agg(format('%s -->|go| %s', coalesce(w.w || suffix, 'first'), next.w || suffix), E'\n' ORDER BY next.n), 'flowchart'
  FROM unnest(ARRAY['', '.x', '-x', '!', '?', '_', '1']) suffix, word next LEFT JOIN word w ON w.n = next.n - 1
 GROUP BY suffix;
INSERT INTO definition
SELECT replace(name, 'flowchart', 'state diagram'), E'[*] --> first\n' || regexp_replace(definition, '-->\|go\| (\S+)', '--> \1 : go', 'g'), 'state_diagram'
  FROM definition;
INSERT INTO definition
SELECT 'WORDS', string_agg(format('%s -->|go| %s', coalesce('Z' || upper(w.w), 'first'), 'Z' || upper(next.w)), E'\n' ORDER BY next.n), 'flowchart'
  FROM word next LEFT JOIN word w ON w.n = next.n - 1;
UPDATE definition SET definition = replace(definition, 'Z', '') WHERE name = 'WORDS';

-- words as events
INSERT INTO definition
SELECT 'events', string_agg(format(E'a -->|%s| b\nb -->|"%1$s [true]"| a\na -->|%1$s! [n = 1]| c', w), E'\n') || E'\nidle -->|begin| a' FROM word WHERE w NOT IN ('after', 'every');

-- SQL that looks like something else, as guards and as actions
CREATE TABLE snippet AS SELECT s, row_number() OVER () AS n FROM unnest(ARRAY[
	'a < 3', 'a<b', 'a > b', 'a<b AND c>d', 'x = ''<br>''', 'x = ''<b>bold</b>''', 'x = ''"''', '"Q" = 1', '"a b;c" = 1', 'x = ''#quot;''',
	'x = ''#59;''', 'x = ''&lt; &amp; &#59;''', 'a & b = 1', 'a && b', 'a || ''|'' || "x|"', 'x = ''%%''', 'x = ''%%{init: {}}%%''',
	'x = $$a;b$$', 'x = $t$ "]| $t$', 'x = E''\n\\''', 'x = ''a\nb''', 'x = ''\''', 'x ~* ''^[a-z]+$''', 'x !~ ''/''''*''', 'a[1] = ANY (ARRAY[''{''])',
	'j @> ''{"a": [1]}''', 'j #>> ''{a,b}'' = ''1''', 'j ? ''a''', 'x = ''`''', 'x = ''`a`''', 'x = ''--> b''', 'x = ''a --> b : c''', 'n /* c | ] */ = 1', 'n /1 = 1',
	E'n = 1 -- it''s ] | "\n AND m = 2', E'n = 1 -- at the end\n', E'x = ''two\nlines''', E'n = 1\nAND x = E''\\''|'' AND ''a\nb'' <> ''|''', E'x =\n$$a<br/>b$$', E'x =\nE''\\''<br/>''', E'x = ''a\r\nb''', E'n =\t1\n\tAND m = 2',
	'x = ''**b** //i// __u__ ~~w~~ --s-- [[l]] ""m""''', 'x = ''<U+0041><U+000A>''', 'x = ''<&icon> <$sprite> <#red>c''', 'x = ''%date() %newline()''', 'n %2 = 0',
	'x = ''!include y''', 'x = ''@enduml''', 'x = ''end note''', 'x = ''style a:#f00;''', 'x = ''style a::#f00;b''', 'x = ''classDef x fill:#f00;''', 'x::text::"T" = ''a''',
	'x = '':::hot''', 'x = ''title: y''', 'x = ''état 状態 🎉''', 'n = 1 / 2', 'n = 1/ 2', 'n/''2'' = 1', 'x = ''a/''''b'' AND y = ''c''''/d''', 'x = ''{{a}}''', 'x = ''((''', 'x = '')''',
	'x = ''[*]''', 'x = ''|''', 'x = ''a;b''', 'x = '':''', 'x = ''a: b''', 'x = ''~''', 'x = ''$a$b''', 'x = ''\U+1F600''', 'x = ''<script>alert(1)</script>''', 'x = ''<!-- c -->''', 'x = ''fa:fa-car''',
	'- -n = 1', 'n*m*k = 1', 'x = ''_a_''', 'x = ''1. one''', 'x = ''- one''', 'x = ''# one''', 'x = ''\'' AND y = ''\\''', 'x = ''$$a$$''', 'x = ''?''', 'x = ''ends\''']) s;
INSERT INTO definition
SELECT 'guards', string_agg(format('a -->|"e%s [%s]"| b', n, replace(replace(replace(s, '#', '#35;'), '"', '#quot;'), '\', '#92;')), E'\n') FROM snippet;
INSERT INTO definition
SELECT 'actions', string_agg(format('a -->|"e%s [%s] / %2$s"| b', n, replace(replace(replace(replace(replace(s, '#', '#35;'), '"', '#quot;'), '<', '#lt;'), '&', '#38;'), '\', '#92;')), E'\n') FROM snippet;
INSERT INTO definition
SELECT 'actions of a state diagram', E'stateDiagram-v2\n[*] --> a\n' ||
	   string_agg(format(E's%s : entry / %s\ns%1$s : exit / %2$s\na --> s%1$s : e%1$s [%2$s] / %2$s', n, code), E'\n')
  FROM snippet, LATERAL (SELECT string_agg(CASE WHEN c ~ '[#";:\n\r<&\\]' THEN '#' || ascii(c) || ';' ELSE c END, '') FROM regexp_split_to_table(s, '') c) code(code);

-- as people write them
INSERT INTO definition VALUES
('every kind', $$
flowchart TB
  idle -->|close!| closed
  closed -->|"coin? [args->>'n' <> ''] / coins = coins + (args->>'n')::int"| opened & closed
  opened -->|after (30 minutes)| closed
  opened -->|"every ( '1 second'::interval ) [n < 3] / n = n + 1"| opened
  opened & closed -->|burn| ash
$$),
('entry and exit', $$
@startuml
state "Waiting room" as waiting
waiting : entry / since = now()
waiting : exit / since = NULL
[*] -> waiting : arrive
waiting -down-> treated : call [urgent\nOR n = 1]\n/ n = n + 1
waiting --> [*] : leave
treated --> [*]
@enduml
$$),
('out of order', 'a & b -->|x| c; z -->|y| b & a'),
('out of order, a diagram', E'stateDiagram-v2\n  late\n  [*] --> first : go\n  first --> late : x\n  late --> [*] : stop\n'),
('one state', 'flowchart LR; a[only]'),
('nothing', '[*] --> [*] : noop'),
('short names taken', E'a-b_2 --> |x| a_b_2 --> |y| a-b --> |z| a_b_3'),
('the end', E'[*] --> a\na --> b : x');
