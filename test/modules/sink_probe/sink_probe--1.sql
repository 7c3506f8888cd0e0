\echo Use "CREATE EXTENSION sink_probe" to load this file. \quit

-- What an event is made of; what is left out gets a value that fits its place.
CREATE TYPE sink_probe.event AS (
	event_id    bigint,
	position    bigint,
	name        text,
	stream_ms   bigint,
	ordinal     bigint,
	type        text,
	machine     text,
	version     int,
	fsm         text,
	key         text,
	event       text,
	from_state  text,
	to_state    text,
	args        text,
	payload     text,
	reason      text,
	occurred_at bigint,
	xid         bigint,
	actor       text,
	headers     text,
	node        text
);

-- Row 0 is about the shipment, the others about its events.  With keep, the
-- sink stays open for the next call of the same kind.
CREATE FUNCTION sink_probe.probe(
	kind text, server_options jsonb, route_options jsonb, events jsonb,
	name text DEFAULT 'shipment', in_doubt bool DEFAULT false,
	timeout_ms int DEFAULT 20000, keep bool DEFAULT false,
	format text DEFAULT 'json', route text DEFAULT 'route')
RETURNS TABLE (nth int, verdict text, fault text, peer_said text, code int,
			   doubt bool, duplicates int, longest_call_ms double precision)
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe';

-- Sends many events, in shipments of so many; events a second.
CREATE FUNCTION sink_probe.drain(
	kind text, server_options jsonb, route_options jsonb, events bigint, each int)
RETURNS double precision
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe_drain';

-- Lets a kept sink idle for a while.
CREATE FUNCTION sink_probe.idle(ms int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe_idle';

CREATE FUNCTION sink_probe.close() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe_close';

-- So many events with these fields each; their positions begin at first.
CREATE FUNCTION sink_probe.some(first bigint, n int, fields jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('position', p) OPERATOR(pg_catalog.||) fields ORDER BY p)
	  FROM pg_catalog.generate_series(first, first + n - 1) p
$$;

-- Checks an option of a route.
CREATE FUNCTION sink_probe.check_option(kind text, name text, value text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe_check';

-- The bytes of an event in a format, or its address by a template.
CREATE FUNCTION sink_probe.encode(events jsonb, format text) RETURNS SETOF text
LANGUAGE c AS 'MODULE_PATHNAME', 'sink_probe_encode';

CREATE FUNCTION sink_probe.memory_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'memory_options';
CREATE FOREIGN DATA WRAPPER sink_probe_memory NO HANDLER VALIDATOR sink_probe.memory_options;

-- The other side of RabbitMQ.
CREATE FUNCTION sink_probe.amqp_bind(
	port int, queue text, exchange text DEFAULT 'persistomata', key text DEFAULT '#',
	max_length int DEFAULT 0, queue_type text DEFAULT 'classic', exchange_type text DEFAULT 'topic') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_bind';
CREATE FUNCTION sink_probe.amqp_take(port int, queue text, n int DEFAULT 1000000)
RETURNS TABLE (nth int, routing_key text, message_id text, content_type text, type text,
			   delivery_mode int, headers text, body text)
LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_take';
