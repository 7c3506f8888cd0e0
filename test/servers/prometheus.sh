#!/bin/sh
# A private Prometheus, and the exporter that it scrapes, on 127.0.0.1, for tests.
#
#	prometheus.sh start DIR PORT DSN QUERIES
#	prometheus.sh stop DIR
#
# Prometheus listens on PORT, the exporter on the port above.  DSN is the
# database that the exporter asks, QUERIES the file of what it asks there.
set -eu

fail() {
	echo "prometheus.sh: $*" >&2
	exit 1
}

# end FILE: the process whose pid is in it
end() {
	[ -f "$1" ] || return 0
	pid=$(cat "$1")
	kill "$pid" 2>/dev/null || true
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$pid" 2>/dev/null || true
	rm -f "$1"
}

command=${1:-}
dir=${2:-}
[ -n "$dir" ] || fail "usage: prometheus.sh start DIR PORT DSN QUERIES | stop DIR"
case $command in
start)
	port=${3:?port}
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	cat >"$dir/prometheus.yml" <<-END
		global: {scrape_interval: 1s, scrape_timeout: 1s}
		scrape_configs:
		  - job_name: persistomata
		    static_configs: [{targets: ['127.0.0.1:$((port + 1))']}]
	END
	DATA_SOURCE_NAME=${4:?dsn} prometheus-postgres-exporter --web.listen-address="127.0.0.1:$((port + 1))" \
		--extend.query-path="${5:?queries}" --disable-default-metrics --disable-settings-metrics \
		--no-collector.database --no-collector.bgwriter \
		</dev/null >"$dir/exporter.log" 2>&1 &
	echo $! >"$dir/exporter.pid"
	prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" \
		--web.listen-address="127.0.0.1:$port" </dev/null >"$dir/log" 2>&1 &
	echo $! >"$dir/pid"
	for _ in $(seq 300); do
		kill -0 "$(cat "$dir/pid")" 2>/dev/null || fail "the server ended: $(tail -n 3 "$dir/log")"
		kill -0 "$(cat "$dir/exporter.pid")" 2>/dev/null || fail "the exporter ended: $(tail -n 3 "$dir/exporter.log")"
		! curl -sf "http://127.0.0.1:$port/-/ready" >/dev/null || exit 0
		sleep 0.1
	done
	fail "the server does not answer"
	;;
stop)
	end "$dir/pid"
	end "$dir/exporter.pid"
	;;
*)
	fail "unknown command \"$command\""
	;;
esac
