#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#
#   test/run.sh                           everything
#   test/run.sh includes|regress|isolation|tap [NAME...]    a part of it
#
# The last line is "N passed, N failed"; the exit status is 0 only if something
# ran and nothing failed.  Results and logs of what failed are left in results/,
# output_iso/ and tmp_check/ of the checkout.
#
#   PG_CONFIG          the PostgreSQL to test with (default: Debian's own)
#   PST_TAP_TIMEOUT    seconds that one TAP file may take (default 300)
#   PST_NO_INSTALL=1   do not look for missing packages
#   PST_CACHE          where the current ClickHouse engine is kept between runs
#                      (default /var/cache/persistomata)
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0 failed=0 child='' work=''

usage() { echo "usage: test/run.sh [includes|regress|isolation|tap [NAME...]]" >&2; exit 2; }

stages=(includes regress isolation tap)
names=()
if [ $# -gt 0 ]; then
	case $1 in
		includes | regress | isolation | tap) stages=("$1"); shift; names=("$@") ;;
		*) usage ;;
	esac
fi

wanted() {
	local stage
	for stage in "${stages[@]}"; do [ "$stage" = "$1" ] && return; done
	return 1
}

pass() { passed=$((passed + 1)); printf '%sok%s    %s\n' "$green" "$plain" "$*"; }
fail() { failed=$((failed + 1)); printf '%sFAIL%s  %s\n' "$red" "$plain" "$*"; }

