#!/usr/bin/env bash
# Measures what a transaction that is open all along costs: throughput and latency
# with it against those without it, in turn; the floor (an UPDATE and an insert
# into an outbox, with no checks and no relay) under the same; and dead rows.
#
#   test/bench/held.sh [OPTION...]
#
#   --rounds N     how often each runs (default 3)
#   --seconds N    how long a run takes (default 30; the claim is for 600)
#   --clients N    writers (default 4)
#   --rate N       transactions a second for the latencies (default 500)
#
# The transaction that is held has a snapshot and an xid, from before a run to its
# end.  Throughput is measured without a limit, latency at the rate.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$top/test/bench/relay_lib.sh"

rounds=3 seconds=30 clients=4 limit=500 events=100
while [ $# -gt 0 ]; do
	case $1 in
		--rounds) rounds=$2; shift 2 ;;
		--seconds) seconds=$2; shift 2 ;;
		--clients) clients=$2; shift 2 ;;
		--rate) limit=$2; shift 2 ;;
		*) die "usage: test/bench/held.sh [--rounds N] [--seconds N] [--clients N] [--rate N]" ;;
	esac
done

empty() { redis-cli -p "${port[redis]}" FLUSHALL >/dev/null; }

# hold / release: a transaction that sees the past, and is in every snapshot.
hold() {
	coproc HOLDER { "$pg_bin/psql" -X -q -A -t -h "$work/pg" -U postgres bench 2>/dev/null; }
	echo "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO held VALUES (1); SELECT 'held';" >&"${HOLDER[1]}"
	read -r _ <&"${HOLDER[0]}"
}
release() {
	echo "COMMIT; \\q" >&"${HOLDER[1]}"
	wait "$HOLDER_PID" 2>/dev/null
}

# measure WHAT HELD: throughput of both scripts, then the latency at the rate
measure() {
	local held=$1
	[ "$held" = free ] || hold
	rate=''
	note "ours.$held" "$(load "$seconds" "$clients")"
	note "floor.$held" "$("$pg_bin/pgbench" -n -M prepared -c "$clients" -j 2 -T "$seconds" -h "$work/pg" -U postgres \
		-f "$work/floor.sql" bench 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p')"
	rate=$limit
	sql -c "SELECT persistomata.create_route('lag', 'redis', 'fired', start => 'now')" >/dev/null
	load "$seconds" "$clients" >/dev/null
	note "p99.$held" "$(sql -c "SELECT round(p99_ms::numeric, 2) FROM persistomata.stat_route WHERE route = 'lag'")"
	sql -c "SELECT persistomata.drop_route('lag')" >/dev/null
	[ "$held" = free ] || {
		note dead "$(sql -c "SELECT pg_sleep(1)" -c "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables
			WHERE schemaname = 'persistomata' AND relname ~ '^(log|cut|ack)_'" | tail -n 1)"
		release
	}
	sql -c 'VACUUM fired' -c 'VACUUM floor' -c 'TRUNCATE floor_outbox' -c CHECKPOINT >/dev/null
	empty
}

peer=''
sinks=redis
prepare
sql >/dev/null <<-END
	CREATE TABLE held (n int);
	CREATE TABLE floor (id bigint PRIMARY KEY, state text, coins int NOT NULL DEFAULT 0);
	INSERT INTO floor SELECT g, 'open' FROM generate_series(1, 10000) g;
	CREATE TABLE floor_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
		key text NOT NULL, event text, from_state text, to_state text, payload jsonb);
END
cat >"$work/floor.sql" <<-END
	\\set id random(1, 10000)
	WITH u AS (UPDATE floor SET state = CASE state WHEN 'open' THEN 'shut' ELSE 'open' END WHERE id = :id RETURNING *) INSERT INTO floor_outbox (key, event, from_state, to_state, payload) SELECT id::text, 'coin', 'open', state, jsonb_build_object('id', id, 'state', state, 'coins', coins) FROM u;
END
for _ in $(seq "$rounds"); do
	measure free
	measure held
done
printf '%s, %s rounds, %s s, %s clients\n' "$("$PG_CONFIG" --version)" "$rounds" "$seconds" "$clients"
ours=$(ratio "$(sum ours.held)" "$(sum ours.free)")
floor=$(ratio "$(sum floor.held)" "$(sum floor.free)")
printf 'transitions/s   free %s, held %s: %.2f ×\n' "$(median ours.free)" "$(median ours.held)" "$ours"
printf 'the floor/s     free %s, held %s: %.2f ×\n' "$(median floor.free)" "$(median floor.held)" "$floor"
printf 'of the floor under the same transaction, %.2f of what it is without (wanted ≥ 0.95)\n' "$(ratio "$ours" "$floor")"
printf 'p99 at %s/s: free %s ms, held %s ms: %.2f × (wanted ≤ 1.2)\n' "$limit" "$(median p99.free)" "$(median p99.held)" \
	"$(ratio "$(sum p99.held)" "$(sum p99.free)")"
printf 'dead rows in log, cuts and cursors: %s (wanted 0)\n' "$(median dead)"
