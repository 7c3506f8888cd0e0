--
-- Machines: the three notations, labels, checks, versions, rights
--

-- a shorter way to look at a definition
CREATE FUNCTION edges(definition text, syntax text DEFAULT 'auto')
RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s -> %s: %s %s%s%s', from_state, to_state, kind, event,
				  ' [' || guard || ']', ' / ' || action)
	  FROM persistomata.definition_transitions(definition, syntax)
$$;

--
-- Flowcharts
--
SELECT persistomata.create_machine('turnstile', $$
flowchart LR
  idle   -->|close!| closed
  closed -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"walk [(args->>'n')::int = coins] / coins = 0"| closed
  opened -->|"walk [(args->>'n')::int < coins] / coins = coins - (args->>'n')::int"| opened
  closed -->|"off [coins = 0]"| inactive
$$);
SELECT name, version, syntax, entry_state FROM persistomata.machine;
SELECT * FROM persistomata.machine_state WHERE machine = 'turnstile';
SELECT * FROM persistomata.machine_transition WHERE machine = 'turnstile';

-- without header, blanks around pipes, a timer
SELECT persistomata.create_machine('coffee', $$
  idle --> |power_on!| ready
  ready --> |insert_money| brewing
  brewing --> |finish| done
  done --> |take_coffee| ready
  ready --> |power_off| off
  done --> |power_off| off
  brewing -->|"after (3 seconds)"| done
$$);
SELECT from_state, event, to_state, kind FROM persistomata.machine_transition WHERE machine = 'coffee';

-- every way to write an edge
SELECT edges(E'graph TD; a-->|e1|b;b ==> | e2 | c\r\n\tc -.-> |e3|d %% words\n\n%% more\nd -- e4 --> f == e5? ==> g -. "e6!" .-> h -->|"e7"| i ---->|e8| j;');
-- several sources and targets, shapes, classes, ids of edges, groups
SELECT edges($$
---
title: Shapes
---
%%{init: {"theme": "dark",
   "flowchart": {}}}%%
flowchart TB
  accTitle: shapes
  subgraph one [Not a state]
    direction LR
    a([Start (here)]) -->|x [k = 1]| b["it's ] not ("] & c{{"?"}},d>flag]:::hot
    b:::cold & c e1@-->|y| z(((The end)))
  end
  d@{ shape: rect, label: "d" } -->|y| z
  classDef hot fill:#f00
  class a,b cold; style z fill:#fff
  linkStyle 0 stroke:#ff3
  click a "https://example.org"
$$);
-- names: Unicode, dashes, dots, digits, keywords
SELECT edges($$
  Жук --> |пуск| state-1.b_2
  state-1.b_2-->|go-on.2|graph
  graph --> |a| end
  end --> |b| 3
  3 --> |c| 状態
  状態 --> |d| ok!
$$);
-- SQL in unquoted labels: || and quotes do not end them, comments may follow
SELECT edges($q$
  a --> |coin / payload = payload || args, s = '|' || "|x|"| b
  b --> |go [args[1] = ANY (ARRAY[1, 2]) AND (x | 1) = 3 AND '];' <> ']'] / t = $$it's | $$ || $x$|$$|$x$, u = E'\'|', n = a / b| c
  c --> |f / note = 'a; b -->|x| c'; | d
  d -- coin / x = (args->>'n')::int - -1 --> e
$q$);
-- character codes of Mermaid
SELECT edges($q$
  flowchart LR
  a -->|"go [#quot;Mixed Case#quot; = 'a#59;b' AND x #gt; 1 AND j #>> '{a}' = '1' AND m # 3 = 1] / n = '#35;#x263a;#9786;#bogus;#0;#xD800;'"| b
  b -->|"walk<br/>[x = 1]<br>/ y = '<br>'<br />"| c
  c -->|"`coin / z = '|'`"| d
$q$);
-- a quoted label may span lines
SELECT edges($q$
  a -->|"pay [ amount > 0
          -- it's a comment with ] and |
          AND (args->>'n')::int = amount /* | ] */
        ]
        / paid_at = now(),
          amount = 0"| b
$q$);
-- timers: space normalised, expressions, kinds
SELECT edges($q$
  a --> |after ( 30
minutes )| b
$q$);
SELECT edges($q$
  a -->|"after  (  30   minutes )"| b
  b -->|"every(due_at - '1  hour'::interval) [n < 3] / n = n + 1"| b
  b -->|after| c
  b -->|"After (least(x, ')'))"| c
$q$);

