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
	local last='' position quiet=0 from plain_from
	sql -c CHECKPOINT
	plain_sql -c CHECKPOINT
	from=$(idle_position sql) plain_from=$(idle_position plain_sql)
	for _ in $(seq 60); do
		position=$(idle_position sql)/$(idle_position plain_sql)
		[ "$position" = "$last" ] && quiet=$((quiet + 5)) || quiet=0
		[ "$quiet" -lt 20 ] || break
		last=$position
		sleep 5
	done
	[ "$quiet" -ge 20 ] || die "the clusters do not come to rest"
	progress 'written after the checkpoint, until there was nothing for 20 s:'
	{ records pg "$from" "$(idle_position sql)"; records plain "$plain_from" "$(idle_position plain_sql)"; } >&2
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

# window SECONDS: sets what there was: wal, plain, xids, queries (ours too), wakeups
window() {
	local from plain_from
	switches >"$work/before"
	sleep 0.5					# ended backends tell their figures a little later
	queries=$(transactions)
	from=$(idle_position sql) plain_from=$(idle_position plain_sql)
	xids=$(sql -c "SELECT split_part(pg_current_snapshot()::text, ':', 2)")
	sleep "$1"
	xids=$(($(sql -c "SELECT split_part(pg_current_snapshot()::text, ':', 2)") - xids))
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn() - '$from'")
	plain=$(plain_sql -c "SELECT pg_current_wal_insert_lsn() - '$plain_from'")
	switches >"$work/after"
	sleep 0.5
	queries=$(($(transactions) - queries))
	cut -d' ' -f1 "$work/before" | cmp -s - <(cut -d' ' -f1 "$work/after") || die "a worker was started or ended while idle"
	wakeups=$(join "$work/before" "$work/after" | awk -v s="$1" '{ n = ($3 - $2) / s; if (n > m) m = n } END { printf "%.3f", m }')
	records pg "$from" "$(idle_position sql)" >>"$work/records"
	records plain "$plain_from" "$(idle_position plain_sql)" >>"$work/records"
}

run_idle() {
	local kind round queries xids wal plain wakeups asking
	start_cluster "$work/plain" "${settings[@]}" "shared_preload_libraries = ''" || die "the second cluster did not start"
	for kind in $kinds; do new_route "i_$kind" "$kind" fired now; done
	: >"$work/records"
	progress 'idle: waiting until nothing is written'
	settle
	# what asking alone takes: the same questions with next to no time between
	window 0.1
	asking=$queries
	for round in $(seq "$rounds"); do
		progress "idle, window $round of $rounds"
		window $((seconds / rounds > 0 ? seconds / rounds : 1))
		note idle.wal "$wal"
		note idle.plain "$plain"
		note idle.xids "$xids"
		note idle.queries $((queries > asking ? queries - asking : 0))
		note idle.wakeups "$wakeups"
	done
	for kind in $kinds; do sql -c "SELECT persistomata.drop_route('i_$kind')" >/dev/null; done
	stop_cluster "$work/plain"
	[ ! -s "$work/records" ] || progress "records of WAL while idle:" "$(cat "$work/records")"
	judge "idle for $seconds s in $rounds windows, three routes: WAL" idle.wal ≤ 0 bytes "a cluster without the library beside it $(median idle.plain)"
	judge '... xids' idle.xids ≤ 0
	judge '... queries (transactions of all databases besides those that ask)' idle.queries ≤ 0
	judge "... wake-ups of the busiest of $(wc -l <"$work/after") workers" idle.wakeups ≤ 1 '/s'
}
