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

