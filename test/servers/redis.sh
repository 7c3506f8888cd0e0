#!/bin/sh
# A private Redis on 127.0.0.1, for tests.
#
#	redis.sh start DIR PORT [redis-server options]
#	redis.sh stop DIR
#
# PST_REDIS_SERVER names another program, for example valkey-server.
# DIR is made if need be and holds pid and log.  start waits until the server
# answers and prints nothing; stop ends that one process.
set -eu

fail() {
	echo "redis.sh: $*" >&2
	exit 1
}

await_end() {
	for _ in $(seq 100); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$1" 2>/dev/null || true
}

command=${1:-}
dir=${2:-}
[ -n "$dir" ] || fail "usage: redis.sh start DIR PORT | stop DIR"
case $command in
start)
	port=${3:?port}
	shift 3
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	"${PST_REDIS_SERVER:-redis-server}" --port "$port" --bind 127.0.0.1 --dir "$dir" --daemonize no \
		--save '' --appendonly no --logfile "$dir/log" "$@" </dev/null >/dev/null 2>&1 &
	pid=$!
	echo "$pid" >"$dir/pid"
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || fail "the server ended: $(tail -n 3 "$dir/log")"
		# Any answer will do: it may ask for a password.
		redis-cli -h 127.0.0.1 -p "$port" PING >/dev/null 2>&1 && exit 0
		sleep 0.1
	done
	fail "the server does not answer"
	;;
stop)
	[ -f "$dir/pid" ] || exit 0
	pid=$(cat "$dir/pid")
	kill -CONT "$pid" 2>/dev/null || true
	kill "$pid" 2>/dev/null || true
	await_end "$pid"
	rm -f "$dir/pid"
	;;
*)
	fail "unknown command \"$command\""
	;;
esac
