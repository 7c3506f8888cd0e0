#!/usr/bin/env bash
# Builds and tests on the PostgreSQL of other Debian releases, each in a tree of
# its own made by debootstrap.  As root; about a minute and 2 GB a tree, once.
#
#   test/matrix.sh [SUITE...]      default: trixie (PostgreSQL 17) forky (18)
#
#   PST_MATRIX_DIR      where the trees are kept (default /var/cache/persistomata/matrix)
#   PST_MATRIX_STAGES   what of test/run.sh is run (default "regress isolation")
#   PST_MIRROR          Debian's mirror (default http://deb.debian.org/debian)
#
# The last line is "N suites passed, N failed".
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

trees=${PST_MATRIX_DIR:-/var/cache/persistomata/matrix}
stages=${PST_MATRIX_STAGES:-regress isolation}
mirror=${PST_MIRROR:-http://deb.debian.org/debian}
mounted=()
passed=0 failed=0

unmount() {
	local place
	for place in "${mounted[@]}"; do umount -l "$place"; done
	mounted=()
}
trap unmount EXIT
trap 'exit 130' INT TERM

mount_in() {
	local tree=$1
	mount -t proc proc "$tree/proc" && mounted+=("$tree/proc")
	mount --rbind /dev "$tree/dev" && mount --make-rslave "$tree/dev" && mounted+=("$tree/dev")
}

# A tree that debootstrap does not know by name is made as sid is.
make_tree() {
	local suite=$1 tree=$2 script=
	[ ! -e "$tree/made" ] || return 0
	[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
	rm -rf --one-file-system "$tree"
	mkdir -p "$tree"
	say "making a tree of $suite"
	debootstrap --variant=minbase "$suite" "$tree" "$mirror" ${script:+"$script"} >"$tree.log" 2>&1 &&
		touch "$tree/made" || { tail -n 20 "$tree.log"; return 1; }
}

# Each suite is tested with what git has here, and what has been changed since.
test_suite() {
	local suite=$1 tree=$trees/$1 stage rc=0
	make_tree "$suite" "$tree" || return 1
	mount_in "$tree" || return 1
	rm -rf "$tree/root/persistomata"
	mkdir -p "$tree/root/persistomata"
	git -C "$top" ls-files -z --cached --others --exclude-standard |
		(cd "$top" && xargs -0 tar -cf - --) | tar -xf - -C "$tree/root/persistomata"
	for stage in $stages; do
		chroot "$tree" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
			/root/persistomata/test/run.sh "$stage" || rc=1
	done
	unmount
	return "$rc"
}

[ "$(id -u)" = 0 ] || die "debootstrap and chroot need root"
[ $# -gt 0 ] || set -- trixie forky
install_packages debootstrap
for suite; do
	if test_suite "$suite"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
printf '%d suites passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
