#!/usr/bin/env bash
# Measures the relay: draining a backlog to each sink alone, against a bare client of
# the same library and against relays as people write them, in Node and with PgQ;
# latency, against the same; what it costs the primary; memory; and what it does when
# there is nothing to do.
#
#   test/bench/relay.sh [OPTION...] [ROW...]
#
#   ROW              clickhouse redis rabbitmq latency cost memory idle (default: all)
#   --events N       size of the backlog (default 200000)
#   --peer-events N  how much of it the peers drain to ClickHouse and Redis, since they are
#                    slow; speeds are compared (default 50000, or the backlog)
#   --rounds N       how often each contestant runs, in turn (default 5)
#   --seconds N      how long latency, cost and idle are measured (default 20)
#   --rate N         transactions a second for latency and cost (default 1000)
#   --no-peer        without the relays in Node and with PgQ
#   PG_CONFIG        the PostgreSQL to use (default: Debian's own)
#
# Printed is a table of Markdown: the median of the rounds, with least and greatest;
# bold is what falls short.  The exit status is not 0 if anything could not be measured.
# The cluster and the sinks are private; synchronous_commit is on, full_page_writes too.
# Speed is ratios here: the machine is whatever it is.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
for part in lib peers latency idle; do . "$top/test/bench/relay_$part.sh"; done

events=200000 peer_events=50000 rounds=5 seconds=20 rate=1000 peer=yes
chosen=()
while [ $# -gt 0 ]; do
	case $1 in
		--events) events=$2; shift 2 ;;
		--peer-events) peer_events=$2; shift 2 ;;
		--rounds) rounds=$2; shift 2 ;;
		--seconds) seconds=$2; shift 2 ;;
		--rate) rate=$2; shift 2 ;;
		--no-peer) peer=''; shift ;;
		clickhouse | redis | rabbitmq | latency | cost | memory | idle) chosen+=("$1"); shift ;;
		*) die "usage: test/bench/relay.sh [--events N] [--peer-events N] [--rounds N] [--seconds N] [--rate N] [--no-peer] [clickhouse|redis|rabbitmq|latency|cost|memory|idle...]" ;;
	esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=(clickhouse redis rabbitmq latency cost memory idle)
[ "$peer_events" -le "$events" ] || peer_events=$events
wanted() { [[ " ${chosen[*]} " == *" $1 "* ]]; }

# ---- drains -------------------------------------------------------------------

# contest KIND NAME SECONDS EVENTS OURS: our speed in this round as a multiple
contest() {
	note "$1.$2" "$(ratio "$(calc "$3 / $4")" "$5")"
	note "$1.$2.rate" "$(ratio "$4" "$3")"
}

drain_round() {
	local kind=$1 ours theirs name
	empty "$kind"
	ours=$(ratio "$(drain "$kind" "$kind")" "$events")
	note "$kind.rate" "$(ratio 1 "$ours")"
	arrived "$kind" bench "$events"
	empty "$kind"
	theirs=$(bare "$kind") || die "the bare client failed"
	contest "$kind" bare "$theirs" "$events" "$ours"
	arrived "$kind" bench "$events"
	[ -n "$peer" ] || return 0
	for name in node pgq; do
		empty "$kind"
		theirs=$("drain_$name" "$kind") || die "the drain with $name failed"
		contest "$kind" "$name" "$theirs" "$(share "$kind")" "$ours"
		arrived "$kind" peer "$(share "$kind")"
	done
}

