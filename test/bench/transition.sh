#!/usr/bin/env bash
# Measures the write path: a transition with its log row, against the least that
# SQL can do and against what people write by hand.  Each pair runs in turn,
# $rounds times; printed is a table of Markdown: the median of the ratios, with least
# and greatest; bold is what falls short.
#
#   test/bench/transition.sh [OPTION...] [ROW...]
#
#   ROW            fire calls update many wal log (default: all)
#   --rounds N     how often each pair runs (default 5)
#   --seconds N    how long a pgbench run takes (default 5)
#   --rows N       rows of a set-based statement (default 100000)
#   --short        3 rounds, 2 seconds, 20000 rows
#   PG_CONFIG      the PostgreSQL to use (default: Debian's own)
#
# The cluster is private: shared_buffers 512 MB, max_wal_size 8 GB, no
# checkpoints by time, no autovacuum, full_page_writes on (off for the row wal),
# the relay off: what it costs is not measured here.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$top/test/bench/figures.sh"
. "$top/test/bench/pgq.sh"

rounds=5 seconds=5 rows=100000
chosen=()
while [ $# -gt 0 ]; do
	case $1 in
		--rounds) rounds=$2; shift 2 ;;
		--seconds) seconds=$2; shift 2 ;;
		--rows) rows=$2; shift 2 ;;
		--short) rounds=3 seconds=2 rows=20000; shift ;;
		fire | calls | update | many | wal | log) chosen+=("$1"); shift ;;
		*) echo "usage: test/bench/transition.sh [--rounds N] [--seconds N] [--rows N] [--short] [fire|calls|update|many|wal|log...]" >&2
			exit 2 ;;
	esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=(fire calls update many wal log)
wanted() { [[ " ${chosen[*]} " == *" $1 "* ]]; }

