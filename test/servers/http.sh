#!/bin/sh
# A receiver of webhooks on 127.0.0.1, for tests: test/servers/http/receiver.py.
#
#	http.sh start DIR PORT [receiver options]	PORT for webhooks, PORT + 1 for the test
#	http.sh stop DIR
#
# DIR is made if need be and holds pid and log.  start waits until the server
# answers and prints nothing; stop ends that one process.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

fail() {
	echo "http.sh: $*" >&2
	exit 1
}

command=${1:-}
dir=${2:-}
[ -n "$dir" ] || fail "usage: http.sh start DIR PORT | stop DIR"
case $command in
start)
	port=${3:?port}
	shift 3
	mkdir -p "$dir"
	python3 "$here/http/receiver.py" "$port" "$@" </dev/null >"$dir/log" 2>&1 &
	pid=$!
	echo "$pid" >"$dir/pid"
	for _ in $(seq 200); do
		kill -0 "$pid" 2>/dev/null || fail "the server ended: $(tail -n 3 "$dir/log")"
		curl -s --noproxy '*' -o /dev/null "http://127.0.0.1:$((port + 1))/requests" && exit 0
		sleep 0.1
	done
	fail "the server does not answer"
	;;
stop)
	[ -f "$dir/pid" ] || exit 0
	pid=$(cat "$dir/pid")
	kill -CONT "$pid" 2>/dev/null || true
	kill "$pid" 2>/dev/null || true
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	kill -9 "$pid" 2>/dev/null || true
	rm -f "$dir/pid"
	;;
*)
	fail "unknown command \"$command\""
	;;
esac
