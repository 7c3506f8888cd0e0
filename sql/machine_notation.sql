--
-- The three notations as people write them: one definition for each rule
--

-- a definition's machine, a line for each thing; or what is wrong with it
CREATE FUNCTION reads_as(definition text, syntax text DEFAULT 'auto') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT format('%s %s', severity, message) || format(' (line %s, column %s)', line, "column")
				   FROM persistomata.validate(definition, syntax) WHERE code NOT IN ('no_final', 'ambiguous');
	IF NOT EXISTS (SELECT FROM persistomata.validate(definition, syntax) WHERE severity = 'error') THEN
		RETURN QUERY SELECT format('state %s', state) || coalesce(' entry / ' || entry_action, '') || coalesce(' exit / ' || exit_action, '')
					   FROM persistomata.definition_states(definition, syntax) WHERE entry_action IS NOT NULL OR exit_action IS NOT NULL;
		RETURN QUERY SELECT format('%s -> %s: %s %s', from_state, to_state, kind, event) || coalesce(' [' || guard || ']', '') || coalesce(' / ' || action, '')
					   FROM persistomata.definition_transitions(definition, syntax) WHERE event !~ '^__';
	END IF;
END
$$;

--
-- Mermaid flowcharts
--
-- headers and directions
SELECT replace(h, U&'\FEFF', 'FEFF ') AS h, reads_as(h || 'a -->|x| b') FROM unnest(ARRAY['', 'graph TD' || E'\n', 'flowchart LR;', E'flowchart-elk BT\n', E'graph\n', E'\n\n  flowchart TB\r\n',
	E'---\ntitle: T\nconfig:\n  look: x\n---\nflowchart LR\n', E'%%{init: {"theme": "base"}}%%\nflowchart RL\n', E'```mermaid\ngraph LR\n', U&'\FEFFflowchart LR' || E'\n']) h;
-- ends of statements, blanks, comments
SELECT reads_as(E'a-->|x|b;b -->|y| c;;\n\n\t c\t-->\t| z |\td ; %% words --> |q| no\n%% e -->|q| f\n   \nd --> |w|   e   \r\n');
-- ways to write an edge; every one is an edge
SELECT e, reads_as(e) FROM unnest(ARRAY['a -->|x| b', 'a --> |x| b', 'a---->|x|b', 'a ==>|x| b', 'a -.->|x| b', 'a -..->|x| b', 'a -- x --> b', 'a --x--> b', 'a == x ==> b', 'a -. x .-> b',
	'a -->|"x"| b', 'a -- "x" --> b', 'a -->|"`x`"| b', 'a e1@-->|x| b']) e;
-- several sources and targets, chains
SELECT reads_as('a & b -->|x| c,d --> |y| e & f; s -->|go| a,b');
-- what is for the eye
SELECT reads_as($q$
flowchart TB
  accTitle: A title --> |q| no
  accDescr: words --> |q| no
  accDescr {
    more -->|q| words
  }
  subgraph one [Some --> words]
    direction LR
    subgraph
      a
      b(Start) -->|x| a
    end
  end
$q$);
SELECT reads_as($q$
flowchart TB
  subgraph one [Some words]
    direction LR
    a([Start]) -->|x| b[["Two (2)"]]:::hot
    b{Is it?} -->|y| c((c))
  end
  subgraph two
    c e1@--> |z| d@{ shape: rect, label: "It's } d" }
  end
  e1@{ animate: true }
  a ~~~ d
  d>flag]
  title["A state"] -->|begin| a
  class a,b hot; classDef hot fill:#f96,stroke:#333;
  style d fill:#bbf
  linkStyle default stroke:#f00
  linkStyle 0,1 color:red
  click a "https://example.org" "tip"
  click b call f()
$q$);
SELECT reads_as(E'subgraph one\n  a -->|x| b\nend\none -->|y| c');
-- a word alone is a state among others, and nothing by itself
SELECT reads_as(E'b\na -->|x| b');
SELECT reads_as('a[A]');
SELECT reads_as(E'garbage');
SELECT reads_as(E'a -->|x| b\ngarbage');
SELECT reads_as(E'a -->|x| b\ngarbage line');
-- names
SELECT reads_as(E'état-1 --> |aller.à_la| Жук.b --> |пуск| 状態 --> |go-on| ok! --> |no| ok? --> |yes| 1a --> |z| graph --> |end| end');
SELECT reads_as(U&'a --> |x| b\00A0 --> |y| c\200B');
SELECT reads_as('a b --> |x| c');
SELECT reads_as('"a" --> |x| c');
-- short names
SELECT reads_as(E'%% persistomata: w is in-work!\n%%persistomata:e is end\nw["In work"] --> |x| e');
SELECT reads_as(E'a --> |x| b\n%% persistomata: b is c\n%% persistomata: d = c\n%% persistomata: d is\n%% persistomata: d is e f\n%% persistomata is fine');
-- no transitions
SELECT a, reads_as('a ' || a || ' b') FROM unnest(ARRAY['-->', '---', '--x|e|', '--o|e|', '<-->|e|', '->|e|', '-- e ---', '=>|e|', '|e|', '-->|e', '-->|"e|', '-- e']) a;

