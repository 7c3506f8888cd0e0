#!/bin/sh
# A private RabbitMQ server on 127.0.0.1: user guest, password guest.
#
#   rabbitmq.sh start DIR PORT    data, log and pid in DIR; returns when it answers;
#                                 takes PORT, PORT+1 (Erlang's own) and PORT+2 (epmd)
#   rabbitmq.sh stop DIR          ends the very processes that start left behind
#   rabbitmq.sh ctl DIR WORD…     rabbitmqctl for this server
#
# Prints nothing when it succeeds.  Runs as whoever calls it: Debian's own wrappers
# insist on root or rabbitmq, the programs that they call do not, as long as HOME
# (for the cookie) and every folder are private.  epmd is started here, not by the
# server, so that its pid is known and it ends too.
set -u

bin=/usr/lib/rabbitmq/bin

fail() { echo "$0: $*" >&2; exit 1; }

# A process that ended but was not yet waited for does not run.
runs() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

setting() {
	dir=$(cd "$dir" && pwd) || exit 1
	port=$(cat "$dir/port") || exit 1
	export HOME="$dir"
	export RABBITMQ_NODENAME="pst$port@localhost"
	export RABBITMQ_CONF_ENV_FILE="$dir/env.conf"
	export RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
	export RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins"
	export RABBITMQ_MNESIA_BASE="$dir/mnesia"
	export RABBITMQ_LOG_BASE="$dir/logs"
	export RABBITMQ_PID_FILE="$dir/pid"
	export RABBITMQ_DIST_PORT=$((port + 1))
	export ERL_EPMD_PORT=$((port + 2))
	export ERL_EPMD_ADDRESS=127.0.0.1
	export LC_ALL=C.UTF-8
}

start() {
	mkdir -p "$dir" || exit 1
	echo "$port" >"$dir/port"
	setting
	: >"$dir/env.conf"
	echo '[].' >"$dir/plugins"
	cat >"$dir/rabbitmq.conf" <<-CONF
		listeners.tcp.1 = 127.0.0.1:$port
		vm_memory_high_watermark.relative = 0.4
		disk_free_limit.absolute = 50MB
	CONF
	rm -f "$dir/pid"
	epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >>"$dir/log" 2>&1 &
	echo $! >"$dir/epmd.pid"
	"$bin/rabbitmq-server" </dev/null >>"$dir/log" 2>&1 &
	wrapper=$!
	tries=0
	until [ -s "$dir/pid" ] && "$bin/rabbitmqctl" -q --timeout 5 ping >/dev/null 2>&1 &&
		"$bin/rabbitmq-diagnostics" -q --timeout 5 check_port_listener "$port" >/dev/null 2>&1
	do
		tries=$((tries + 1))
		runs "$wrapper" || { tail -n 30 "$dir/log" >&2; stop; fail "the server ended"; }
		[ "$tries" -lt 200 ] || { stop; fail "no answer on port $port"; }
		sleep 0.2
	done
}

end() {
	[ -s "$1" ] || return
	pid=$(cat "$1")
	kill -CONT "$pid" 2>/dev/null
	kill "$pid" 2>/dev/null
	tries=0
	while runs "$pid"; do
		tries=$((tries + 1))
		[ "$tries" -lt 150 ] || kill -KILL "$pid" 2>/dev/null
		sleep 0.1
	done
	rm -f "$1"
}

stop() {
	end "$dir/pid"
	end "$dir/epmd.pid"
}

case $#:${1-} in
	3:start) dir=$2 port=$3; start ;;
	2:stop) dir=$2; stop ;;
	*:ctl) dir=$2; shift 2; setting; exec "$bin/rabbitmqctl" -q "$@" ;;
	*) echo "usage: $0 start DIR PORT | stop DIR | ctl DIR WORD..." >&2; exit 2 ;;
esac
