#!/bin/sh
# A private Redis server on 127.0.0.1.
#
#   redis.sh start DIR PORT    data, log and pid in DIR; returns when it answers
#   redis.sh stop DIR          ends the very process that start left in DIR/pid
#
# Prints nothing when it succeeds.  Runs as whoever calls it.
set -u

fail() { echo "$0: $*" >&2; exit 1; }

# A process that ended but was not yet waited for does not run.
runs() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

start() {
	mkdir -p "$dir/data" || exit 1
	redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/data" --save '' \
		--appendonly yes --appendfsync everysec </dev/null >>"$dir/log" 2>&1 &
	pid=$!
	echo "$pid" >"$dir/pid"
	tries=0
	until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do
		tries=$((tries + 1))
		runs "$pid" || { tail -n 20 "$dir/log" >&2; fail "the server ended"; }
		[ "$tries" -lt 300 ] || fail "no answer on port $port within 30 s"
		sleep 0.1
	done
}

stop() {
	[ -f "$dir/pid" ] || exit 0
	pid=$(cat "$dir/pid")
	kill -CONT "$pid" 2>/dev/null
	kill "$pid" 2>/dev/null
	tries=0
	while runs "$pid"; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || kill -KILL "$pid" 2>/dev/null
		sleep 0.1
	done
	rm -f "$dir/pid"
}

case $#:${1-} in
	3:start) dir=$2 port=$3; start ;;
	2:stop) dir=$2; stop ;;
	*) echo "usage: $0 start DIR PORT | stop DIR" >&2; exit 2 ;;
esac
