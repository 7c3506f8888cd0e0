# The workers' life: they start by themselves, come back after a crash, follow
# the extension and the database, and end at once when told to.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('workers', max_prepared_transactions => 5, restart_after_crash => 'on', autovacuum => 'off');
my $redis = sink_server('redis');

my $machine = q{
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|stop| red
	  red -->|off| dark
	$$);
	CREATE TABLE lamp (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
};

sub workers
{
	my ($kind, $database) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'persistomata $kind'"
		  . (defined $database ? " AND datname = '$database'" : ''));
}

sub took
{
	my ($code) = @_;
	my $start = time;
	$code->();
	return time - $start;
}

my $newest = "SELECT coalesce(max(first_position + events), 1) FROM persistomata.cuts()";

# ---- start ----
is(workers('launcher'), 1, 'the launcher starts with the server');
ok(wait_for(sub { workers('scheduler') == 0 }, 'no scheduler'), 'no scheduler without the extension');

$node->safe_psql('postgres', "CREATE EXTENSION persistomata; $machine");
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { workers('scheduler', 'postgres') == 1 }, 'a scheduler'), 'the first event brings a scheduler');
ok(wait_for_value($node, 'postgres', $newest, 2), 'and it cuts');
my $took = took(sub {
	$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
	wait_for_value($node, 'postgres', $newest, 3);
});
cmp_ok($took, '<', 1, 'a commit wakes it');

# ---- prepared transactions tell nobody when they commit ----
$node->safe_psql('postgres', q{BEGIN; INSERT INTO lamp DEFAULT VALUES; PREPARE TRANSACTION 'p';});
sleep 0.5;
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
ok(wait_for_value($node, 'postgres', $newest, 4, 5), 'a prepared transaction is cut');

# ---- idle ----
my $wal = $node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_current_wal_insert_lsn()');
my $xid = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())');
sleep 3;
is($node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())'), $xid, 'idle takes no transaction number');

# ---- sinks ----
create_sink($node, 'postgres', 'queue', $redis);
$node->safe_psql('postgres', q{SELECT persistomata.create_route('r', 'queue', start => 'earliest', options => '{"stream": "s"}')});
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 3 }, 'three entries'), 'what is in the log is sent');
ok(wait_for_drain($node, 'postgres', 'r'), 'and acknowledged');
is($node->safe_psql('postgres', 'SELECT kind, server, state FROM persistomata.stat_worker ORDER BY 1'),
	"launcher||running\nscheduler||running\nsink|queue|running", 'stat_worker shows who runs');

# a route that begins now gets what comes, and only what it wants
$node->safe_psql('postgres', q{
	SELECT persistomata.create_route('later', 'queue', options => '{"stream": "later"}');
	SELECT persistomata.create_route('nothing', 'queue', machine => 'x*', options => '{"stream": "nothing"}')});
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 4 }, 'the fourth'), 'the first route goes on');
ok(wait_for(sub { client($redis)->command('XLEN', 'later') == 1 }, 'the first'), 'a new one begins with what is new');
ok(wait_for_drain($node, 'postgres', $_), "$_ has passed all") for qw(r later nothing);
is(client($redis)->command('EXISTS', 'nothing'), 0, 'what nobody wants is sent nowhere');

# a changed route, a seek
$node->safe_psql('postgres', q{SELECT persistomata.alter_route('later', options => '{"stream": "moved"}')});
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { client($redis)->command('XLEN', 'moved') == 1 }, 'one'), 'a changed route sends elsewhere');
is(client($redis)->command('XLEN', 'later'), 1, 'and not where it did');
$node->safe_psql('postgres', q{SELECT persistomata.seek_route('r', 2)});
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 9 }, 'four more'), 'a seek sends again');
ok(wait_for_drain($node, 'postgres', 'r'), 'and comes to the end');

# ---- a crash ----
my $scheduler = $node->safe_psql('postgres', q{SELECT pid FROM persistomata.stat_worker WHERE kind = 'scheduler'});
kill 'KILL', $scheduler;
ok(wait_for(sub { $node->safe_psql('postgres', 'SELECT 1') eq '1' && workers('sink') == 1 }, 'recovery'), 'workers come back after a crash');
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 10 }, 'the next'), 'and go on');
is(scalar @{ client($redis)->command('XRANGE', 's', '-', '+') }, 10, 'nothing doubled');

# a worker that is terminated comes back too
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM persistomata.stat_worker WHERE kind = 'sink'});
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 11 }, 'the next'), 'a terminated sink worker comes back');

