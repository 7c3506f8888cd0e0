#!/usr/bin/env bash
# Four routes under trouble (relay.pl says which), in a cluster and with sinks of its
# own.  Builds and installs first.
#
#   test/chaos/relay.sh [--seed N] [--seconds N] [--sessions N]
#
# Without --seed it takes one of its own and prints it; without --seconds, 300.
# A run that fails leaves its logs in tmp_check/relay.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

work=''
cleanup() {
	trap '' INT TERM
	[ -n "$work" ] || return
	servers_stop
	! [ -f "$work"/tmp_check/*/pgdata/postmaster.pid ] ||
		as_postgres "$pg_bin/pg_ctl" -s -D "$work"/tmp_check/*/pgdata -m immediate stop
	cd /
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -n "${PST_NO_INSTALL:-}" ] || install_packages $(build_packages) $(server_packages) $(test_packages)
find_postgres
build || die "the build failed"
work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-relay.XXXXXX")"
postgres_folder "$work/servers"
as_postgres env TESTDIR="$work" TESTDATADIR="$work/tmp_check" TESTLOGDIR="$work/tmp_check/log" \
	PG_REGRESS="$pgxs/src/test/regress/pg_regress" PST_TEST_DIR="$work/src/test" \
	PST_SERVERS_DIR="$work/servers" PERL5LIB="$pgxs/src/test/perl:$work/src/test/lib" \
	LANG=C.UTF-8 perl "$work/src/test/chaos/relay.pl" "$@"
rc=$?
if [ "$rc" != 0 ]; then
	rm -rf "$top/tmp_check/relay"
	mkdir -p "$top/tmp_check"
	cp -R "$work/tmp_check/log" "$top/tmp_check/relay"
fi
exit "$rc"
