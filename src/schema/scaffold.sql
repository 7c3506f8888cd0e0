-- test_scaffold: a pgTAP script of the straight paths through a machine.

-- A value that a NOT NULL column without a default takes, as SQL.
CREATE FUNCTION persistomata.scaffold_value(type oid, number int) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN type IN ('uuid'::regtype) THEN format('%L', lpad(number::text, 32, '0')::uuid)
	WHEN type IN ('json'::regtype, 'jsonb'::regtype) THEN '''{}'''
	WHEN (SELECT typtype FROM pg_type WHERE pg_type.oid = type) = 'e'
	THEN (SELECT format('%L', enumlabel) FROM pg_enum WHERE enumtypid = type ORDER BY enumsortorder LIMIT 1)
	ELSE (SELECT CASE typcategory WHEN 'N' THEN number::text WHEN 'B' THEN 'true' WHEN 'D' THEN 'now()'
				 WHEN 'T' THEN '''0''' WHEN 'A' THEN '''{}''' WHEN 'S' THEN format('%L', 'path ' || number) ELSE 'NULL' END
			FROM pg_type WHERE pg_type.oid = type) END;
COMMENT ON FUNCTION persistomata.scaffold_value(oid, int) IS
'internal: a value of a type for test_scaffold()';

-- The parts of the script that make the table: a copy of the one given, or a new one.
CREATE FUNCTION persistomata.scaffold_table(machine text, fsm regclass, "table" text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN 'CREATE SCHEMA pst_scaffold;' || E'\n' || CASE WHEN fsm IS NULL THEN
	'-- name here the columns that guards and actions use' || E'\n'
	|| format('SELECT persistomata.create_fsm_table(%L, %L, columns => %L);', "table", machine, '')
	ELSE
	(SELECT format(E'CREATE TABLE %s (LIKE %s INCLUDING ALL);\n'
				   'SELECT persistomata.attach(%L, %L, state_column => %L, key_columns => %L);',
				   "table", fsm, "table", machine, f.state_column, f.key_columns::text)
	   FROM persistomata.fsm f WHERE f.fsm::oid = scaffold_table.fsm::oid) END;
COMMENT ON FUNCTION persistomata.scaffold_table(text, regclass, text) IS
'internal: what makes the table of a test_scaffold()';

-- INSERT of an instance, and its key as fire() wants it.
CREATE FUNCTION persistomata.scaffold_instance(fsm regclass, "table" text, number int, OUT command text, OUT key text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bound  record;
	names  text;
	vals   text;
	keys   text[];
BEGIN
	IF fsm IS NULL THEN
		key := 'path ' || number;
		command := format('INSERT INTO %s (id) VALUES (%L);', "table", key);
		RETURN;
	END IF;
	SELECT * INTO bound FROM persistomata.fsm f WHERE f.fsm::oid = scaffold_instance.fsm::oid;
	SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
		   string_agg(persistomata.scaffold_value(a.atttypid, number), ', ' ORDER BY a.attnum)
	  INTO names, vals
	  FROM pg_attribute a
	 WHERE a.attrelid = fsm AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> bound.state_column
	   AND a.attgenerated = '' AND (a.attname = ANY (bound.key_columns) OR (a.attnotnull AND NOT a.atthasdef));
	-- the key prints as its value does, without quotes
	SELECT array_agg(trim(both '''' FROM persistomata.scaffold_value(a.atttypid, number)) ORDER BY k.ord)
	  INTO keys
	  FROM unnest(bound.key_columns) WITH ORDINALITY k(name, ord)
	  JOIN pg_attribute a ON a.attrelid = fsm AND a.attname = k.name;
	command := format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES (%s);', "table", names, vals);
	key := CASE WHEN cardinality(keys) = 1 THEN keys[1] ELSE to_jsonb(keys)::text END;
END
$$;
COMMENT ON FUNCTION persistomata.scaffold_instance(regclass, text, int) IS
'internal: what makes an instance for test_scaffold()';

-- The steps of the paths; those of the start and of an implied end are none.
CREATE FUNCTION persistomata.scaffold_steps(machine text,
	OUT path int, OUT step int, OUT from_state text, OUT event text, OUT to_state text, OUT guard text)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.path, s.n::int, p.states[s.n], s.event, p.states[s.n + 1], t.guard
	  FROM persistomata.paths(machine, 0, 1000) p
	  CROSS JOIN unnest(p.events) WITH ORDINALITY s(event, n)
	  CROSS JOIN LATERAL (
			SELECT (array_agg(m.guard))[1] AS guard
			  FROM persistomata.machine_transition m
			 WHERE m.machine = scaffold_steps.machine
			   AND m.version = (SELECT max(v.version) FROM persistomata.machine v WHERE v.name = scaffold_steps.machine)
			   AND m.from_state = p.states[s.n] AND m.event = s.event AND m.to_state = p.states[s.n + 1]) t
	 WHERE p.states[s.n] <> '*' AND s.event <> '__end__';
END;
COMMENT ON FUNCTION persistomata.scaffold_steps(text) IS
'internal: the steps that test_scaffold() tests';

CREATE FUNCTION persistomata.test_scaffold(machine text, fsm regclass DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $test_scaffold$
DECLARE
	"table"  text;
	script   text;
	instance record;
	s        record;
	last     int := 0;
	steps    int;
BEGIN
	SELECT count(*) INTO steps FROM persistomata.scaffold_steps(machine);
	IF fsm IS NULL THEN
		"table" := format('pst_scaffold.%I', left(machine, 40));
	ELSE
		IF NOT EXISTS (SELECT FROM persistomata.fsm f WHERE f.fsm::oid = test_scaffold.fsm::oid AND f.machine = test_scaffold.machine) THEN
			RAISE EXCEPTION 'table % is not attached to machine "%"', fsm, machine USING ERRCODE = 'undefined_object';
		END IF;
		SELECT format('pst_scaffold.%I', c.relname) INTO "table" FROM pg_class c WHERE c.oid = fsm::oid;
	END IF;
	script := format($script$-- The straight paths through machine %1$s, as a pgTAP test: run it with pg_prove.
-- Give each guarded step the args, or the row, that its guard wants, and remove its todo().
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
%2$s
-- Sends the event, unless a chain has already been this way; goes on from the next state in any case.
CREATE FUNCTION pst_scaffold.step(key text, from_state text, event text, to_state text, args jsonb DEFAULT '{}')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	been boolean;
	why  text;
BEGIN
	been := EXISTS (SELECT FROM persistomata.history(%3$L, key) h
	                 WHERE h.event = step.event AND h.from_state = step.from_state AND h.to_state = step.to_state);
	IF NOT been THEN
		PERFORM persistomata.force(%3$L, key, from_state, 'scaffold');
		SELECT f.reason INTO why FROM persistomata.try_fire(%3$L, key, event, args, to_state => to_state) f;
		been := EXISTS (SELECT FROM persistomata.history(%3$L, key) h
		                 WHERE h.event = step.event AND h.from_state = step.from_state AND h.to_state = step.to_state);
	END IF;
	IF NOT been THEN
		PERFORM persistomata.force(%3$L, key, to_state, 'scaffold');
	END IF;
	RETURN ok(been, format('%%s: %%s leads from %%s to %%s', key, event, from_state, to_state))
		|| coalesce(E'\n' || diag(why), '');
END $$;
SELECT plan(%4$s);
$script$, regexp_replace(quote_literal(machine), '[\n\r]', ' ', 'g'), persistomata.scaffold_table(machine, fsm, "table"), "table", steps);
	FOR s IN SELECT * FROM persistomata.scaffold_steps(machine) ORDER BY path, step LOOP
		IF s.path <> last THEN
			SELECT * INTO instance FROM persistomata.scaffold_instance(fsm, "table", s.path);
			script := script || E'\n' || instance.command || E'\n';
			last := s.path;
		END IF;
		IF s.guard IS NOT NULL THEN
			script := script || format(E'SELECT todo(%L, 1);\n', 'make the guard hold: ' || s.guard);
		END IF;
		script := script || format(E'SELECT pst_scaffold.step(%L, %L, %L, %L);\n',
								   instance.key, s.from_state, s.event, s.to_state);
	END LOOP;
	RETURN script || E'\nSELECT * FROM finish();\nROLLBACK;\n';
END
$test_scaffold$;
COMMENT ON FUNCTION persistomata.test_scaffold(text, regclass) IS
'writes a pgTAP script of the straight paths through a machine, for a copy of a table or for a new one';
