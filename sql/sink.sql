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

-- Hosts, URLs and names.
CREATE FUNCTION try_server(kind text, option text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE format('CREATE SERVER tried FOREIGN DATA WRAPPER %I OPTIONS (%I %L)', 'persistomata_' || kind, option, value);
	DROP SERVER tried;
	RETURN 'taken';
EXCEPTION WHEN fdw_invalid_attribute_value THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END $$;
SELECT kind, option, value, try_server(kind, option, value) FROM (VALUES
	('redis', 'host', 'a'), ('redis', 'host', 'a, b:6380 ,[::1]:6381,::1,fe80::1'), ('redis', 'host', ''), ('redis', 'host', 'a,'),
	('redis', 'host', 'a b'), ('redis', 'host', 'a:'), ('redis', 'host', 'a:65536'), ('redis', 'host', 'a:63x'), ('redis', 'host', '[::1'),
	('redis', 'sentinels', ' , '), ('redis', 'master', ''), ('rabbitmq', 'host', 'a:0'),
	('clickhouse', 'url', 'http://a'), ('clickhouse', 'url', 'https://[::1]:8443/x?y=z'), ('clickhouse', 'url', 'http://a:8123x/'),
	('clickhouse', 'url', 'http://a:99999'), ('clickhouse', 'url', 'http://:8123'), ('clickhouse', 'url', 'http://a b/'),
	('http', 'url', 'http://a:/'), ('clickhouse', 'database', '')) v (kind, option, value);
DROP FUNCTION try_server(text, text, text);
SELECT persistomata.create_route('r', 'rabbit', options => '{"exchange_type": "topics"}');
SELECT persistomata.create_route('r', 'rabbit', options => jsonb_build_object('exchange', repeat('x', 256)));
SELECT persistomata.create_route('r', 'rabbit', options => '{"exchange_type": "x-consistent-hash"}') > 0 AS made;
SELECT persistomata.drop_route('r');
SELECT persistomata.create_route('r', 'here', options => '{"mode": "table", "table": ""}');
CREATE SERVER columns FOREIGN DATA WRAPPER persistomata_clickhouse;
SELECT persistomata.create_route('r', 'columns', options => '{"table": "{machin}"}');
SELECT persistomata.create_route('r', 'columns', options => '{"table": ""}');
SELECT persistomata.create_route('r', 'columns', types => '{{state},{init}}');
SELECT persistomata.create_route('r', 'columns', events => '{go,NULL}');
DROP SERVER columns;

-- Options elsewhere.
ALTER FOREIGN DATA WRAPPER persistomata_redis OPTIONS (host 'h');
CREATE FOREIGN TABLE t (i int) SERVER redis;
CREATE FOREIGN TABLE t (i int) SERVER redis OPTIONS (stream 's');

DROP SERVER redis CASCADE;
DROP SERVER rabbit CASCADE;
DROP SERVER hook CASCADE;
DROP SERVER here CASCADE;
DROP ROLE sink_nobody;
