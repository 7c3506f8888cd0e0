# What test/bench/relay.sh and test/bench/held.sh share; sourced after test/lib.sh.

. "$top/test/bench/figures.sh"
. "$top/test/bench/pgq.sh"

declare -A port
asides=()
settings=("shared_buffers = '512MB'" "max_wal_size = '8GB'" "checkpoint_timeout = '1h'" "autovacuum = off")

# aside COMMAND...: runs beside, until end_asides
aside() {
	"$@" &
	asides+=($!)
}
end_asides() {
	local pid
	for pid in "${asides[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${asides[@]}"; do wait "$pid" 2>/dev/null; done
	asides=()
}

work=''
cleanup() {
	local dir
	[ -n "$work" ] || return
	trap '' INT TERM
	end_asides
	servers_stop
	for dir in pg plain; do
		! cluster_runs "$work/$dir" || stop_cluster "$work/$dir" immediate
	done
	cd / && rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- the cluster ----------------------------------------------------------------

sql() { PGOPTIONS="-c client_min_messages=error" "$pg_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work/pg" -U postgres bench "$@"; }
ask_clickhouse() { curl -sf --data-binary "$1" "http://127.0.0.1:${port[clickhouse]}/" >/dev/null || die "ClickHouse refuses: $1"; }

# usage: WAL bytes and xids so far
usage() { sql -F ' ' -c "SELECT pg_current_wal_insert_lsn() - '0/0', split_part(pg_current_snapshot()::text, ':', 2)"; }

# load SECONDS [CLIENTS]: transitions at $rate a second; prints what was reached
load() {
	"$pg_bin/pgbench" -n -M prepared -c "${2:-4}" -j 2 -T "$1" ${rate:+-R "$rate"} -h "$work/pg" -U postgres \
		-f "$work/load.sql" bench 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p'
}

# new_route NAME KIND MACHINE START [SERVER]
new_route() {
	local options='{}'
	[ "$2" != clickhouse ] || options='{"table": "bench"}'
	[ "$2" != redis ] || options='{"stream": "bench"}'
	sql -c "SELECT persistomata.create_route('$1', '${5:-$2}', '$3', start => '$4', options => '$options')" >/dev/null ||
		die "the route $1 could not be made"
}

# await_drained NAME: until nothing is cut that the route has not settled
await_drained() {
	for _ in $(seq 600); do
		[ "$(sql -c "SELECT lag_events FROM persistomata.stat_route WHERE route = '$1'")" != 0 ] || return 0
		sleep 0.1
	done
	die "the route $1 did not drain"
}

start_sink() {
	port[$1]=$(free_port)
	server_start "$1" "${port[$1]}" || die "$1 did not start"
}

# The foreign server of a kind, at a port.  The route that matches nothing keeps a
# worker up, so that its start is not measured.
sink_sql() {
	local options="host '127.0.0.1', port '$3'" user=''
	[ "$1" != clickhouse ] || options="url 'http://127.0.0.1:$3'"
	[ "$1" != rabbitmq ] || user="OPTIONS (user 'guest', password 'guest')"
	echo "CREATE SERVER $2 FOREIGN DATA WRAPPER persistomata_$1 OPTIONS ($options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $2 $user;
		SELECT persistomata.create_route('keep_$2', '$2', 'none');"
}

schema() {
	cat <<-END
		CREATE EXTENSION persistomata;
		SELECT persistomata.create_machine('bench', 'flowchart LR
		  none -->|make| open
		  open -->|coin| open');
		CREATE TABLE bench (id bigint PRIMARY KEY, state text, coins int NOT NULL DEFAULT 0);
		SELECT persistomata.attach('bench', 'bench');
		CREATE TABLE fired (id bigint PRIMARY KEY, state text, coins int NOT NULL DEFAULT 0);
		SELECT persistomata.create_machine('fired', 'flowchart LR
		  none -->|make!| open
		  open -->|coin| shut
		  shut -->|coin| open');
		INSERT INTO fired SELECT g, 'open' FROM generate_series(1, 10000) g;
		SELECT persistomata.attach('fired', 'fired', baseline => false);
		CREATE FUNCTION drained(name text, wanted bigint) RETURNS timestamptz LANGUAGE plpgsql AS \$\$
		DECLARE
			id int := (SELECT r.id FROM persistomata.route r WHERE r.name = drained.name);
		BEGIN
			FOR i IN 1 .. 600000 LOOP
				IF (SELECT sent FROM persistomata.live_routes() l WHERE l.route = id) >= wanted THEN
					RETURN clock_timestamp();
				END IF;
				PERFORM pg_sleep(0.002);
			END LOOP;
			RAISE EXCEPTION 'route % did not drain: %', name, (SELECT to_jsonb(s) FROM persistomata.stat_route s WHERE route = name);
		END \$\$;
	END
}

broker_queue() {
	perl -I"$top/test/lib" -MPstTest::RabbitMQ -e 'my $b = PstTest::RabbitMQ->connect($ARGV[0]);
		$b->declare_exchange("persistomata", "topic"); $b->declare_queue("q"); $b->bind_queue("q", "persistomata", "#"); $b->close' "${port[rabbitmq]}" ||
		die "the queue could not be made"
}

compile_clients() {
	local name dir=$top/test/bench/bare
	for name in bare pace observe; do
		cc -O2 -o "$work/$name" "$dir/$name.c" "$dir/ready.c" -lhiredis -lrabbitmq -lcurl || die "the client $name does not build"
	done
	cc -O2 -pthread -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -o "$work/write" "$dir/write.c" "$dir/ready.c" \
		-lrabbitmq -lpq -lm || die "the client write does not build"
}

# fill N: the backlog, in transactions of 50,000
fill() {
	local from to
	for ((from = 1; from <= $1; from = to + 1)); do
		to=$((from + 49999 < $1 ? from + 49999 : $1))
		sql -c "INSERT INTO bench SELECT generate_series($from, $to)" || die "no backlog"
		progress "backlog: $to of $1 events"
	done
}

# A cluster with a backlog of $events, and the sinks (those in $sinks, or all).
prepare() {
	local kind
	[ -n "${PST_NO_INSTALL:-}" ] || install_packages $(build_packages) $(server_packages) nodejs npm
	find_postgres
	build || die "the build failed"
	work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-bench.XXXXXX")"
	compile_clients
	start_cluster "$work/pg" "${settings[@]}" || die "the cluster did not start"
	as_postgres "$pg_bin/createdb" -h "$work/pg" -U postgres bench
	schema | sql >/dev/null || die "the tables could not be made"
	for kind in ${sinks:-clickhouse redis rabbitmq}; do
		start_sink $kind
		sink_sql $kind $kind "${port[$kind]}" | sql >/dev/null || die "no server $kind"
	done
	[ -n "${sinks:-}" ] || broker_queue
	cat >"$work/load.sql" <<-END
		\set id random(1, 10000)
		SELECT persistomata.fire('fired', :id::bigint, 'coin', jsonb_build_object('tag', :id::bigint));
	END
	postgres_folder "$work/sent"
	fill "$events"
}
