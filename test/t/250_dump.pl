# Dump and restore: definitions, bindings, timers, log and routes come along,
# whatever the form of the dump; the copy stays silent; what is restored in part says
# so; and pg_upgrade.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('old', autovacuum => 'off');
my $redis = sink_server('redis');

$node->safe_psql('postgres', q{
	CREATE ROLE keeper;
	CREATE EXTENSION persistomata;
	CREATE SCHEMA app AUTHORIZATION keeper;
	SET ROLE keeper;
	CREATE FUNCTION app.fine(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 >= 0';
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none  -->|on!| red
	  red   -->|"go [app.fine(n)] / n = n + 1"| green
	  green -->|"after (1 hour)"| red
	  green -->|off| dark
	$$);
	CREATE TABLE app.lamp (id int PRIMARY KEY, state text, n int DEFAULT 0);
	CREATE TABLE app.part (region int, id int, state text, n int DEFAULT 0, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
	CREATE TABLE app.part1 PARTITION OF app.part FOR VALUES IN (1);
	CREATE TABLE app.gone (id int PRIMARY KEY, state text, n int DEFAULT 0);
	SELECT persistomata.attach(t, 'lamp') FROM unnest('{app.gone,app.lamp,app.part}'::regclass[]) t;
	INSERT INTO app.lamp (id) SELECT generate_series(1, 4);
	INSERT INTO app.part (region, id) VALUES (1, 1);
	INSERT INTO app.gone VALUES (1);
	SELECT persistomata.fire('app.lamp', g, 'go') FROM generate_series(2, 4) g;
	SELECT persistomata.fire('app.lamp', 4, 'off', idempotency_key => 'k');
	DROP TABLE app.gone;
});
create_sink($node, 'postgres', 'queue', $redis);
$node->safe_psql('postgres', q{SELECT persistomata.create_route('r', 'queue', start => 'earliest', options => '{"stream": "s"}')});
ok(wait_for_drain($node, 'postgres', 'r'), 'the log is sent');
my $sent = client($redis)->command('XLEN', 's');

# What there is to bring along.
my $facts = q{
	SELECT 'machine', m.name, m.version, md5(m.definition) FROM persistomata.machine m
	UNION ALL SELECT 'fsm', f.fsm::text, f.version, f.enforced::text FROM persistomata.fsm f
	UNION ALL SELECT 'timer', t.fsm::text || t.key, 0, t.due_at::text FROM persistomata.timer t
	UNION ALL SELECT 'log', e.fsm || e.key || e.type, e.event_id, e.to_state || coalesce(e.event, '') FROM persistomata.event e
	UNION ALL SELECT 'route', s.route, s.position, s.server FROM persistomata.stat_route s
	UNION ALL SELECT 'key', i.key, i.event_id, i.idempotency_key FROM persistomata.idempotency i
	UNION ALL SELECT 'lamp', l.id::text, l.n, l.state FROM app.lamp l
	ORDER BY 1, 2, 3, 4};
$node->safe_psql('postgres', q{
	GRANT USAGE ON FOREIGN SERVER queue TO keeper;
	CREATE USER MAPPING FOR PUBLIC SERVER queue;
	SET ROLE keeper;
	SELECT persistomata.create_route('kept', 'queue', start => 'earliest', options => '{"stream": "kept"}')});
ok(wait_for_drain($node, 'postgres', 'kept'), 'another route has begun');
my $before = $node->safe_psql('postgres', $facts);
like($before, qr/^timer\|app\.lamp3\|/m, 'a timer is armed');
like($before, qr/^log\|app\.gone1init\|/m, 'the log names a table that was dropped');

sub restored_works
{
	my ($at, $database, $how) = @_;
	is($at->safe_psql($database, $facts), $before, "$how: all is there");
	is($at->safe_psql($database, q{SET ROLE keeper; SELECT to_state FROM persistomata.fire('app.lamp', 1, 'go')}), 'green',
		"$how: an instance goes on");
	is($at->safe_psql($database, q{SET ROLE keeper; SELECT status FROM persistomata.fire('app.lamp', 4, 'off', idempotency_key => 'k')}),
		'duplicate', "$how: an idempotency key is remembered");
	is($at->safe_psql($database, q{SELECT count(*) FROM persistomata.event WHERE type = 'init'}), 6, "$how: the restore was no birth");
	my ($rc, $out, $err) = $at->psql($database, 'TRUNCATE app.part1');
	like($err, qr/cannot truncate/, "$how: a partition refuses TRUNCATE");
	is($at->safe_psql($database, q{SELECT count(*) > 0 FROM persistomata.event e, persistomata.log_home h WHERE e.type = 'state'}), 't',
		"$how: the log can be read");
	return;
}

sub stays_silent
{
	my ($at, $database, $how) = @_;
	ok(wait_for_value($at, $database,
			"SELECT state FROM persistomata.stat_worker WHERE database = '$database' AND kind = 'scheduler'", 'foreign'),
		"$how: its scheduler sees that the log is not its own");
	sleep 0.5;
	is(client($redis)->command('XLEN', 's'), $sent, "$how: nothing is sent");
	return;
}

my $tmp = $node->basedir;
my $connect = sub { return ('-d', $node->connstr($_[0])) };

# ---- whole dumps ----
for my $form (qw(plain custom directory))
{
	$node->safe_psql('postgres', "CREATE DATABASE $form");
	$node->command_ok([ 'pg_dump', '-F', $form, '-f', "$tmp/$form", $connect->('postgres') ], "$form: dumped");
	my @restore =
	  $form eq 'plain'
	  ? ('psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$tmp/$form")
	  : ('pg_restore', '--exit-on-error', ($form eq 'directory' ? ('-j', 2) : ()), "$tmp/$form");
	$node->command_ok([ @restore, $connect->($form) ], "$form: restored without an error");
	restored_works($node, $form, $form);
	stays_silent($node, $form, $form) if $form eq 'custom';
	$node->safe_psql($form, 'SELECT persistomata.stop_workers()');
	$node->safe_psql('postgres', "DROP DATABASE $form");
}

# ---- a schema without the extension's tables ----
$node->safe_psql('postgres', 'CREATE DATABASE part');
$node->safe_psql('part', 'CREATE EXTENSION persistomata');
$node->command_ok([ 'pg_dump', '-n', 'app', '-f', "$tmp/part", $connect->('postgres') ], 'a schema: dumped');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$tmp/part", $connect->('part') ], 'a schema: restored');
for my $write ('INSERT INTO app.lamp VALUES (9)', q{UPDATE app.lamp SET n = 1}, 'DELETE FROM app.lamp', 'TRUNCATE app.lamp')
{
	my ($rc, $out, $err) = $node->psql('part', $write);
	like($err, qr/bound to no machine.*HINT:  Attach it again/s, "a schema: no binding, no $write");
}
$node->safe_psql('part', q{
	SELECT persistomata.detach('app.lamp');
	SELECT persistomata.create_machine('lamp', 'flowchart LR; red -->|go| green; green -->|off| dark');
	SELECT persistomata.attach('app.lamp', 'lamp')});
is($node->safe_psql('part', q{SELECT to_state FROM persistomata.fire('app.lamp', 1, 'go')}), 'green', 'a schema: attached again');

# ---- first the definitions, then the rows ----
$node->safe_psql('postgres', 'CREATE DATABASE halves');
$node->command_ok([ 'pg_dump', '-s', '-f', "$tmp/schema", $connect->('postgres') ], 'halves: definitions dumped');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$tmp/schema", $connect->('halves') ], 'halves: restored');
$node->command_ok([ 'pg_dump', '-a', '-t', 'app.lamp', '-f', "$tmp/rows", $connect->('postgres') ], 'halves: rows dumped');
my $stderr = '';
IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$tmp/rows", $connect->('halves') ], '2>', \$stderr);
like($stderr, qr/bound to no machine/, 'halves: rows without their binding are refused');
$node->command_ok([ 'pg_dump', '-Fc', '-a', '-f', "$tmp/data", $connect->('postgres') ], 'halves: all data dumped');
# what a fresh extension brings itself gives way by triggers, which do not fire here
$node->safe_psql('halves', 'DELETE FROM persistomata.ring; DELETE FROM persistomata.log_home');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--disable-triggers', "$tmp/data", $connect->('halves') ],
	'halves: all data restored, with triggers disabled');
restored_works($node, 'halves', 'halves');
$node->safe_psql('halves', q{DELETE FROM app.lamp});
IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$tmp/rows", $connect->('halves') ], '2>', \($stderr = ''));
like($stderr, qr/cannot begin in state.*HINT/s, 'halves: rows in mid-state are no births');
is($node->safe_psql('halves', q{SELECT count(*) FROM app.lamp}), 0, 'halves: none came in');

# ---- to a cluster without the roles ----
my $bare = new_node('bare', autovacuum => 'off');
$bare->command_ok([ 'pg_restore', '-l', "$tmp/data" ], 'bare: the archive can be read');
$node->command_ok([ 'pg_dump', '-Fc', '-O', '-x', '-f', "$tmp/bare", $connect->('postgres') ], 'bare: dumped without owners');
$bare->command_ok([ 'pg_restore', '--exit-on-error', '-O', '-x', '-d', $bare->connstr('postgres'), "$tmp/bare" ],
	'bare: restored where the machine\'s owner does not exist');
is($bare->safe_psql('postgres', q{SELECT string_agg(route, ' ' ORDER BY route) FROM persistomata.stat_route}), 'kept r', 'bare: superusers have the routes');
is($bare->safe_psql('postgres', q{SELECT to_state FROM persistomata.fire('app.lamp', 1, 'go')}), 'green', 'bare: an instance goes on');
$bare->stop;

# ---- pg_upgrade ----
$node->safe_psql('postgres', "DROP DATABASE $_ WITH (FORCE)") for qw(part halves);
$node->stop;
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'persistomata'\nmax_worker_processes = 16\n");
chomp(my $bin = `pg_config --bindir`);
$node->command_ok(
	[ 'env', '-C', $tmp, 'pg_upgrade', '--no-sync', '-d', $node->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin,
		'-s', $new->host, '-p', $node->port, '-P', $new->port ],
	'pg_upgrade');
$new->start;
restored_works($new, 'postgres', 'pg_upgrade');
stays_silent($new, 'postgres', 'pg_upgrade');
$new->safe_psql('postgres', 'SELECT persistomata.takeover()');
ok(wait_for_drain($new, 'postgres', 'r'), 'pg_upgrade: taken over, it sends');
$new->stop;
done_testing();
