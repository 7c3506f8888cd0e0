# Figures of several rounds and the table that is made of them, as Markdown;
# sourced after test/lib.sh.  They are kept in $work/figures.NAME, one a line.

progress() { printf '%s\n' "$*" >&2; }

# note NAME FIGURE: no figure is an error, whoever failed to measure it.
note() {
	[ -n "$2" ] || die "no figure for $1"
	echo "$2" >>"$work/figures.$1"
}

# ratio A B: nothing measured is no figure.
ratio() {
	awk -v a="$1" -v b="$2" 'BEGIN { if (!(a > 0 && b > 0)) exit 1; print a / b }' || die "a run failed: nothing was measured"
}

# calc EXPRESSION: as awk reads it
calc() { awk "BEGIN { print $1 }"; }

# middle NAME: the median
middle() {
	[ -s "$work/figures.$1" ] || die "no figure for $1"
	sort -g "$work/figures.$1" | awk '{ v[NR] = $1 }
		END { printf "%.6g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# median NAME: median (least – greatest)
median() {
	local m
	m=$(middle "$1") || return 1
	sort -g "$work/figures.$1" | awk -v m="$m" '{ v[NR] = $1 }
		function f(x, by) { x += 0; return sprintf(by >= 100 ? "%.0f" : by >= 10 ? "%.1f" : "%.2f", x) }
		END { by = v[NR] < 0 ? -v[NR] : v[NR]; if (m > by) by = m; printf "%s (%s – %s)", f(m, by), f(v[1], by), f(v[NR], by) }'
}

# within NAME '≥|≤' LIMIT: whether the median is
within() { awk -v m="$(middle "$1")" -v limit="$3" -v op="$2" 'BEGIN { exit !(op == "≥" ? m >= limit : m <= limit) }'; }

# The table: a row is WHAT, measured, wanted; what falls short is bold.
table() { printf '\n| what | measured | wanted |\n|---|---|---|\n'; }
row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3"; }

# judge WHAT NAME '≥|≤' LIMIT [UNIT [MORE]]
judge() {
	local figure
	figure="$(median "$2")${5:+ $5}" || exit 1
	within "$2" "$3" "$4" || figure="**$figure**"
	row "$1" "$figure${6:+; $6}" "$3 $(calc "$4 == int($4) ? $4 : sprintf(\"%.2f\", $4)")${5:+ $5}"
}

# show WHAT NAME [UNIT [MORE]]: a figure that nothing is wanted of
show() {
	local figure
	figure=$(median "$2") || exit 1
	row "$1" "$figure${3:+ $3}${4:+; $4}" ''
}
