-- test_scaffold: the script is written; its run under pgTAP is another test.
SELECT persistomata.create_machine('gate', $$
flowchart LR
  new     -->|set!| closed
  closed  -->|"coin [n > 0] / n = n - 1"| opened
  opened  -->|walk| closed
  opened  -->|"smash"| broken
  closed  -->|off| away
  closed  -->|off| broken
$$);
CREATE TABLE gate (a uuid, b int GENERATED ALWAYS AS IDENTITY, state text, n int NOT NULL, hue text DEFAULT 'red', PRIMARY KEY (a, b));
SELECT persistomata.attach('gate', 'gate');
\t on
\pset format unaligned
SELECT persistomata.test_scaffold('gate', 'gate');
SELECT split_part(persistomata.test_scaffold('gate'), 'CREATE FUNCTION', 1);
\pset format aligned
\t off
SELECT persistomata.test_scaffold('no gate');
SELECT persistomata.test_scaffold('gate', 'pg_class');
DROP TABLE gate;
SELECT persistomata.drop_machine('gate');
