CREATE FUNCTION log_append(binding int, machine int, key text, event text,
	from_state text, to_state text, args jsonb, payload jsonb) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'log_append';