--
-- State diagrams
--
SELECT edges($q$
stateDiagram-v2
  direction LR
  %% words
  state "Long name: here" as a
  b : b is for the eye
  state c
  [*] --> a
  a --> b : coin [n > 1; 2] / x = 'a;b'; b-->c:walk!
  note right of a : coin --> here
  note left of b
    c --> nowhere : really
  end note
  b --> [*]
  c:::hot --> [*] : stop / y = now()::text || ':' %% done
  classDef hot fill:#f00
$q$);
SELECT edges($q$
@startuml
title A machine
skinparam state {
  BackgroundColor white
}
hide empty description
left to right direction
' words
/' words
   [*] --> nowhere '/
state "Idle" as idle #pink
state busy as "Busy state" <<slow>>
[*] -> idle : wake
idle -right-> busy : work / n = n + 1
busy -[#red,dashed]down-> idle : rest? [#quot; n > 0]
busy -d-> [*] : stop\n[n = 0]\n/ n = 1
note "words" as N1
legend
  busy --> nowhere
endlegend
@enduml
this is not read
$q$);
-- entry and exit
SELECT persistomata.create_machine('doors', $q$
stateDiagram-v2
  open : entry / opened = now(), n = n + 1
  open: Exit / f
  state "Shut" as shut
  shut : just words about a/b
  [*] --> shut
  shut --> open : push
  open --> shut : pull [n < 10]
  open --> [*] : burn
$q$);
SELECT * FROM persistomata.machine_state WHERE machine = 'doors';
SELECT syntax, entry_state FROM persistomata.machine WHERE name = 'doors';
SELECT edges(E'[*] --> a,b : go', 'plantuml');
SELECT edges('[*] --> [*] : noop');
-- keywords as names
SELECT edges($q$
[*] --> note : go
note --> title : a
title --> state : b
state --> hide : c
hide --> left : d
left --> [*] : e
$q$);

--
-- Errors, all at once
--
SELECT severity, code, line, "column", message FROM persistomata.validate('');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'%% only words\n;;\n');
SELECT severity, code, line, "column", message FROM persistomata.validate($q$flowchart LR
  a -> |x| b
  a --> b
  a --- b
  a --> |x| b | c
  garbage
  [*] --> |x| a
  a --> |x| [*]
  a --> || b
  a --> | | b
  a --> |[x]| b
  a --> |ok!?| b
  a --> |two words| b
  a --> |x []| b
  a --> |x [a = 1| b
  a --> |x [a[1]] /| b
  a --> |after ()| b
  a --> |__start__| b
  a --> |x, y| b
  a --> |x|
  a[open --> |x| b
  ж --> |é [| b
  a --> |x / '| b
  a -- x b
  a --> |"x| b
$q$);
SELECT severity, code, line, "column", message FROM persistomata.validate($q$stateDiagram-v2
  [*] --> a
  a --> b
  a --> "b c" : x
  a --> b : x y
  a --> : x
  a <-- b : x
  state c {
    [*] --> d
    --
    d --> [*]
  }
  state e <<choice>>
  state "no alias"
  a : entry / x = 1
  a : entry / y = 1
  a : do / z
  a : entry /
$q$);
-- of the graph
SELECT severity, code, line, "column", message FROM persistomata.validate('a --> |x| b --> |y| a');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x| c\nb --> |y| c\nd --> |y| c');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x| b\nc --> |y| d --> |z| c');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x| a');
SELECT severity, code, line, "column", message FROM persistomata.validate('a --> |x| b', 'state_diagram');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'stateDiagram\na --> [*] : x');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'[*] --> a\n[*] --> b : x');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'[*] --> a\na --> b : x\nb --> b : y');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x| b\nb --> |y| c --> |z| b\na --> |q| d');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x| b\na --> |x| b,c\na --> |x [k]| d\na --> |x [k]| b\na --> |y!| b & c');
SELECT severity, code, line, "column", message FROM persistomata.validate(E'a --> |x!| b\nb --> |y!| c\nc --> |z!| a\nc --> |w| d');
SELECT severity, code, line, "column", message FROM persistomata.validate(E's --> |go| a --> |x!| b\nb --> |y!| c\nc --> |z!| a\nc --> |w! [k]| d');
SELECT severity, code, line, "column", message FROM persistomata.validate(E's --> |go| a --> |x! [k]| b\nb --> |y!| a\na --> |w| d');

SELECT severity, code, line, "column", message FROM persistomata.validate(E's --> |go| a --> |x! [k]| b\na --> |y!| c\nc --> |z!| a\nb --> |w!| a\na --> |w| d');

