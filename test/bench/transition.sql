-- What the pairs of transition.sh run against: three tables alike, one of them
-- an FSM table; the floor's outbox has the log's columns and as many indexes.
\set ON_ERROR_STOP on
CREATE EXTENSION persistomata;
CREATE EXTENSION log_probe;

SELECT persistomata.create_machine('gate', $$
flowchart LR
  idle   -->|close!| closed
  closed -->|"coin [coins < 2000000000] / coins = coins + (args->>'n')::int"| opened
  opened -->|"coin [coins < 2000000000] / coins = coins + (args->>'n')::int"| opened
  opened -->|"walk"| closed
  opened -->|"break"| broken
$$);

CREATE TABLE ours (id bigint PRIMARY KEY, state text NOT NULL, coins int NOT NULL DEFAULT 0,
                   owner text NOT NULL) WITH (fillfactor = 70);
CREATE TABLE hand (LIKE ours INCLUDING ALL) WITH (fillfactor = 70);
CREATE TABLE floor (LIKE ours INCLUDING ALL) WITH (fillfactor = 70);
CREATE TABLE plain (LIKE ours INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO ours SELECT i, 'closed', 0, 'owner ' || i FROM generate_series(1, 100000) i;
INSERT INTO hand SELECT * FROM ours;
INSERT INTO floor SELECT * FROM ours;
INSERT INTO plain SELECT * FROM ours;
SELECT persistomata.attach('ours', machine => 'gate', baseline => false);

-- the floor's outbox: all that the log has
CREATE SEQUENCE outbox_id;
CREATE TABLE outbox (
	event_id    bigint NOT NULL DEFAULT nextval('outbox_id'),
	xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
	occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	binding     int NOT NULL,
	machine     int NOT NULL,
	timeline    int NOT NULL,
	type        "char" NOT NULL,
	key         text NOT NULL,
	event       text,
	from_state  text,
	to_state    text,
	actor       text NOT NULL DEFAULT current_user,
	args        jsonb,
	payload     jsonb,
	reason      text,
	headers     jsonb);
CREATE INDEX ON outbox (xid, event_id);
CREATE INDEX ON outbox (binding, key, event_id);

-- the usual outbox
CREATE TABLE usual_outbox (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic      text NOT NULL,
	payload    jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now());

-- by hand: the edges in a table, a function that looks them up
CREATE TABLE edge (from_state text, event text, to_state text, PRIMARY KEY (from_state, event));
INSERT INTO edge VALUES ('closed', 'coin', 'opened'), ('opened', 'coin', 'opened'), ('opened', 'walk', 'closed');
CREATE TABLE hand_outbox (LIKE outbox INCLUDING ALL);
CREATE FUNCTION hand_fire(p_id bigint, p_event text, p_args jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	r hand;
	target text;
BEGIN
	SELECT * INTO r FROM hand WHERE id = p_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no instance %', p_id;
	END IF;
	SELECT to_state INTO target FROM edge WHERE from_state = r.state AND event = p_event;
	IF NOT FOUND OR r.coins >= 2000000000 THEN
		RAISE EXCEPTION 'no transition from % on %', r.state, p_event;
	END IF;
	UPDATE hand SET state = target, coins = coins + (p_args->>'n')::int WHERE id = p_id;
	INSERT INTO hand_outbox (binding, machine, timeline, type, key, event, from_state, to_state, args, payload)
	VALUES (1, 1, 1, 's', p_id::text, p_event, r.state, target, p_args,
			jsonb_build_object('id', p_id, 'state', target, 'coins', r.coins + (p_args->>'n')::int, 'owner', r.owner));
	RETURN target;
END
$$;

VACUUM ANALYZE;
