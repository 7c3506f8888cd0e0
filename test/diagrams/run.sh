#!/usr/bin/env bash
# Draws machines and holds the drawings against the real Mermaid (npm), PlantUML
# and Graphviz (Debian): each must accept them and find in them the states, the
# transitions and the labels that the machine has; and read in again, what was
# drawn must be the same machine.  The definitions in README.md and doc/ must be
# accepted as they stand.  Installs what is missing.
#
#   test/diagrams/run.sh [DEFINITIONS.sql...]
#
# More definitions are INSERTs into a table definition (name, definition,
# syntax).  What failed is left in tmp_check/diagrams.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

more=()
for file; do more+=("$(readlink -e "$file")") || die "no file $file"; done

if [ -z "${PST_NO_INSTALL:-}" ]; then
	install_packages $(build_packages) perl nodejs npm plantuml graphviz
fi
find_postgres
cache=${PST_CACHE:-$HOME/.cache/persistomata}/mermaid
if [ ! -d "$cache/node_modules/mermaid" ] || [ ! -d "$cache/node_modules/jsdom" ]; then
	say "installing mermaid and jsdom, as new as Debian 12's Node takes them"
	mkdir -p "$cache"
	npm install --no-audit --no-fund --silent --prefix "$cache" mermaid@11 jsdom@24 || die "npm could not install them"
fi
build || die "the build failed"

work_folder "$(mktemp -d "${TMPDIR:-/tmp}/pst-diagrams.XXXXXX")"
trap 'stop_cluster "$work/pg"; cd / && rm -rf "$work"' EXIT
start_cluster "$work/pg" "fsync = off" || exit 1
psql=("$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$work/pg" -U postgres)
"${psql[@]}" -d postgres -c "CREATE DATABASE diagrams"
psql+=(-d diagrams)
"${psql[@]}" -c "CREATE EXTENSION persistomata" || exit 1
for file in "$top/test/diagrams/definitions.sql" "${more[@]}"; do
	"${psql[@]}" -f "$file" || exit 1
done
"${psql[@]}" -f "$top/test/diagrams/draw.sql" >"$work/drawn" || exit 1

out=$top/tmp_check/diagrams
rm -rf "$out"
mkdir -p "$out"
cd "$cache" && node "$top/test/diagrams/check.mjs" "$work/drawn" "$out" "$top"/README.md "$top"/doc/*.md
