# What test/bench/relay.sh and test/bench/held.sh share; sourced after test/lib.sh.

declare -A port

work=''
cleanup() {
	[ -n "$work" ] || return
	trap '' INT TERM
	[ -z "${recorder:-}" ] || kill "$recorder" 2>/dev/null
	servers_stop
	! cluster_runs "$work/pg" || stop_cluster "$work/pg" immediate
	cd / && rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- figures ------------------------------------------------------------------

note() {
	[ -n "$2" ] || die "no figure for $1"
	echo "$2" >>"$work/figures.$1"
}
sum() { awk '{ n += $1 } END { print n }' "$work/figures.$1"; }

# median NAME: median (least – greatest)
median() {
	sort -g "$work/figures.$1" | awk '{ v[NR] = $1 }
		END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
			f = m > 100 ? "%.0f (%.0f – %.0f)" : "%.2f (%.2f – %.2f)"
			printf f, m, v[1], v[NR] }'
}

# ratio A B: nothing measured is no figure.
ratio() {
	awk -v a="$1" -v b="$2" 'BEGIN { if (!(a > 0 && b > 0)) exit 1; print a / b }' || die "a run failed"
}

# report WHAT WANTED NAME [MORE]
report() { printf '%-46s %-22s wanted %-6s %s\n' "$1" "$(median "$3")" "$2" "${4:-}"; }

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

start_sink() {
	port[$1]=$(free_port)
	server_start "$1" "${port[$1]}" || die "$1 did not start"
}

# The foreign server of a kind, at a port.
sink_sql() {
	local options="host '127.0.0.1', port '$3'" user=''
	[ "$1" != clickhouse ] || options="url 'http://127.0.0.1:$3'"
	[ "$1" != rabbitmq ] || user="OPTIONS (user 'guest', password 'guest')"
	echo "CREATE SERVER $2 FOREIGN DATA WRAPPER persistomata_$1 OPTIONS ($options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $2 $user;
		SELECT persistomata.create_route('keep_$2', '$2', 'none');"
}

# An event is about 300 bytes as JSON; the route that matches nothing keeps a
# worker up, so that its start is not measured.
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
		CREATE TABLE flushed (n int);
		CREATE FUNCTION drained(name text, wanted bigint) RETURNS timestamptz LANGUAGE plpgsql AS \$\$
		DECLARE
			id int := (SELECT r.id FROM persistomata.route r WHERE r.name = drained.name);
		BEGIN
			FOR i IN 1 .. 300000 LOOP
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

# A cluster with a backlog, the sinks (those in $sinks, or all) and the peers.
prepare() {
	local kind
	[ -n "${PST_NO_INSTALL:-}" ] || install_packages $(build_packages) $(server_packages) nodejs npm
	find_postgres
	build || die "the build failed"
	work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-bench.XXXXXX")"
	cc -O2 -o "$work/bare" "$top/test/bench/bare/bare.c" -lhiredis -lrabbitmq -lcurl || die "the bare client does not build"
	start_cluster "$work/pg" "shared_buffers = '512MB'" "max_wal_size = '8GB'" "checkpoint_timeout = '1h'" \
		"autovacuum = off" || die "the cluster did not start"
	as_postgres "$pg_bin/createdb" -h "$work/pg" -U postgres bench
	schema | sql >/dev/null || die "the tables could not be made"
	for kind in ${sinks:-clickhouse redis rabbitmq}; do
		start_sink $kind
		sink_sql $kind $kind "${port[$kind]}" | sql >/dev/null || die "no server $kind"
	done
	[ -n "${sinks:-}" ] || broker_queue
	sql -c "INSERT INTO bench SELECT generate_series(1, $events)" >/dev/null || die "no backlog"
	cat >"$work/load.sql" <<-END
		\set id random(1, 10000)
		SELECT persistomata.fire('fired', :id::bigint, 'coin');
	END
	mkdir -p "$work/sent"
	postgres_folder "$work/sent"
	[ -n "${sinks:-}" ] || record redis
	[ -n "${sinks:-}" ] || filled
	if [ -n "${peer:-}" ]; then
		cp -R "$top/test/bench/peer" "$work/peer"
		(cd "$work/peer" && npm install --no-package-lock --no-audit --no-fund --silent) || die "the peer's packages could not be installed"
	fi
}

# record KIND: drain once through a proxy, and keep the bytes for the bare client.
record() {
	local kind=$1 at
	[ ! -e "$work/sent/$kind.0.body" ] && [ ! -e "$work/sent/$kind.commands" ] && [ ! -e "$work/sent/$kind.messages" ] || return 0
	at=$(free_port)
	python3 "$top/test/bench/record.py" listen "$at" "${port[$kind]}" "$work/sent/$kind.raw" &
	recorder=$!
	sleep 0.5
	sink_sql "$kind" "recorded_$kind" "$at" | sql >/dev/null
	drain "$kind" "recorded_$kind" >/dev/null
	sql -c "SELECT persistomata.drop_route('keep_recorded_$kind')" >/dev/null
	kill "$recorder"
	wait "$recorder" 2>/dev/null
	recorder=''
	python3 "$top/test/bench/record.py" "$kind" "$work/sent/$kind.raw" "$work/sent/$kind" || die "what was recorded cannot be read"
	rm -f "$work/sent/$kind.raw"
	empty "$kind"
}

# What the relay in Node reads: the same events, in an outbox as people have it.
filled() {
	sql -c 'CREATE TABLE outbox_filled (id bigint GENERATED ALWAYS AS IDENTITY, topic text, payload jsonb NOT NULL)' \
		-c 'CREATE TABLE outbox (id bigint PRIMARY KEY, topic text NOT NULL, payload jsonb NOT NULL)' \
		-c "\\copy outbox_filled (payload) FROM PROGRAM 'sed s,\\\\\\\\,\\\\\\\\\\\\\\\\,g $work/sent/redis.json'" \
		-c "UPDATE outbox_filled SET topic = 'bench.init'" >/dev/null || die "no outbox"
	ask_clickhouse 'CREATE TABLE IF NOT EXISTS peer (position UInt64, name String, event_id UInt64, type String, machine String,
		version UInt32, fsm String, key String, event String, from_state String, to_state String, args String, payload String,
		reason String, occurred_at String, xid UInt64, actor String, headers String, node String) ENGINE = MergeTree ORDER BY (fsm, key, position)'
}
