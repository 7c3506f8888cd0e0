#!/usr/bin/env bash
# Measures the relay: draining a backlog to each sink alone, against a bare client
# of the same library and a relay as people write it; latency; what it costs the
# primary; memory; and what it does when there is nothing to do.
#
#   test/bench/relay.sh [OPTION...] [ROW...]
#
#   ROW            clickhouse redis rabbitmq latency cost memory idle (default: all)
#   --events N     size of the backlog (default 200000)
#   --rounds N     how often each of a drain's contestants runs, in turn (default 3)
#   --seconds N    how long latency, cost and idle are measured (default 20)
#   --rate N       transactions a second for latency and cost (default 1000)
#   --no-peer      without the relay in Node
#   PG_CONFIG      the PostgreSQL to use (default: Debian's own)
#
# Printed is the median of the rounds, with least and greatest.  The cluster and
# the sinks are private; synchronous_commit is on, full_page_writes too.  Speed is
# ratios here: the machine is whatever it is.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$top/test/bench/relay_lib.sh"

events=200000 rounds=3 seconds=20 rate=1000 peer=yes
chosen=()
while [ $# -gt 0 ]; do
	case $1 in
		--events) events=$2; shift 2 ;;
		--rounds) rounds=$2; shift 2 ;;
		--seconds) seconds=$2; shift 2 ;;
		--rate) rate=$2; shift 2 ;;
		--no-peer) peer=''; shift ;;
		clickhouse | redis | rabbitmq | latency | cost | memory | idle) chosen+=("$1"); shift ;;
		*) die "usage: test/bench/relay.sh [--events N] [--rounds N] [--seconds N] [--rate N] [--no-peer] [clickhouse|redis|rabbitmq|latency|cost|memory|idle...]" ;;
	esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=(clickhouse redis rabbitmq latency cost memory idle)
wanted() { [[ " ${chosen[*]} " == *" $1 "* ]]; }

# ---- drains -------------------------------------------------------------------

# empty KIND: so that each round meets the same sink.
empty() {
	case $1 in
		redis) redis-cli -p "${port[redis]}" FLUSHALL >/dev/null ;;
		clickhouse)
			ask_clickhouse 'TRUNCATE TABLE IF EXISTS bench'
			ask_clickhouse 'TRUNCATE TABLE IF EXISTS bench_latest'
			ask_clickhouse 'TRUNCATE TABLE IF EXISTS peer' ;;
		rabbitmq) as_postgres "$work/src/test/servers/rabbitmq.sh" ctl "$work/servers/rabbitmq" -q purge_queue q >/dev/null ;;
	esac
}

# drain KIND SERVER: seconds from a new route's commit to its last acknowledgement.
drain() {
	local options='{}'
	[ "$1" != clickhouse ] || options='{"table": "bench"}'
	[ "$1" != redis ] || options='{"stream": "bench"}'
	sql <<-END | tail -n 1
		SELECT persistomata.create_route('drain', '$2', 'bench', start => 'earliest', options => '$options');
		SELECT clock_timestamp() AS start \gset
		SELECT extract(epoch FROM drained('drain', $events) - :'start');
	END
	sql -c "SELECT persistomata.drop_route('drain')" >/dev/null
}

bare() {
	local file=$work/sent/$1
	[ "$1" != redis ] || file=$work/sent/redis.commands
	[ "$1" != rabbitmq ] || file=$work/sent/rabbitmq.messages
	"$work/bare" "$1" "${port[$1]}" "$file"
}

peer() {
	sql -c 'TRUNCATE outbox' -c 'INSERT INTO outbox SELECT * FROM outbox_filled ORDER BY id' -c 'ANALYZE outbox' >/dev/null
	PGHOST=$work/pg PGUSER=postgres PGDATABASE=bench node "$work/peer/relay.js" "$1" "${port[$1]}"
}

run_drain() {
	local kind=$1 round ours theirs
	record "$kind"
	for round in $(seq "$rounds"); do
		empty "$kind"
		ours=$(drain "$kind" "$kind")
		note "$kind.rate" "$(ratio "$events" "$ours")"
		empty "$kind"
		theirs=$(bare "$kind")
		note "$kind.bare" "$(ratio "$theirs" "$ours")"
		[ -n "$peer" ] || continue
		empty "$kind"
		theirs=$(peer "$kind")
		note "$kind.peer" "$(ratio "$theirs" "$ours")"
	done
	empty "$kind"
	local floor=0.6 least='3'
	[ "$kind" != rabbitmq ] || floor=0.9 least=1.2
	report "$kind, of the bare client's speed" "≥ $floor" "$kind.bare" "$(median "$kind.rate") events/s"
	[ -z "$peer" ] || report "$kind, times the Node relay's speed" "≥ $least" "$kind.peer"
}

# ---- latency and cost -----------------------------------------------------------

