#!/usr/bin/env bash
# Random operations from many sessions, and a model that must come to the same rows
# (nemesis.pl says how), in a cluster of its own.  Builds and installs first.
#
#   test/chaos/nemesis.sh [--seed N] [--seconds N] [--sessions N] [--keys N]
#
# Without --seed it takes one of its own and prints it; without --seconds, 60.
# A run that fails leaves the cluster's log in tmp_check/nemesis.log.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

work=''
cleanup() {
	trap '' INT TERM
	[ -n "$work" ] || return
	stop_cluster "$work/pg" immediate
	cd /
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -n "${PST_NO_INSTALL:-}" ] || install_packages $(build_packages) perl
find_postgres
build || die "the build failed"
work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-nemesis.XXXXXX")"
start_cluster "$work/pg" "fsync = off" "max_connections = 100" "max_prepared_transactions = 64" ||
	die "no cluster to test in"
export PGHOST=$work/pg PGPORT=5432 PGUSER=postgres
as_postgres "$pg_bin/createdb" nemesis || exit 1
as_postgres perl "$work/src/test/chaos/nemesis.pl" "$@"
rc=$?
if grep -E 'TRAP:|PANIC:|terminated by signal' "$work/pg/log"; then rc=1; fi
if [ "$rc" != 0 ]; then
	mkdir -p "$top/tmp_check"
	cp "$work/pg/log" "$top/tmp_check/nemesis.log"
fi
exit "$rc"
