-- The kinds of sinks, as foreign data wrappers without a handler: a server is a
-- sink, a user mapping holds its secrets.  USAGE is not granted to PUBLIC, so
-- that only whom a superuser trusts can make this server talk to the network.

CREATE FUNCTION persistomata.clickhouse_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_clickhouse_options';
COMMENT ON FUNCTION persistomata.clickhouse_options(text[], oid) IS
'checks the options of ClickHouse servers and their user mappings';

CREATE FUNCTION persistomata.rabbitmq_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_rabbitmq_options';
COMMENT ON FUNCTION persistomata.rabbitmq_options(text[], oid) IS
'checks the options of RabbitMQ servers and their user mappings';

CREATE FUNCTION persistomata.redis_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_redis_options';
COMMENT ON FUNCTION persistomata.redis_options(text[], oid) IS
'checks the options of Redis servers and their user mappings';

CREATE FOREIGN DATA WRAPPER persistomata_clickhouse NO HANDLER
VALIDATOR persistomata.clickhouse_options;
COMMENT ON FOREIGN DATA WRAPPER persistomata_clickhouse IS
'a server of this kind is a ClickHouse database that routes send events to';

CREATE FOREIGN DATA WRAPPER persistomata_rabbitmq NO HANDLER
VALIDATOR persistomata.rabbitmq_options;
COMMENT ON FOREIGN DATA WRAPPER persistomata_rabbitmq IS
'a server of this kind is a RabbitMQ broker that routes send events to';

CREATE FOREIGN DATA WRAPPER persistomata_redis NO HANDLER
VALIDATOR persistomata.redis_options;
COMMENT ON FOREIGN DATA WRAPPER persistomata_redis IS
'a server of this kind is a Redis or Valkey database that routes send events to';


CREATE FUNCTION persistomata.http_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_http_options';
COMMENT ON FUNCTION persistomata.http_options(text[], oid) IS
'checks the options of HTTP servers and their user mappings';

CREATE FOREIGN DATA WRAPPER persistomata_http NO HANDLER
VALIDATOR persistomata.http_options;
COMMENT ON FOREIGN DATA WRAPPER persistomata_http IS
'a server of this kind is an HTTP endpoint that routes send events to, as webhooks';

CREATE FUNCTION persistomata.postgres_options(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pst_postgres_options';
COMMENT ON FUNCTION persistomata.postgres_options(text[], oid) IS
'checks the options of PostgreSQL servers and their user mappings';

CREATE FOREIGN DATA WRAPPER persistomata_postgres NO HANDLER
VALIDATOR persistomata.postgres_options;
COMMENT ON FOREIGN DATA WRAPPER persistomata_postgres IS
'a server of this kind is this database, whose functions routes call, or another one that they write to';
