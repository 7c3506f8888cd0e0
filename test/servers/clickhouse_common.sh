# Shared by clickhouse.sh and chdb.sh: how a server in $dir that answers on $port
# is started, awaited and stopped.  Sourced; needs $dir, and $port to start.

fail() { echo "$0: $*" >&2; exit 1; }
usage() { echo "usage: $0 start DIR [PORT] | stop DIR" >&2; exit 2; }

free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
		LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

# A process that was killed may stay as a zombie until its parent looks: it is dead.
alive() {
	kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# Make DIR and DIR/data, and its name absolute; refuse if a server is there already.
prepare() {
	mkdir -p "$dir/data/tmp" || exit 1
	dir=$(cd "$dir" && pwd)
	[ -f "$dir/pid" ] && alive "$(cat "$dir/pid")" && fail "already running in $dir"
	return 0
}

# Note the pid, and wait until the server answers.
await() {
	echo "$1" >"$dir/pid"
	echo "$port" >"$dir/port"
	tries=0
	until [ "$(curl -s -m 5 "http://127.0.0.1:$port/ping" 2>/dev/null)" = "Ok." ]; do
		tries=$((tries + 1))
		alive "$1" || { cat "$dir/out" "$dir/log" 2>/dev/null | tail -n 20 >&2; fail "the server ended"; }
		[ "$tries" -lt 300 ] || fail "no answer on port $port within 60 s"
		sleep 0.2
	done
}

stop() {
	[ -f "$dir/pid" ] || exit 0
	pid=$(cat "$dir/pid")
	kill -CONT "$pid" 2>/dev/null
	kill "$pid" 2>/dev/null
	tries=0
	while alive "$pid"; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || { kill -KILL "$pid" 2>/dev/null; break; }
		sleep 0.1
	done
	rm -f "$dir/pid"
}

main() {
	[ $# -ge 2 ] || usage
	dir=$2
	case $1 in
		start) port=${3:-$(free_port)}; start ;;
		stop) stop ;;
		*) usage ;;
	esac
}
