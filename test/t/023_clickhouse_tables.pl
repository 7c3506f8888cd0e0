# The ClickHouse sink and tables of the user's own: columns of many types, what
# does not fit, tables made as the route says, compression.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest::ClickHouse;
use HTTP::Tiny;
use IO::Socket::INET;
use POSIX ();
use PstTest::Server;
use PstTest::Tls;
use SinkProbe;
use Test::More;

my $uuid = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';
my $node = SinkProbe::cluster();
my ($kind, $server, $client);

sub probe
{
	return SinkProbe::probe($node, 'clickhouse', @_);
}

# A table of one's own, in these columns; the events sent into it, and what it holds.
sub send_to
{
	my ($columns, $events, %options) = @_;

	$client->query('DROP TABLE IF EXISTS own');
	$client->query("CREATE TABLE own ($columns) ENGINE = MergeTree ORDER BY position") if $columns;
	return probe($server, { table => 'own', latest => '', %options }, $events);
}

# Values whose sign, scale and bounds differ; both servers write them in their types.
sub own_types
{
	my @rows = send_to(
		"position Int64, name FixedString(40), event_id UInt16, type Enum8('init' = -1, 'state' = 2, 'it''s' = 3), "
		  . "version UInt8, key UUID, event Nullable(String), from_state Nullable(Enum16('a' = 300, 'b' = -300)), "
		  . "to_state Enum8('' = 0, 'closed' = 1, 'opened' = 2), payload Nullable(String), occurred_at DateTime('UTC'), "
		  . "xid Nullable(Int64), timeline String, comment String DEFAULT 'by hand'",
		SinkProbe::some(1, 3, key => $uuid, event_id => 65535, version => 255, from_state => 'b', to_state => 'opened'));
	is(SinkProbe::count('delivered', @rows), 3, "$kind: columns of other types are filled")
	  or diag explain $rows[0];
	is($client->value("SELECT position, replaceAll(toString(name), '\\0', ''), event_id, type, version, toString(key), event, from_state, to_state, occurred_at, timeline, comment FROM own WHERE position = 2"),
		join("\t", 2, '0123456789ab-1-65535', 65535, 'state', 255, $uuid, '\N', 'b', 'opened', '2023-11-14 22:13:20', 1, 'by hand'),
		"$kind: with what the events hold");
	@rows = send_to('position UInt64, name String, from_state Nullable(String), to_state String, occurred_at Date',
		SinkProbe::some(1, 2, from_state => undef, to_state => undef));
	is($client->value('SELECT from_state IS NULL, to_state, occurred_at FROM own WHERE position = 1'), "1\t\t2023-11-14",
		"$kind: what is absent is NULL where the column takes it");
	return;
}