run_latency() {
	local kind flush
	echo 'INSERT INTO flushed VALUES (1)' >"$work/flush.sql"
	flush=$("$pg_bin/pgbench" -n -c 1 -T 3 -h "$work/pg" -U postgres -f "$work/flush.sql" bench 2>/dev/null |
		sed -n 's/^latency average = \([0-9.]*\) ms/\1/p')
	for kind in clickhouse redis rabbitmq; do
		sql -c "SELECT persistomata.create_route('l_$kind', '$kind', 'fired', start => 'now')" >/dev/null
	done
	load 2 >/dev/null
	for kind in clickhouse redis rabbitmq; do
		sql -c "SELECT persistomata.drop_route('l_$kind')" -c "SELECT persistomata.create_route('l_$kind', '$kind', 'fired', start => 'now')" >/dev/null
	done
	echo "latency at $rate transactions/s, three sinks at once (reached: $(load "$seconds") tps; a commit alone takes $flush ms):"
	for kind in clickhouse redis rabbitmq; do
		sql -c "SELECT format('  %-11s p50 %s ms, p99 %s ms, commit to acknowledgement', '$kind', round(p50_ms::numeric, 1), round(p99_ms::numeric, 1))
			FROM persistomata.stat_route WHERE route = 'l_$kind'" -c "SELECT persistomata.drop_route('l_$kind')" | head -n 1
		empty "$kind"
	done
}

run_cost() {
	local round kind before after wal xids tps
	for round in without with without with; do
		if [ "$round" = without ]; then
			sql -c 'SELECT persistomata.stop_workers()' >/dev/null
		else
			sql -c 'SELECT persistomata.start_workers()' >/dev/null
			for kind in clickhouse redis rabbitmq; do
				sql -c "SELECT persistomata.create_route('c_$kind', '$kind', 'fired', start => 'now')" >/dev/null
			done
			sleep 2
		fi
		sql -c CHECKPOINT
		before=($(usage))
		tps=$(load "$seconds")
		after=($(usage))
		# by transaction: a busy machine may not reach the rate
		note "cost.wal.$round" "$(ratio $((after[0] - before[0])) $((tps * seconds)))"
		note "cost.xids.$round" "$(ratio $((after[1] - before[1])) $((tps * seconds)))"
		[ "$round" = without ] || for kind in clickhouse redis rabbitmq; do
			sql -c "SELECT persistomata.drop_route('c_$kind')" >/dev/null
			empty "$kind"
		done
	done
	wal=$(ratio "$(sum cost.wal.with)" "$(sum cost.wal.without)")
	xids=$(ratio "$(sum cost.xids.with)" "$(sum cost.xids.without)")
	printf 'cost at %s transactions/s to three sinks: %+.2f × the WAL (≤ 0.5), %+.2f × the xids (≤ 0.6)\n' \
		"$rate" "$(awk "BEGIN { print $wal - 1 }")" "$(awk "BEGIN { print $xids - 1 }")"
}

# ---- memory and idleness ----------------------------------------------------------

run_memory() {
	local kind pid peak kb
	for kind in clickhouse redis rabbitmq; do
		sql -c "SELECT persistomata.create_route('memory', '$kind', 'bench', start => 'earliest')" >/dev/null
		peak=0
		for _ in $(seq 3000); do
			pid=$(sql -c "SELECT pid FROM persistomata.stat_worker WHERE server = '$kind'")
			kb=$(awk '/^Private_/ { n += $2 } END { print n + 0 }' "/proc/$pid/smaps_rollup" 2>/dev/null)
			[ "${kb:-0}" -le "$peak" ] || peak=$kb
			[ "$(sql -c "SELECT lag_events FROM persistomata.stat_route WHERE route = 'memory'")" != 0 ] || break
		done
		printf 'memory, draining %s events to %-11s %s MB private at most (≤ 64)\n' "$events" "$kind:" $((peak / 1024))
		sql -c "SELECT persistomata.drop_route('memory')" >/dev/null
		empty "$kind"
	done
}

# switches: waits of all workers so far
switches() {
	local pid
	for pid in $(sql -c "SELECT pid FROM persistomata.stat_worker WHERE pid IS NOT NULL"); do
		awk -v pid="$pid" '/^voluntary/ { print pid, $2 }' "/proc/$pid/status"
	done
}

run_idle() {
	local kind before after queries
	for kind in clickhouse redis rabbitmq; do
		sql -c "SELECT persistomata.create_route('i_$kind', '$kind', 'fired', start => 'now')" >/dev/null
	done
	sleep 5
	sql -c CHECKPOINT
	switches >"$work/before"
	before=($(usage))
	queries=$(sql -c "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = 'bench'")
	sleep "$seconds"
	after=($(usage))
	queries=$(($(sql -c "SELECT pg_stat_clear_snapshot()" -c "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = 'bench'" | tail -n 1) - queries))
	switches >"$work/after"
	# our own questions are transactions too
	printf 'idle for %s s, three routes: %s bytes of WAL (0), %s xids (0), %s transactions besides our own 4 (0), %s wake-ups/s of the busiest worker (≤ 1)\n' \
		"$seconds" $((after[0] - before[0])) $((after[1] - before[1])) $((queries > 4 ? queries - 4 : 0)) \
		"$(join "$work/before" "$work/after" | awk -v s="$seconds" '{ n = ($3 - $2) / s; if (n > m) m = n } END { printf "%.2f", m }')"
}

# ---- the run ------------------------------------------------------------------

prepare
printf '%s, %s events of %s bytes as JSON, %s rounds, %s s\n' "$("$PG_CONFIG" --version)" "$events" \
	"$(sql -c "SELECT round(avg(length(payload::text))) FROM outbox_filled")" "$rounds" "$seconds"
for kind in clickhouse redis rabbitmq; do
	! wanted $kind || run_drain $kind
done
! wanted memory || run_memory
! wanted latency || run_latency
! wanted cost || run_cost
! wanted idle || run_idle