summary() {
	printf '%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# Ends what this run started and nothing else: the child's own process group,
# servers and clusters by the pids that they left in our folder.
cleanup() {
	local data
	trap '' INT TERM
	if [ -n "$child" ]; then
		kill -TERM -- "-$child" 2>/dev/null
		for _ in {1..100}; do
			kill -0 -- "-$child" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$child" 2>/dev/null
	fi
	[ -n "$work" ] || return
	servers_stop
	for data in "$work"/pg/data "$work"/tap/*/tmp_check/*/pgdata; do
		[ ! -f "$data/postmaster.pid" ] ||
			as_postgres "$pg_bin/pg_ctl" -s -D "$data" -m immediate stop
	done
	cd /
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# each_line FUNCTION COMMAND...: calls FUNCTION with each line of the command's
# output; returns the command's status.  The command has a process group of its
# own, so that it ends as a whole when this script is interrupted.
each_line() {
	local function=$1 line fd rc
	shift
	exec {fd}< <(exec setsid "$@" </dev/null 2>&1)
	child=$!
	while IFS= read -r line <&"$fd"; do "$function" "$line"; done
	exec {fd}<&-
	wait "$child"
	rc=$?
	child=''
	return "$rc"
}

# choose FOLDER EXTENSION: the tests of a folder, or those of them that were named.
choose() {
	local file name
	for file in "$1"/*."$2"; do
		[ -f "$file" ] || continue
		file=$(basename "$file" ".$2")
		[ ${#names[@]} -gt 0 ] || echo "$file"
		for name in "${names[@]}"; do
			[ "$(basename "$name" ".$2")" != "$file" ] || echo "$file"
		done
	done
}

# keep FROM TO: leaves results in the checkout, if it can be written.
keep() {
	cp -R "$1" "$top/$2" 2>/dev/null
}

# ---- stages -----------------------------------------------------------------

run_includes() {
	local out
	if out=$("$top/test/check_includes.sh" 2>&1); then
		pass "includes point one way"
	else
		printf '%s\n' "$out"
		fail "includes point one way"
	fi
}

# A line of pg_regress, up to PostgreSQL 15 or later:
#   test fire                         ... ok           12 ms
#   ok 1         - fire                       12 ms
regress_line() {
	local line=$1 good
	case $line in
		'test '*' ... '* | '     '*' ... '*)
			good=$([[ $line == *'... ok '* ]] && echo yes)
			line=${line%% ... *}
			line=${line#test} ;;
		'ok '* | 'not ok '*)
			good=$([[ $line == 'ok '* ]] && echo yes)
			line=${line#*[-+] }
			line=${line%% *} ;;
		*)
			printf '%s\n' "$line" >>"$work/$stage.out"
			return ;;
	esac
	line=$(tr -d ' ' <<<"$line")
	if [ -n "$good" ]; then pass "$stage: $line"; else fail "$stage: $line"; fi
}

# run_regress STAGE PROGRAM INPUT KEPT TEST...
run_regress() {
	local stage=$1 program=$2 input=$3 kept=$4 before=$failed rc
	shift 4
	[ $# -gt 0 ] || return
	rm -rf "${top:?}/$kept"
	postgres_folder "$work/$stage"
	each_line regress_line "${pg_user[@]}" "$program" --bindir="$pg_bin" \
		--host="$work/pg" --port=5432 --user=postgres --dbname="pst_$stage" \
		--inputdir="$input" --outputdir="$work/$stage" \
		--load-extension=persistomata "$@"
	rc=$?
	[ "$rc" = 0 ] && [ "$failed" = "$before" ] && return
	# A crash, or no cluster to talk to, is a failure even if no test says so.
	if [ "$failed" = "$before" ]; then
		cat "$work/$stage.out"
		fail "$stage: $(basename "$program") ended with status $rc"
	fi
	[ ! -s "$work/$stage/regression.diffs" ] || head -n 400 "$work/$stage/regression.diffs"
	grep -E 'TRAP:|PANIC:|terminated by signal' "$work/pg/log" | head -n 20
	keep "$work/$stage" "$kept"
}

run_sql() {
	local -a regress=() isolation=()
	! wanted regress || mapfile -t regress < <(choose "$work/src/sql" sql)
	! wanted isolation || mapfile -t isolation < <(choose "$work/src/test/specs" spec)
	[ $((${#regress[@]} + ${#isolation[@]})) -gt 0 ] || return 0

	if ! start_cluster "$work/pg" "fsync = off" "full_page_writes = off" \
		"max_prepared_transactions = 16" "shared_buffers = '64MB'" \
		"log_line_prefix = '%m [%p] %q%a '"; then
		fail "a cluster to test in"
		return
	fi
	run_regress regress "$pgxs/src/test/regress/pg_regress" "$work/src" results "${regress[@]}"
	run_regress isolation "$pgxs/src/test/isolation/pg_isolation_regress" \
		"$work/src/test" output_iso "${isolation[@]}"
	stop_cluster "$work/pg"
}

# A line of TAP; a test that is still to do, or skipped, is no failure.
tap_line() {
	printf '%s\n' "$1" >>"$tap_dir/out"
	case $1 in
		'ok '*' # skip'* | 'ok '*' # SKIP'*) tap_skip=$((tap_skip + 1)) ;;
		'ok '*) tap_ok=$((tap_ok + 1)) ;;
		'not ok '*'# TODO'*) ;;
		'not ok '*) tap_bad=$((tap_bad + 1)) ;;
	esac
}

run_tap_file() {
	local name=$1 tap_dir=$work/tap/$1 tap_ok=0 tap_bad=0 tap_skip=0 start=$SECONDS rc what file
	rm -rf "$top/tmp_check/$name" "$top/tmp_check/$name.out"
	postgres_folder "$tap_dir"
	each_line tap_line timeout -k 20 "${PST_TAP_TIMEOUT:-300}" \
		"${pg_user[@]}" env -C "$work/src" \
		TESTDIR="$tap_dir" TESTDATADIR="$tap_dir/tmp_check" TESTLOGDIR="$tap_dir/tmp_check/log" \
		PG_REGRESS="$pgxs/src/test/regress/pg_regress" PST_TEST_DIR="$work/src/test" \
		PST_SERVERS_DIR="$work/servers" PERL5LIB="$pgxs/src/test/perl:$work/src/test/lib" \
		LANG=C.UTF-8 prove --norc -v "test/t/$name.pl"
	rc=$?
	passed=$((passed + tap_ok))
	what="tap: $name ($((tap_ok + tap_bad)) tests, $((SECONDS - start)) s$(
		[ "$tap_skip" = 0 ] || echo ", $tap_skip skipped"))"
	if [ "$rc" = 0 ] && [ "$tap_bad" = 0 ]; then
		printf '%sok%s    %s\n' "$green" "$plain" "$what"
		rm -rf "$tap_dir"
		return
	fi
	grep -v '^ok ' "$tap_dir/out" | tail -n 60
	for file in "$tap_dir"/tmp_check/log/*.log; do
		[ -f "$file" ] || continue
		printf '%s--- the end of %s%s\n' "$dim" "$(basename "$file")" "$plain"
		grep -v 'LOG:  statement:' "$file" | tail -n 25
	done
	case $rc in
		124 | 137) what="$what: took more than ${PST_TAP_TIMEOUT:-300} s" ;;
		*) [ "$tap_bad" != 0 ] || what="$what: ended with status $rc" ;;
	esac
	[ "$tap_bad" != 0 ] || tap_bad=1
	failed=$((failed + tap_bad))
	printf '%sFAIL%s  %s, %d failed\n' "$red" "$plain" "$what" "$tap_bad"
	mkdir -p "$top/tmp_check"
	keep "$tap_dir/tmp_check/log" "tmp_check/$name"
	cp "$tap_dir/out" "$top/tmp_check/$name.out" 2>/dev/null
}

run_tap() {
	local name
	local -a tap
	mapfile -t tap < <(choose "$work/src/test/t" pl)
	[ ${#tap[@]} -gt 0 ] || return
	postgres_folder "$work/tap"
	postgres_folder "$work/servers"
	if [ "$(id -u)" = 0 ]; then
		export PST_CACHE=${PST_CACHE:-/var/cache/persistomata}
		postgres_folder "$PST_CACHE"
	fi
	for name in "${tap[@]}"; do
		run_tap_file "$name"
		servers_stop
	done
}

# ---- the run ----------------------------------------------------------------

if [ -z "${PST_NO_INSTALL:-}" ]; then
	packages=($(build_packages))
	! wanted tap || packages+=($(server_packages) $(test_packages))
	install_packages "${packages[@]}"
fi
find_postgres

! wanted includes || run_includes
if wanted regress || wanted isolation || wanted tap; then
	say "building for $("$PG_CONFIG" --version)"
	if build; then
		work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-run.XXXXXX")"
		run_sql
		! wanted tap || run_tap
	else
		fail "the build, without warnings"
	fi
fi
summary
