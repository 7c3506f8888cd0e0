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
# PST_CLICKHOUSE_TOKEN is set; HTTPS on the port above, if PST_CLICKHOUSE_TLS names
# a folder with cert.pem and key.pem.
set -u

here=$(cd "$(dirname "$0")" && pwd)
cache=${PST_CACHE:-$HOME/.cache/persistomata}/chdb

. "$here/clickhouse_common.sh"

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
	prepare
	[ -x /usr/bin/python3 ] || fail "python3 is not installed"
	install_engine
	(cd "$dir" && exec /usr/bin/python3 "$here/chdb/chdb_http.py" "$library" "$dir/data" "$port") \
		</dev/null >"$dir/log" 2>&1 &
	await $!
}

main "$@"
