# A route's state is for its owner to see.  One whose owner was renamed or dropped
# waits, and nothing of it runs as somebody else.

use strict;
use warnings;
use PstTest;
use Test::More;

my $db = 'postgres';
my $redis = sink_server('redis');
my $node = new_node('owner');

sub sql { return $node->safe_psql($db, @_) }

sql(q{
	CREATE EXTENSION persistomata;
	CREATE ROLE app LOGIN;
	CREATE SCHEMA app AUTHORIZATION app;
	SELECT persistomata.create_machine('lamp', 'flowchart LR
	  none -->|make| dark
	  dark -->|press| dark');
	CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres;
});
create_sink($node, $db, 'q', $redis);
sql(q{
	GRANT USAGE ON FOREIGN SERVER q, here TO app;
	CREATE USER MAPPING FOR app SERVER q;
	SET SESSION AUTHORIZATION app;
	CREATE TABLE app.lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('app.lamp', 'lamp');
	CREATE TABLE app.seen (key text, who text);
	CREATE FUNCTION app.see(e jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO app.seen VALUES (e->>'key', current_user) $$;
	SELECT persistomata.create_route('fn', 'here', options => '{"function": "app.see"}');
	SELECT persistomata.create_route('rd', 'q', filter => '(SELECT count(*) >= 0 FROM app.seen)');
	INSERT INTO app.lamp VALUES (1);
});
ok(wait_for_drain($node, $db, $_), "$_ delivers") for qw(fn rd);

# ---- who sees what ----

sql('CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_read_all_stats');
for my $from ('live_routes()', 'stat_route')
{
	my %seen = map { $_ => sql("SET SESSION AUTHORIZATION $_; SELECT count(*) FROM persistomata.$from") } qw(app stranger watcher);
	is_deeply(\%seen, { app => 2, stranger => 0, watcher => 2 }, "$from is for the owner, and who may see all");
}

# ---- places in shared memory ----

sql(q{SELECT persistomata.create_route('x' || g, 'q', 'none') FROM generate_series(1, 60) g});
ok(wait_for_value($node, $db, q{SELECT count(*) > 40 FROM persistomata.live_routes()}, 't'), 'more routes than there are places');
sql(q{SELECT persistomata.disable_route('x' || g) FROM generate_series(1, 60) g});
ok(wait_for_value($node, $db, q{SELECT count(*) FROM persistomata.live_routes() WHERE state <> 'stopped'}, '2'), 'all are disabled');
sql(q{SELECT persistomata.drop_route('x' || g) FROM generate_series(1, 60) g});
ok(wait_for_value($node, $db, q{SELECT count(*) FROM persistomata.live_routes()}, '2'), 'dropped, they leave their places');

# ---- an owner that is gone ----

sub waits
{
	my ($what) = @_;
	ok(wait_for_value($node, $db,
			q{SELECT string_agg(state || ': ' || last_error, ', ' ORDER BY route) FROM persistomata.stat_route},
			q{misconfigured: the route's owner does not exist, misconfigured: the route's owner does not exist}), $what);
	is(sql(q{SELECT count(*) FROM app.seen WHERE who <> 'app'}), 0, 'and nothing runs as another');
	return;
}

sql('ALTER ROLE app RENAME TO other; INSERT INTO app.lamp VALUES (2)');
waits('both wait when their owner is renamed');
sql('ALTER ROLE other RENAME TO app');
ok(wait_for_drain($node, $db, $_), "$_ goes on when there is one of that name again") for qw(fn rd);
is(sql(q{SELECT string_agg(key || ' ' || who, ', ' ORDER BY key) FROM app.seen}), '1 app, 2 app', 'with all');
is(client($redis)->command('XLEN', 'persistomata:lamp'), 2, 'there, too');

sql(q{REASSIGN OWNED BY app TO CURRENT_USER; DROP OWNED BY app; DROP ROLE app; INSERT INTO app.lamp VALUES (3)});
waits('both wait when their owner is dropped');
ok(sql(q{SELECT bool_and(lag_events > 0) FROM persistomata.stat_route}) eq 't', 'before what he cannot read');

$node->stop;
done_testing();
