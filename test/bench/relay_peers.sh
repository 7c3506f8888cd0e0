# The peers of test/bench/relay.sh, and what is recorded for the bare clients;
# sourced by it.

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

# arrived KIND TABLE NUMBER: that so many events are at the sink, in a table of ClickHouse's
arrived() {
	local there
	case $1 in
		redis) there=$(redis-cli -p "${port[redis]}" XLEN bench) ;;
		clickhouse) there=$(curl -sf --data-binary "SELECT count() FROM $2" "http://127.0.0.1:${port[clickhouse]}/") ;;
		rabbitmq) there=$(as_postgres "$work/src/test/servers/rabbitmq.sh" ctl "$work/servers/rabbitmq" -q list_queues --no-table-headers name messages | awk '$1 == "q" { print $2 }') ;;
	esac
	[ "$there" = "$3" ] || die "at $1 are $there events of $3"
}

# record KIND: drain once through a proxy, and keep the bytes for the bare client.
record() {
	local kind=$1 at
	[ ! -e "$work/sent/$kind.done" ] || return 0
	progress "$kind: recording what is sent"
	at=$(free_port)
	aside python3 "$top/test/bench/record.py" listen "$at" "${port[$kind]}" "$work/sent/$kind.raw"
	sleep 1
	sink_sql "$kind" "recorded_$kind" "$at" | sql >/dev/null
	# whatever our own shipments are like: the client's blocks have 50,000 rows
	[ "$kind" != clickhouse ] || sql -c "ALTER SERVER recorded_clickhouse OPTIONS (ADD max_bytes '268435456')"
	drain "$kind" "recorded_$kind" >/dev/null
	sql -c "SELECT persistomata.drop_route('keep_recorded_$kind')" >/dev/null
	end_asides
	python3 "$top/test/bench/record.py" "$kind" "$work/sent/$kind.raw" "$work/sent/$kind" || die "what was recorded cannot be read"
	rm -f "$work/sent/$kind.raw"
	touch "$work/sent/$kind.done"
	empty "$kind"
}

bare() {
	local file=$work/sent/$1
	[ "$1" != redis ] || file=$work/sent/redis.commands
	[ "$1" != rabbitmq ] || file=$work/sent/rabbitmq.messages
	"$work/bare" "$1" "${port[$1]}" "$file"
}

# share KIND: how many of the events the peers drain.  All at RabbitMQ, which becomes
# slower as its queue grows.
share() { [ "$1" = rabbitmq ] && echo "$events" || echo "$peer_events"; }

# peers_ready: their programs, and the first of the same events, once.
peers_ready() {
	local most=$peer_events
	! wanted rabbitmq || most=$events
	[ ! -d "$work/peer" ] || return 0
	record redis
	have_pgq || die "no pgq"
	cp -R "$top/test/bench/peer" "$work/peer"
	(cd "$work/peer" && npm install --no-package-lock --no-audit --no-fund --silent) || die "the peers' packages could not be installed"
	export PGHOST=$work/pg PGUSER=postgres PGDATABASE=bench
	head -n "$most" "$work/sent/redis.json" | sed 's,\\,\\\\,g' >"$work/sent/peer.json"
	peers_sql | sql >/dev/null || die "no outbox"
	ask_clickhouse 'CREATE TABLE IF NOT EXISTS peer (position UInt64, name String, event_id UInt64, type String, machine String,
		version UInt32, fsm String, key String, event String, from_state String, to_state String, args String, payload String,
		reason String, occurred_at String, xid UInt64, actor String, headers String, node String) ENGINE = MergeTree ORDER BY (fsm, key, position)'
}

peers_sql() {
	cat <<-END
		CREATE TABLE outbox_filled (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL DEFAULT 'bench.init', payload jsonb NOT NULL);
		CREATE TABLE outbox (id bigint PRIMARY KEY, topic text NOT NULL, payload jsonb NOT NULL);
		\\copy outbox_filled (payload) FROM '$work/sent/peer.json'
		ANALYZE outbox_filled;
		CREATE EXTENSION pgq;
		SELECT pgq.create_queue('drain');
		SELECT pgq.set_queue_config('drain', 'ticker_max_count', '1'), pgq.set_queue_config('drain', 'ticker_max_lag', '0 seconds');
		CREATE PROCEDURE fill_queue(events bigint) LANGUAGE plpgsql AS \$\$
		BEGIN
			FOR low IN 1 .. events BY 1000 LOOP
				PERFORM pgq.insert_event('drain', topic, payload::text) FROM outbox_filled WHERE id BETWEEN low AND least(low + 999, events);
				COMMIT;
				PERFORM pgq.ticker('drain');
				COMMIT;
			END LOOP;
		END \$\$;
	END
}

# drain_node KIND, drain_pgq KIND: seconds that a peer takes for its events.  PgQ's
# batches are 1,000 events, as the other's: a tick after each thousand.
drain_node() {
	sql -c 'TRUNCATE outbox' -c "INSERT INTO outbox SELECT * FROM outbox_filled WHERE id <= $(share "$1") ORDER BY id" -c 'ANALYZE outbox' >/dev/null || return 1
	node "$work/peer/relay.js" "$1" "${port[$1]}" outbox
}
drain_pgq() {
	local seconds
	sql -c "SELECT pgq.register_consumer('drain', '$1')" -c "CALL fill_queue($(share "$1"))" >/dev/null || return 1
	seconds=$(node "$work/peer/pgq.js" "$1" "${port[$1]}" drain) || return 1
	[ "$(sql -c "SELECT pending_events FROM pgq.get_consumer_info('drain', '$1')")" = 0 ] || return 1
	sql -c "SELECT pgq.unregister_consumer('drain', '$1')" -c "SELECT pgq.maint_rotate_tables_step1('drain')" \
		-c 'SELECT pgq.maint_rotate_tables_step2()' >/dev/null
	echo "$seconds"
}
