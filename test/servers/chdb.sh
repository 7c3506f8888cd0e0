#!/bin/sh
# A private server with the current ClickHouse engine, on 127.0.0.1: the npm
# package chdb behind the small HTTP server in test/servers/chdb.
#
#   chdb.sh start DIR [PORT]    data and log in DIR; HTTP on PORT, or on a free one
#                               (see DIR/port)
#   chdb.sh stop DIR            ends the very process that start left in DIR/pid
#
# Prints nothing when it succeeds.  The package is installed once into
# ${PST_CACHE:-$HOME/.cache/persistomata}/chdb.  Users: default (no password) and
# relay (password ${PST_CLICKHOUSE_PASSWORD:-relay-secret}); a bearer token, if
# PST_CLICKHOUSE_TOKEN is set.
set -u

here=$(cd "$(dirname "$0")" && pwd)
cache=${PST_CACHE:-$HOME/.cache/persistomata}/chdb

usage() { echo "usage: $0 start DIR [PORT] | stop DIR" >&2; exit 2; }
fail() { echo "$0: $*" >&2; exit 1; }

free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
		LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

find_library() {
	find "$cache/node_modules" -name libchdb.so 2>/dev/null | head -n 1
}

# Its install scripts only build a binding for Node, which is not wanted here.
install_engine() {
	library=$(find_library)
	[ -z "$library" ] || return 0
	mkdir -p "$cache" || exit 1
	(
		flock 9
		[ -n "$(find_library)" ] ||
			npm install --ignore-scripts --no-audit --no-fund --silent --prefix "$cache" chdb >"$cache/npm.log" 2>&1
	) 9>"$cache/lock"
	library=$(find_library)
	[ -n "$library" ] || fail "npm could not install chdb: see $cache/npm.log"
}

start() {
	mkdir -p "$dir/data" || exit 1
	dir=$(cd "$dir" && pwd)
	[ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && fail "already running in $dir"
	command -v /usr/bin/python3 >/dev/null || fail "python3 is not installed"
	install_engine
	(cd "$dir" && exec /usr/bin/python3 "$here/chdb/chdb_http.py" "$library" "$dir/data" "$port") \
		</dev/null >"$dir/log" 2>&1 &
	pid=$!
	echo "$pid" >"$dir/pid"
	echo "$port" >"$dir/port"
	tries=0
	until [ "$(curl -s -m 5 "http://127.0.0.1:$port/ping" 2>/dev/null)" = "Ok." ]; do
		tries=$((tries + 1))
		kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/log" >&2; fail "the server ended"; }
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
