-- The same figures as the views', in the form that Prometheus and its like read.

CREATE FUNCTION persistomata.log_figures(OUT "position" bigint, OUT bytes bigint, OUT newest_cut_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (SELECT c.first_position + c.events - 1 FROM persistomata.cuts() c ORDER BY c.cut DESC LIMIT 1),
		   (SELECT sum(pg_total_relation_size(t.oid)) FROM pg_class t
			 WHERE t.relnamespace = 'persistomata'::regnamespace AND t.relkind = 'r'
			   AND t.relname ~ '^(log|cut|ack)_[0-7]$')::bigint,
		   (SELECT c.made_at FROM persistomata.cuts() c ORDER BY c.cut DESC LIMIT 1);
END;
COMMENT ON FUNCTION persistomata.log_figures() IS
'the last position of the log that is cut, the size of log, cuts and cursors, and when the newest cut was made';

CREATE FUNCTION persistomata.timer_figures(
	OUT fsm text, OUT armed bigint, OUT parked bigint, OUT overdue bigint, OUT overdue_seconds float8)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(n.nspname || '.' || c.relname, b.fsm), count(*) FILTER (WHERE NOT t.parked),
		   count(*) FILTER (WHERE t.parked), count(*) FILTER (WHERE NOT t.parked AND t.due_at <= now()),
		   coalesce(extract(epoch FROM now() - min(t.due_at) FILTER (WHERE NOT t.parked AND t.due_at <= now())), 0)::float8
	  FROM persistomata.timer_entry t JOIN persistomata.binding b ON b.id = t.binding
	  LEFT JOIN pg_class c ON c.oid = b.relid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
	 GROUP BY 1;
END;
COMMENT ON FUNCTION persistomata.timer_figures() IS
'per table, the timers that are armed, those that failed too often, and those that are due';

CREATE VIEW persistomata.stat_log AS SELECT * FROM persistomata.log_figures();
COMMENT ON VIEW persistomata.stat_log IS
'the log: its last position that is cut, the size of log, cuts and cursors, and when the newest cut was made';
CREATE VIEW persistomata.stat_timer AS SELECT * FROM persistomata.timer_figures();
COMMENT ON VIEW persistomata.stat_timer IS
'timers per table: armed, parked after too many failures, and due';
REVOKE ALL ON FUNCTION persistomata.log_figures(), persistomata.timer_figures() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION persistomata.log_figures(), persistomata.timer_figures() TO pg_monitor;
GRANT SELECT ON persistomata.stat_log, persistomata.stat_timer TO PUBLIC;

CREATE FUNCTION persistomata.metric_labels(VARIADIC pairs text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (SELECT coalesce('{' || string_agg(pairs[i] || '="' ||
			replace(replace(replace(pairs[i + 1], '\', '\\'), '"', '\"'), E'\n', '\n') || '"', ',' ORDER BY i) || '}', '')
		  FROM generate_series(1, cardinality(pairs), 2) i WHERE pairs[i + 1] IS NOT NULL);
COMMENT ON FUNCTION persistomata.metric_labels(text[]) IS
'internal: labels of a sample, from names and values in turn';

-- What each family is; a counter's samples end in _total, and a family whose
-- unit is named ends in it.
CREATE FUNCTION persistomata.metric_families(OUT nth bigint, OUT family text, OUT type text, OUT unit text, OUT help text)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT row_number() OVER (), 'persistomata_' || f.family, f.type, nullif(f.unit, ''), f.help
	  FROM (VALUES
		('route_state', 'gauge', '', 'Which state each route is in: 1.'),
		('route_enabled', 'gauge', '', 'Whether the route is enabled.'),
		('route_position', 'gauge', '', 'The last position that the route has settled.'),
		('route_lag_events', 'gauge', 'events', 'Events of the log that the route has yet to pass.'),
		('route_lag_seconds', 'gauge', 'seconds', 'Age of the oldest cut that the route has yet to pass.'),
		('route_sent', 'counter', '', 'Events that the sink has acknowledged.'),
		('route_retried', 'counter', '', 'Events that were sent again.'),
		('route_duplicates', 'counter', '', 'Events that were found to have landed before.'),
		('route_dead_letters', 'gauge', '', 'Events that the sink refused for their content, kept.'),
		('route_latency_seconds', 'summary', 'seconds', 'From commit to acknowledgement, of the recent past.'),
		('worker_state', 'gauge', '', 'Which state each worker is in: 1.'),
		('worker_restarts', 'counter', '', 'How often the worker had to be started again.'),
		('log_position', 'gauge', '', 'The last position of the log that is cut.'),
		('log_size_bytes', 'gauge', 'bytes', 'Size of log, cuts and cursors on disk.'),
		('log_cut_age_seconds', 'gauge', 'seconds', 'Age of the newest cut.'),
		('log_slots', 'gauge', '', 'Slots of the ring by state.'),
		('instances', 'gauge', '', 'Instances by state, of the tables that the reader may read.'),
		('timers_armed', 'gauge', '', 'Timers that wait for their time.'),
		('timers_parked', 'gauge', '', 'Timers that failed too often.'),
		('timers_overdue_seconds', 'gauge', 'seconds', 'For how long the oldest armed timer has been due.')
	  ) f(family, type, unit, help);
END;
COMMENT ON FUNCTION persistomata.metric_families() IS 'internal: what metrics() tells of';

CREATE FUNCTION persistomata.metric_samples(OUT family text, OUT suffix text, OUT labels text, OUT value float8)
RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT v.family, v.suffix, v.labels, v.value
	  FROM persistomata.stat_route r
	  CROSS JOIN LATERAL (SELECT ARRAY['route', r.route, 'server', r.server, 'kind', r.kind]) k(k)
	  CROSS JOIN LATERAL (SELECT persistomata.metric_labels(VARIADIC k.k)) l(l)
	  CROSS JOIN LATERAL (VALUES
		('route_state', '', persistomata.metric_labels(VARIADIC k.k || ARRAY['state', r.state]), 1::float8),
		('route_enabled', '', l.l, r.enabled::int),
		('route_position', '', l.l, r.position),
		('route_lag_events', '', l.l, r.lag_events),
		('route_lag_seconds', '', l.l, r.lag_seconds),
		('route_sent', '_total', l.l, r.sent),
		('route_retried', '_total', l.l, r.retried),
		('route_duplicates', '_total', l.l, r.duplicates),
		('route_dead_letters', '', l.l, r.dead),
		('route_latency_seconds', '', persistomata.metric_labels(VARIADIC k.k || ARRAY['quantile', '0.5']), r.p50_ms / 1000),
		('route_latency_seconds', '', persistomata.metric_labels(VARIADIC k.k || ARRAY['quantile', '0.99']), r.p99_ms / 1000)
	  ) v(family, suffix, labels, value)
	UNION ALL
	SELECT v.family, v.suffix, v.labels, v.value
	  FROM persistomata.stat_worker w
	  CROSS JOIN LATERAL (SELECT ARRAY['database', w.database::text, 'kind', w.kind, 'server', w.server]) k(k)
	  CROSS JOIN LATERAL (VALUES
		('worker_state', '', persistomata.metric_labels(VARIADIC k.k || ARRAY['state', w.state]), 1::float8),
		('worker_restarts', '_total', persistomata.metric_labels(VARIADIC k.k), w.restarts)
	  ) v(family, suffix, labels, value)
	UNION ALL
	SELECT v.family, '', '', v.value
	  FROM persistomata.stat_log l
	  CROSS JOIN LATERAL (VALUES ('log_position', l.position::float8), ('log_size_bytes', l.bytes),
		('log_cut_age_seconds', greatest(extract(epoch FROM clock_timestamp() - l.newest_cut_at), 0))) v(family, value)
	UNION ALL
	SELECT 'log_slots', '', persistomata.metric_labels('state', s.state), count(*) FROM persistomata.stat_ring s GROUP BY s.state
	UNION ALL
	SELECT 'instances', '', persistomata.metric_labels('machine', i.machine, 'version', i.version::text,
														'fsm', n.nspname || '.' || c.relname, 'state', i.state), i.instances
	  FROM persistomata.instance_states(false) i JOIN pg_class c ON c.oid = i.fsm JOIN pg_namespace n ON n.oid = c.relnamespace
	UNION ALL
	SELECT v.family, '', persistomata.metric_labels('fsm', t.fsm), v.value
	  FROM persistomata.stat_timer t
	  CROSS JOIN LATERAL (VALUES ('timers_armed', t.armed::float8), ('timers_parked', t.parked),
								 ('timers_overdue_seconds', t.overdue_seconds)) v(family, value);
END;
COMMENT ON FUNCTION persistomata.metric_samples() IS 'internal: the values that metrics() tells of';

CREATE FUNCTION persistomata.metrics() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET extra_float_digits = '1'
BEGIN ATOMIC
	SELECT coalesce(string_agg(m.block, '' ORDER BY m.nth), '') || '# EOF' || chr(10)
	  FROM (SELECT f.nth, concat('# TYPE ', f.family, ' ', f.type, chr(10),
								 '# UNIT ' || f.family || ' ' || f.unit || chr(10),
								 '# HELP ', f.family, ' ', f.help, chr(10),
								 string_agg(concat(f.family, s.suffix, s.labels, ' ', s.value, chr(10)), '' ORDER BY s.labels)) AS block
			  FROM persistomata.metric_families() f
			  JOIN persistomata.metric_samples() s ON f.family = 'persistomata_' || s.family AND s.value IS NOT NULL
			 GROUP BY f.nth, f.family, f.type, f.unit, f.help) m;
END;
COMMENT ON FUNCTION persistomata.metrics() IS
'routes, workers, log, timers and instances in figures, as OpenMetrics text';
REVOKE ALL ON FUNCTION persistomata.metrics(), persistomata.metric_samples() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION persistomata.metrics(), persistomata.metric_samples() TO pg_monitor;
