#!/bin/sh
# Holds the includes to one direction: a room may include only the rooms that
# its line below names (and itself).  Prints each breach; exits 1 if any.
cd "$(dirname "$0")/../src" || exit 2

allowed() {
	case $1 in
		compat) ;;
		config) echo compat ;;
		machine) echo config compat ;;
		event) echo config compat ;;
		fsm) echo machine config compat ;;
		transition) echo fsm machine event config compat ;;
		# a route's options are checked by its sink's kind, its filter is an expression
		# as guards are
		route) echo fsm machine sink encode event net config compat ;;
		encode) echo event config compat ;;
		net) echo config compat ;;
		sink) echo encode event net config compat ;;
		stat) echo route event config compat ;;
		worker) echo transition route sink stat encode event net config compat ;;
		.) echo worker stat sink route transition fsm machine event encode net config compat ;;
		*) echo "" ;;
	esac
}

bad=0
for file in *.c */*.[ch]; do
	room=$(dirname "$file")
	for target in $(sed -n 's/^#include "\([a-z_]*\)\/[a-z_]*\.h"$/\1/p' "$file"); do
		[ -d "$target" ] || continue
		[ "$target" = "$room" ] && continue
		case " $(allowed "$room") " in
			*" $target "*) ;;
			*) echo "$file: $room must not include $target"; bad=1 ;;
		esac
	done
done
# A sink and an encoder know nothing of SPI, transactions or the log.
for file in sink/*.[ch] encode/*.[ch]; do
	[ -f "$file" ] || continue
	if grep -nE '#include "(executor/spi|access/xact|utils/snapmgr)\.h"' "$file"; then
		echo "$file: a sink or an encoder must not reach the database"; bad=1
	fi
done
exit $bad
