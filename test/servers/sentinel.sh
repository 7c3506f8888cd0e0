#!/bin/sh
# A private Redis Sentinel on 127.0.0.1, for tests.
#
#	sentinel.sh start DIR PORT MASTER_PORT
#	sentinel.sh stop DIR
#
# It watches the master at MASTER_PORT under the name "main", alone decides that
# it is down (after half a second), and promotes a replica.  DIR holds pid and log.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
command=${1:-}
dir=${2:-}
case $command in
start)
	port=${3:?port}
	master=${4:?port of the master}
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	# kept over a restart: the sentinel writes what it learns into it
	[ -f "$dir/sentinel.conf" ] || cat >"$dir/sentinel.conf" <<-END
		sentinel monitor main 127.0.0.1 $master 1
		sentinel down-after-milliseconds main 500
		sentinel failover-timeout main 3000
	END
	"${PST_REDIS_SERVER:-redis-server}" "$dir/sentinel.conf" --sentinel --port "$port" --bind 127.0.0.1 --dir "$dir" \
		--daemonize no --logfile "$dir/log" </dev/null >/dev/null 2>&1 &
	echo "$!" >"$dir/pid"
	for _ in $(seq 100); do
		redis-cli -h 127.0.0.1 -p "$port" PING >/dev/null 2>&1 && exit 0
		sleep 0.1
	done
	echo "sentinel.sh: no answer: $(tail -n 3 "$dir/log")" >&2
	exit 1
	;;
*)
	exec "$here/redis.sh" "$command" "$dir"
	;;
esac
