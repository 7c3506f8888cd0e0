-- The kinds of sinks, and the checks of their options.
SELECT w.fdwname, w.fdwhandler = 0 AS no_handler, p.proname AS validator,
       w.fdwacl IS NULL AS owner_only,
       pg_catalog.obj_description(w.oid, 'pg_foreign_data_wrapper') IS NOT NULL AS commented
  FROM pg_catalog.pg_foreign_data_wrapper w
  JOIN pg_catalog.pg_proc p ON p.oid = w.fdwvalidator
 WHERE w.fdwname LIKE 'persistomata%' ORDER BY 1;

-- Only whom a superuser trusts may make a server.
CREATE ROLE sink_nobody;
SET ROLE sink_nobody;
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis;
RESET ROLE;

-- Names: the hint has those that are valid there.
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (hots 'h');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (password 'x');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (stream 'x');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_rabbitmq OPTIONS (url 'x');
CREATE SERVER redis FOREIGN DATA WRAPPER persistomata_redis
	OPTIONS (host 'localhost', port '6380', database '1', connect_timeout '100', reply_timeout '100');
CREATE SERVER rabbit FOREIGN DATA WRAPPER persistomata_rabbitmq
	OPTIONS (host 'localhost', port '5673', vhost '/v', connect_timeout '100',
			 confirm_timeout '100', heartbeat '0', window '10');
CREATE USER MAPPING FOR CURRENT_USER SERVER redis OPTIONS (user 'u', pass 'p');
CREATE USER MAPPING FOR CURRENT_USER SERVER redis OPTIONS (user 'u', password 'p');
CREATE USER MAPPING FOR CURRENT_USER SERVER rabbit OPTIONS (user 'u', password 'p');
CREATE SERVER hook FOREIGN DATA WRAPPER persistomata_http OPTIONS (uri 'http://h/');
CREATE SERVER hook FOREIGN DATA WRAPPER persistomata_http OPTIONS (url 'ftp://h/');
CREATE SERVER hook FOREIGN DATA WRAPPER persistomata_http OPTIONS (url 'https://u:p@h/');
CREATE SERVER hook FOREIGN DATA WRAPPER persistomata_http OPTIONS (url 'https://h/', ca_file '/c', max_rows '10');
CREATE USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (token 't', secret 's');
SELECT persistomata.create_route('hooks', 'hook', options => '{"mode": "all"}');
CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres OPTIONS (database 'd');
CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres OPTIONS (sslmode 'on');
CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres OPTIONS (host 'h', dbname 'd', sslmode 'verify-full');
CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (token 't');
CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user 'u', password 'p');
SELECT persistomata.create_route('calls', 'here');
SELECT persistomata.create_route('calls', 'here', options => '{"functoin": "a.f"}');
SELECT persistomata.create_route('calls', 'here', options => '{"mode": "notify", "channel": "{machin}"}');
SELECT persistomata.create_route('calls', 'here', options => '{"mode": "notify", "function": "a.f"}');
DO $$
BEGIN
	CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (x 'y');
EXCEPTION WHEN fdw_invalid_option_name THEN
	RAISE NOTICE '%', SQLSTATE;
END $$;

-- Values.
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port 'x');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port '0');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port '65536');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port '');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_redis OPTIONS (port '6379x');
CREATE SERVER s FOREIGN DATA WRAPPER persistomata_rabbitmq OPTIONS (window '99999999999999999999');
ALTER SERVER redis OPTIONS (SET port '70000');
ALTER SERVER redis OPTIONS (SET port '7000');

-- Options elsewhere.
ALTER FOREIGN DATA WRAPPER persistomata_redis OPTIONS (host 'h');
CREATE FOREIGN TABLE t (i int) SERVER redis;
CREATE FOREIGN TABLE t (i int) SERVER redis OPTIONS (stream 's');

DROP SERVER redis CASCADE;
DROP SERVER rabbit CASCADE;
DROP SERVER hook CASCADE;
DROP SERVER here CASCADE;
DROP ROLE sink_nobody;
