# Workers and the whole server are ended in the midst of sending, again and
# again, while the ring turns: nothing is lost, doubled or out of order.

use strict;
use warnings;
use IPC::Run qw(start);
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('doubt',
	restart_after_crash => 'on',
	synchronous_commit => 'off',
	'persistomata.turn_size' => "'2MB'",
	'persistomata.retention' => 0);
my %server = map { $_ => sink_server($_) } qw(redis clickhouse);

$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|stop| red
	  red -->|off| dark
	$$);
	CREATE TABLE lamp (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{state}');
});
create_sink($node, 'postgres', 'queue', $server{redis});
create_sink($node, 'postgres', 'store', $server{clickhouse});
$node->safe_psql('postgres', q{
	SELECT persistomata.create_route('r', 'queue', start => 'earliest', options => '{"stream": "s"}');
	SELECT persistomata.create_route('c', 'store', start => 'earliest', options => '{"table": "events"}');
});

my $script = $node->basedir . '/write.sql';
append_to_file($script, q{
BEGIN;
INSERT INTO lamp DEFAULT VALUES;
SAVEPOINT s;
INSERT INTO lamp DEFAULT VALUES;
ROLLBACK TO s;
INSERT INTO lamp SELECT FROM generate_series(1, 3);
COMMIT;
});

sub write_for
{
	my ($seconds) = @_;
	return start(
		[ 'pgbench', '-n', '-f', $script, '-c', 3, '-T', $seconds, $node->connstr('postgres') ],
		'>', \my $out, '2>', \my $err);
}

# ---- workers are ended ----
my $writers = write_for(8);
for (1 .. 12)
{
	sleep 0.6;
	$node->safe_psql('postgres', q{
		SELECT pg_terminate_backend(pid) FROM persistomata.stat_worker
		 WHERE pid IS NOT NULL AND random() < 0.6});
}
$writers->finish;

# ---- the server is ended ----
for (1 .. 4)
{
	$writers = write_for(3);
	sleep 1.5;
	$node->stop('immediate');
	$writers->finish;
	$node->start;
}
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');

# What the log had is known from the table: one event of type state per lamp.
my $written = $node->safe_psql('postgres', 'SELECT count(*) FROM lamp');
note("$written events");
ok(wait_for_drain($node, 'postgres', $_), "route $_ comes to the end") for qw(r c);

my $entries = client($server{redis})->command('XRANGE', 's', '-', '+');
my (%seen, $last);
my ($doubled, $disordered) = (0, 0);
for my $entry (@$entries)
{
	my %fields = @{ $entry->[1] };
	$doubled++ if $seen{ $fields{name} }++;
	$disordered++ if defined $last && $fields{position} <= $last;
	$last = $fields{position};
}
is(scalar(keys %seen), $written, 'Redis has every event');
is($doubled, 0, 'and none twice');
is($disordered, 0, 'in the order of positions');

my $clickhouse = client($server{clickhouse});
is($clickhouse->value('SELECT uniqExact(name) FROM events'), $written, 'ClickHouse has every event');
is($clickhouse->value('SELECT count() FROM events'), $written, 'and none twice');
is($node->safe_psql('postgres', 'SELECT sum(dead) FROM persistomata.stat_route'), 0, 'no dead letters');
cmp_ok($node->safe_psql('postgres', 'SELECT max(turn) FROM persistomata.ring'), '>', 1, 'the ring has turned');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|data corrupted|of the event log has/, 'nothing is amiss in the log');
$node->stop;
done_testing();
