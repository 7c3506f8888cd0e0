# The latency row of test/bench/relay.sh; sourced by it.
#
# An observer at each sink (bare/observe.c) says when each event is visible there; the
# writers (bare/write.c) say when its transaction was sent and when COMMIT had returned,
# by the same clock.  Counted is from the return of COMMIT; the other, from before the
# transaction was sent, is shown beside it.  The first two seconds of a run are left
# out.  In turn, in each round: bare clients, us, the relay in Node, PgQ with its own
# ticker, PgQ with a tight one; always three sinks at once under the same load.

kinds='clickhouse redis rabbitmq'
poll_ms=10 warm=2
fire="SELECT persistomata.fire('fired', 1 + (\$1 / 10000000 * 2500 + \$1 % 2500) % 10000, 'coin', jsonb_build_object('tag', \$1))"

# ---- what runs beside ---------------------------------------------------------

start_observers() {
	local kind name
	for kind in $kinds; do
		name=bench
		[ "$kind" != clickhouse ] || name=$1
		[ "$kind" != rabbitmq ] || name=q
		aside "$work/observe" "$kind" "${port[$kind]}" "$name" "$poll_ms" >"$work/seen.$kind"
	done
}

# tagged STATEMENT: the load, each transaction with a tag of its own
tagged() { "$work/write" 4 "$rate" $((seconds + warm)) "$1" >"$work/commits" || die "the load failed: $1"; }

# Until every tag was seen at every sink.
await_seen() {
	local kind wanted
	wanted=$(wc -l <"$work/commits")
	for kind in $kinds; do
		for _ in $(seq 600); do
			[ "$(grep -vc poll "$work/seen.$kind")" -lt "$wanted" ] || continue 2
			sleep 0.2
		done
		die "at $kind $(grep -vc poll "$work/seen.$kind") of $wanted events of $1 are visible"
	done
}

# gather WHO: the figures of a run
gather() {
	local kind p50 p99 sent50 sent99
	for kind in $kinds; do
		p50='' p99='' sent50='' sent99=''
		read -r p50 p99 sent50 sent99 < <(python3 "$top/test/bench/latency.py" join "$warm" "$work/seen.$kind" "$work/commits")
		note "$1.$kind.p50" "$p50"
		note "$1.$kind.p99" "$p99"
		note "$1.$kind.sent50" "$sent50"
		note "$1.$kind.sent99" "$sent99"
	done
}

# run_tagged WHO STATEMENT TABLE: with whatever delivers already up
run_tagged() {
	start_observers "$3"
	tagged "$2"
	await_seen "$1"
	end_asides
	gather "$1"
	for kind in $kinds; do empty "$kind"; done
}

# ---- bare clients, and commits alone --------------------------------------------

# What is sent at this load, kept for the bare clients.
record_load() {
	local kind at
	[ ! -d "$work/sent/load" ] || return 0
	postgres_folder "$work/sent/load"
	for kind in $kinds; do
		at=$(free_port)
		aside python3 "$top/test/bench/record.py" listen "$at" "${port[$kind]}" "$work/sent/load/$kind.raw"
		sleep 1
		sink_sql "$kind" "loaded_$kind" "$at" | sql >/dev/null
		new_route "loaded_$kind" "$kind" fired now "loaded_$kind"
	done
	load $((seconds + warm)) >/dev/null
	for kind in $kinds; do
		await_drained "loaded_$kind"
		sql -c "SELECT persistomata.drop_route('loaded_$kind')" -c "SELECT persistomata.drop_route('keep_loaded_$kind')" >/dev/null
	done
	end_asides
	for kind in $kinds; do
		python3 "$top/test/bench/record.py" "$kind" "$work/sent/load/$kind.raw" "$work/sent/load/$kind" || die "what was recorded cannot be read"
		empty "$kind"
	done
}

# commits SETTING: transactions that only commit, while the load runs
commits() {
	PGOPTIONS="-c synchronous_commit=$1" "$work/write" 1 50 "$seconds" \
		"SELECT pg_logical_emit_message(true, 'bench', \$1::text)" >"$work/alone.$1"
}