work=''
cleanup() {
	[ -n "$work" ] || return
	[ -n "${PST_BENCH_KEEP:-}" ] && { echo "kept: $work"; return; }
	! cluster_runs "$work/pg" || stop_cluster "$work/pg" immediate
	cd / && rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- tools --------------------------------------------------------------------

sql() { "$pg_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work/pg" -U postgres bench "$@"; }

# elapsed SQL: milliseconds of one statement.
elapsed() {
	sql -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

# ticks: what the cluster's backends that have ended took, in ticks of the CPU.
ticks() { awk '{ print $16 + $17 }' "/proc/$(head -n 1 "$work/pg/data/postmaster.pid")/stat"; }

# tps SCRIPT: transactions a second of pgbench, 4 clients, prepared, and the
# backends' CPU microseconds for each.
tps() {
	local before after out
	before=$(ticks)
	out=$("$pg_bin/pgbench" -n -M prepared -c 4 -j 2 -T "$seconds" -h "$work/pg" -U postgres \
		-f "$work/$1.sql" bench 2>/dev/null)
	sleep 0.2
	after=$(ticks)
	awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '
		/transactions actually processed/ { n = $NF }
		/^tps = / { tps = $3 }
		END { if (n > 0) print tps, ticks / hz * 1e6 / n }' <<<"$out"
}

# What was written is cleared away, so that each run meets the same tables.
tidy() {
	sql -c "TRUNCATE outbox, usual_outbox, hand_outbox, $(seq -s, -f 'persistomata.log_%g' 0 7)" \
		-c 'VACUUM ours, hand, floor, plain' -c CHECKPOINT
}

outbox_columns='(binding, machine, timeline, type, key, event, from_state, to_state, args, payload)'
payload="jsonb_build_object('id', id, 'state', state, 'coins', coins, 'owner', owner)"

scripts() {
	local key='\set id random(1, 100000)'
	cat >"$work/fire.sql" <<-END
		$key
		SELECT persistomata.fire('ours', :id::bigint, 'coin', '{"n": 1}');
	END
	cat >"$work/hand.sql" <<-END
		$key
		SELECT hand_fire(:id::bigint, 'coin', '{"n": 1}');
	END
	cat >"$work/floor.sql" <<-END
		$key
		WITH u AS (UPDATE floor SET state = 'opened', coins = coins + ('{"n": 1}'::jsonb->>'n')::int WHERE id = :id RETURNING *) INSERT INTO outbox $outbox_columns SELECT 1, 1, 1, 's', id::text, 'coin', 'opened', state, '{"n": 1}'::jsonb, $payload FROM u;
	END
	cat >"$work/usual.sql" <<-END
		$key
		WITH u AS (UPDATE plain SET state = 'opened', coins = coins + ('{"n": 1}'::jsonb->>'n')::int WHERE id = :id RETURNING *) INSERT INTO usual_outbox (topic, payload) SELECT 'gate.coin', jsonb_build_object('key', id, 'event', 'coin', 'from', 'opened', 'to', state, 'args', '{"n": 1}'::jsonb, 'row', $payload) FROM u;
	END
	cat >"$work/log.sql" <<-END
		$key
		SELECT log_append(1, 1, :id::text, 'coin', 'opened', 'opened', '{"n": 1}', '{"id": 1, "state": "opened", "coins": 1, "owner": "owner 1"}');
	END
	cat >"$work/pgq.sql" <<-END
		$key
		SELECT pgq.insert_event('bench', 'coin', '{"key": "' || :id || '", "event": "coin", "from": "opened", "to": "opened", "args": {"n": 1}, "row": {"id": 1, "state": "opened", "coins": 1, "owner": "owner 1"}}');
	END
}

# ---- rows ---------------------------------------------------------------------

run_fire() {
	local commit round ours floor hand usual ours_cpu floor_cpu hand_cpu usual_cpu
	for commit in off on; do
		export PGOPTIONS="-c synchronous_commit=$commit"
		rm -f "$work"/figures.*
		for ((round = 0; round < rounds; round++)); do
			tidy
			read -r floor floor_cpu < <(tps floor)
			read -r ours ours_cpu < <(tps fire)
			read -r hand hand_cpu < <(tps hand)
			read -r usual usual_cpu < <(tps usual)
			ratio "$floor_cpu" "$ours_cpu" >>"$work/figures.floor_cpu"
			ratio "$hand_cpu" "$ours_cpu" >>"$work/figures.hand_cpu"
			ratio "$ours" "$floor" >>"$work/figures.floor"
			ratio "$ours" "$hand" >>"$work/figures.hand"
			ratio "$ours" "$usual" >>"$work/figures.usual"
		done
		unset PGOPTIONS
		judge "fire / floor, synchronous_commit $commit" floor ≥ 0.9 '' "last: $ours, $floor tps"
		judge "fire / PL/pgSQL, synchronous_commit $commit" hand ≥ 1.2 '' "last: $ours, $hand tps"
		show "fire / usual outbox, synchronous_commit $commit" usual '' "last: $ours, $usual tps"
		show "... CPU of the floor's backends / fire's" floor_cpu '' "last: $ours_cpu, $floor_cpu µs"
		show "... CPU of PL/pgSQL's backends / fire's" hand_cpu '' "last: $ours_cpu, $hand_cpu µs"
	done
}

run_calls() {
	local round ours hand
	rm -f "$work"/figures.*
	for ((round = 0; round < rounds; round++)); do
		tidy
		hand=$(elapsed "SELECT count(hand_fire(i, 'coin', '{\"n\": 1}')) FROM generate_series(1, $rows) i")
		ours=$(elapsed "SELECT count(persistomata.fire('ours', i, 'coin', '{\"n\": 1}')) FROM generate_series(1::bigint, $rows) i")
		ratio "$hand" "$ours" >>"$work/figures.hand"
	done
	judge "$rows fire calls / PL/pgSQL calls in one statement" hand ≥ 2.5 '' "last: $ours, $hand ms"
}

# The floor's set-based form, to a state and by an event, of the first $rows.
floor_set() {
	echo "WITH u AS (UPDATE floor SET $1 WHERE id <= $rows RETURNING *) INSERT INTO outbox $outbox_columns SELECT 1, 1, 1, 's', id::text, '$2', 'closed', state, NULL, $payload FROM u"
}

run_update() {
	local round ours floor state event
	rm -f "$work"/figures.*
	sql -c "UPDATE ours SET state = 'opened' WHERE state = 'closed'"
	for ((round = 0; round < rounds; round++)); do
		tidy
		state=$([ $((round % 2)) = 0 ] && echo closed || echo opened)
		event=$([ "$state" = closed ] && echo walk || echo coin)
		floor=$(elapsed "$(floor_set "state = '$state'" "$event")")
		ours=$(elapsed "UPDATE ours SET state = '$state' WHERE id <= $rows")
		ratio "$floor" "$ours" >>"$work/figures.floor"
	done
	judge "UPDATE SET state of $rows rows / floor" floor ≥ 0.7 '' "last: $ours, $floor ms"
}

run_many() {
	local round ours floor
	rm -f "$work"/figures.*
	for ((round = 0; round < rounds; round++)); do
		tidy
		floor=$(elapsed "$(floor_set "state = 'opened', coins = coins + 1" coin)")
		ours=$(elapsed "SELECT count(*) FROM persistomata.fire_many('ours', ARRAY(SELECT i::text FROM generate_series(1, $rows) i), 'coin', '{\"n\": 1}')")
		ratio "$floor" "$ours" >>"$work/figures.floor"
	done
	judge "fire_many of $rows keys / floor" floor ≥ 0.7 '' "last: $ours, $floor ms"
}

# wal_bytes SCRIPT: bytes of WAL a transaction, one client.
wal_bytes() {
	local from to
	export PGOPTIONS="-c synchronous_commit=off"
	from=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
	"$pg_bin/pgbench" -n -M prepared -c 1 -t 5000 -h "$work/pg" -U postgres -f "$work/$1.sql" bench >/dev/null 2>&1
	to=$(sql -c "SELECT (pg_current_wal_insert_lsn() - '$from') / 5000.0")
	unset PGOPTIONS
	echo "$to"
}

run_wal() {
	local round ours floor usual
	rm -f "$work"/figures.*
	sql -c 'ALTER SYSTEM SET full_page_writes = off' -c 'SELECT pg_reload_conf()' >/dev/null
	for ((round = 0; round < rounds; round++)); do
		tidy
		floor=$(wal_bytes floor) ours=$(wal_bytes fire) usual=$(wal_bytes usual)
		ratio "$ours" "$floor" >>"$work/figures.floor"
		ratio "$ours" "$usual" >>"$work/figures.usual"
	done
	sql -c 'ALTER SYSTEM RESET full_page_writes' -c 'SELECT pg_reload_conf()' >/dev/null
	judge "WAL of a fire / floor, as many columns and indexes" floor ≤ 1.1 '' "last: $ours, $floor bytes"
	judge "WAL of a fire / usual outbox" usual ≤ 1.9 '' "last: $ours, $usual bytes"
}

run_log() {
	local round ours pgq
	have_pgq || die "no pgq to compare with"
	sql -c 'CREATE EXTENSION IF NOT EXISTS pgq' -c "SELECT pgq.create_queue('bench')" >/dev/null
	rm -f "$work"/figures.*
	for ((round = 0; round < rounds; round++)); do
		tidy
		pgq=$(elapsed "SELECT count(pgq.insert_event('bench', 'coin', '{\"key\": \"' || i || '\", \"event\": \"coin\", \"from\": \"opened\", \"to\": \"opened\", \"args\": {\"n\": 1}, \"row\": {\"id\": 1, \"state\": \"opened\", \"coins\": 1, \"owner\": \"owner 1\"}}')) FROM generate_series(1, $rows) i")
		ours=$(elapsed "SELECT count(log_append(1, 1, i::text, 'coin', 'opened', 'opened', '{\"n\": 1}', '{\"id\": 1, \"state\": \"opened\", \"coins\": 1, \"owner\": \"owner 1\"}')) FROM generate_series(1, $rows) i")
		ratio "$pgq" "$ours" >>"$work/figures.set"
	done
	judge "$rows appends to the log / pgq.insert_event" set ≥ 1.5 '' "last: $ours, $pgq ms"
	export PGOPTIONS="-c synchronous_commit=off"
	for ((round = 0; round < rounds; round++)); do
		tidy
		read -r pgq _ < <(tps pgq)
		read -r ours _ < <(tps log)
		ratio "$ours" "$pgq" >>"$work/figures.tps"
	done
	unset PGOPTIONS
	judge "one append a transaction / pgq.insert_event" tps ≥ 1.5 '' "last: $ours, $pgq tps"
}

# ---- the run ------------------------------------------------------------------

[ -n "${PST_NO_INSTALL:-}" ] || install_packages $(build_packages)
find_postgres
build || die "the build failed"
make -s -C "$top/test/bench/log_probe" PG_CONFIG="$PG_CONFIG" install >/dev/null || die "log_probe does not build"
work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-bench.XXXXXX")"
start_cluster "$work/pg" "shared_buffers = '512MB'" "max_wal_size = '8GB'" \
	"checkpoint_timeout = '1h'" "autovacuum = off" "persistomata.deliver = off" ||
	die "the cluster did not start"
as_postgres "$pg_bin/createdb" -h "$work/pg" -U postgres bench
sql -f "$top/test/bench/transition.sql" >/dev/null || die "the tables could not be made"
scripts
printf '%s, %s rounds, %s s, %s rows\n' "$("$PG_CONFIG" --version)" "$rounds" "$seconds" "$rows"
table
! wanted fire || run_fire
! wanted calls || run_calls
! wanted update || run_update
! wanted many || run_many
! wanted wal || run_wal
! wanted log || run_log
