-- Routes: what may be asked for, who may ask, and where they stand.
SET client_min_messages = warning;
SELECT persistomata.stop_workers();
\set SHOW_CONTEXT never
CREATE SERVER queue FOREIGN DATA WRAPPER persistomata_redis OPTIONS (host '127.0.0.1', port '1');
CREATE EXTENSION postgres_fdw;
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw;

SELECT persistomata.create_route('r', 'nowhere');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'other');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('', 'queue');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'queue', format => 'xml');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'queue', start => 'tomorrow');
SELECT persistomata.create_route('r', 'queue', start => 'snapshot', types => '{state}');
SELECT persistomata.create_route('r', 'queue', throttle => '10/s');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'queue', throttle => 'all');
SELECT persistomata.create_route('r', 'queue', throttle => 'all soon');
SELECT persistomata.create_route('r', 'queue', throttle => 'last 2 days');
SELECT persistomata.create_route('r', 'queue', options => '{"linger_ms": "soon"}');
SELECT persistomata.create_route('r', 'queue', options => '{"max_rows": 0}');

-- filters and encoders: what is wrong is shown where it stands
\set SHOW_CONTEXT always
SELECT persistomata.create_route('r', 'queue', filter => $$type = 'state' AND colour = 'red'$$);
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'queue', filter => $$type = 'state'
  AND (payload->>'n')::int$$);
\echo :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT never
SELECT persistomata.create_route('r', 'queue', filter => 'version + 1');
SELECT persistomata.create_route('r', 'queue', filter => 'true; DROP TABLE x');
SELECT persistomata.create_route('r', 'queue', filter => 'true FROM pg_class');
SELECT persistomata.create_route('r', 'queue', filter => 'count(*) > 1');
CREATE FUNCTION wire(persistomata.event) RETURNS text LANGUAGE sql AS 'SELECT $1.key';
SELECT persistomata.create_route('r', 'queue', format => 'wire');
\echo :LAST_ERROR_SQLSTATE
DROP FUNCTION wire(persistomata.event);
CREATE FUNCTION wire(persistomata.event) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb($1.key)';
CREATE SERVER columns FOREIGN DATA WRAPPER persistomata_clickhouse OPTIONS (url 'http://127.0.0.1:1');
SELECT persistomata.create_route('r', 'columns', format => 'wire');
SELECT persistomata.create_route('r', 'columns', format => 'cloudevents');
\echo :LAST_ERROR_SQLSTATE
DROP SERVER columns;
SELECT persistomata.create_route('f', 'queue', filter => $$event.type = 'state' AND args ? 'n'$$, format => 'wire',
	throttle => 'last 500ms') > 0 AS made;
SELECT persistomata.alter_route('f', filter => 'nonsense');
SELECT persistomata.alter_route('f', throttle => 'nonsense');
SELECT persistomata.alter_route('f', format => 'nonsense');
SELECT persistomata.alter_route('f', format => 'json', throttle => 'all 1s');
SELECT persistomata.alter_route('f', filter => '', throttle => '');
SELECT s.filter, s.format, s.throttle, s.search_path FROM persistomata.route_settings s
  JOIN persistomata.route r ON r.id = s.route WHERE r.name = 'f' ORDER BY s.version;
SELECT persistomata.drop_route('f');
SELECT persistomata.create_route('r', 'queue', types => '{state,birth}');
SELECT persistomata.create_route('r', 'queue', options => '{"table": "t"}');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('r', 'queue', options => '{"stream": ["a"]}');
SELECT persistomata.create_route('r', 'queue', options => '[]');
SELECT persistomata.create_route('r', 'queue', options => '{"stream": "{colour}"}');

SELECT persistomata.create_route('r', 'queue', machine => 'l*', types => '{state}', options => '{"stream": "s"}') > 0 AS made;
SELECT persistomata.create_route('r', 'queue');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('all', 'queue', start => 'earliest') > 0 AS made;
SELECT route, server, kind, enabled, state, sent, dead, last_error FROM persistomata.stat_route ORDER BY route;

