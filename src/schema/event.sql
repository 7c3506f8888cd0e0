-- The event log: a ring of slots.  Slot N is three tables: log_N (events),
-- cut_N (batches) and ack_N (what routes have sent).  Slots are written and
-- read one by one; the current slot's number is a sequence's last value, which
-- is read outside of MVCC.

CREATE SEQUENCE persistomata.event_id AS bigint;
CREATE SEQUENCE persistomata.ack_id AS bigint;
CREATE SEQUENCE persistomata.ring_slot AS bigint MINVALUE 0 START 0 CACHE 1;
SELECT pg_catalog.setval('persistomata.ring_slot', 0, true);

CREATE TABLE persistomata.log_home (
	log_id            text NOT NULL,
	system_identifier text NOT NULL,
	database          oid NOT NULL,
	only_row          bool PRIMARY KEY DEFAULT true CHECK (only_row)
);
COMMENT ON TABLE persistomata.log_home IS
'whose log this is: a restored copy finds another system or database here and stays silent';
INSERT INTO persistomata.log_home (log_id, system_identifier, database)
SELECT pg_catalog.substr(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), 1, 12),
	   c.system_identifier::text, d.oid
  FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database();

CREATE TABLE persistomata.node (
	timeline int PRIMARY KEY,
	name     text NOT NULL
);
COMMENT ON TABLE persistomata.node IS
'the cluster name or system identifier of the primary on each timeline';

CREATE TABLE persistomata.ring (
	slot      int PRIMARY KEY,
	turn      bigint NOT NULL,
	turned_at timestamptz NOT NULL DEFAULT now(),
	first_cut bigint NOT NULL DEFAULT 0,
	last_cut  bigint,
	closed_at timestamptz,
	emptied_to timestamptz
);
COMMENT ON TABLE persistomata.ring IS
'when each slot became current (a turn of 0 is an empty slot), the last cut before that, and, once no writer of it is left, the last cut that can hold its rows; events up to emptied_to were in it when it was emptied last';

DO $$
BEGIN
	FOR slot IN 0 .. 7 LOOP
		EXECUTE pg_catalog.format('CREATE TABLE persistomata.log_%s (
			event_id    bigint NOT NULL,
			xid         xid8 NOT NULL,
			occurred_at timestamptz NOT NULL,
			binding     int NOT NULL,
			machine     int NOT NULL,
			timeline    int NOT NULL,
			type        "char" NOT NULL,
			key         text NOT NULL,
			event       text,
			from_state  text,
			to_state    text,
			actor       text NOT NULL,
			args        jsonb,
			payload     jsonb,
			reason      text,
			headers     jsonb,
			only_route  int)', slot);
		EXECUTE pg_catalog.format('CREATE INDEX ON persistomata.log_%s (xid, event_id)', slot);
		EXECUTE pg_catalog.format('CREATE INDEX ON persistomata.log_%s (binding, key, event_id)', slot);
		EXECUTE pg_catalog.format('CREATE TABLE persistomata.cut_%s (
			cut            bigint PRIMARY KEY,
			predecessor    bigint NOT NULL UNIQUE,
			snapshot       pg_snapshot NOT NULL,
			first_position bigint NOT NULL,
			events         bigint NOT NULL,
			settings       bigint NOT NULL,
			timeline       int NOT NULL,
			stream_ms      bigint NOT NULL,
			made_at        timestamptz NOT NULL)', slot);
		EXECUTE pg_catalog.format('CREATE TABLE persistomata.ack_%s (
			id            bigint PRIMARY KEY,
			route         int NOT NULL,
			generation    int NOT NULL,
			kind          "char" NOT NULL,
			from_position bigint NOT NULL,
			to_position   bigint NOT NULL,
			settings      bigint NOT NULL,
			hash          bytea,
			sent          bigint NOT NULL,
			retried       bigint NOT NULL,
			duplicates    bigint NOT NULL,
			dead          bigint NOT NULL,
			coalesced     bigint NOT NULL,
			at            timestamptz NOT NULL)', slot);
		EXECUTE pg_catalog.format('CREATE INDEX ON persistomata.ack_%s (route, generation, id)', slot);
		INSERT INTO persistomata.ring (slot, turn) VALUES (slot, CASE slot WHEN 0 THEN 1 ELSE 0 END);
	END LOOP;
END
$$;

CREATE FUNCTION persistomata.event_type_name(type "char") RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE type WHEN 'i'::"char" THEN 'init' WHEN 's'::"char" THEN 'state' WHEN 'v'::"char" THEN 'value'
                 WHEN 'e'::"char" THEN 'errored' WHEN 'd'::"char" THEN 'deleted' END;
COMMENT ON FUNCTION persistomata.event_type_name("char") IS 'the name of a type of event';

