#!/bin/sh
# A private ClickHouse server (Debian's clickhouse-server) on 127.0.0.1.
#
#   clickhouse.sh start DIR [PORT]    data, configuration and log in DIR; HTTP on
#                                     PORT, or on a free one (see DIR/port)
#   clickhouse.sh stop DIR            ends the very process that start left in DIR/pid
#
# Prints nothing when it succeeds.  Users: default (no password) and relay
# (password ${PST_CLICKHOUSE_PASSWORD:-relay-secret}).
set -u

. "$(dirname "$0")/clickhouse_common.sh"

write_config() {
	cat >"$dir/config.xml" <<XML
<yandex>
	<logger>
		<level>information</level>
		<log>$dir/log</log>
		<errorlog>$dir/log.err</errorlog>
	</logger>
	<http_port>$port</http_port>
	<listen_host>127.0.0.1</listen_host>
	<path>$dir/data/</path>
	<tmp_path>$dir/data/tmp/</tmp_path>
	<format_schema_path>$dir/data/format_schemas/</format_schema_path>
	<users_config>$dir/users.xml</users_config>
	<default_profile>default</default_profile>
	<default_database>default</default_database>
	<mark_cache_size>67108864</mark_cache_size>
	<keep_alive_timeout>10</keep_alive_timeout>
	<timezone>UTC</timezone>
</yandex>
XML
	cat >"$dir/users.xml" <<XML
<yandex>
	<profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
	<quotas><default></default></quotas>
	<users>
		<default>
			<password></password>
			<networks><ip>127.0.0.1</ip></networks>
			<profile>default</profile><quota>default</quota>
		</default>
		<relay>
			<password>${PST_CLICKHOUSE_PASSWORD:-relay-secret}</password>
			<networks><ip>127.0.0.1</ip></networks>
			<profile>default</profile><quota>default</quota>
		</relay>
	</users>
</yandex>
XML
}

start() {
	prepare
	write_config
	server=$(command -v clickhouse-server) || fail "clickhouse-server is not installed"
	(cd "$dir/data" && exec "$server" --config-file="$dir/config.xml") \
		</dev/null >"$dir/out" 2>&1 &
	await $!
}

main "$@"
