# Servers and user mappings that are altered, dropped and made again while a parcel
# waits to be tried again: the change is taken at once, and nothing is lost.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $db = 'postgres';
my $redis = sink_server('redis');
my $node = new_node('altered', restart_after_crash => 'off');

sub sql { return $node->safe_psql($db, @_) }
sub state_is { return ok(wait_for_value($node, $db, 'SELECT state FROM persistomata.stat_route', $_[0]), $_[1]) }

sub failed_often
{
	return wait_for(sub { sql('SELECT next_attempt_at - last_error_at > $$5 s$$ FROM persistomata.stat_route') eq 't' },
		'a long wait', 60);
}

sql(q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', 'flowchart LR
	  none -->|make| dark
	  dark -->|press| dark');
	CREATE TABLE lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp');
});
create_sink($node, $db, 'q', $redis, port => 1);
sql(q{SELECT persistomata.create_route('r', 'q')});
sql('INSERT INTO lamp SELECT generate_series(1, 10)');

state_is('retrying', 'nobody listens there');
ok(failed_often(), 'it is tried less and less');
sql("ALTER SERVER q OPTIONS (SET port '" . $redis->port . "')");
ok(wait_for_drain($node, $db, 'r', 30), 'a server that is mended is tried again');
is(client($redis)->command('XLEN', 'persistomata:lamp'), 10, 'with all that waited');

client($redis)->command('CONFIG', 'SET', 'requirepass', 'right');
client($redis, password => 'right')->command('CLIENT', 'KILL', 'TYPE', 'normal');
sql('INSERT INTO lamp SELECT generate_series(11, 20)');
state_is('misconfigured', 'the password is missing');
sql("ALTER USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (ADD password 'right')");
ok(wait_for_drain($node, $db, 'r', 30), 'a mapping that is mended is used');
client($redis, password => 'right')->command('CONFIG', 'SET', 'requirepass', '');

sql("ALTER SERVER q OPTIONS (SET port '1')");
sql('INSERT INTO lamp SELECT generate_series(21, 30)');
state_is('retrying', 'again nobody listens');
sql('DROP SERVER q CASCADE');
ok(wait_for_value($node, $db, 'SELECT state, last_error FROM persistomata.stat_route',
		'misconfigured|the server does not exist'), 'a server that is dropped is missed');
sql('INSERT INTO lamp SELECT generate_series(31, 40)');
create_sink($node, $db, 'q', $redis);
ok(wait_for_drain($node, $db, 'r', 30), 'and one that is made again is used');
is(client($redis)->command('XLEN', 'persistomata:lamp'), 40, 'with nothing lost');

my ($ok, undef, $error) = $node->psql($db, 'ALTER SERVER q RENAME TO "other q"');
like($error, qr/cannot rename server "q" while routes send to it\nDETAIL:  Route "r" does/, 'a server in use keeps its name');
sql(q{SELECT persistomata.disable_route('r'); ALTER SERVER q RENAME TO "other q"; SELECT persistomata.enable_route('r')});
sql('INSERT INTO lamp SELECT generate_series(1041, 1050)');
ok(wait_for_drain($node, $db, 'r', 30), 'one that is renamed takes its routes along');
is(client($redis)->command('XLEN', 'persistomata:lamp'), 50, 'which go on where they stood');
is(sql('SELECT server FROM persistomata.stat_route'), 'other q', 'under its new name');
sql(q{SELECT persistomata.disable_route('r'); ALTER SERVER "other q" RENAME TO q; SELECT persistomata.enable_route('r')});

# ---- limits ----

sql('ALTER SERVER q OPTIONS (ADD linger_ms $$3600000$$)');
sql('SELECT pg_sleep(0.1); INSERT INTO lamp VALUES (41)');
is(sql('SELECT pg_sleep(1.5); SELECT lag_events FROM persistomata.stat_route') =~ s/\s//gr, 1, 'a new limit holds');
sql('ALTER SERVER q OPTIONS (DROP linger_ms)');
ok(wait_for_drain($node, $db, 'r', 30), 'until it is gone');

unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
