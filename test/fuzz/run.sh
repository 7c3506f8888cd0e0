#!/bin/sh
# Fuzzes the parser of definitions for a while: test/fuzz/run.sh [seconds]
# Needs clang with libFuzzer.  The seeds are the definitions of the regression
# test; what is found is left in the working directory.
set -e
cd "$(dirname "$0")"
PG_CONFIG=${PG_CONFIG:-pg_config}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clang -g -O1 -Wno-ignored-attributes -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fwrapv \
	-isystem "$($PG_CONFIG --includedir-server)" -I../../src -I. \
	fuzz_machine.c server_stubs.c \
	../../src/machine/scanner.c ../../src/machine/label.c ../../src/machine/entity.c \
	../../src/machine/flowchart.c ../../src/machine/statediagram.c ../../src/machine/model.c \
	../../src/machine/complete.c ../../src/machine/check.c \
	"$($PG_CONFIG --pkglibdir)/libpgcommon.a" "$($PG_CONFIG --pkglibdir)/libpgport.a" -lm \
	-o "$work/fuzz_machine"
mkdir "$work/seeds"
# what stands in quotes there, with a 0 for the syntax auto before it
awk -v dir="$work/seeds" 'BEGIN { RS = "[$]q?[$]|\047"; n = 0 }
	{ printf "%s", "0" $0 > (dir "/" n); close(dir "/" n); n++ }' ../../sql/machine.sql
"$work/fuzz_machine" -artifact_prefix=./ -max_len=2000 -max_total_time="${1:-60}" -timeout=5 -detect_leaks=0 \
	-print_final_stats=1 -verbosity=0 -dict=machine.dict "$work/seeds"
