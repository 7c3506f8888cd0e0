-- The log, read back: history, state_at, verify.

CREATE VIEW persistomata.log_row AS
SELECT l.* FROM (
SELECT * FROM persistomata.log_0 UNION ALL SELECT * FROM persistomata.log_1 UNION ALL
SELECT * FROM persistomata.log_2 UNION ALL SELECT * FROM persistomata.log_3 UNION ALL
SELECT * FROM persistomata.log_4 UNION ALL SELECT * FROM persistomata.log_5 UNION ALL
SELECT * FROM persistomata.log_6 UNION ALL SELECT * FROM persistomata.log_7) l
 WHERE l.only_route IS NULL;
COMMENT ON VIEW persistomata.log_row IS
'internal: the rows of all slots of the log, without what is for one route only';

DO $$
DECLARE
	type text;
BEGIN
	FOREACH type IN ARRAY ARRAY['text', 'bigint', 'uuid'] LOOP
		EXECUTE pg_catalog.format($sql$
			CREATE FUNCTION persistomata.history(fsm regclass, key %1$s,
				OUT event_id bigint, OUT type text, OUT version int, OUT event text, OUT from_state text,
				OUT to_state text, OUT args jsonb, OUT payload jsonb, OUT reason text,
				OUT occurred_at timestamptz, OUT actor text)
			RETURNS SETOF record
			LANGUAGE c AS 'MODULE_PATHNAME', 'pst_history_%1$s';
			COMMENT ON FUNCTION persistomata.history(regclass, %1$s) IS
			'the events of an instance since its table was attached, as far back as the log reaches';

			CREATE FUNCTION persistomata.state_at(fsm regclass, key %1$s, at timestamptz) RETURNS text
			LANGUAGE c AS 'MODULE_PATHNAME', 'pst_state_at_%1$s';
			COMMENT ON FUNCTION persistomata.state_at(regclass, %1$s, timestamptz) IS
			'the state that an instance was in; NULL if it did not exist; an error if the log does not reach back that far';
		$sql$, type);
	END LOOP;
END
$$;

CREATE FUNCTION persistomata.verify(fsm regclass,
	OUT key text, OUT finding text, OUT event_id bigint, OUT expected text, OUT found text)
RETURNS SETOF record
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_verify';
COMMENT ON FUNCTION persistomata.verify(regclass) IS
'replays the log of a table and compares it with the machine and with the rows: what does not fit';
