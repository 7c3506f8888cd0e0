#!/usr/bin/env bash
# The tests of the Redis sink against Valkey 8, from Debian's bookworm-backports.
#
#   test/valkey.sh [NAME...]        TAP tests (default: those of the Redis sink)
#
# The packages are unpacked, not installed, into a folder of $PST_CACHE (default
# /var/cache/persistomata); apt's own lists of packages stay as they are.
set -eu

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${PST_CACHE:-/var/cache/persistomata}/valkey

fetch() {
	local -a apt
	rm -rf "$dir"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main' \
		>"$dir/sources.list"
	apt=(apt-get -qq -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
	"${apt[@]}" update
	(cd "$dir" && "${apt[@]}" download valkey-tools)
	dpkg -x "$dir"/valkey-tools_*.deb "$dir/root"
	rm -rf "$dir/lists" "$dir/cache"
}

server=$dir/root/usr/bin/valkey-check-rdb
[ -x "$server" ] || fetch
# one program under many names: by its name it knows what it is to be
ln -sf valkey-check-rdb "$dir/root/usr/bin/valkey-server"
export PST_REDIS_SERVER=$dir/root/usr/bin/valkey-server
"$PST_REDIS_SERVER" --version
[ $# -gt 0 ] || set -- 020_redis 024_redis_more
exec "$top/test/run.sh" tap "$@"