SELECT persistomata.alter_route('nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.alter_route('r', events => '{go}', types => '{}', options => '{"stream": "t"}');
SELECT persistomata.alter_route('r', options => '{"table": "t"}');
SELECT persistomata.alter_route('r', machine => '');
SELECT persistomata.seek_route('r', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.seek_route('r', 1);
SELECT persistomata.disable_route('r');
SELECT r.name, r.enabled, s.machine, s.types, s.events, s.states, s.format, s.options, s.version > min(s.version) OVER () AS later
  FROM persistomata.route r JOIN persistomata.route_settings s ON s.route = r.id WHERE r.name = 'r' ORDER BY s.version;
SELECT g.generation, g.from_position FROM persistomata.route r JOIN persistomata.route_generation g ON g.route = r.id
 WHERE r.name = 'r' ORDER BY 1;
SELECT route, state, position FROM persistomata.stat_route WHERE route = 'r';
SELECT persistomata.enable_route('r');

-- dead letters
INSERT INTO persistomata.dead_letter_entry (route, position, name, event, reason)
SELECT id, 1, 'a-1-1', '{"key": "1"}', 'too big' FROM persistomata.route WHERE name = 'r';
SELECT max(id) AS letter FROM persistomata.dead_letter \gset
SELECT route, position, name, event, reason, retrying FROM persistomata.dead_letter;
SELECT persistomata.retry_dead_letter(:letter);
SELECT route, retrying FROM persistomata.dead_letter;

-- rights
CREATE ROLE regress_route;
SET ROLE regress_route;
SELECT persistomata.create_route('mine', 'queue');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER queue TO regress_route;
-- a machine that is named shows its tables' events; a glob those that the owner may read
SELECT persistomata.create_machine('routed', $$
flowchart LR
  none -->|on!| red
$$);
CREATE TABLE routed (id int PRIMARY KEY, state text);
DO $$ BEGIN PERFORM persistomata.attach('routed', 'routed'); END $$;
GRANT EXECUTE ON FUNCTION wire(persistomata.event) TO regress_route;
REVOKE EXECUTE ON FUNCTION wire(persistomata.event) FROM PUBLIC;
GRANT SELECT (id) ON routed TO regress_route;
SET ROLE regress_route;
SELECT persistomata.create_route('mine', 'queue', machine => 'routed');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT SELECT ON routed TO regress_route;
ALTER TABLE routed ENABLE ROW LEVEL SECURITY;
SET ROLE regress_route;
SELECT persistomata.create_route('mine', 'queue', machine => 'routed');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
ALTER TABLE routed DISABLE ROW LEVEL SECURITY;
SET ROLE regress_route;
SELECT persistomata.create_route('named', 'queue', machine => 'routed', start => 'snapshot');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.log_snapshot('routed', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('named', 'queue', machine => 'routed', format => 'wire') > 0 AS made;
SELECT persistomata.drop_route('named');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION wire(persistomata.event) FROM regress_route;
REVOKE SELECT ON routed FROM regress_route;
SET ROLE regress_route;
SELECT persistomata.create_route('named', 'queue', format => 'wire');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.create_route('named', 'queue', machine => 'r*') > 0 AS made;
SELECT persistomata.alter_route('named', machine => 'routed');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.drop_route('named');
SELECT persistomata.create_route('mine', 'queue') > 0 AS made;
SELECT persistomata.alter_route('r', machine => 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.drop_route('all');
SELECT persistomata.seek_route('r', 1);
SELECT persistomata.disable_route('r');
SELECT count(*) FROM persistomata.dead_letter;
SELECT persistomata.discard_dead_letter(:letter);
\echo :LAST_ERROR_SQLSTATE
SELECT route FROM persistomata.stat_route;
SELECT * FROM persistomata.route;
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.disable_route('mine');
SELECT persistomata.drop_route('mine');
RESET ROLE;

SELECT persistomata.discard_dead_letter(:letter);
SELECT persistomata.discard_dead_letter(:letter);
\echo :LAST_ERROR_SQLSTATE
SELECT persistomata.drop_route('r'), persistomata.drop_route('all');
SELECT count(*) FROM persistomata.route;
DROP FUNCTION wire(persistomata.event);
DROP TABLE routed;
SELECT persistomata.drop_machine('routed');
REVOKE USAGE ON FOREIGN SERVER queue FROM regress_route;
DROP ROLE regress_route;
DROP SERVER queue;
DROP EXTENSION postgres_fdw CASCADE;
SELECT persistomata.start_workers();