# One value among many that cannot stand in its column.
sub misfits
{
	my @events = map { { position => $_, key => $_ % 50 ? "$_" : "no-$_" } } 1 .. 2000;
	my @rows = send_to('position UInt64, name String, key UInt32', SinkProbe::quoted(JSON::PP->new->encode(\@events)) . '::jsonb');
	is(SinkProbe::count('rejected', @rows), 40, "$kind: values that do not fit are refused one by one");
	is(SinkProbe::count('delivered', @rows), 1960, "$kind: the others are delivered");
	is($rows[50]{verdict}, 'rejected', "$kind: the right ones");
	like($rows[50]{fault}, qr/the event's key cannot stand in a column of type UInt32/, "$kind: and it is said why");
	is($client->value('SELECT count(), uniqExact(key) FROM own'), "1960\t1960", "$kind: as the table holds");

	@rows = send_to("position UInt64, name String, to_state Enum8('x' = 1)", 'sink_probe.some(1, 500)');
	is(SinkProbe::count('misconfigured', @rows), 500, "$kind: where none fits it is the table");
	like($rows[0]{fault}, qr/to_state cannot stand in a column of type Enum8/, "$kind: with the column");
	for my $type ('Array(String)', 'DateTime')
	{
		@rows = send_to("position UInt64, name String, machine $type", 'sink_probe.some(1, 2)');
		is($rows[0]{verdict}, 'misconfigured', "$kind: $type for a text does not fit");
		like($rows[0]{fault}, qr/column "machine" of type \Q$type\E does not fit/, "$kind: and it is said which column");
		ok(!$rows[0]{doubt}, "$kind: without a doubt");
	}
	@rows = send_to('position UInt64, key String', 'sink_probe.some(1, 2)');
	like($rows[0]{fault}, qr/lacks the column name/, "$kind: a table without names is no destination");
	@rows = send_to('', 'sink_probe.some(1, 2)', create_tables => 'off');
	like($rows[0]{fault}, qr/no table "own", and create_tables is off/, "$kind: nor is one that is not there");
	return;
}

# Columns that are computed are left alone.
sub computed
{
	my @rows = send_to("position UInt64, name String, key String MATERIALIZED concat('k', name), machine String ALIAS name",
		'sink_probe.some(1, 2)');
	is(SinkProbe::count('delivered', @rows), 2, "$kind: computed columns are left to the server")
	  or diag explain $rows[0];
	is($client->value('SELECT key FROM own WHERE position = 1'), 'k0123456789ab-1-1', "$kind: which computes them");
	return;
}

sub made_as_told
{
	$client->query("DROP TABLE IF EXISTS $_") for 'told', 'told_latest_feed', 'told_latest';
	my @rows = probe($server,
		{ table => 'told', order_by => '(machine, position)', partition_by => 'toYYYYMM(occurred_at)', engine => 'ReplacingMergeTree',
			$kind eq 'chdb' ? (ttl => 'toDateTime(occurred_at) + INTERVAL 50 YEAR') : () },
		'sink_probe.some(1, 10)');
	is(SinkProbe::count('delivered', @rows), 10, "$kind: a table is made as the route says") or diag explain $rows[0];
	like($client->value("SHOW CREATE TABLE told"),
		$kind eq 'chdb' ? qr/ENGINE = ReplacingMergeTree.*PARTITION BY toYYYYMM\(occurred_at\).*ORDER BY \(machine, position\).*TTL/s
		: qr/ENGINE = ReplacingMergeTree.*PARTITION BY toYYYYMM\(occurred_at\).*ORDER BY \(machine, position\)/s,
		"$kind: with its engine, partitions and order");
	is($client->value('SELECT count() FROM told_latest FINAL'), 10, "$kind: the latest states are there, too");
	@rows = probe($server, { table => 'clustered', cluster => 'our cluster' }, 'sink_probe.some(1, 2)');
	is($rows[0]{verdict}, 'misconfigured', "$kind: a cluster that is not there is misconfigured");
	like($rows[0]{peer_said}, qr/'our cluster' not found/, "$kind: with the server's words");
	@rows = probe($server, { table => 'bad', engine => 'MergeTee' }, 'sink_probe.some(1, 2)');
	is($rows[0]{verdict}, 'misconfigured', "$kind: an engine that there is not is misconfigured");
	like($rows[0]{peer_said}, qr/MergeTee/, "$kind: with the server's words");
	return;
}

sub compressed
{
	my ($how) = @_;

	$client->query('DROP TABLE IF EXISTS packed');
	my @rows = probe({ %$server, compression => $how }, { table => 'packed', latest => '' },
		SinkProbe::some(1, 3000, payload => '"' . 'x' x 500 . '"'));
	is(SinkProbe::count('delivered', @rows), 3000, "$kind: blocks packed by $how are delivered") or diag explain $rows[0];
	is($client->value('SELECT count(), uniqExact(name), min(length(payload)) FROM packed'), "3000\t3000\t502", "$kind: whole");
	like(HTTP::Tiny->new->get("$server->{url}/encodings")->{content}, qr/^$how$/m, 'as such') if $kind eq 'chdb';
	return;
}

# An old server does not know it, and would take the bytes for events.
sub too_new
{
	$client->query('DROP TABLE IF EXISTS packed');
	my @rows = probe({ %$server, compression => 'zstd' }, { table => 'packed', latest => '' }, SinkProbe::some(1, 3));
	is($rows[0]{verdict}, 'misconfigured', "$kind: zstd is not for it");
	is($rows[0]{fault}, "the server is ClickHouse 18.16, and compression 'zstd' wants 22.2 or newer", 'as is said');
	return;
}

# A block of more partitions than the server takes at once (100) is no poison: it is sent in parts.
sub partitioned
{
	$client->query('DROP TABLE IF EXISTS scattered');
	my @rows = probe($server, { table => 'scattered', latest => '', partition_by => 'position' }, 'sink_probe.some(1, 350)');
	is(SinkProbe::count('delivered', @rows), 350, "$kind: a block of too many partitions is delivered in parts") or diag explain $rows[0];
	is($client->value('SELECT count(), uniqExact(name) FROM scattered'), "350\t350", "$kind: whole");
	return;
}

# What is sent to a server that only listens: the statements for a cluster.
sub for_a_cluster
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 8) or die $!;
	my $port = $listener->sockport;
	my $heard = PostgreSQL::Test::Utils::tempdir() . '/heard';
	my $pid = fork() // die $!;

	if ($pid == 0)
	{
		$SIG{ALRM} = sub { POSIX::_exit(0) };
		alarm 60;
		while (my $peer = $listener->accept)
		{
			while (defined(my $line = <$peer>))
			{
				my $length = 0;
				while (($line = <$peer>) =~ /\S/) { $length = $1 if $line =~ /^Content-Length: (\d+)/i }
				read($peer, my $body, $length);
				append_to_file($heard, "$body\n");
				my $answer = $body =~ /version/ ? "26.7.2.1\n" : '';
				print $peer "HTTP/1.1 200 OK\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
				$peer->flush;
			}
		}
		POSIX::_exit(0);
	}
	my @rows = probe({ url => "http://127.0.0.1:$port" }, { table => 't`', cluster => "c'1", partition_by => 'p', ttl => 'x' }, 'sink_probe.some(1, 1)');
	kill 'KILL', $pid;
	waitpid $pid, 0;
	is($rows[0]{verdict}, 'misconfigured', 'what is made and not to be seen is misconfigured');
	my ($create) = grep { /^CREATE TABLE/ } split /\n/, slurp_file($heard);
	like($create, qr/^CREATE TABLE IF NOT EXISTS `t\\`` ON CLUSTER `c'1` \(`position` UInt64,.*\) ENGINE = ReplicatedMergeTree PARTITION BY p ORDER BY \(fsm, key, position\) TTL x$/,
		'on a cluster the tables are replicated');
	return;
}