-- as create_machine raises them
SELECT persistomata.create_machine('bad', E'flowchart LR\n\tжук --> |пуск пуск| b');
SELECT persistomata.create_machine('bad', E'a --> |"coin [coins > 0 AND payload->>''a rather long name'' = ''a rather long text'' AND] coins]"| b\r\n');
SELECT persistomata.create_machine('bad', E'状態 --> |始|| b');
SELECT persistomata.create_machine('bad', '', 'bogus');
SELECT persistomata.create_machine('', 'a --> |x| b');
SELECT persistomata.create_machine(repeat('m', 256), 'a --> |x| b');
SELECT persistomata.create_machine(NULL, 'a --> |x| b');
SELECT persistomata.create_machine('bad', NULL);
SELECT persistomata.create_machine('bad', repeat(' ', 1024 * 1024 + 1));
SELECT count(*) FROM persistomata.validate((SELECT string_agg(format('s%s --> |e| s%s', i, i + 1), ';') FROM generate_series(1, 9999) i));
SELECT count(*) FROM persistomata.validate((SELECT string_agg(format('s%s --> |e| s%s', i, i + 1), ';') FROM generate_series(1, 10000) i));
SELECT count(*) FROM persistomata.validate((SELECT format('a --> |x| %s --> |y| %1$s', string_agg('s' || i, ',')) FROM generate_series(1, 400) i));
SELECT code, left(message, 40) FROM persistomata.validate(repeat('n', 256) || ' --> |x| b');
SELECT code, left(message, 40) FROM persistomata.validate('a --> |' || repeat('n', 256) || '| b');
SELECT count(*) FROM persistomata.machine WHERE name = 'bad';

SELECT count(*) FROM persistomata.validate(repeat(E'a b\n', 1001));

-- what the parser must not be slow with
SET statement_timeout = '20s';
SELECT count(*) > 0 FROM unnest(ARRAY['[', '(', '"', '|', '$', '$$', '/*', '--', '#', '''', 'a-->|"', E'a-->|"\n', 'a -- ', E'a[\n', E'a["\n', '%%{', E'note\n',
	'-', E'[*]-[\n', E'a:entry/\n', E'a --> b : [\n', '$a$b']) AS part,
	LATERAL persistomata.validate('a --> |x' || repeat(part, 1000000 / length(part))) v;
SELECT count(*) > 0 FROM unnest(ARRAY['[', '(', '"', '|', '$', '$$', '/*', '--', '#', '''', E'a-->b:"\n', E'a[\n', '%%{', E'note\n', 'a,',
	'-', E'[*]-[\n', E'a:entry/\n', E'a --> b : [\n', E'state "\n', '$a$b', E'skinparam {\n']) AS part,
	LATERAL persistomata.validate('stateDiagram;[*] --> x : y' || repeat(part, 1000000 / length(part))) v;
RESET statement_timeout;

--
-- Diagrams and paths
--
SELECT persistomata.diagram('turnstile');
SELECT persistomata.diagram('turnstile', 'plantuml');
SELECT persistomata.diagram('turnstile', 'dot');
SELECT persistomata.diagram('doors');
SELECT persistomata.diagram('doors', 'plantuml');
SELECT persistomata.machine_diagram('doors', 1, 'mermaid', '{"open": 3, "*": 1}');
SELECT persistomata.machine_diagram('turnstile', 0, 'mermaid', '{"closed": 3}');
SELECT persistomata.diagram('turnstile', 'svg');
SELECT persistomata.diagram('nothing');
SELECT persistomata.machine_diagram('turnstile', 2, 'mermaid');
SELECT persistomata.machine_diagram('turnstile', 1, 'mermaid', '[]');
SELECT * FROM persistomata.paths('coffee');
SELECT * FROM persistomata.paths('doors');
SELECT count(*) FROM persistomata.paths('coffee', max_paths => 1);
-- what is printed reads as the same machine
SELECT persistomata.create_machine('hostile', $q$stateDiagram-v2
  [*] --> end : go
  a.b-c : entry / note = '#58; : ; "{}<>&`%%'
  end --> a.b-c : e [x = '#59;' AND "Q" #>> '{a}' = 'b' OR y < 3] / z = E'a#10;b' || $$;$$, w = t::int
  a.b-c --> a.b-c : every (1 minute)
  a.b-c --> [*] : stop?
$q$);
SELECT persistomata.create_machine('lines', $q$
  a -->|"x [n = 'a#59;:#35;quot;#quot;'
    -- it's
    AND m > 1] / z = '
    %%', s = 1 "| b
$q$);
SELECT persistomata.diagram('hostile');
SELECT persistomata.diagram('lines');
SELECT persistomata.diagram('lines', 'plantuml');
SELECT m.name, format, (SELECT array_agg(t) FROM persistomata.definition_transitions(m.definition, m.syntax) t)
	   = (SELECT array_agg(t) FROM persistomata.definition_transitions(persistomata.diagram(m.name, format), 'auto') t) AS transitions,
	   (SELECT array_agg(t) FROM persistomata.definition_states(m.definition, m.syntax) t)
	   = (SELECT array_agg(t) FROM persistomata.definition_states(persistomata.diagram(m.name, format), 'auto') t) AS states
  FROM persistomata.machine m, unnest(ARRAY['mermaid', 'plantuml']) AS format
 ORDER BY 1, 2;

