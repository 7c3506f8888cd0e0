-- What DDL does to FSM tables.  These come last: the script itself is full of it.

CREATE FUNCTION persistomata.end_bindings() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	WITH gone AS (
		UPDATE persistomata.binding b SET relid = NULL, fsm = d.schema_name || '.' || d.object_name
		  FROM pg_event_trigger_dropped_objects() d
		 WHERE d.classid = 'pg_class'::regclass AND d.objid = b.relid::oid AND d.objsubid = 0
		RETURNING b.id)
	DELETE FROM persistomata.timer_entry t USING gone WHERE t.binding = gone.id;

	-- a column that only events carried goes with them; table_altered() looks after the others
	UPDATE persistomata.binding b SET payload_columns = array_remove(b.payload_columns, d.address_names[3]::name)
	  FROM pg_event_trigger_dropped_objects() d
	 WHERE d.classid = 'pg_class'::regclass AND d.objid = b.relid::oid AND d.objsubid > 0;
END
$$;
COMMENT ON FUNCTION persistomata.end_bindings() IS
'event trigger: a dropped table takes its binding and timers with it, a dropped column leaves its events';

CREATE EVENT TRIGGER persistomata_end_bindings ON sql_drop
	EXECUTE FUNCTION persistomata.end_bindings();

CREATE FUNCTION persistomata.follow_columns() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	renamed record;
BEGIN
	FOR renamed IN
		SELECT c.objid AS relid, a.attname AS name,
			   ARRAY(SELECT o.attname FROM pg_attribute o
					  WHERE o.attrelid = c.objid AND o.attnum > 0 AND NOT o.attisdropped) AS columns
		  FROM pg_event_trigger_ddl_commands() c
		  JOIN pg_attribute a ON a.attrelid = c.objid AND a.attnum = c.objsubid
		 WHERE c.classid = 'pg_class'::regclass AND c.objsubid > 0
	LOOP
		-- the one that the table no longer has is the one that got the name
		UPDATE persistomata.binding b
		   SET state_column = CASE WHEN b.state_column = ANY (renamed.columns) THEN b.state_column ELSE renamed.name END,
			   key_columns = ARRAY(SELECT CASE WHEN k.name = ANY (renamed.columns) THEN k.name ELSE renamed.name END
									 FROM unnest(b.key_columns) WITH ORDINALITY AS k(name, ord) ORDER BY k.ord),
			   payload_columns = ARRAY(SELECT CASE WHEN p.name = ANY (renamed.columns) THEN p.name ELSE renamed.name END
										 FROM unnest(b.payload_columns) WITH ORDINALITY AS p(name, ord) ORDER BY p.ord)
		 WHERE b.relid::oid = renamed.relid;
	END LOOP;
END
$$;
COMMENT ON FUNCTION persistomata.follow_columns() IS
'event trigger: a binding follows its columns when they are renamed';

CREATE FUNCTION persistomata.table_altered(fsm oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_table_altered';
COMMENT ON FUNCTION persistomata.table_altered(oid) IS
'internal: raises an error if a table no longer is what its binding says, and takes in new partitions';

REVOKE ALL ON FUNCTION persistomata.table_altered(oid) FROM PUBLIC;

-- As the extension's owner: whoever alters any table must not need a right of ours.
CREATE FUNCTION persistomata.follow_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM persistomata.table_altered(t.relid)
	   FROM (SELECT DISTINCT CASE c.classid WHEN 'pg_class'::regclass THEN c.objid
											WHEN 'pg_rewrite'::regclass THEN r.ev_class END
			   FROM pg_event_trigger_ddl_commands() c
			   LEFT JOIN pg_rewrite r ON r.oid = c.objid AND c.classid = 'pg_rewrite'::regclass) AS t(relid)
	  WHERE t.relid IS NOT NULL;
END
$$;
COMMENT ON FUNCTION persistomata.follow_tables() IS
'event trigger: refuses what would make an FSM table unfit, and takes in new partitions';

-- by name: the binding first, then what looks at it
CREATE EVENT TRIGGER persistomata_follow_columns ON ddl_command_end
	WHEN TAG IN ('ALTER TABLE')
	EXECUTE FUNCTION persistomata.follow_columns();
CREATE EVENT TRIGGER persistomata_follow_tables ON ddl_command_end
	WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'CREATE RULE')
	EXECUTE FUNCTION persistomata.follow_tables();

CREATE FUNCTION persistomata.follow_servers() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'pst_follow_servers';
COMMENT ON FUNCTION persistomata.follow_servers() IS
'event trigger: a server that is renamed takes its routes along';
CREATE EVENT TRIGGER persistomata_follow_servers ON ddl_command_end
	WHEN TAG IN ('ALTER SERVER')
	EXECUTE FUNCTION persistomata.follow_servers();

-- Rights.  Whoever may write a table may fire events at its rows: fire() is an
-- ordinary UPDATE of the state column, with the caller's rights.  The log, the
-- bindings and the cursors are the extension's own, whose functions write them.

GRANT USAGE ON SCHEMA persistomata TO PUBLIC;

