-- What test/demo.sh sets up, in one transaction.  The variables clickhouse,
-- rabbitmq and redis are the ports of the three servers.

CREATE EXTENSION persistomata;

SELECT persistomata.create_machine('turnstile', $$
flowchart LR
  idle   -->|close!| closed
  closed -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"coin / coins = coins + (args->>'n')::int"| opened
  opened -->|"walk [(args->>'n')::int = coins] / coins = 0"| closed
  opened -->|"walk [(args->>'n')::int < coins] / coins = coins - (args->>'n')::int"| opened
  closed -->|"off [coins = 0]"| inactive
$$);

CREATE TABLE turnstile (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        state text NOT NULL, coins int NOT NULL DEFAULT 0);
SELECT persistomata.attach('turnstile', machine => 'turnstile');

\set clickhouse_url 'http://127.0.0.1:' :clickhouse
CREATE SERVER analytics FOREIGN DATA WRAPPER persistomata_clickhouse
	OPTIONS (url :'clickhouse_url', database 'default');
CREATE SERVER broker FOREIGN DATA WRAPPER persistomata_rabbitmq
	OPTIONS (host '127.0.0.1', port :'rabbitmq');
CREATE SERVER cache FOREIGN DATA WRAPPER persistomata_redis
	OPTIONS (host '127.0.0.1', port :'redis');

CREATE USER MAPPING FOR CURRENT_USER SERVER analytics OPTIONS (user 'default');
CREATE USER MAPPING FOR CURRENT_USER SERVER broker OPTIONS (user 'guest', password 'guest');
CREATE USER MAPPING FOR CURRENT_USER SERVER cache;

SELECT persistomata.create_route('turnstile_log', server => 'analytics', machine => 'turnstile');
SELECT persistomata.create_route('turnstile_queue', server => 'broker', machine => 'turnstile');
SELECT persistomata.create_route('turnstile_stream', server => 'cache', machine => 'turnstile');