-- a machine that the backend has seen is forgotten with its extension
SET client_min_messages = error;
SELECT persistomata.diagram('turnstile') LIKE '%walk%';
BEGIN;
DROP EXTENSION persistomata CASCADE;
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('turnstile', 'a --> |x| b');
SELECT persistomata.diagram('turnstile');
ROLLBACK;
SELECT persistomata.diagram('turnstile') LIKE '%walk%';
RESET client_min_messages;

--
-- Versions
--
SELECT persistomata.create_machine('v', 'a --> |x| b');
SELECT persistomata.create_machine('v', 'a --> |x| c');
SELECT persistomata.create_machine('v', 'a --> |x| b');
SELECT persistomata.create_machine('v', E'a --> |x| b\na --> |x| c');
SELECT version, definition FROM persistomata.machine WHERE name = 'v' ORDER BY version;
SELECT machine, version, from_state, event, to_state FROM persistomata.machine_transition WHERE machine = 'v' ORDER BY version, to_state;
SELECT persistomata.drop_machine('v');
SELECT persistomata.drop_machine('v');
SELECT persistomata.create_machine('v', 'a --> |x| b');

--
-- Rights
--
CREATE ROLE regress_pst_alice;
CREATE ROLE regress_pst_bob;
CREATE ROLE regress_pst_carol IN ROLE regress_pst_alice;
GRANT USAGE ON SCHEMA persistomata TO regress_pst_alice, regress_pst_bob;
SET ROLE regress_pst_alice;
SELECT persistomata.create_machine('alices', 'a --> |x| b');
SELECT count(*) FROM persistomata.machine_transition WHERE machine = 'alices';
SELECT * FROM persistomata.machine_version;
SET ROLE regress_pst_bob;
SELECT persistomata.create_machine('alices', 'a --> |y| b');
SELECT persistomata.create_machine('alices', 'a --> |x| b');
SELECT persistomata.drop_machine('alices');
SELECT persistomata.drop_machine('turnstile');
SET ROLE regress_pst_carol;
SELECT persistomata.create_machine('alices', 'a --> |y| b');
RESET ROLE;
-- within a definer's function it is the definer who acts
CREATE FUNCTION alices_way() RETURNS int SECURITY DEFINER LANGUAGE sql AS
$$ SELECT persistomata.create_machine('alices', 'a --> |z| b') $$;
ALTER FUNCTION alices_way() OWNER TO regress_pst_alice;
SET ROLE regress_pst_bob;
SELECT alices_way();
SELECT current_user;
RESET ROLE;
SELECT name, version, owner FROM persistomata.machine_version WHERE name = 'alices' ORDER BY version;
SELECT persistomata.drop_machine('alices');

-- a user's operators and tables are not met
CREATE SCHEMA regress_pst_trap;
CREATE FUNCTION regress_pst_trap.eq(text, text) RETURNS bool LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE OPERATOR regress_pst_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_pst_trap.eq);
SET search_path = regress_pst_trap, pg_catalog;
SELECT persistomata.create_machine('v', 'a --> |x| b');
SELECT persistomata.drop_machine('v');
RESET search_path;
DROP SCHEMA regress_pst_trap CASCADE;

-- every function says what it is for
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'persistomata'::regnamespace
   AND p.proname ~ 'machine|validate|definition|diagram|paths' AND obj_description(p.oid, 'pg_proc') IS NULL;

DROP FUNCTION alices_way();
DROP FUNCTION edges(text, text);
REVOKE USAGE ON SCHEMA persistomata FROM regress_pst_alice, regress_pst_bob;
DROP ROLE regress_pst_carol, regress_pst_bob, regress_pst_alice;
SELECT persistomata.drop_machine(name) FROM (SELECT DISTINCT name FROM persistomata.machine) AS m;
