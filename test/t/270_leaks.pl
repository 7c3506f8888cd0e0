# What a route's own code leaves behind in a worker: nothing.  Settings, advisory
# locks of the session and the worker's own lock are as before, whoever ran there.

use strict;
use warnings;
use PstTest;
use Test::More;

my $db = 'postgres';
my $redis = sink_server('redis');
my $node = new_node('leaks');

sub sql { return $node->safe_psql($db, @_) }
sub error_of { return sql("SELECT last_error FROM persistomata.stat_route WHERE route = '$_[0]'") }

sub locks
{
	return sql('SELECT classid, objid, objsubid, mode FROM pg_locks WHERE locktype = $$advisory$$ AND granted ORDER BY 1, 2, 3');
}

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
sql('GRANT USAGE ON FOREIGN SERVER q, here TO app; CREATE USER MAPPING FOR app SERVER q');

sub app { return sql("SET SESSION AUTHORIZATION app; $_[0]") }

app(q{
	CREATE TABLE app.lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('app.lamp', 'lamp');
	CREATE FUNCTION app.mess() RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_unlock_all(), pg_advisory_lock(4711),
			set_config('synchronous_commit', 'off', false), set_config('DateStyle', 'SQL, DMY', false),
			set_config('app.secret', 'mine', false);
		RETURN true;
	END
	$$;
	CREATE FUNCTION app.encode(e persistomata.event) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT to_jsonb(e.key) WHERE app.mess() $$;
	CREATE FUNCTION app.call(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.mess(); END $$;
	CREATE FUNCTION app.look() RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'sees %, %, %', current_setting('synchronous_commit'), current_setting('DateStyle'),
			coalesce(current_setting('app.secret', true), '');
	END
	$$;
});

# One that filters with nothing keeps the worker of the server up.
app(q{SELECT persistomata.create_route('keep_q', 'q', 'none');
	SELECT persistomata.create_route('keep_here', 'here', 'none', options => '{"function": "app.call"}')});
my $alone;
ok(wait_for(sub { ($alone = locks()) =~ tr/\n// == 2 }, 'the own locks of three workers'), 'each worker is alone');

my %route = (
	filter => q{'q', filter => 'app.mess()', options => '{"stream": "a"}'},
	encoder => q{'q', format => 'app.encode', options => '{"stream": "b"}'},
	function => q{'here', options => '{"function": "app.call"}'});
my $id = 0;
for my $kind (sort keys %route)
{
	app("SELECT persistomata.create_route('$kind', $route{$kind})");
	app('INSERT INTO app.lamp VALUES (' . ++$id . ')');
	ok(wait_for_drain($node, $db, $kind), "a $kind that messes about");
	is(locks(), $alone, 'leaves no lock, and the worker its own');
	my ($server) = $kind eq 'function' ? ('here') : ('q');
	next if $server ne 'q';
	app("SELECT persistomata.create_route('look_$kind', 'q', filter => 'app.look()', options => '{\"stream\": \"c\"}')");
	app('INSERT INTO app.lamp VALUES (' . ++$id . ')');
	wait_for(sub { error_of("look_$kind") ne '' }, 'the error');
	like(error_of("look_$kind"), qr/sees on, ISO, YMD, $/, 'and no setting');
	app("SELECT persistomata.drop_route('look_$kind'); SELECT persistomata.drop_route('$kind')");
}

$node->stop;
done_testing();
