#!/usr/bin/env bash
# Measures what a transaction that is open all along costs: throughput and latency
# with it against those without it, in turn; the floor (an UPDATE and an insert into
# an outbox, with no checks and no relay) under the same transaction, at the same
# time; and dead rows.
#
#   test/bench/held.sh [OPTION...]
#
#   --rounds N     how often each runs (default 5)
#   --seconds N    how long a run takes (default 30; the claim is for 600)
#   --burst N      how long throughput without a limit is measured after it (default 5)
#   --rate N       transactions a second, ours and the floor's each (default: a third of
#                  what both reach together, tried for 5 s; 500 at most)
#
# A round is a run without the transaction and one with it.  In a run, writers of ours
# and of the floor go on side by side at a rate that the machine can hold, so that what
# is compared is not the CPU's saturation; the relay delivers ours to Redis, where an
# observer sees it arrive.  Then, while the transaction is still open, each shows alone
# what it can do.  The transaction has a snapshot and an xid from before the run on.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$top/test/bench/relay_lib.sh"

rounds=5 seconds=30 burst=5 limit='' events=100 warm=1
while [ $# -gt 0 ]; do
	case $1 in
		--rounds) rounds=$2; shift 2 ;;
		--seconds) seconds=$2; shift 2 ;;
		--burst) burst=$2; shift 2 ;;
		--rate) limit=$2; shift 2 ;;
		*) die "usage: test/bench/held.sh [--rounds N] [--seconds N] [--burst N] [--rate N]" ;;
	esac
done

# Writers of their own rows each, so that none waits for another.
row_number='1 + ($1 / 10000000 * 2500 + $1 % 2500) % 10000'
ours="SELECT persistomata.fire('fired', $row_number, 'coin', jsonb_build_object('tag', \$1))"
timed="SELECT persistomata.fire('timed', 1 + \$1 % 100, 'coin')"
floor="WITH u AS (UPDATE floor SET state = CASE state WHEN 'open' THEN 'shut' ELSE 'open' END WHERE id = $row_number RETURNING *)
	INSERT INTO floor_outbox (key, event, from_state, to_state, args, payload)
	SELECT id::text, 'coin', 'open', state, jsonb_build_object('tag', \$1), jsonb_build_object('id', id, 'state', state, 'coins', coins) FROM u"

tables() {
	cat <<-END
		CREATE TABLE held (n int);
		CREATE TABLE floor (id bigint PRIMARY KEY, state text, coins int NOT NULL DEFAULT 0);
		INSERT INTO floor SELECT g, 'open' FROM generate_series(1, 10000) g;
		CREATE TABLE floor_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
			key text NOT NULL, event text, from_state text, to_state text, args jsonb, payload jsonb);
		CREATE INDEX ON floor_outbox (key, id);
		SELECT persistomata.create_machine('timed', 'flowchart LR
		  none -->|make!| open
		  open -->|coin| shut
		  shut -->|coin| open
		  shut -->|after (1 day)| open');
		CREATE TABLE timed (id bigint PRIMARY KEY, state text);
		INSERT INTO timed SELECT g, 'open' FROM generate_series(1, 100) g;
		SELECT persistomata.attach('timed', 'timed', baseline => false);
		VACUUM ANALYZE;
	END
}

# hold / release: a transaction that sees the past, and is in every snapshot.
hold() {
	coproc HOLDER { "$pg_bin/psql" -X -q -A -t -h "$work/pg" -U postgres bench 2>/dev/null; }
	echo "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO held VALUES (1); SELECT 'held';" >&"${HOLDER[1]}"
	read -r _ <&"${HOLDER[0]}" || die "no transaction to hold"
}
release() {
	local pid=$HOLDER_PID
	echo "COMMIT; SELECT 'released';" >&"${HOLDER[1]}"
	read -r answer <&"${HOLDER[0]}"
	[ "$answer" = released ] || die "the transaction had not been held to the end"
	echo '\q' >&"${HOLDER[1]}"
	wait "$pid" 2>/dev/null
}

# dead: dead rows of the log, its cuts and the cursors; of timers; timers armed so far;
# and those that still are
dead() {
	sleep 1.5					# backends tell their figures after a second
	sql -F ' ' -c "SELECT sum(n_dead_tup) FILTER (WHERE relname ~ '^(log|cut|ack)_[0-9]'),
		sum(n_dead_tup) FILTER (WHERE relname = 'timer_entry'), sum(n_tup_ins) FILTER (WHERE relname = 'timer_entry'),
		(SELECT count(*) FROM persistomata.timer_entry)
		FROM pg_stat_user_tables WHERE schemaname = 'persistomata'"
}

# side_by_side SECONDS RATE: all writers at once
side_by_side() {
	local pids=()
	"$work/write" 2 "$2" "$1" "$ours" >"$work/ours" & pids+=($!)
	"$work/write" 2 "$2" "$1" "$floor" >"$work/floor" & pids+=($!)
	"$work/write" 1 20 "$1" "$timed" >"$work/timed" & pids+=($!)
	wait "${pids[0]}" && wait "${pids[1]}" && wait "${pids[2]}" || die "a writer failed"
}

