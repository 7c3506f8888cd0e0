# The idle row of test/bench/relay.sh; sourced by it.
#
# The time is cut into as many windows as there are rounds.  A second cluster with the
# same settings, without the library, is watched beside ours, and what WAL there was is
# named by pg_waldump.  PostgreSQL itself logs which transactions run once after a
# checkpoint, within 15 s; so the windows begin when both clusters have written nothing
# for 20 s.

plain_sql() { "$pg_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work/plain" -U postgres postgres "$@"; }

# idle_position SQL: where a cluster's WAL ends
idle_position() { "$1" -c 'SELECT pg_current_wal_insert_lsn()'; }

settle() {
	local last='' position quiet=0
	sql -c CHECKPOINT
	plain_sql -c CHECKPOINT
	for _ in $(seq 60); do
		position=$(idle_position sql)/$(idle_position plain_sql)
		[ "$position" = "$last" ] && quiet=$((quiet + 5)) || quiet=0
		[ "$quiet" -lt 20 ] || return 0
		last=$position
		sleep 5
	done
	die "the clusters do not come to rest"
}

# switches: waits of the launcher, schedulers and workers so far
switches() {
	local pid
	for pid in $(sql -c "SELECT pid FROM persistomata.stat_worker WHERE pid IS NOT NULL ORDER BY pid"); do
		awk -v pid="$pid" '/^voluntary/ { print pid, $2 }' "/proc/$pid/status"
	done | sort
}

# transactions: of all databases, and of none; what is asked here is among them
transactions() {
	sql -c "SELECT pg_stat_clear_snapshot()" -c "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database" | tail -n 1
}

# records DIR FROM TO: what is in the WAL between, by kind
records() {
	[ "$2" != "$3" ] || return 0
	as_postgres "$pg_bin/pg_waldump" -p "$work/$1/data/pg_wal" -s "$2" -e "$3" 2>/dev/null |
		sed -n 's/^rmgr: \([^ ]*\) .*desc: \([A-Z_+]*\).*/\1 \2/p' | sort | uniq -c | sed "s/^ */$1: /"
}

# What the questions of a window cost when nothing else is there: asked once in vain.
idle_window() {
	local from plain_from xids queries own
	switches >"$work/before"
	own=$(transactions)
	queries=$(transactions)
	own=$((queries - own))
	from=$(idle_position sql) plain_from=$(idle_position plain_sql)
	xids=$(sql -c "SELECT split_part(pg_current_snapshot()::text, ':', 2)")
	sleep "$1"
	xids=$(($(sql -c "SELECT split_part(pg_current_snapshot()::text, ':', 2)") - xids))
	note idle.xids "$xids"
	note idle.wal "$(sql -c "SELECT pg_current_wal_insert_lsn() - '$from'")"
	note idle.plain "$(plain_sql -c "SELECT pg_current_wal_insert_lsn() - '$plain_from'")"
	switches >"$work/after"
	cut -d' ' -f1 "$work/before" | cmp -s - <(cut -d' ' -f1 "$work/after") || die "a worker was started or ended while idle"
	note idle.wakeups "$(join "$work/before" "$work/after" | awk -v s="$1" '{ n = ($3 - $2) / s; if (n > m) m = n } END { printf "%.3f", m }')"
	# a statement of psql is a transaction: five since the count, and those of the count itself
	queries=$(($(transactions) - queries - own - 5))
	note idle.queries "$((queries > 0 ? queries : 0))"
	records pg "$from" "$(idle_position sql)" >>"$work/records"
	records plain "$plain_from" "$(idle_position plain_sql)" >>"$work/records"
}

run_idle() {
	local kind round
	start_cluster "$work/plain" "${settings[@]}" "shared_preload_libraries = ''" || die "the second cluster did not start"
	for kind in $kinds; do new_route "i_$kind" "$kind" fired now; done
	: >"$work/records"
	progress 'idle: waiting until nothing is written'
	settle
	for round in $(seq "$rounds"); do
		progress "idle, window $round of $rounds"
		idle_window $((seconds / rounds > 0 ? seconds / rounds : 1))
	done
	for kind in $kinds; do sql -c "SELECT persistomata.drop_route('i_$kind')" >/dev/null; done
	stop_cluster "$work/plain"
	[ ! -s "$work/records" ] || progress "records of WAL while idle:" "$(cat "$work/records")"
	judge "idle for $seconds s in $rounds windows, three routes: WAL" idle.wal ≤ 0 bytes "a cluster without the library beside it $(median idle.plain)"
	judge '... xids' idle.xids ≤ 0
	judge '... queries (transactions of all databases besides those that ask)' idle.queries ≤ 0
	judge "... wake-ups of the busiest of $(wc -l <"$work/after") workers" idle.wakeups ≤ 1 '/s'
}
