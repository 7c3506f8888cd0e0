#!/bin/sh
# Fuzzes the parser and the printer of definitions, with clang's libFuzzer,
# address and undefined behaviour sanitizers:
#
#   test/fuzz/run.sh [RUNS]      default 1000000
#
# Installs clang where it is missing (as root).  The seeds are the definitions in
# corpus/, whose first byte is the syntax: 0 auto, 1 flowchart, 2 state diagram,
# 3 PlantUML.  What is found is left in this folder.
set -eu
cd "$(dirname "$0")"
PG_CONFIG=${PG_CONFIG:-pg_config}
if ! command -v clang >/dev/null || [ -z "$(ls "$(clang -print-resource-dir)"/lib/linux/libclang_rt.fuzzer-* 2>/dev/null)" ]; then
	apt-get -qq -o DPkg::Lock::Timeout=300 update
	version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
	apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends clang "libclang-rt-$version-dev"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
room=../../src/machine
clang -g -O1 -Wno-ignored-attributes -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fwrapv \
	-isystem "$($PG_CONFIG --includedir-server)" -I../../src -I. fuzz_machine.c server_stubs.c \
	$room/scanner.c $room/label.c $room/entity.c $room/alias.c $room/arrow.c $room/names.c $room/flowchart.c \
	$room/statediagram.c $room/statelooks.c $room/model.c $room/complete.c $room/check.c $room/report.c \
	$room/printer.c $room/escape.c \
	"$($PG_CONFIG --pkglibdir)/libpgcommon.a" "$($PG_CONFIG --pkglibdir)/libpgport.a" -lm \
	-o "$work/fuzz_machine"
mkdir "$work/found"
"$work/fuzz_machine" -artifact_prefix=./ -max_len=2000 -runs="${1:-1000000}" -timeout=5 -detect_leaks=0 \
	-print_final_stats=1 -verbosity=0 -dict=machine.dict "$work/found" corpus