await_seen() {
	for _ in $(seq 600); do
		[ "$(wc -l <"$work/seen")" -lt "$(wc -l <"$work/ours")" ] || return 0
		sleep 0.2
	done
	die "of $(wc -l <"$work/ours") events $(wc -l <"$work/seen") are visible"
}

# bursts FREE|HELD ORDER...: each alone, without a limit
bursts() {
	local leg=$1 who statement
	shift
	for who; do
		[ "$who" = ours ] && statement=$ours || statement=$floor
		"$work/write" 4 1000000 "$burst" "$statement" >"$work/burst" || die "a writer failed"
		note "tps.$who.$leg" "$(ratio "$(wc -l <"$work/burst")" "$burst")"
	done
}

# leg free|held ROUND
leg() {
	local leg=$1 who p50 p99 before after order='ours floor'
	[ $(($2 % 2)) = 0 ] || order='floor ours'
	progress "round $2 of $rounds, $leg"
	[ "$leg" = free ] || hold
	before=($(dead))
	new_route lag redis fired now
	aside "$work/observe" redis "${port[redis]}" bench >"$work/seen"
	side_by_side "$seconds" "$limit"
	await_seen
	end_asides
	sql -c "SELECT persistomata.drop_route('lag')" >/dev/null
	p99=''
	read -r _ p99 _ < <(python3 "$top/test/bench/latency.py" join "$warm" "$work/seen" "$work/ours")
	note "p99.$leg" "$p99"
	for who in ours floor; do
		note "rate.$who.$leg" "$(ratio "$(wc -l <"$work/$who")" "$seconds")"
		p50='' p99=''
		read -r p50 p99 < <(python3 "$top/test/bench/latency.py" commits "$work/$who")
		note "ms.$who.$leg" "$p50"
		note "ms99.$who.$leg" "$p99"
	done
	bursts "$leg" $order
	after=($(dead))
	note "dead.$leg" $((after[0] - before[0]))
	# a timer that ends in this run may have been armed before it
	note "timers.$leg" "$(ratio $((after[1] - before[1])) $((after[2] - before[2] + before[3])))"
	[ "$leg" = free ] || release
	sql -c 'VACUUM fired' -c 'VACUUM floor' -c 'VACUUM timed' -c 'VACUUM persistomata.timer_entry' -c 'TRUNCATE floor_outbox' -c CHECKPOINT >/dev/null
	redis-cli -p "${port[redis]}" FLUSHALL >/dev/null
}

# The rate, if none is given: what the slower one of both reaches beside the other.
try_rate() {
	side_by_side 5 1000000
	limit=$(sort -g <(wc -l <"$work/ours") <(wc -l <"$work/floor") | awk 'NR == 1 { n = int($1 / 5 / 3); print n < 500 ? n : 500 }')
	[ "$limit" -gt 0 ] || die "no rate"
	sql -c 'VACUUM fired' -c 'VACUUM floor' -c 'TRUNCATE floor_outbox' -c CHECKPOINT >/dev/null
}

# quotients NAME FIGURE FIGURE: round by round
quotients() { paste "$work/figures.$2" "$work/figures.$3" | awk '{ print $1 / $2 }' >"$work/figures.$1"; }

result() {
	local who
	for who in ours floor; do
		quotients "held.$who" "tps.$who.held" "tps.$who.free"
		quotients "slow.$who" "ms.$who.held" "ms.$who.free"
		quotients "slow99.$who" "ms99.$who.held" "ms99.$who.free"
	done
	quotients reached rate.ours.held rate.floor.held
	quotients of.floor tps.ours.held tps.floor.held
	quotients of.free held.ours held.floor
	quotients lag p99.held p99.free
	table
	judge "throughput at $limit/s each with the transaction open, of the floor's" reached ≥ 0.95 '' "reached $(median rate.ours.held)/s"
	judge 'without a limit, as a multiple of what it is without the transaction; ours of the floor' of.free ≥ 0.95 '' \
		"ours $(median tps.ours.free) → $(median tps.ours.held)/s, the floor $(median tps.floor.free) → $(median tps.floor.held)/s"
	show '... ours of the floor, both with the transaction open' of.floor
	show "a transaction at $limit/s, held as a multiple of free, median time" slow.ours '' "the floor $(median slow.floor)"
	show '... p99' slow99.ours '' "the floor $(median slow99.floor)"
	judge 'lag, commit → visible at Redis, p99, held as a multiple of free' lag ≤ 1.2 '' "$(median p99.free) ms → $(median p99.held) ms"
	judge 'dead rows in log, cuts and cursors' dead.held ≤ 0
	judge 'dead rows in timers for each that was armed' timers.held ≤ 1
}

peer='' sinks=redis
prepare
export PGHOST=$work/pg PGUSER=postgres PGDATABASE=bench
tables | sql >/dev/null || die "the tables could not be made"
[ -n "$limit" ] || try_rate
for round in $(seq "$rounds"); do
	# each begins as often
	order='free held'
	[ $((round % 2)) = 1 ] || order='held free'
	for which in $order; do leg "$which" "$round"; done
done
printf '%s, %s rounds, %s s, %s transactions/s of ours and of the floor each\n' "$("$PG_CONFIG" --version)" "$rounds" "$seconds" "$limit"
result
