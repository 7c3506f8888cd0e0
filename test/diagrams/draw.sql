-- Draws what is in the table definition and is no error, as one JSON document;
-- and what the drawings say when they are read in again.
\set QUIET on
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = error;
SELECT count(persistomata.create_machine(d.name, d.definition, d.syntax)) FROM definition d
 WHERE NOT EXISTS (SELECT FROM persistomata.validate(d.definition, d.syntax) v WHERE v.severity = 'error') \g /dev/null

CREATE FUNCTION model(definition text, syntax text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN jsonb_build_object(
		'states', (SELECT jsonb_agg(to_jsonb(s)) FROM persistomata.definition_states(definition, syntax) s),
		'transitions', (SELECT jsonb_agg(to_jsonb(t)) FROM persistomata.definition_transitions(definition, syntax) t));
EXCEPTION WHEN OTHERS THEN
	RETURN to_jsonb(SQLERRM);
END
$$;
SELECT jsonb_build_object('name', m.name, 'model', model(m.definition, m.syntax), 'mermaid', mermaid, 'plantuml', plantuml, 'dot', persistomata.diagram(m.name, 'dot'),
	   'counted', counted,
	   'same', jsonb_build_object('mermaid', model(mermaid, 'auto') = model(m.definition, m.syntax),
								  'plantuml', model(plantuml, 'auto') = model(m.definition, m.syntax),
								  'counted', model(counted, 'auto') = model(m.definition, m.syntax)))
  FROM persistomata.machine m, persistomata.diagram(m.name) mermaid, persistomata.diagram(m.name, 'plantuml') plantuml,
	   persistomata.machine_diagram(m.name, m.version, 'mermaid', (SELECT jsonb_object_agg(state, 7) FROM persistomata.machine_state s WHERE s.machine = m.name)) counted
 ORDER BY m.name;