run_bare() {
	local kind requests pid pids=() p50 p99 on off
	requests=$(calc "$(ls "$work"/sent/load/clickhouse.*.body | wc -l) / ($seconds + $warm)")
	start_observers bench
	tagged "$fire" &
	pids+=($!)
	sleep 1
	commits on & pids+=($!)
	commits off & pids+=($!)
	"$work/pace" clickhouse "${port[clickhouse]}" "$work/sent/load/clickhouse" "$requests" "$seconds" >"$work/paced.clickhouse" & pids+=($!)
	"$work/pace" redis "${port[redis]}" "$work/sent/load/redis.commands" "$rate" "$seconds" >"$work/paced.redis" & pids+=($!)
	"$work/pace" rabbitmq "${port[rabbitmq]}" "$work/sent/load/rabbitmq.messages" "$rate" "$seconds" >"$work/paced.rabbitmq" & pids+=($!)
	for pid in "${pids[@]}"; do wait "$pid" || die "a bare client failed"; done
	end_asides
	for kind in $kinds; do
		p50='' p99=''
		read -r p50 p99 < <(python3 "$top/test/bench/latency.py" column "$work/paced.$kind")
		note "bare.$kind.p50" "$p50"
		note "bare.$kind.p99" "$p99"
		empty "$kind"
	done
	read -r on _ < <(python3 "$top/test/bench/latency.py" commits "$work/alone.on")
	read -r off _ < <(python3 "$top/test/bench/latency.py" commits "$work/alone.off")
	note commit "$on"
	note flush "$(calc "$on - $off")"
}

# ---- us and the peers -------------------------------------------------------------

latency_ours() {
	local kind figure
	for kind in $kinds; do new_route "l_$kind" "$kind" fired now; done
	start_observers bench
	tagged "$fire"
	await_seen ours
	end_asides
	gather ours
	for kind in $kinds; do
		for figure in p50 p99; do
			note "acknowledged.$kind.$figure" "$(sql -c "SELECT round(${figure}_ms::numeric, 3) FROM persistomata.stat_route WHERE route = 'l_$kind'")"
		done
		sql -c "SELECT persistomata.drop_route('l_$kind')" >/dev/null
		empty "$kind"
	done
	note poll "$(awk '$1 == "poll" { n++; every += $2; took += $3 } END { if (n) print every / n / 2 + took / n }' "$work/seen.clickhouse")"
}

latency_node() {
	local kind
	for kind in $kinds; do aside node "$work/peer/relay.js" "$kind" "${port[$kind]}" "outbox_$kind" 10; done
	sleep 1
	run_tagged node "SELECT write_outbox(\$1)" peer
	sql -c 'TRUNCATE outbox_clickhouse, outbox_redis, outbox_rabbitmq'
}

# latency_pgq WHO MS: a consumer for each sink that looks every MS.  Ticks are not
# made more often than every 50 ms: each is a batch, and costs each consumer three
# statements; at 10 ms they fell behind.  For the same reason they do not wait for
# flushes: after a crash PgQ gives a batch once more.
latency_pgq() {
	local kind
	export PGOPTIONS='-c synchronous_commit=off'
	for kind in $kinds; do
		sql -c "SELECT pgq.register_consumer('$1', '$kind')" >/dev/null
		aside node "$work/peer/pgq.js" "$kind" "${port[$kind]}" "$1" "$2"
	done
	if [ "$1" = pgq ]; then
		aside "$pgqd" "$work/pgqd.ini" >/dev/null 2>&1
	else
		aside "$pg_bin/psql" -X -q -h "$work/pg" -U postgres bench -o /dev/null -f <(echo "SELECT pgq.ticker('$1') \\watch 0.05")
	fi
	unset PGOPTIONS
	sleep 2
	run_tagged "$1" "SELECT pgq.insert_event('$1', 'bench.coin', tagged(\$1)::text)" peer
	for kind in $kinds; do sql -c "SELECT pgq.unregister_consumer('$1', '$kind')" >/dev/null; done
}

prepare_latency() {
	export PGHOST=$work/pg PGUSER=postgres PGDATABASE=bench
	record_load
	[ -n "$peer" ] || return 0
	peers_ready
	have_pgqd || die "no pgqd"
	printf '[pgqd]\nlogfile = %s\npidfile = %s\nbase_connstr = host=%s user=postgres\ninitial_database = bench\ndatabase_list = bench\n' \
		"$work/pgqd.log" "$work/pgqd.pid" "$work/pg" >"$work/pgqd.ini"
	latency_sql | sql >/dev/null || die "the peers' tables could not be made"
}

