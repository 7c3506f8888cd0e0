# PgQ, to measure against; sourced after test/lib.sh.  It comes as a package; where
# nothing may be installed, its files are put beside ours.

# pgq_unpack DIR PACKAGE
pgq_unpack() {
	(cd "$1" && { apt-get -qq download "$2" || { apt-get -qq update && apt-get -qq download "$2"; }; } &&
		dpkg -x ./"$2"_*.deb .) >/dev/null 2>&1
}

have_pgq() {
	local share lib deb
	share=$("$PG_CONFIG" --sharedir) lib=$("$PG_CONFIG" --pkglibdir)
	[ ! -f "$share/extension/pgq.control" ] || return 0
	if [ -z "${PST_NO_INSTALL:-}" ] && [ "$PG_CONFIG" = "/usr/lib/postgresql/$(pg_major)/bin/pg_config" ]; then
		install_packages "postgresql-$(pg_major)-pgq3"
		return
	fi
	deb=$(mktemp -d "${TMPDIR:-/tmp}/pst-pgq.XXXXXX")
	pgq_unpack "$deb" "postgresql-$(pg_major)-pgq3" &&
		cp -R "$deb"/usr/share/postgresql/*/extension/. "$share/extension/" &&
		cp -R "$deb"/usr/lib/postgresql/*/lib/. "$lib/"
	rm -rf "$deb"
	[ -f "$share/extension/pgq.control" ]
}

# Where its ticker is; what is unpacked goes into $work.
have_pgqd() {
	[ -n "${PST_NO_INSTALL:-}" ] || install_packages pgqd
	pgqd=$(command -v pgqd) || {
		mkdir -p "$work/pgqd"
		pgq_unpack "$work/pgqd" pgqd
		pgqd=$work/pgqd/usr/bin/pgqd
	}
	[ -x "$pgqd" ]
}