CREATE VIEW persistomata.event AS
SELECT l.event_id, persistomata.event_type_name(l.type) AS type, v.name AS machine, v.version,
	   coalesce(ns.nspname || '.' || c.relname, b.fsm) AS fsm, l.key, l.event, l.from_state, l.to_state, l.args, l.payload,
	   l.reason, l.occurred_at, l.xid, l.actor, l.headers, n.name AS node
  FROM (SELECT * FROM persistomata.log_0 UNION ALL SELECT * FROM persistomata.log_1 UNION ALL
		SELECT * FROM persistomata.log_2 UNION ALL SELECT * FROM persistomata.log_3 UNION ALL
		SELECT * FROM persistomata.log_4 UNION ALL SELECT * FROM persistomata.log_5 UNION ALL
		SELECT * FROM persistomata.log_6 UNION ALL SELECT * FROM persistomata.log_7) l
  LEFT JOIN persistomata.binding b ON b.id = l.binding
  LEFT JOIN pg_catalog.pg_class c ON c.oid = b.relid
  LEFT JOIN pg_catalog.pg_namespace ns ON ns.oid = c.relnamespace
  LEFT JOIN persistomata.machine_version v ON v.id = l.machine
  LEFT JOIN persistomata.node n ON n.timeline = l.timeline
 WHERE l.only_route IS NULL;
COMMENT ON VIEW persistomata.event IS 'the event log, as far back as persistomata.retention reaches';

-- A restored dump brings the rows of these two along: they replace ours.
CREATE FUNCTION persistomata.replace_row() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_TABLE_NAME = 'ring' THEN
		DELETE FROM persistomata.ring WHERE slot = NEW.slot;
	ELSE
		DELETE FROM persistomata.log_home;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION persistomata.replace_row() IS
'internal: lets a restore bring its own rows of log_home and ring';
REVOKE ALL ON FUNCTION persistomata.replace_row() FROM PUBLIC;
CREATE TRIGGER replace_row BEFORE INSERT ON persistomata.ring
FOR EACH ROW EXECUTE FUNCTION persistomata.replace_row();
CREATE TRIGGER replace_row BEFORE INSERT ON persistomata.log_home
FOR EACH ROW EXECUTE FUNCTION persistomata.replace_row();

DO $$
DECLARE
	relation text;
BEGIN
	FOREACH relation IN ARRAY ARRAY['event_id', 'ack_id', 'ring_slot', 'log_home', 'node', 'ring'] LOOP
		PERFORM pg_catalog.pg_extension_config_dump('persistomata.' || relation, '');
	END LOOP;
	FOR slot IN 0 .. 7 LOOP
		PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('persistomata.log_%s', slot), '');
		PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('persistomata.cut_%s', slot), '');
		PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('persistomata.ack_%s', slot), '');
	END LOOP;
END
$$;

CREATE FUNCTION persistomata.cut() RETURNS bigint
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pst_cut';
COMMENT ON FUNCTION persistomata.cut() IS
'makes a cut of the event log now; NULL if there is nothing new';
REVOKE ALL ON FUNCTION persistomata.cut() FROM PUBLIC;

CREATE FUNCTION persistomata.lock_cuts() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pst_lock_cuts';
COMMENT ON FUNCTION persistomata.lock_cuts() IS
'internal: keeps others from cutting the log or turning its ring until the transaction ends';
REVOKE ALL ON FUNCTION persistomata.lock_cuts() FROM PUBLIC;

CREATE FUNCTION persistomata.turn(follow bool) RETURNS bool
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pst_turn';
COMMENT ON FUNCTION persistomata.turn(bool) IS
'internal: turns the ring of the log now, in two transactions: turn(false), then turn(true)';
REVOKE ALL ON FUNCTION persistomata.turn(bool) FROM PUBLIC;

CREATE FUNCTION persistomata.empty_slot() RETURNS bool
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pst_empty_slot';
COMMENT ON FUNCTION persistomata.empty_slot() IS
'internal: empties a slot of the ring that nothing pins';
REVOKE ALL ON FUNCTION persistomata.empty_slot() FROM PUBLIC;

CREATE FUNCTION persistomata.log_intact() RETURNS bool
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pst_log_intact';
COMMENT ON FUNCTION persistomata.log_intact() IS
'raises an error if a part of the log that this transaction''s snapshot sees has been emptied since; keeps the rest';
REVOKE ALL ON FUNCTION persistomata.log_intact() FROM PUBLIC;

CREATE FUNCTION persistomata.position(event_id bigint) RETURNS bigint
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pst_position';
COMMENT ON FUNCTION persistomata.position(bigint) IS
'the position of an event in the log; NULL if it is not kept, or not cut yet';
REVOKE ALL ON FUNCTION persistomata.position(bigint) FROM PUBLIC;

CREATE FUNCTION persistomata.events(
	from_position bigint, to_position bigint,
	OUT "position" bigint, OUT name text, OUT event_id bigint, OUT type text, OUT machine text,
	OUT version int, OUT fsm text, OUT key text, OUT event text, OUT from_state text,
	OUT to_state text, OUT args jsonb, OUT payload jsonb, OUT reason text,
	OUT occurred_at timestamptz, OUT xid xid8, OUT actor text, OUT headers jsonb, OUT node text)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pst_events';
COMMENT ON FUNCTION persistomata.events(bigint, bigint) IS
'the events at these positions, as far as they are kept';
REVOKE ALL ON FUNCTION persistomata.events(bigint, bigint) FROM PUBLIC;
