#!/usr/bin/env bash
# Installs what is missing, builds, starts a private cluster and the real sinks,
# runs the turnstile, and shows its events as ClickHouse, RabbitMQ and Redis hold
# them, with the time from commit to each sink.  Leaves all of it up.
#
#   test/demo.sh         once more: another turnstile in the same cluster
#   test/demo.sh stop    ends the cluster and the sinks, and removes their folder
#
#   PG_CONFIG       the PostgreSQL to use (default: Debian's own)
#   PST_DEMO_DIR    where everything is kept (default /tmp/persistomata-demo)
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=${PST_DEMO_DIR:-/tmp/persistomata-demo}
began=$SECONDS

usage() { echo "usage: test/demo.sh [stop]" >&2; exit 2; }

run_psql() {
	"$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$work/pg" -p "$postgres" -U postgres "$@"
}

# A folder of that name that somebody else made is not ours to use.
check_folder() {
	local owner
	[ -e "$work" ] || return 0
	owner=$(stat -c %U "$work")
	[ -d "$work" ] && [ ! -L "$work" ] && { [ "$owner" = postgres ] || [ -O "$work" ]; } ||
		die "$work belongs to $owner; set PST_DEMO_DIR"
}

stop() {
	check_folder
	[ -d "$work/src" ] || die "no demo in $work"
	find_postgres
	work_folder "$work"
	stop_cluster "$work/pg"
	servers_stop
	cd / && rm -rf "$work"
	echo "stopped"
}

# The ports are chosen once, so that a second run finds what the first one left.
choose_ports() {
	if [ ! -f "$work/ports" ]; then
		local name
		for name in postgres clickhouse rabbitmq redis; do
			echo "$name=$(free_port)"
		done >"$work/ports"
	fi
	. "$work/ports"
}

start_sinks() {
	local pid rc=0
	local -a pids=()
	server_start clickhouse "$clickhouse" & pids+=($!)
	server_start rabbitmq "$rabbitmq" & pids+=($!)
	server_start redis "$redis" --appendonly yes & pids+=($!)
	for pid in "${pids[@]}"; do wait "$pid" || rc=1; done
	[ "$rc" = 0 ] || die "a sink did not start"
}

start_postgres() {
	local library
	library=$("$PG_CONFIG" --pkglibdir)/persistomata.so
	pg_port=$postgres
	if cluster_runs "$work/pg"; then
		# A library that is newer than the server takes effect only after a restart.
		[ "$library" -nt "$work/pg/data/postmaster.pid" ] || return 0
		stop_cluster "$work/pg"
	fi
	start_cluster "$work/pg" "track_commit_timestamp = on" "log_line_prefix = '%m [%p] %q%u@%d '" ||
		die "no cluster"
}

# One transaction, so that a second run finds all of it or nothing.
set_up() {
	[ -n "$(run_psql -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = 'demo'")" ] ||
		run_psql -d postgres -c "CREATE DATABASE demo" || exit 1
	[ -z "$(run_psql -d demo -Atc "SELECT 1 FROM pg_extension WHERE extname = 'persistomata'")" ] || return 0
	say "the definition, the table and the routes (test/demo.sql)"
	run_psql -d demo -1 -v clickhouse="$clickhouse" -v rabbitmq="$rabbitmq" -v redis="$redis" \
		-f "$work/src/test/demo.sql" >/dev/null || die "the demo could not be set up"
}

hints() {
	local psql="psql -h 127.0.0.1 -p $postgres -U postgres demo"
	cat <<-TEXT

		${bold}All of it stays up.${plain} Look around:
		  PostgreSQL   $psql
		               $psql -c 'SELECT * FROM persistomata.stat_route'
		  ClickHouse   curl 'http://127.0.0.1:$clickhouse/?query=SELECT+*+FROM+turnstile+FORMAT+Vertical'
		  RabbitMQ     $top/test/servers/rabbitmq.sh ctl $work/servers/rabbitmq list_queues name messages
		  Redis        redis-cli -p $redis XRANGE persistomata:turnstile - +
		Again:         $top/test/demo.sh
		Stop:          $top/test/demo.sh stop
	TEXT
}

case $#:${1-} in
	0:) ;;
	1:stop) stop; exit ;;
	*) usage ;;
esac

check_folder
install_packages $(build_packages) $(server_packages)
find_postgres
say "building for $("$PG_CONFIG" --version)"
build || die "the build failed"
work_folder "$work"
choose_ports
say "starting PostgreSQL, ClickHouse, RabbitMQ and Redis in $work"
start_sinks
start_postgres
perl -I"$top/test/lib" "$top/test/demo.pl" prepare "$rabbitmq" || exit 1
set_up
perl -I"$top/test/lib" "$top/test/demo.pl" run "$clickhouse" "$rabbitmq" "$redis" \
	"$pg_bin/psql" -h "$work/pg" -p "$postgres" -U postgres -d demo
rc=$?
hints
printf '%s\n' "${dim}$((SECONDS - began)) s in all${plain}"
exit "$rc"
