#!/bin/sh
# A private RabbitMQ node on 127.0.0.1, for tests.
#
#	rabbitmq.sh start DIR PORT
#	rabbitmq.sh ctl DIR ARGUMENTS...	(rabbitmqctl for that node)
#	rabbitmq.sh stop DIR
#
# DIR is made if need be, must be writable for who calls, and holds pid, log and
# env (what rabbitmqctl needs).  The node has its own name, cookie and epmd; it
# uses PORT, PORT + 1 (distribution) and PORT + 2 (epmd).  The user is guest.
set -eu

bin=/usr/lib/rabbitmq/bin

fail() {
	echo "rabbitmq.sh: $*" >&2
	exit 1
}

# await_end PID TENTHS: then it is killed
await_end() {
	for _ in $(seq "$2"); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$1" 2>/dev/null || true
}

stop_pid_of() {
	[ -f "$1" ] || return 0
	pid=$(cat "$1")
	kill -CONT "$pid" 2>/dev/null || true
	kill "$pid" 2>/dev/null || true
	await_end "$pid" 200
	rm -f "$1"
}

write_env() {
	cat >"$dir/env" <<-END
		HOME='$dir'; export HOME
		RABBITMQ_NODENAME='pst$port@localhost'; export RABBITMQ_NODENAME
		RABBITMQ_CONF_ENV_FILE='$dir/no-such-file'; export RABBITMQ_CONF_ENV_FILE
		RABBITMQ_CONFIG_FILE='$dir/rabbitmq.conf'; export RABBITMQ_CONFIG_FILE
		RABBITMQ_ADVANCED_CONFIG_FILE='$dir/advanced.config'; export RABBITMQ_ADVANCED_CONFIG_FILE
		RABBITMQ_MNESIA_BASE='$dir/mnesia'; export RABBITMQ_MNESIA_BASE
		RABBITMQ_LOG_BASE='$dir'; export RABBITMQ_LOG_BASE
		RABBITMQ_LOGS='$dir/log'; export RABBITMQ_LOGS
		RABBITMQ_PID_FILE='$dir/pid'; export RABBITMQ_PID_FILE
		RABBITMQ_ENABLED_PLUGINS_FILE='$dir/enabled_plugins'; export RABBITMQ_ENABLED_PLUGINS_FILE
		RABBITMQ_GENERATED_CONFIG_DIR='$dir/config'; export RABBITMQ_GENERATED_CONFIG_DIR
		RABBITMQ_FEATURE_FLAGS_FILE='$dir/feature_flags'; export RABBITMQ_FEATURE_FLAGS_FILE
		RABBITMQ_DIST_PORT='$((port + 1))'; export RABBITMQ_DIST_PORT
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'; export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS
		ERL_EPMD_PORT='$((port + 2))'; export ERL_EPMD_PORT
		ERL_EPMD_ADDRESS='127.0.0.1'; export ERL_EPMD_ADDRESS
		ERL_CRASH_DUMP_SECONDS='0'; export ERL_CRASH_DUMP_SECONDS
		LC_ALL='C.UTF-8'; export LC_ALL
	END
}

write_config() {
	cat >"$dir/rabbitmq.conf" <<-END
		listeners.tcp.1 = 127.0.0.1:$port
		log.file.level = info
	END
	if [ -n "${PST_RABBITMQ_TLS:-}" ]; then
		cat >>"$dir/rabbitmq.conf" <<-END
			listeners.ssl.1 = 127.0.0.1:$((port + 3))
			ssl_options.cacertfile = $PST_RABBITMQ_TLS/ca.pem
			ssl_options.certfile = $PST_RABBITMQ_TLS/cert.pem
			ssl_options.keyfile = $PST_RABBITMQ_TLS/key.pem
		END
	fi
	echo '[].' >"$dir/enabled_plugins"
	rm -f "$dir/.erlang.cookie"
	head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/.erlang.cookie"
	chmod 400 "$dir/.erlang.cookie"
}

start() {
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	write_env
	write_config
	# shellcheck disable=SC1091
	. "$dir/env"
	cd "$dir"
	epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 &
	epmd_pid=$!
	echo "$epmd_pid" >"$dir/epmd.pid"
	rm -f "$dir/pid" "$dir/log"
	"$bin/rabbitmq-server" </dev/null >"$dir/out" 2>&1 &
	wrapper=$!
	for _ in $(seq 300); do
		if grep -q 'Server startup complete' "$dir/log" 2>/dev/null; then
			exit 0
		fi
		if ! kill -0 "$wrapper" 2>/dev/null; then
			tail -n 5 "$dir/out" >&2
			stop_pid_of "$dir/epmd.pid"
			fail "the server ended"
		fi
		sleep 0.2
	done
	stop_pid_of "$dir/pid"
	stop_pid_of "$dir/epmd.pid"
	fail "the server does not answer"
}

command=${1:-}
dir=${2:-}
[ -n "$dir" ] || fail "usage: rabbitmq.sh start DIR PORT | ctl DIR ARGUMENTS... | stop DIR"
case $command in
start)
	port=${3:?port}
	start
	;;
ctl)
	shift 2
	# shellcheck disable=SC1091
	. "$dir/env"
	cd "$dir"
	exec "$bin/rabbitmqctl" --quiet "$@"
	;;
stop)
	stop_pid_of "$dir/pid"
	stop_pid_of "$dir/epmd.pid"
	;;
*)
	fail "unknown command \"$command\""
	;;
esac