--
-- State diagrams of Mermaid
--
SELECT reads_as($q$
---
title: T
---
stateDiagram-v2
  direction LR
  accTitle: words
  %% a comment
  # another
  hide empty description
  scale 350 width
  state "Waiting: here" as waiting
  waiting: words for the eye / and more
  state done
  busy
  [*] --> waiting
  waiting-->busy:call
  busy --> waiting : back?
  busy:::hot --> done : finish [n > 0; 1] / n = 0; done --> [*]
  note right of busy : busy --> gone : x
  note left of done
    done --> gone : x
  end note
  note "floating" as N1
  classDef hot fill:#f00,color:white
  class waiting, busy hot
  style done fill:#0f0
  click done href "https://example.org"
$q$);
SELECT reads_as(E'stateDiagram\n[*] --> a\na --> b : x %% words\nb --> [*] : y');
-- nested and concurrent states and the like are refused, once each
SELECT reads_as($q$
stateDiagram-v2
  [*] --> a : go
  state b {
    [*] --> c
    --
    c --> [*]
  }
  state d <<choice>>
  state e <<fork>>
  state f <<join>>
  state g [[choice]]
$q$);
SELECT reads_as(E'stateDiagram-v2\n[*] --> a\na --> b');

--
-- PlantUML
--
SELECT reads_as($q$
@startuml name
!theme plain
!include <x/y>
scale 600 width
title A title
title
  a --> title : x
end title
center header words
header
  words
endheader
right footer words
caption words
skinparam backgroundColor #eee
skinparam state {
  StartColor<<slow>> MediumBlue
  BackgroundColor Peru
}
<style>
  stateDiagram { LineColor red }
</style>
hide empty description
left to right direction
' words
/' words
 [*] --> no : x '/
state "Idle\nstate" as idle #pink
state busy as "Busy" <<slow>> #red;line:green
state "ended"
state paused ##[dashed]blue [[http://example.org]] : words
idle : words / more words
busy : entry / n = n + 1
busy : exit / f
[*] -> idle : wake
idle -> busy : work
busy --> idle : rest
busy -up-> idle : u
busy -left-> idle : l
busy -[#red]-> idle : c
busy -[#DD00AA,dashed,thickness=2]right-> idle : d
busy -up[bold]-> idle : e
idle <-- busy : r
idle <-[#blue]- busy : s
busy x--> idle : v
busy -->o idle : w
busy -[hidden]-> ended
busy --> paused #line:red;line.bold : p [n > 1\nAND n < 9]\n/ n = 0 /' words '/
paused --> busy <<fast>> : q
busy --> ended : z
ended --> [*]
note left of idle : idle --> no : x
note right of busy #aqua
  busy --> no : x
endnote
note on link
  words
end note
note "floating" as N1
note as N2
  words
end note
legend right
  busy --> no : x
end legend
newpage
@enduml
idle --> no : x
$q$);
-- the same without @startuml; a direction may be the name of a state, and x, o
SELECT reads_as(E'[*] -> left\nleft -left-> x : a\nx -> o : b\no x-> up : c\nup -->o left : d\nup <-up- o : e\nx --> [*]');
-- refused
SELECT l, reads_as(E'@startuml\n[*] --> a\na --> b : x\n' || l || E'\n@enduml') FROM unnest(ARRAY['a --> [H] : x', 'a --> b[H*] : x', '==bar== --> a : x', 'state c {', 'state c begin', '--', '||',
	'state c <<entryPoint>>', 'state c <<start>>', '"a b" --> a : x', 'state "a b"', 'a --> b', 'a ..> b : x', 'a -[#red> b : x', 'a <--> b : x', 'a => b : x', 'a --> b : x y']) l;
-- character codes and line breaks, each notation's own
SELECT reads_as(E'@startuml\n[*] --> a\na --> b : x [n = ''<U+003B>#59;\\n'' AND\\nm<br/>< 3] / s = <U+0027>a<U+003B>b<U+0027>, t = ''<br>''\n@enduml');
SELECT reads_as(E'[*] --> a\na --> b : x [n = ''<U+003B>#59;\\n'' AND\\nm<br/>< 3] / s = #39;a#59;b#39;, t = ''<br>''');
SELECT reads_as('a -->|"x [n = ''<U+003B>#59;\n'' AND\nm<br/>< 3 -- c ]\n] / s = #39;a;b#39;"| b');

--
-- Labels, in all notations
--
SELECT l, reads_as('a -->|"' || l || '"| b'), reads_as('a -->|' || l || '| b') = reads_as('a -->|"' || l || '"| b') AS unquoted,
	   reads_as('a -- ' || l || ' --> b') = reads_as('a -->|"' || l || '"| b') AS within,
	   (SELECT array_agg(r) FROM reads_as(E'[*] --> a\na --> b : ' || l) r) = (SELECT array_agg(r) FROM reads_as('a -->|"' || l || '"| b') r) AS state_diagram,
	   (SELECT array_agg(r) FROM reads_as(E'@startuml\n[*] --> a\na --> b : ' || l) r) = (SELECT array_agg(r) FROM reads_as('a -->|"' || l || '"| b') r) AS plantuml
  FROM unnest(ARRAY['x', '  x  ', 'x!', 'x?', 'x[a]', 'x [a[1] = '']'']', 'x![a]/b=1', 'x? [a] / f', 'x / f', 'x /f', 'x[a > (b - 1)]/ y = now(), z = ''/ [''',
	'after (30 minutes)', 'after(30 minutes) [a] / b = 1', 'After ( 1   h )', 'every (1 s)', 'every (least(a, '')''))', 'after', 'every!', 'after-noon', 'x / p = p || args',
	'x / n = n + 1, s = ''it''''s''', 'x / s = $$a$$', 'é.1_a-b [ё]']) l;

DROP FUNCTION reads_as(text, text);
