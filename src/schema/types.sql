-- The types that calls share.

CREATE TYPE persistomata.outcome AS (
	event_id   bigint,
	status     text,
	event      text,
	from_state text,
	to_state   text,
	reason     text
);
COMMENT ON TYPE persistomata.outcome IS
'what came of an event: transitioned, refused, failed or duplicate';


-- Owners are kept by name, as pg_dump has them: so they can be restored where the
-- role does not exist.
CREATE FUNCTION persistomata.role_of(owner name) RETURNS oid
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN coalesce((SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) owner),
				(SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'persistomata'));
COMMENT ON FUNCTION persistomata.role_of(name) IS
'internal: the role of that name; of one that is no more, the owner of the extension';
