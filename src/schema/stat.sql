-- Sight: what workers and routes are doing.

CREATE FUNCTION persistomata.start_workers() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_start_workers';
COMMENT ON FUNCTION persistomata.start_workers() IS
'starts the workers of this database, and the launcher where the library is not preloaded';
CREATE FUNCTION persistomata.stop_workers() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_stop_workers';
COMMENT ON FUNCTION persistomata.stop_workers() IS
'stops the workers of this database, and returns when they are gone: before DROP DATABASE';
REVOKE ALL ON FUNCTION persistomata.start_workers(), persistomata.stop_workers() FROM PUBLIC;

CREATE FUNCTION persistomata.live_workers(
	OUT database oid, OUT kind text, OUT server text, OUT pid int, OUT state text, OUT since timestamptz)
RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_stat_worker';
COMMENT ON FUNCTION persistomata.live_workers() IS 'the places of workers in shared memory';

CREATE VIEW persistomata.stat_worker AS
SELECT d.datname AS database, w.kind, w.server, w.pid, w.state, w.since
  FROM persistomata.live_workers() w
  LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) w.database;
COMMENT ON VIEW persistomata.stat_worker IS 'workers: schedulers and those that serve sinks';

CREATE FUNCTION persistomata.live_routes(
	OUT route int, OUT state text, OUT "position" bigint, OUT sent bigint, OUT retried bigint,
	OUT duplicates bigint, OUT dead bigint, OUT last_error text, OUT last_error_at timestamptz,
	OUT next_attempt_at timestamptz, OUT p50_ms float8, OUT p99_ms float8)
RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_live_routes';
COMMENT ON FUNCTION persistomata.live_routes() IS 'the live state of routes in shared memory';

CREATE FUNCTION persistomata.cuts(
	OUT cut bigint, OUT first_position bigint, OUT events bigint, OUT made_at timestamptz)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_0 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_1 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_2 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_3 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_4 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_5 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_6 c UNION ALL
	SELECT c.cut, c.first_position, c.events, c.made_at FROM persistomata.cut_7 c;
END;
COMMENT ON FUNCTION persistomata.cuts() IS 'the cuts that are kept';

CREATE FUNCTION persistomata.route_lag(from_position bigint, OUT events bigint, OUT seconds float8)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(sum(least(c.events, c.first_position + c.events - from_position)), 0)::bigint,
		   coalesce(extract(epoch FROM clock_timestamp() - min(c.made_at)), 0)::float8
	  FROM persistomata.cuts() c
	 WHERE c.first_position + c.events > from_position;
END;
COMMENT ON FUNCTION persistomata.route_lag(bigint) IS
'how many events have been cut from a position on, and how long ago the first of them was';

CREATE FUNCTION persistomata.route_position(route_id int) RETURNS bigint
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'pst_route_position';
COMMENT ON FUNCTION persistomata.route_position(int) IS
'the last position that a route has settled, from its cursor; NULL if it has not begun';

CREATE VIEW persistomata.stat_route WITH (security_barrier) AS
SELECT r.name AS route, r.server::text AS server,
	   pg_catalog.regexp_replace(w.fdwname::text, '^persistomata_', '') AS kind, r.enabled,
	   CASE WHEN NOT r.enabled THEN 'disabled' ELSE coalesce(l.state, 'stopped') END AS state,
	   p.settled AS position,
	   CASE WHEN p.settled IS NOT NULL THEN g.events END AS lag_events,
	   CASE WHEN p.settled IS NOT NULL THEN g.seconds END AS lag_seconds,
	   coalesce(l.sent, 0) AS sent, coalesce(l.retried, 0) AS retried, coalesce(l.duplicates, 0) AS duplicates,
	   (SELECT count(*) FROM persistomata.dead_letter_entry d WHERE d.route = r.id) AS dead,
	   l.last_error, l.last_error_at, l.next_attempt_at, l.p50_ms, l.p99_ms
  FROM persistomata.route r
  LEFT JOIN persistomata.live_routes() l ON l.route = r.id
  LEFT JOIN pg_catalog.pg_foreign_server s ON s.srvname = r.server
  LEFT JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
  CROSS JOIN LATERAL (SELECT CASE WHEN l.state <> 'stopped' THEN greatest(l.position, persistomata.route_position(r.id))
								  ELSE persistomata.route_position(r.id) END AS settled) p
  CROSS JOIN LATERAL persistomata.route_lag(p.settled + 1) g
 WHERE pg_catalog.pg_has_role(r.owner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON VIEW persistomata.stat_route IS
'routes: where each stands, how far behind, and what is in its way';
GRANT SELECT ON persistomata.stat_worker, persistomata.stat_route TO PUBLIC;

