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
	OUT database oid, OUT kind text, OUT server text, OUT pid int, OUT state text, OUT since timestamptz,
	OUT doing text, OUT doing_since timestamptz, OUT restarts int, OUT failures int, OUT restart_at timestamptz)
RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_stat_worker';
COMMENT ON FUNCTION persistomata.live_workers() IS 'the places of workers in shared memory';

CREATE VIEW persistomata.stat_worker AS
SELECT d.datname AS database, w.kind, w.server, w.pid, w.state, w.since,
	   w.doing, w.doing_since, w.restarts, w.failures, w.restart_at
  FROM persistomata.live_workers() w
  LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) w.database;
COMMENT ON VIEW persistomata.stat_worker IS 'workers: the launcher, schedulers and those that serve sinks; what each does, since when, and how often it had to be started again';

CREATE FUNCTION persistomata.live_routes(
	OUT route int, OUT state text, OUT "position" bigint, OUT sent bigint, OUT retried bigint,
	OUT duplicates bigint, OUT dead bigint, OUT last_error text, OUT last_error_at timestamptz,
	OUT next_attempt_at timestamptz, OUT p50_ms float8, OUT p99_ms float8,
	OUT state_since timestamptz, OUT rate float8, OUT coalesced bigint, OUT busy_since timestamptz, OUT busy_from bigint)
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
	   CASE WHEN b.worker_fails THEN 'its worker does not run: see persistomata.stat_worker and the log of the server'
			ELSE l.last_error END AS last_error,
	   l.last_error_at, l.next_attempt_at, l.p50_ms, l.p99_ms,
	   l.state_since, l.rate AS events_per_second,
	   CASE WHEN g.events > 0 AND l.state IN ('sending', 'idle') AND l.rate > 0
			THEN clock_timestamp() + pg_catalog.make_interval(secs => g.events / l.rate) END AS caught_up_at,
	   coalesce(l.coalesced, 0) AS coalesced,
	   (SELECT coalesce(sum(k.to_position - k.from_position + 1), 0)::bigint
		  FROM persistomata.route_skip k WHERE k.route = r.id) AS skipped
  FROM persistomata.route r
  LEFT JOIN persistomata.live_routes() l ON l.route = r.id
  LEFT JOIN pg_catalog.pg_foreign_server s ON s.srvname = r.server
  LEFT JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
  CROSS JOIN LATERAL (SELECT CASE WHEN l.state <> 'stopped' THEN greatest(nullif(l.position, -1), persistomata.route_position(r.id))
								  ELSE persistomata.route_position(r.id) END AS settled) q
  -- for want of a place among max_worker_processes, or because it ends again and again
  CROSS JOIN LATERAL (SELECT r.enabled AND coalesce(l.state, 'stopped') = 'stopped' AND EXISTS (
						  SELECT FROM persistomata.stat_worker v
						   WHERE v.database = current_database() AND v.kind = 'sink' AND v.server = r.server::text
							 AND v.pid IS NULL AND v.failures > 0) AS worker_fails) b
  -- one that waits for what is new has nothing behind it
  CROSS JOIN LATERAL (SELECT coalesce(q.settled,
									  CASE (SELECT s.start FROM persistomata.route_settings s WHERE s.route = r.id ORDER BY s.version DESC LIMIT 1)
									  WHEN 'now' THEN (SELECT coalesce(max(c.first_position + c.events - 1), 0) FROM persistomata.cuts() c) END) AS settled) p
  CROSS JOIN LATERAL persistomata.route_lag(p.settled + 1) g
 WHERE pg_catalog.pg_has_role(persistomata.role_of(r.owner), 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON VIEW persistomata.stat_route IS
'routes: where each stands, how far behind, and what is in its way';
GRANT SELECT ON persistomata.stat_worker, persistomata.stat_route TO PUBLIC;

CREATE VIEW persistomata.stat_replay WITH (security_barrier) AS
SELECT r.name AS route, g.from_position, g.to_position, p.settled AS position, p.settled = g.to_position AS done, g.begun_at,
	   CASE WHEN p.settled >= g.from_position AND p.settled < g.to_position
			THEN clock_timestamp() + (clock_timestamp() - g.begun_at) * ((g.to_position - p.settled)::float8
																		 / (p.settled - g.from_position + 1)) END AS ends_at
  FROM persistomata.route r
  JOIN LATERAL (SELECT * FROM persistomata.route_generation n WHERE n.route = r.id ORDER BY n.generation DESC LIMIT 1) g
	ON g.to_position IS NOT NULL
 CROSS JOIN LATERAL (SELECT greatest(least(persistomata.route_position(r.id), g.to_position), g.from_position - 1) AS settled) p
 WHERE pg_catalog.pg_has_role(persistomata.role_of(r.owner), 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON VIEW persistomata.stat_replay IS
'the last replay of each route: how far it is, and when it will end';
GRANT SELECT ON persistomata.stat_replay TO PUBLIC;


-- What keeps a slot of the ring.  A route that has not begun pins nothing.
CREATE FUNCTION persistomata.ring_slots(
	OUT slot int, OUT state text, OUT turn bigint, OUT turned_at timestamptz, OUT bytes bigint,
	OUT first_cut bigint, OUT last_cut bigint, OUT pinned_by text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	last_end bigint;
BEGIN
	FOR slot, state, turn, turned_at, bytes, first_cut, last_cut, pinned_by IN
		SELECT r.slot, CASE WHEN r.turn = 0 THEN 'empty'
							WHEN r.turn = max(r.turn) OVER () AND NOT (SELECT q.is_called FROM persistomata.ring_slot q) THEN 'full'
							WHEN r.turn = max(r.turn) OVER () THEN 'current'
							WHEN r.last_cut IS NULL THEN 'open' ELSE 'closed' END,
			   nullif(r.turn, 0), CASE WHEN r.turn > 0 THEN r.turned_at END,
			   pg_total_relation_size(format('persistomata.log_%s', r.slot)::regclass),
			   r.first_cut, r.last_cut, NULL
		  FROM persistomata.ring r ORDER BY r.slot
	LOOP
		IF state = 'open' THEN
			pinned_by := coalesce('writer ' || (
				SELECT string_agg(coalesce(l.pid::text, 'prepared'), ', ' ORDER BY l.pid) FROM pg_locks l
				 WHERE l.relation = format('persistomata.log_%s', slot)::regclass AND l.mode = 'RowExclusiveLock'
				   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
				'the next cut');
		ELSIF state = 'closed' THEN
			last_end := (SELECT max(c.first_position + c.events) FROM persistomata.cuts() c WHERE c.cut <= last_cut);
			pinned_by := coalesce(
				'route ' || (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM persistomata.route r
							  WHERE persistomata.route_position(r.id) < last_end - 1),
				'retention until ' || (SELECT r.closed_at + current_setting('persistomata.retention')::interval
										 FROM persistomata.ring r
										WHERE r.slot = ring_slots.slot
										  AND r.closed_at + current_setting('persistomata.retention')::interval > now()),
				'an older slot, or a reader');
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION persistomata.ring_slots() IS 'the slots of the log''s ring, and what keeps them';
REVOKE ALL ON FUNCTION persistomata.ring_slots() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION persistomata.ring_slots() TO pg_monitor;

CREATE VIEW persistomata.stat_ring AS SELECT * FROM persistomata.ring_slots();
COMMENT ON VIEW persistomata.stat_ring IS
'the slots of the log''s ring: how big each is, and what keeps one from being emptied';
GRANT SELECT ON persistomata.stat_ring TO PUBLIC;

-- Instances by state.  Views are read with their owner's rights, but functions
-- in them ask about the caller: he sees of the log what he may see of the table.
CREATE VIEW persistomata.entry WITH (security_barrier) AS
SELECT b.relid AS fsm, l.key, l.to_state AS state, l.occurred_at AS entered_at, l.event_id
  FROM (SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_0 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_1 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_2 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_3 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_4 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_5 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_6 UNION ALL
		SELECT binding, key, to_state, occurred_at, event_id, type, only_route FROM persistomata.log_7) l
  JOIN persistomata.binding b ON b.id = l.binding
 WHERE l.type IN ('i'::"char", 's'::"char")
   AND l.only_route IS NULL
   AND b.relid IS NOT NULL
   AND pg_catalog.has_table_privilege(b.relid, 'SELECT')
   AND NOT pg_catalog.row_security_active(b.relid);
COMMENT ON VIEW persistomata.entry IS
'internal: when instances entered states, of the tables that you may read whole';
GRANT SELECT ON persistomata.entry TO PUBLIC;

-- Keys as the log has them: printed by their type under these very settings.
CREATE FUNCTION persistomata.instance_states(times bool,
	OUT machine text, OUT version int, OUT fsm regclass, OUT state text, OUT instances bigint,
	OUT timed bigint, OUT min_seconds float8, OUT avg_seconds float8, OUT p50_seconds float8,
	OUT p95_seconds float8, OUT max_seconds float8)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'iso_8601'
SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = '1' AS $$
DECLARE
	table_ record;
	key_   text;
BEGIN
	FOR table_ IN
		SELECT f.fsm, f.machine, f.version, f.state_column, f.key_columns
		  FROM persistomata.fsm f JOIN pg_class c ON c.oid = f.fsm
		 WHERE has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
		   AND (times OR NOT row_security_active(c.oid))
		 ORDER BY f.fsm::text
	LOOP
		machine := table_.machine;
		version := table_.version;
		fsm := table_.fsm;
		key_ := (SELECT CASE count(*) WHEN 1 THEN format('concat(%I)', min(k)) ELSE
					'''['' || ' || string_agg(format('to_json(concat(%I))', k), ' || '', '' || ' ORDER BY nth) || ' || '']''' END
				   FROM unnest(table_.key_columns::text[]) WITH ORDINALITY u(k, nth));
		FOR state, instances, timed, min_seconds, avg_seconds, p50_seconds, p95_seconds, max_seconds IN
			EXECUTE format(CASE WHEN times THEN
				'SELECT i.state, count(*), count(e.age), min(e.age), avg(e.age),
						percentile_cont(0.5) WITHIN GROUP (ORDER BY e.age),
						percentile_cont(0.95) WITHIN GROUP (ORDER BY e.age), max(e.age)
				   FROM (SELECT %1$I::text AS state, %2$s AS key FROM %3$s WHERE %1$I IS NOT NULL) i
				   LEFT JOIN (SELECT DISTINCT ON (key) key, state,
									 greatest(extract(epoch FROM clock_timestamp() - entered_at), 0)::float8 AS age
								FROM persistomata.entry WHERE fsm = %4$L::regclass
							   ORDER BY key, event_id DESC) e ON e.key = i.key AND e.state = i.state
				  GROUP BY i.state ORDER BY i.state'
				ELSE
				'SELECT %1$I::text, count(*), NULL::bigint, NULL::float8, NULL::float8, NULL::float8, NULL::float8,
						NULL::float8 FROM %3$s WHERE %1$I IS NOT NULL GROUP BY 1 ORDER BY 1' END,
				table_.state_column, key_, table_.fsm, table_.fsm::oid)
		LOOP
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON FUNCTION persistomata.instance_states(bool) IS
'counts the instances of each table that you may read by state; with times, also for how long they have been in it';

CREATE VIEW persistomata.stat_machine AS
SELECT machine, version, fsm, state, instances, timed, min_seconds, avg_seconds, p50_seconds, p95_seconds, max_seconds
  FROM persistomata.instance_states(true);
COMMENT ON VIEW persistomata.stat_machine IS
'instances by state, of the tables that you may read, and for how long they have been in it: timed of them, whose entry the log still has';
GRANT SELECT ON persistomata.stat_machine TO PUBLIC;
