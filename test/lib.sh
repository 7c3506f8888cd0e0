# Shared by test/run.sh and test/demo.sh; sourced, not run.  Bash.
#
# What it needs to know comes from the environment:
#   PG_CONFIG   the PostgreSQL to build for and to run
#               (default: Debian's own, /usr/lib/postgresql/N/bin/pg_config)
#   TMPDIR      where temporary folders go (default /tmp)
# Servers are bound to 127.0.0.1; only processes started here are ever ended.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' dim=$'\e[2m' plain=$'\e[0m'
else
	bold='' red='' green='' dim='' plain=''
fi

# ---- packages ---------------------------------------------------------------

# The PostgreSQL of this Debian.
pg_major() {
	case $(. /etc/os-release && echo "${VERSION_CODENAME:-sid}") in
		bookworm) echo 15 ;;
		trixie) echo 17 ;;
		*) echo 18 ;;
	esac
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]
}

# What cannot be installed as a package because something else brings it, for
# example a newer Node with its own npm.
provided() {
	case $1 in
		nodejs) command -v node ;;
		npm | curl | gcc | make) command -v "$1" ;;
		*) false ;;
	esac >/dev/null 2>&1
}

# install_packages NAME...: installs what is missing.  Daemons do not start and
# no cluster is created; what sees to that is removed again.
install_packages() {
	local package policy=/usr/sbin/policy-rc.d rc=0
	local clusters=/etc/postgresql-common/createcluster.d/persistomata-test.conf
	local -a missing=() drop=()

	for package; do
		installed "$package" || provided "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing packages (run as root to install them): ${missing[*]}"

	say "installing ${missing[*]}"
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		drop+=("$policy")
	fi
	if [ ! -e "$clusters" ]; then
		mkdir -p "${clusters%/*}"
		echo 'create_main_cluster = false' >"$clusters"
		drop+=("$clusters")
	fi
	# A subshell, so that its trap puts things back whatever happens.
	(
		trap 'rm -f "${drop[@]}"' EXIT
		trap 'exit 130' INT TERM
		export DEBIAN_FRONTEND=noninteractive
		apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
		out=$({ "${apt[@]}" update &&
			"${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } </dev/null 2>&1) ||
			{ tail -n 30 <<<"$out" >&2; exit 1; }
	) || rc=$?
	rmdir "${clusters%/*}" 2>/dev/null
	[ "$rc" = 0 ] || die "the packages could not be installed"
}

build_packages() {
	local major
	major=$(pg_major)
	echo build-essential zlib1g-dev libzstd-dev libssl-dev libcurl4-openssl-dev libhiredis-dev librabbitmq-dev \
		"postgresql-$major" "postgresql-server-dev-$major"
}

# What the servers, and the tests that read them, need.
server_packages() {
	echo redis-server rabbitmq-server clickhouse-server clickhouse-client curl openssl perl python3
}

# What else the tests need.
test_packages() {
	echo ca-certificates libipc-run-perl nodejs npm openssl "postgresql-$(pg_major)-pgtap" \
		prometheus prometheus-postgres-exporter python3-prometheus-client
}

# ---- PostgreSQL -------------------------------------------------------------

find_postgres() {
	PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$(pg_major)/bin/pg_config}
	PG_CONFIG=$(command -v "$PG_CONFIG") || die "no pg_config; set PG_CONFIG"
	export PG_CONFIG
	pg_bin=$("$PG_CONFIG" --bindir)
	pgxs=$("$PG_CONFIG" --pgxs)
	pgxs=${pgxs%/src/makefiles/pgxs.mk}
	PATH=$pg_bin:$PATH:/usr/sbin:/sbin
	export PATH
}

# build: compiles and installs the extension and the test modules.  Prints only
# what went wrong; a warning is an error.
build() {
	local dir out rc
	for dir in "$top" "$top"/test/modules/*/; do
		[ -f "$dir/Makefile" ] || continue
		out=$(make -C "$dir" -j2 PG_CONFIG="$PG_CONFIG" 2>&1 &&
			make -C "$dir" -s install PG_CONFIG="$PG_CONFIG" 2>&1)
		rc=$?
		if [ "$rc" != 0 ] || [[ $out == *warning:* ]]; then
			printf '%s\n' "$out" >&2
			return 1
		fi
	done
}

# ---- running as postgres ----------------------------------------------------

# as_postgres COMMAND...: PostgreSQL refuses to run as root.  The words before
# COMMAND are in pg_user, for those who need them; work_folder sets them.
pg_user=()
as_postgres() { "${pg_user[@]}" "$@"; }

# Makes a folder that postgres owns and every server's user can enter.
postgres_folder() {
	mkdir -p "$1"
	chmod 755 "$1"
	[ "$(id -u)" != 0 ] || chown postgres: "$1"
}

# work_folder DIR: makes the folder in which everything happens that runs as
# postgres, with a home and a copy of the tests, as the checkout may lie where
# postgres cannot enter.
work_folder() {
	local dir
	work=$1
	postgres_folder "$work"
	postgres_folder "$work/home"
	if [ "$(id -u)" = 0 ]; then
		pg_user=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$work/home")
	fi
	rm -rf "$work/src"
	postgres_folder "$work/src"
	for dir in sql expected test doc; do
		[ ! -d "$top/$dir" ] || cp -R "$top/$dir" "$work/src/"
	done
	[ "$(id -u)" != 0 ] || chown -R postgres: "$work/src"
	cd "$work" || exit 1
}

# start_cluster DIR [SETTING...]: a private cluster in DIR that listens on a
# socket in DIR and, if $pg_port is set, on that port of 127.0.0.1.
start_cluster() {
	local dir=$1 setting
	shift
	postgres_folder "$dir"
	if [ ! -f "$dir/data/PG_VERSION" ]; then
		as_postgres "$pg_bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 \
			--locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 ||
			{ cat "$dir/initdb.log" >&2; return 1; }
		{
			echo "shared_preload_libraries = 'persistomata'"
			echo "max_worker_processes = 16"
			echo "unix_socket_directories = '$dir'"
			echo "listen_addresses = '${pg_port:+127.0.0.1}'"
			echo "port = ${pg_port:-5432}"
			for setting; do echo "$setting"; done
		} >>"$dir/data/postgresql.conf"
	fi
	as_postgres "$pg_bin/pg_ctl" -s -w -t 60 -D "$dir/data" -l "$dir/log" start >/dev/null 2>&1 ||
		{ echo "PostgreSQL did not start:" >&2; tail -n 20 "$dir/log" >&2; return 1; }
}

cluster_runs() {
	[ -f "$1/data/postmaster.pid" ] &&
		as_postgres "$pg_bin/pg_ctl" -D "$1/data" status >/dev/null 2>&1
}

stop_cluster() {
	! cluster_runs "$1" || as_postgres "$pg_bin/pg_ctl" -s -D "$1/data" -m "${2:-fast}" stop
}

# ---- servers ----------------------------------------------------------------

# A port of 127.0.0.1 that is free, and the three above it too.
free_port() {
	perl -I"$top/test/lib" -MPstTest::Server=free_port -e 'print free_port(), "\n"'
}

# server_start NAME PORT [OPTION...]: test/servers/NAME.sh, in $work/servers/NAME;
# does nothing if it runs already.
server_start() {
	local name=$1 dir=$work/servers/$1 pid
	shift
	postgres_folder "$work/servers"
	pid=$(cat "$dir/pid" 2>/dev/null)
	[ -n "$pid" ] && grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" && return
	as_postgres "$work/src/test/servers/$name.sh" start "$dir" "$@"
}

# servers_stop: ends every server under $work/servers.  Folders are called NAME
# or NAME-…
servers_stop() {
	local dir name
	for dir in "$work"/servers/*/; do
		[ -f "$dir/pid" ] || continue
		name=$(basename "$dir")
		as_postgres "$work/src/test/servers/${name%%-*}.sh" stop "${dir%/}"
	done
}
