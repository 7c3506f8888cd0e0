# What a route sends: filters, formats, states, throttles, limits, and whose
# events its owner may see.  One cluster, one Redis, a stream per case.

use strict;
use warnings;
use JSON::PP;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('routes', autovacuum => 'off');
my $redis = sink_server('redis');
my $client = client($redis);
my $json = JSON::PP->new->utf8->allow_nonref;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What stands in a stream, as the bodies of its entries.
sub bodies { return map { $json->decode($_->{fields}{data}) } $client->entries($_[0]) }
sub keys_in { return join ',', map { $_->{key} } bodies($_[0]) }

sub route
{
	my ($name, $rest) = @_;
	sql("SELECT persistomata.create_route('$name', 'queue', options => '{\"stream\": \"$name\"}'" . ($rest ? ", $rest" : '') . ')');
}

sub drained { return wait_for_drain($node, 'postgres', $_[0]) }

sql(q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|stop| red
	  red -->|off| dark
	$$);
	CREATE TABLE lamp (id text PRIMARY KEY, state text, n text);
	SELECT persistomata.attach('lamp', 'lamp', payload_columns => '{n}');
});
create_sink($node, 'postgres', 'queue', $redis);

# ---- filters ----
route('filtered', q{filter => $$event.type = 'state' AND (payload->>'n')::int > 1$$, types => '{state}'});
sql(q{INSERT INTO lamp VALUES ('a', NULL, '1'), ('b', NULL, '2'), ('c', NULL, '3')});
sql(q{UPDATE lamp SET state = 'green'});
ok(drained('filtered'), 'a filtered route comes to the end');
is(keys_in('filtered'), 'b,c,b,c', 'what the filter wants is sent');
sql(q{UPDATE lamp SET n = 'x' WHERE id = 'b'; SET persistomata.args = '"by hand"'; UPDATE lamp SET state = 'red'});
ok(drained('filtered'), 'an event that the filter fails for holds nothing up');
is(keys_in('filtered'), 'b,c,b,c,c', 'the others are sent');
is(sql(q{SELECT route, event->>'key', reason FROM persistomata.dead_letter}),
	q{filtered|b|the route's own code: 22P02: invalid input syntax for type integer: "x"}, 'it is a dead letter, with the reason');
sql(q{UPDATE persistomata.dead_letter_entry SET event = jsonb_set(event, '{payload,n}', '"7"');
	SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter});
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM persistomata.dead_letter', 0), 'and sent when it is retried');
is(keys_in('filtered'), 'b,c,b,c,c,b', 'behind the others');
is((bodies('filtered'))[-1]{args}, 'by hand', 'as it was, args that are no object included');
sql(q{SELECT persistomata.drop_route('filtered')});

# ---- a route that waits for what is new is not behind ----
route('quiet');
for my $state ('stopped', 'idle')
{
	ok(wait_for_value($node, 'postgres', q{SELECT state FROM persistomata.stat_route}, $state), "a route on a quiet log is $state")
	  if $state eq 'idle';
	is(sql(q{SELECT position = (SELECT max(first_position + events - 1) FROM persistomata.cuts()), lag_events, lag_seconds
			FROM persistomata.stat_route}), 't|0|0', 'and not behind');
}
sql(q{SELECT persistomata.drop_route('quiet')});

# ---- a filter that is a function ----
sql(q{CREATE SCHEMA sieve;
	CREATE FUNCTION sieve.wanted(e persistomata.event) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		IF e.key = 'bad' THEN RAISE EXCEPTION 'no %', e.key; END IF;
		RETURN nullif(e.payload->>'n' = '2', false) AND current_user = (SELECT rolname FROM pg_roles WHERE oid = 10);
	END $$;
	CREATE FUNCTION sieve.wrong(e persistomata.event) RETURNS int LANGUAGE sql AS 'SELECT 1'});
my ($rc_, $out_, $err_) = $node->psql('postgres', q{SELECT persistomata.create_route('by_function', 'queue', filter => 'sieve.wrong')});
like($err_, qr/function sieve\.wrong\(persistomata\.event\) must return boolean/, 'a function that is no filter');
sql(q{SET search_path = sieve, public; SELECT persistomata.create_route('by_function', 'queue', types => '{init}', filter => 'wanted',
	options => '{"stream": "by_function"}')});
sql(q{INSERT INTO lamp VALUES ('f1', NULL, '1'), ('bad', NULL, '2'), ('f2', NULL, '2')});
ok(drained('by_function'), 'a function may filter');
is(keys_in('by_function'), 'f2', 'what it wants is sent');
is(sql(q{SELECT event->>'key', reason FROM persistomata.dead_letter}), "bad|the route's own code: P0001: no bad", 'what it fails for is a dead letter');
sql(q{SELECT persistomata.discard_dead_letter(id) FROM persistomata.dead_letter;
	ALTER FUNCTION sieve.wanted(persistomata.event) RENAME TO gone;
	INSERT INTO lamp VALUES ('f3', NULL, '2')});
ok(wait_for_value($node, 'postgres', q{SELECT state FROM persistomata.stat_route WHERE route = 'by_function'}, 'misconfigured'), 'without it the route waits');
sql(q{ALTER FUNCTION sieve.gone(persistomata.event) RENAME TO wanted; SELECT persistomata.enable_route('by_function')});
ok(wait_for(sub { keys_in('by_function') eq 'f2,f3' }, 'the event'), 'with it, it goes on');
sql(q{SELECT persistomata.drop_route('by_function'); DELETE FROM lamp WHERE id ~ '^f|bad'; DROP SCHEMA sieve CASCADE});

# ---- a filter that can never pass: nothing is lost, and it can be mended ----
sql(q{CREATE FUNCTION note(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN CREATE TABLE noted (t text); RETURN true; END'});
route('writes', q{filter => 'note(key)'});
sql(q{UPDATE lamp SET state = 'green' WHERE id = 'c'});
ok(wait_for_value($node, 'postgres', q{SELECT state FROM persistomata.stat_route WHERE route = 'writes'}, 'misconfigured'),
	'a filter that wants to write is misconfigured');
like(sql(q{SELECT last_error FROM persistomata.stat_route WHERE route = 'writes'}), qr/25006|read-only/, 'and says why');
is(sql('SELECT count(*) FROM persistomata.dead_letter'), 0, 'nothing is given up');
sql(q{SELECT persistomata.alter_route('writes', filter => 'true');
	SELECT persistomata.seek_route('writes', (SELECT position + 1 FROM persistomata.stat_route WHERE route = 'writes'))});
ok(wait_for(sub { keys_in('writes') eq 'c' }, 'the event'), 'mended, and sought to where it stood, it sends what waited');
sql(q{SELECT persistomata.drop_route('writes'); DROP FUNCTION note(text)});

# ---- formats ----
sql(q{CREATE SCHEMA app;
	CREATE FUNCTION app.wire(e persistomata.event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF e.key = 'bad' THEN RAISE EXCEPTION 'no %', e.key; END IF;
		RETURN jsonb_build_object('who', e.key, 'now', e.to_state, 'n', e.payload->'n', 'by', current_user);
	END $$});
route('wire', q{format => 'app.wire', types => '{init}'});
route('clouds', q{format => 'cloudevents'});
sql(q{SET persistomata.headers = '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "t1"}';
	INSERT INTO lamp VALUES ('ü"', NULL, '5'), ('bad', NULL, NULL)});
ok(drained('wire'), 'an encoder is asked');
is_deeply([ bodies('wire') ], [ { who => "\x{fc}\"", now => 'none', n => '5', by => sql('SELECT current_user') } ],
	'and what it makes is sent')
  or diag explain [ bodies('wire') ];
like(sql(q{SELECT reason FROM persistomata.dead_letter WHERE route = 'wire'}), qr/P0001: no bad/, 'what it refuses is a dead letter');
sql(q{SELECT persistomata.drop_route('wire')});

# The rules of the CloudEvents 1.0 JSON format for a structured event.
sub cloudevent_faults
{
	my ($event) = @_;
	my @faults;
	for my $name (qw(specversion id source type))
	{
		push @faults, "$name is missing or empty"
		  unless defined $event->{$name} && !ref $event->{$name} && length $event->{$name};
	}
	push @faults, 'specversion is not 1.0' unless ($event->{specversion} // '') eq '1.0';
	push @faults, 'source is no URI reference' if ($event->{source} // '') =~ m{[^A-Za-z0-9\-._~:/?#\[\]@!\$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})};
	push @faults, 'time is not of RFC 3339'
	  if exists $event->{time} && $event->{time} !~ /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
	push @faults, 'subject is empty' if exists $event->{subject} && !length $event->{subject};
	push @faults, 'datacontenttype is no media type'
	  if exists $event->{datacontenttype} && $event->{datacontenttype} !~ m{^[\w.+-]+/[\w.+-]+};
	push @faults, 'data and data_base64' if exists $event->{data} && exists $event->{data_base64};
	for my $name (keys %$event)
	{
		push @faults, "the attribute $name is not of lower-case letters and digits"
		  if $name !~ /^[a-z0-9]+$/ && $name ne 'data_base64';
		push @faults, "the attribute $name is not a string, number or boolean"
		  if $name ne 'data' && ref $event->{$name} && !JSON::PP::is_bool($event->{$name});
	}
	return @faults;
}
ok(drained('clouds'), 'CloudEvents are sent');
my @clouds = bodies('clouds');
cmp_ok(scalar @clouds, '>=', 4, 'an init and a state event each');
is_deeply([ map { cloudevent_faults($_) } @clouds ], [], 'each is a valid CloudEvent');
isnt(scalar cloudevent_faults({ %{ $clouds[0] }, source => 'a b', Name => [1] }), 0, 'and a wrong one would be found');
my ($cloud) = grep { $_->{type} eq 'persistomata.init' } @clouds;
is($cloud->{traceparent}, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'traceparent is an attribute');
is($cloud->{subject}, "\x{fc}\"", 'the subject is the key');
is_deeply([ $cloud->{data}{headers}{tenant}, $cloud->{data}{name} ], [ 't1', $cloud->{id} ], 'the data is the event');
sql(q{SELECT persistomata.drop_route('clouds')});

# ---- states, left and entered; addresses ----
route('left', q{states => '{red->}'});
route('edge', q{states => '{green->red, ->dark}'});
sql(q{SELECT persistomata.create_route('where', 'queue', types => '{state}', events => '{go,stop}',
	options => '{"stream": "s:{machine}:{type}:{event}:{key}:{from}:{to}"}')});
sql(q{DELETE FROM lamp; INSERT INTO lamp VALUES ('d', NULL, '1')});
sql(q{UPDATE lamp SET state = 'green'});
sql(q{UPDATE lamp SET state = 'red'});
sql(q{UPDATE lamp SET state = 'dark'});
ok(drained($_), "$_ comes to the end") for qw(left edge where);
is(join(',', map { $_->{event} } bodies('left')), 'go,off', 'by the state left');
is(join(',', map { $_->{event} } bodies('edge')), 'stop,off', 'by both, or the one entered');
is($client->command('XLEN', 's:lamp:state:go:d:red:green'), 1, 'an address is made from the event');
is($client->command('XLEN', 's:lamp:state:stop:d:green:red'), 1, 'of each event');
sql(qq{SELECT persistomata.drop_route('$_')}) for qw(left edge where);

# ---- throttles ----
route('last', q{throttle => 'last', types => '{value}'});
sql(q{INSERT INTO lamp VALUES ('e', NULL, '0')});
sql(q{DO $$ BEGIN FOR i IN 101 .. 150 LOOP UPDATE lamp SET n = i WHERE id IN ('d', 'e'); END LOOP; END $$});
ok(drained('last'), 'a route that sends the last comes to the end');
is(join(',', sort map { "$_->{key}$_->{payload}{n}" } bodies('last')), 'd150,e150', 'of each instance the last');
is(sql(q{SELECT sent, coalesced FROM persistomata.stat_route WHERE route = 'last'}), '2|98', 'the others are counted');
sql(q{SELECT persistomata.drop_route('last')});
route('slow', q{throttle => 'all 1500ms', types => '{value}'});
my $start = time;
for my $i (1 .. 30) { sql("UPDATE lamp SET n = 's$i' WHERE id = 'd'"); sleep 0.02 }
ok(wait_for(sub { scalar(bodies('slow')) == 30 }, 'thirty'), 'a throttled route sends all');
cmp_ok(time - $start, '>=', 1.5, 'but not at once');
sql(q{SELECT persistomata.drop_route('slow')});

# ---- limits ----
sub execs { return $client->command('INFO', 'commandstats') =~ /cmdstat_exec:calls=(\d+)/ ? $1 : 0 }
route('big', q{types => '{value}'});
sql(q{SELECT persistomata.alter_route('big', options => '{"stream": "big", "max_rows": 10}')});
my $before = execs();
sql(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP UPDATE lamp SET n = i WHERE id = 'd'; END LOOP; END $$});
ok(drained('big'), 'a big batch is sent');
cmp_ok(execs() - $before, '>=', 20, 'in shipments of max_rows');
is(join(',', map { $_->{payload}{n} } bodies('big')), join(',', 1 .. 200), 'in order');
sql(q{SELECT persistomata.drop_route('big')});

route('small', q{types => '{value}'});
sql(q{UPDATE lamp SET n = 'first' WHERE id = 'd'});
ok(drained('small'), 'the first is sent');
$redis->pause;
sql("UPDATE lamp SET n = 'j$_' WHERE id = 'd'") for 1 .. 40;
is(sql(q{SELECT count(*) > 10 FROM persistomata.cuts() WHERE events = 1}), 't', 'many small batches');
$redis->resume;
ok(wait_for(sub { scalar(bodies('small')) == 41 }, 'all'), 'after an outage all is sent');
cmp_ok(execs() - $before - 20, '<', 20, 'in few shipments');
is(join(',', map { $_->{payload}{n} } bodies('small')), join(',', 'first', map { "j$_" } 1 .. 40), 'in order');
sql(q{SELECT persistomata.drop_route('small')});

$before = execs();
sql(q{SELECT persistomata.create_route('linger', 'queue', types => '{value}', options => '{"stream": "linger", "linger_ms": 1500}')});
sql("UPDATE lamp SET n = 'l$_' WHERE id = 'd'") for 0 .. 0;
ok(drained('linger'), 'the first');
sql("UPDATE lamp SET n = 'l$_' WHERE id = 'd'") for 1 .. 10;
ok(wait_for(sub { scalar(bodies('linger')) == 11 }, 'all'), 'a route that lingers sends all');
cmp_ok(execs() - $before, '<=', 4, 'together');
sql(q{SELECT persistomata.drop_route('linger')});

# ---- replay ----
sql(q{SELECT persistomata.create_route('again', 'queue', types => '{value}', options => '{"stream": "again", "max_rows": 5}')});
sql(q{DO $$ BEGIN FOR i IN 201 .. 240 LOOP UPDATE lamp SET n = i WHERE id = 'd'; END LOOP; END $$});
ok(drained('again'), 'forty are sent');
my $end = sql(q{SELECT position FROM persistomata.stat_route WHERE route = 'again'});
my ($from, $to) = ($end - 29, $end - 10);
is(sql("SELECT persistomata.replay('again', $from, $to)"), 20, 'twenty of them are to be sent again');
sql(q{UPDATE lamp SET n = '241' WHERE id = 'd'});
sql(q{SELECT pg_terminate_backend(pid) FROM persistomata.stat_worker WHERE kind = 'sink'});
ok(wait_for(sub { scalar(bodies('again')) >= 61 }, 'sixty-one'), 'a replay goes on after its worker was ended');
ok(drained('again'), 'and the route comes to the end');
my @sent = map { $_->{payload}{n} } bodies('again');
is(join(',', @sent), join(',', 201 .. 240, 211 .. 230, 241), 'the range once more, and then what is new');
my @names = map { $_->{fields}{name} } $client->entries('again');
is($names[40], $names[10], 'an event keeps its name');
ok(wait_for_value($node, 'postgres', q{SELECT from_position, to_position, position, done FROM persistomata.stat_replay WHERE route = 'again'},
	"$from|$to|$to|t"), 'its progress is shown');
for my $wrong ([ $end + 2, $end + 3, 'has not come to' ], [ 0, 1, 'at least 1' ], [ 5, 4, 'before its beginning' ])
{
	my (undef, undef, $error) = $node->psql('postgres', "SELECT persistomata.replay('again', $wrong->[0], $wrong->[1])");
	like($error, qr/$wrong->[2]/, "replay from $wrong->[0] to $wrong->[1] is refused");
}
sql(q{SELECT persistomata.replay('again', 1, 9000000)});
ok(wait_for_value($node, 'postgres', q{SELECT done FROM persistomata.stat_replay WHERE route = 'again'}, 't'), 'all of it again');
ok(drained('again'), 'the route is not behind then');
is(sql("SELECT persistomata.replay('again', $from, $to)"), 20, 'a part of it');
ok(wait_for_value($node, 'postgres', q{SELECT done FROM persistomata.stat_replay WHERE route = 'again'}, 't'), 'is done');
ok(drained('again'), 'and the route is where it stood, without anything new');
sql(q{SELECT pg_terminate_backend(pid) FROM persistomata.stat_worker WHERE kind = 'sink'});
sql(q{UPDATE lamp SET n = '242' WHERE id = 'd'});
ok(drained('again'), 'and goes on');
is((bodies('again'))[-1]{payload}{n}, 242, 'with what is new');
my @ids = map { [ split /-/, $_->{id} ] } $client->entries('again');
is(scalar(grep { $ids[$_][0] < $ids[ $_ - 1 ][0] } 1 .. $#ids), 0, 'ids rise through all of it');
sql(q{SELECT persistomata.drop_route('again')});

# ---- a seek to where nothing is yet ----
route('far');
sql(q{SELECT persistomata.seek_route('far', 9223372036854775807); UPDATE lamp SET n = '243' WHERE id = 'd'});
ok(wait_for(sub { keys_in('far') eq 'd' }, 'the event'), 'skips what is there, and nothing that comes');
sql(q{SELECT persistomata.drop_route('far')});

# ---- start => 'snapshot' ----
sql(q{DELETE FROM lamp; INSERT INTO lamp SELECT 'r' || i, NULL, i FROM generate_series(1, 300) i;
	UPDATE lamp SET state = 'green' WHERE id = 'r1'});
sql(q{SELECT persistomata.create_route('other', 'queue', options => '{"stream": "other"}')});
my $history = sql('SELECT count(*) FROM persistomata.event');
# a writer is under way: what it commits comes after the rows, once
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; UPDATE lamp SET state = 'green' WHERE id = 'r2'});
my $maker = $node->background_psql('postgres');
$maker->query_until(qr/now/, q{\echo now
SELECT persistomata.create_route('whole', 'queue', machine => 'l*', start => 'snapshot',
	options => '{"stream": "whole", "max_rows": 70}');} . "\n");
ok(wait_for_value($node, 'postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted}, 1), 'a snapshot waits for writers');
$writer->query_safe(q{COMMIT});
$writer->quit;
$maker->quit;
sql(q{UPDATE lamp SET state = 'red' WHERE id = 'r2'});
ok(drained('whole'), 'a route that starts with a snapshot comes to the end');
my @whole = bodies('whole');
is(scalar(@whole), 301, 'each row once, and what came after');
is(scalar(grep { $_->{type} eq 'init' } @whole[ 0 .. 299 ]), 300, 'the rows first');
my ($row) = grep { $_->{key} eq 'r2' } @whole;
is_deeply([ @$row{qw(type from_state to_state reason)}, $row->{payload}{n} ], [ 'init', '*', 'green', 'snapshot', '2' ], 'as they are');
is_deeply([ @{ $whole[300] }{qw(type key to_state)} ], [ 'state', 'r2', 'red' ], 'then what has happened since');
ok(drained('other'), 'the others go on');
is(keys_in('other'), 'r2,r2', 'and get none of it');
is(sql('SELECT count(*) FROM persistomata.event'), $history + 2, 'nor does the history');
is(sql(q{SELECT count(*) FROM persistomata.verify('lamp')}), 0, 'which is as it was');
sql(q{SELECT persistomata.drop_route('whole'), persistomata.drop_route('other')});

# ---- rights ----
sql(q{CREATE ROLE reader; GRANT USAGE ON FOREIGN SERVER queue TO reader;
	CREATE USER MAPPING FOR reader SERVER queue;
	CREATE TABLE open (id text PRIMARY KEY, state text);
	CREATE TABLE secret (id text PRIMARY KEY, state text);
	SELECT persistomata.attach('open', 'lamp');
	SELECT persistomata.attach('secret', 'lamp');
	GRANT SELECT ON open TO reader;
	SET ROLE reader;
	SELECT persistomata.create_route('mine', 'queue', types => '{init}', options => '{"stream": "mine"}')});
sql(q{INSERT INTO open VALUES ('o1'); INSERT INTO secret VALUES ('s1')});
ok(drained('mine'), 'a route by a glob comes to the end');
is(keys_in('mine'), 'o1', 'with the events that its owner may read');
sql(q{CREATE TABLE later (id text PRIMARY KEY, state text); SELECT persistomata.attach('later', 'lamp');
	INSERT INTO later VALUES ('l1'); GRANT SELECT ON secret TO reader; REVOKE SELECT ON open FROM reader});
sql(q{INSERT INTO open VALUES ('o2'); INSERT INTO secret VALUES ('s2')});
ok(drained('mine'), 'and goes on');
is(keys_in('mine'), 'o1,s2', 'rights are those of the moment, for tables made later too');
sql(q{CREATE FUNCTION whoami(text) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'reader' THEN RAISE 'not %', current_user; END IF;
		RETURN true;
	END $$;
	SET ROLE reader;
	SELECT persistomata.create_route('self', 'queue', types => '{init}', filter => 'whoami(key)', options => '{"stream": "self"}')});
sql(q{INSERT INTO secret VALUES ('s3')});
ok(drained('self'), 'a filter runs');
is(keys_in('self'), 's3', 'as the owner of the route');

$node->stop;
done_testing();
