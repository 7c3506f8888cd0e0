-- What is too large for the log leaves its size there, and never makes a write fail.
SET client_min_messages = warning;
SELECT persistomata.create_machine('photo', $$
flowchart LR
  none -->|taken!| raw
  raw  -->|"develop [length(args->>'film') > 65536] / note = left(args->>'film', 3)"| done
  done -->|print| done
  done -->|burn| ash
$$);
CREATE TABLE photo (id int PRIMARY KEY, state text, note text, pixels text, tags jsonb);
ALTER TABLE photo ALTER pixels SET STORAGE EXTERNAL;
SELECT persistomata.attach('photo', 'photo');
INSERT INTO photo (id, pixels, tags) VALUES (1, repeat('x', 1000000), jsonb_build_object('t', repeat('y', 65536)));

-- a guard and an action see args whole
SELECT status FROM persistomata.fire('photo', 1, 'develop', jsonb_build_object('film', repeat('z', 65537), 'at', 5, 'lens', repeat('l', 65536)));
SELECT status FROM persistomata.fire('photo', 1, 'print', to_jsonb(repeat('p', 70000)));
SELECT status FROM persistomata.fire('photo', 1, 'print', jsonb_build_array(1, repeat('p', 70000), jsonb_build_object('q', repeat('q', 70000)), null));
SELECT status FROM persistomata.try_fire('photo', 1, 'wrong', jsonb_build_object('film', repeat('z', 70000)));
SET persistomata.headers = '{"tenant": "t1"}';
SELECT set_config('persistomata.headers', jsonb_build_object('tenant', 't1', 'long', repeat('h', 70000))::text, false) IS NULL AS unset;
UPDATE photo SET pixels = NULL;
RESET persistomata.headers;
SELECT status FROM persistomata.force('photo', 1, 'ash', repeat('r', 100000));

SELECT event, payload - 'tags' AS payload,
	   CASE WHEN jsonb_typeof(args) = 'object' THEN args - 'lens' ELSE args END AS args, length(args->>'lens') AS lens,
	   headers, length(reason) AS reason
  FROM persistomata.event WHERE fsm = 'public.photo' ORDER BY event_id;
SELECT DISTINCT (payload->'tags'->>'$omitted')::int > 65536 AS tags FROM persistomata.history('photo', 1);

SET persistomata.max_value = '1MB';
UPDATE photo SET pixels = repeat('x', 1000000);
SELECT length(payload->>'pixels') AS pixels, length(payload->'tags'->>'t') AS tags FROM persistomata.history('photo', 1) ORDER BY event_id DESC LIMIT 1;
SELECT finding FROM persistomata.verify('photo');
DROP TABLE photo;
SELECT persistomata.drop_machine('photo');