# HTTPS, and who we are.
sub secure
{
	my ($running, $tls) = @_;
	my $https = 'https://127.0.0.1:' . ($running->port + 1);
	my @rows = probe({ url => $https, ca_file => "$tls/ca.pem" }, { table => 'secure', latest => '' }, 'sink_probe.some(1, 2000)');

	is(SinkProbe::count('delivered', @rows), 2000, 'over HTTPS, with the authority that is told') or diag explain $rows[0];
	@rows = probe({ url => $https }, {}, 'sink_probe.some(1, 1)');
	is($rows[0]{verdict}, 'misconfigured', 'a certificate that nobody vouches for is refused');
	like($rows[0]{fault}, qr/certificate/, 'with the reason');
	(my $name = $https) =~ s/127.0.0.1/elsewhere/;
	@rows = probe({ url => $name, address => '127.0.0.1', ca_file => "$tls/ca.pem" }, {}, 'sink_probe.some(1, 1)');
	is($rows[0]{verdict}, 'misconfigured', 'so is one of another host');
	@rows = probe({ url => $https, tls_verify => 'off' }, { table => 'secure', latest => '' }, 'sink_probe.some(2001, 1)');
	is($rows[1]{verdict}, 'delivered', 'unless it is not to be verified');

	for my $let_in ({ user => 'relay', password => 'relay-secret' }, { token => 't0ken' })
	{
		@rows = probe({ %$server, %$let_in }, { table => 'secure', latest => '' }, 'sink_probe.some(3000, 1)');
		is($rows[1]{verdict}, 'delivered', join(' and ', sort keys %$let_in) . ' let us in') or diag explain $rows[0];
	}
	for my $kept_out ({ user => 'relay', password => 'wr0ng' }, { token => 'wr0ng' })
	{
		@rows = probe({ %$server, %$kept_out }, {}, 'sink_probe.some(1, 1)');
		is($rows[0]{verdict}, 'misconfigured', 'the wrong ' . join(' and ', sort keys %$kept_out) . ' do not');
		unlike("$rows[0]{fault} $rows[0]{peer_said}", qr/wr0ng/, 'and are not shown');
	}
	return;
}

my $tls = PstTest::Tls::make(PostgreSQL::Test::Utils::tempdir_short() . '/tls');
$ENV{PST_CLICKHOUSE_TLS} = $tls;
$ENV{PST_CLICKHOUSE_TOKEN} = 't0ken';
for_a_cluster();
for my $each ('clickhouse', 'chdb')
{
	$kind = $each;
	my $running = PstTest::Server->start($kind);
	$server = { url => 'http://127.0.0.1:' . $running->port };
	$client = PstTest::ClickHouse->connect($running->port);
	own_types();
	misfits();
	computed();
	made_as_told();
	partitioned();
	compressed('gzip');
	$kind eq 'chdb' ? compressed('zstd') : too_new();
	if ($kind eq 'chdb')
	{
		my @rows = send_to("position UInt64, name LowCardinality(String), from_state LowCardinality(Nullable(String)), occurred_at DateTime64(3, 'Europe/Berlin'), payload JSON, args JSON, xid Float64, timeline Decimal(10, 2), machine LowCardinality(String)",
			SinkProbe::some(1, 3, payload => '{"a": {"b": 5}}', from_state => undef, args => undef));
		is(SinkProbe::count('delivered', @rows), 3, "$kind: newer types are filled") or diag explain $rows[0];
		is($client->value('SELECT from_state IS NULL, toUnixTimestamp64Milli(occurred_at), payload.a.b, args, machine FROM own WHERE position = 1'),
			"1\t1700000000123\t5\t{}\tturnstile", "$kind: with what the events hold");
		@rows = send_to('position UInt64, name String, occurred_at DateTime64(9), event_id Date32', 'sink_probe.some(1, 1)');
		like($rows[0]{fault}, qr/"event_id" of type Date32 does not fit/, "$kind: a number is no date");
		secure($running, $tls);
	}
	$running->stop;
}
$node->stop;
done_testing();