# ---- deliver = off ----
$node->append_conf('postgresql.conf', 'persistomata.deliver = off');
$node->reload;
ok(wait_for(sub { workers('sink') == 0 }, 'no sink worker'), 'deliver = off ends sink workers');
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
$node->append_conf('postgresql.conf', 'persistomata.deliver = on');
$node->reload;
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 12 }, 'the next'), 'on begins them again');

# ---- a sink that says nothing holds nobody up ----
$redis->pause;
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
sleep 0.5;
cmp_ok(took(sub { $node->safe_psql('postgres', q{SELECT persistomata.disable_route('r')}); }), '<', 2, 'disable_route returns');
$node->safe_psql('postgres', q{SELECT persistomata.disable_route('later'), persistomata.disable_route('nothing')});
ok(wait_for(sub { workers('sink') == 0 }, 'no sink worker', 3), 'the worker leaves a silent sink');
$node->safe_psql('postgres', q{SELECT persistomata.enable_route('r')});
ok(wait_for(sub { workers('sink') == 1 }, 'a sink worker', 3), 'and comes back');

# ---- the extension and the database ----
cmp_ok(took(sub { $node->safe_psql('postgres', 'DROP TABLE lamp; DROP EXTENSION persistomata CASCADE') }), '<', 2, 'DROP EXTENSION does not wait');
ok(wait_for(sub { workers('scheduler') + workers('sink') == 0 }, 'nobody', 10), 'workers end with the extension');
$node->safe_psql('postgres', "CREATE EXTENSION persistomata; $machine");
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_value($node, 'postgres', $newest, 2), 'and come back with it');

$node->safe_psql('postgres', q{INSERT INTO persistomata.idempotency VALUES
	(1, 'old', 'k', 1, 'e', 'e', 'a', 'b', now() - interval '2 days'),
	(1, 'new', 'k', 1, 'e', 'e', 'a', 'b', now())});
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_value($node, 'postgres', q{SELECT string_agg(key, ',') FROM persistomata.idempotency}, 'new'),
	'idempotency keys are forgotten when their time is over');

for my $database (qw(forced stopped))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION persistomata; $machine");
	create_sink($node, $database, 'queue', $redis);
	$node->safe_psql($database, q{SELECT persistomata.create_route('r', 'queue', options => '{"stream": "x"}')});
	$node->safe_psql($database, 'INSERT INTO lamp DEFAULT VALUES');
	ok(wait_for(sub { workers('sink', $database) == 1 }, 'a sink worker'), "workers run in $database");
}
cmp_ok(took(sub { $node->safe_psql('postgres', 'DROP DATABASE forced WITH (FORCE)') }), '<', 2, 'DROP DATABASE WITH (FORCE)');
cmp_ok(took(sub { $node->safe_psql('stopped', 'SELECT persistomata.stop_workers()') }), '<', 2, 'stop_workers()');
is(workers('scheduler', 'stopped') + workers('sink', 'stopped'), 0, 'none is left');
$node->safe_psql('stopped', 'INSERT INTO lamp DEFAULT VALUES');
sleep 0.5;
is(workers('scheduler', 'stopped'), 0, 'and none comes');
$node->safe_psql('stopped', 'SELECT persistomata.start_workers()');
ok(wait_for(sub { workers('sink', 'stopped') == 1 }, 'a sink worker'), 'until start_workers()');
$node->safe_psql('stopped', 'SELECT persistomata.stop_workers()');
$node->safe_psql('postgres', 'DROP DATABASE stopped');
is(workers('scheduler'), 1, 'the others go on');

cmp_ok(took(sub { $node->stop('fast') }), '<', 2, 'a fast shutdown, beside a sink that says nothing');

# ---- without preloading ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
is(workers('launcher'), 0, 'no launcher where the library is not preloaded');
$node->safe_psql('postgres', 'SELECT persistomata.start_workers()');
ok(wait_for(sub { workers('launcher') == 1 && workers('scheduler', 'postgres') == 1 }, 'workers'), 'start_workers() starts it');
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_value($node, 'postgres', $newest, 4), 'and it cuts');
$node->stop('fast');

# ---- without room ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persistomata'\nmax_worker_processes = 3");
$node->start;
ok(wait_for(sub { workers('scheduler', 'postgres') == 1 }, 'the scheduler'), 'a scheduler, and no place for more');
$node->safe_psql('postgres', q{CREATE SERVER roomless FOREIGN DATA WRAPPER persistomata_redis; SELECT persistomata.create_route('roomless', 'roomless')});
ok(wait_for_value($node, 'postgres', q{SELECT DISTINCT state, last_error FROM persistomata.stat_route WHERE enabled},
	'stopped|its worker does not run: see persistomata.stat_worker and the log of the server'), 'a route tells that its worker is missing');
$node->stop('fast');

$redis->resume;
done_testing();
