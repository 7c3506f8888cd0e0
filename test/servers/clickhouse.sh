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

usage() { echo "usage: $0 start DIR [PORT] | stop DIR" >&2; exit 2; }
fail() { echo "$0: $*" >&2; exit 1; }

free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
		LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

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
	mkdir -p "$dir/data/tmp" || exit 1
	dir=$(cd "$dir" && pwd)
	[ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && fail "already running in $dir"
	write_config
	server=$(command -v clickhouse-server) || fail "clickhouse-server is not installed"
	(cd "$dir/data" && exec "$server" --config-file="$dir/config.xml") \
		</dev/null >"$dir/out" 2>&1 &
	pid=$!
	echo "$pid" >"$dir/pid"
	echo "$port" >"$dir/port"
	tries=0
	until [ "$(curl -s -m 2 "http://127.0.0.1:$port/ping" 2>/dev/null)" = "Ok." ]; do
		tries=$((tries + 1))
		kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/out" "$dir/log" >&2; fail "the server ended"; }
		[ "$tries" -lt 300 ] || fail "no answer on port $port within 60 s"
		sleep 0.2
	done
}

stop() {
	[ -f "$dir/pid" ] || exit 0
	pid=$(cat "$dir/pid")
	kill -CONT "$pid" 2>/dev/null
	kill "$pid" 2>/dev/null
	tries=0
	while kill -0 "$pid" 2>/dev/null; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || { kill -KILL "$pid" 2>/dev/null; break; }
		sleep 0.1
	done
	rm -f "$dir/pid"
}

[ $# -ge 2 ] || usage
dir=$2
case $1 in
	start) port=${3:-$(free_port)}; start ;;
	stop) stop ;;
	*) usage ;;
esac