# The same event as ours, with a tag, in an outbox for each relay or in a queue.
# pgq has the defaults of PgQ, pgq_tight a tick whenever there is something.
latency_sql() {
	cat <<-END
		CREATE SEQUENCE place;
		CREATE TABLE sample AS SELECT payload FROM outbox_filled LIMIT 1;
		CREATE FUNCTION tagged(tag bigint) RETURNS jsonb LANGUAGE sql AS \$\$
			SELECT payload || jsonb_build_object('position', nextval('place'), 'args', jsonb_build_object('tag', tag)) FROM sample \$\$;
		CREATE TABLE outbox_clickhouse (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, payload jsonb NOT NULL);
		CREATE TABLE outbox_redis (LIKE outbox_clickhouse INCLUDING ALL);
		CREATE TABLE outbox_rabbitmq (LIKE outbox_clickhouse INCLUDING ALL);
		CREATE FUNCTION write_outbox(tag bigint) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE event jsonb := tagged(tag);
		BEGIN
			INSERT INTO outbox_clickhouse (topic, payload) VALUES ('bench.coin', event);
			INSERT INTO outbox_redis (topic, payload) VALUES ('bench.coin', event);
			INSERT INTO outbox_rabbitmq (topic, payload) VALUES ('bench.coin', event);
		END \$\$;
		SELECT pgq.create_queue('pgq'), pgq.create_queue('pgq_tight');
		SELECT pgq.set_queue_config('pgq_tight', 'ticker_max_count', '1'), pgq.set_queue_config('pgq_tight', 'ticker_max_lag', '1 millisecond');
	END
}

# ---- the row ----------------------------------------------------------------------

# The bound of GOALS, of this run's figures: per round, as each round has its load.
bounds() {
	local kind
	for kind in $kinds; do
		paste "$work/figures.flush" "$work/figures.bare.$kind.p50" | awk '{ print 2 * $1 + $2 + 3 }' >"$work/figures.bound.$kind"
		paste "$work/figures.ours.$kind.p50" "$work/figures.bound.$kind" | awk '{ print $1 / $2 }' >"$work/figures.ours.$kind.of50"
		paste "$work/figures.ours.$kind.p99" "$work/figures.bound.$kind" | awk '{ print $1 / $2 / 5 }' >"$work/figures.ours.$kind.of99"
	done
}

# what ClickHouse's latencies are without the asking, by round
unasked() { paste "$work/figures.ours.clickhouse.$1" "$work/figures.poll" | awk '{ print $1 - $2 }' >"$work/figures.unasked.$1"; }

latency_table() {
	local kind who name
	show 'a commit alone at that load, p50' commit ms
	show '... of which the WAL flush: less one with synchronous_commit off' flush ms
	show 'what asking ClickHouse adds to its latencies, about' poll ms "half of the time between two SELECTs, and one SELECT"
	for kind in $kinds; do
		show "$kind, a bare client at that rate, sent → acknowledged, p50" "bare.$kind.p50" ms "p99 $(median "bare.$kind.p99")"
		judge "$kind, commit → visible, p50" "ours.$kind.p50" ≤ "$(middle "bound.$kind")" ms "from before the transaction was sent $(median "ours.$kind.sent50")"
		judge '... p99' "ours.$kind.p99" ≤ "$(calc "5 * $(middle "bound.$kind")")" ms "from before the transaction was sent $(median "ours.$kind.sent99")"
		judge '... p50 and p99, of what is wanted in the same round' "ours.$kind.of50" ≤ 1 '' "p99 $(median "ours.$kind.of99")"
		[ "$kind" != clickhouse ] || {
			unasked p50
			judge '... p50 less what asking adds' unasked.p50 ≤ "$(middle "bound.$kind")" ms
		}
		show '... commit → acknowledged, p50, as stat_route says' "acknowledged.$kind.p50" ms "p99 $(median "acknowledged.$kind.p99")"
		[ -z "$peer" ] || for who in node pgq pgq_tight; do
			case $who in
				node) name='the Node relay, which looks every 10 ms' ;;
				pgq) name='PgQ with pgqd as it comes, a consumer that looks every 100 ms' ;;
				pgq_tight) name='PgQ, a tick every 50 ms, a consumer that looks every 10 ms' ;;
			esac
			show "$kind, $name, commit → visible, p50" "$who.$kind.p50" ms "p99 $(median "$who.$kind.p99")"
		done
	done
}

run_latency() {
	local round
	prepare_latency
	for round in $(seq "$rounds"); do
		progress "latency, round $round of $rounds"
		run_bare
		latency_ours
		[ -n "$peer" ] || continue
		latency_node
		latency_pgq pgq 100
		latency_pgq pgq_tight 10
	done
	bounds
	latency_table
}