# size KIND: bytes of an event as it is sent there, and in how many requests
size() {
	local files=("$work/sent/$1".*.body)
	[ "$1" != clickhouse ] || printf 'in %s requests, ' ${#files[@]}
	[ "$1" != redis ] || files=("$work/sent/redis.commands")
	[ "$1" != rabbitmq ] || files=("$work/sent/rabbitmq.messages")
	cat "${files[@]}" | wc -c | awk -v n="$events" '{ printf "%.0f", $1 / n }'
}

run_drain() {
	local kind=$1 round
	record "$kind"
	[ -z "$peer" ] || peers_ready
	for round in $(seq "$rounds"); do
		progress "$kind, round $round of $rounds"
		drain_round "$kind"
	done
	empty "$kind"
	local floor=0.6 least=3 less='' which
	[ "$kind" != rabbitmq ] || floor=0.9 least=1.2
	judge "$kind, $events events, of the bare client's speed" "$kind.bare" ≥ "$floor" '' \
		"$(median "$kind.rate") events/s, $(median "$kind.bare.rate") of the bare client; $(size "$kind") bytes an event as sent"
	[ -n "$peer" ] || return 0
	[ "$(share "$kind")" = "$events" ] || less=", which drained $(share "$kind") of them"
	judge "$kind, times the Node relay's speed" "$kind.node" ≥ "$least" '' "$(median "$kind.node.rate") events/s of the relay$less"
	show "$kind, times PgQ's speed" "$kind.pgq" '' "$(median "$kind.pgq.rate") events/s of its consumer$less"
}

# ---- cost and memory ------------------------------------------------------------

run_cost() {
	local round leg kind before after tps name
	for round in $(seq "$rounds"); do
		progress "cost, round $round of $rounds"
		for leg in without with; do
			if [ "$leg" = without ]; then
				sql -c 'SELECT persistomata.stop_workers()' >/dev/null
			else
				sql -c 'SELECT persistomata.start_workers()' >/dev/null
				for kind in $kinds; do new_route "c_$kind" "$kind" fired now; done
				sleep 2
			fi
			sql -c CHECKPOINT
			before=($(usage))
			tps=$(load "$seconds")
			after=($(usage))
			# by transaction: a busy machine may not reach the rate
			note "cost.wal.$leg" "$(ratio $((after[0] - before[0])) $((tps * seconds)))"
			note "cost.xids.$leg" "$(ratio $((after[1] - before[1])) $((tps * seconds)))"
		done
		for kind in $kinds; do
			sql -c "SELECT persistomata.drop_route('c_$kind')" >/dev/null
			empty "$kind"
		done
	done
	for name in wal xids; do
		paste "$work/figures.cost.$name.with" "$work/figures.cost.$name.without" | awk '{ print $1 / $2 - 1 }' >"$work/figures.cost.$name"
	done
	judge "cost to the primary at $rate transactions/s to three sinks, more than the writers' own: WAL" cost.wal ≤ 0.5 ×
	judge '... xids' cost.xids ≤ 0.6 ×
}

# peak KIND: the most private memory of its worker, kB, until it has drained or for a minute
peak() {
	local pid kb peak=0 until=$((SECONDS + 60))
	while [ "$SECONDS" -lt "$until" ]; do
		pid=$(sql -c "SELECT pid FROM persistomata.stat_worker WHERE server = '$1'")
		kb=$(awk '/^Private_/ { n += $2 } END { print n + 0 }' "/proc/$pid/smaps_rollup" 2>/dev/null)
		[ "${kb:-0}" -le "$peak" ] || peak=$kb
		[ "$(sql -c "SELECT lag_events FROM persistomata.stat_route WHERE route = 'memory'")" != 0 ] || break
	done
	[ "$peak" = 0 ] || calc "$peak / 1024"
}

run_memory() {
	local kind round
	for round in $(seq "$rounds"); do
		for kind in $kinds; do
			progress "memory, round $round of $rounds, $kind"
			new_route memory "$kind" bench earliest
			note "memory.$kind" "$(peak "$kind")"
			sql -c "SELECT persistomata.drop_route('memory')" >/dev/null
			empty "$kind"
		done
	done
	for kind in $kinds; do judge "a worker's private memory, $events events behind: $kind" "memory.$kind" ≤ 64 MB; done
}

# ---- the run ------------------------------------------------------------------

prepare
record redis
printf '%s, %s events, %s rounds, %s s; an event is %s bytes as JSON, %s as a row of the log\n' "$("$PG_CONFIG" --version)" "$events" \
	"$rounds" "$seconds" "$(($(wc -c <"$work/sent/redis.json") / events - 1))" \
	"$(sql -c "SELECT round(avg(pg_column_size(l))) FROM persistomata.log_0 l")"
table
for kind in clickhouse redis rabbitmq; do
	! wanted $kind || run_drain $kind
done
! wanted memory || run_memory
! wanted latency || run_latency
! wanted cost || run_cost
! wanted idle || run_idle
