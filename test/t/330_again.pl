# What is sent again on purpose comes again: a replay and a seek to ClickHouse,
# which drops what it takes for a repeat.  And one event that no queue takes.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $node = new_node('again');
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('door', $$flowchart LR
	  none -->|hang!| shut
	  shut -->|open| ajar
	  ajar -->|shut| shut
	  ajar -->|kick| broken
	$$);
	CREATE TABLE door (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('door', 'door', types => '{init,state}')});

sub sql { return $node->safe_psql('postgres', $_[0]); }

# ---- ClickHouse, of then and of now ----

my %server = map { $_ => sink_server($_) } qw(clickhouse chdb);
for my $kind (sort keys %server)
{
	create_sink($node, 'postgres', $kind, $server{$kind});
	sql("SELECT persistomata.create_route('$kind', '$kind', types => '{init}')");
}
sql('INSERT INTO door SELECT generate_series(1, 500)');
for my $kind (sort keys %server)
{
	my $ch = client($server{$kind});
	my $count = "SELECT concat(toString(count()), ' ', toString(uniqExact(position)), ' ', toString(uniqExact(name))) FROM door";
	my $table_is = sub { my ($want, $what) = @_; ok(wait_for(sub { $ch->value($count) eq $want }, $what), "$kind: $what") or diag($ch->value($count)); };
	ok(wait_for_drain($node, 'postgres', $kind, 120), "$kind has it all");
	$table_is->('500 500 500', 'every event is there once');
	my ($from, $to) = split /\|/, sql('SELECT min(position), max(position) FROM (SELECT position FROM persistomata.events(1, 1000000)
		WHERE type = \'init\' ORDER BY position OFFSET 100 LIMIT 200) e');
	sql("SELECT persistomata.replay('$kind', $from, $to)");
	ok(wait_for_value($node, 'postgres', "SELECT done FROM persistomata.stat_replay WHERE route = '$kind'", 't', 60), "$kind: the replay is done");
	$table_is->('700 500 500', 'the range came again');
	is($ch->value("SELECT concat(toString(min(position)), ' ', toString(max(position)))
			FROM (SELECT position FROM door GROUP BY position HAVING count() = 2)"), "$from $to", "$kind: that range");
	sql("SELECT persistomata.replay('$kind', $from, $to)");
	$table_is->('900 500 500', 'and again, a second time');
	sql("SELECT persistomata.seek_route('$kind', $from)");
	ok(wait_for_drain($node, 'postgres', $kind), "$kind: a seek drains");
	$table_is->('1300 500 500', 'from a position on, all came again');
	is($ch->value("SELECT concat(toString(count()), ' ', any(state)) FROM door_latest FINAL"), '500 none', "$kind: latest states are what they were");
	sql("SELECT persistomata.disable_route('$kind')");
	$ch = undef;
}
sql("INSERT INTO door SELECT generate_series(501, 510)");
for my $kind (sort keys %server)
{
	sql("SELECT persistomata.enable_route('$kind')");
	ok(wait_for_drain($node, 'postgres', $kind), "$kind goes on where it was");
	is(client($server{$kind})->value('SELECT count() FROM door'), 1310, "$kind: with what is new, once");
}
$server{$_}->stop for keys %server;

# ---- one event that no queue takes, on a quiet route ----

my $rabbit = sink_server('rabbitmq');
my $broker = client($rabbit);
$broker->declare_exchange('doors', 'topic');
$broker->declare_queue('swings');
$broker->bind_queue('swings', 'doors', "door.state.$_") for qw(open shut);
create_sink($node, 'postgres', 'mq', $rabbit);
sql(q{SELECT persistomata.create_route('quiet', 'mq', types => '{state}', events => '{open,shut,kick}', options => '{"exchange": "doors"}')});
sql("UPDATE door SET state = 'ajar' WHERE id = 1");
ok(wait_for_drain($node, 'postgres', 'quiet'), 'a first event is delivered');
sql("UPDATE door SET state = 'broken' WHERE id = 1");
ok(wait_for_value($node, 'postgres', "SELECT state, dead, lag_events FROM persistomata.stat_route WHERE route = 'quiet'", 'idle|1|0'),
	'one that no queue takes does not hold the route');
like(sql("SELECT reason FROM persistomata.dead_letter"), qr/no queue is bound .* "door.state.kick": NO_ROUTE/, 'it is a dead letter');
sql("UPDATE door SET state = 'ajar' WHERE id = 2");
ok(wait_for_value($node, 'postgres', "SELECT state, sent, dead FROM persistomata.stat_route WHERE route = 'quiet'", 'idle|2|1'), 'the next is delivered');
$broker->bind_queue('swings', 'doors', 'door.state.kick');
sql('SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter');
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM persistomata.dead_letter', '0'), 'once there is a queue, it is sent after all');
is($broker->count('swings'), 3, 'the queue has all three');

# a queue that is gone is no reason to refuse what comes
$broker->delete_queue('swings');
for my $id (101 .. 130)
{
	sql("UPDATE door SET state = 'ajar' WHERE id = $id");
	wait_for(sub { sql("SELECT state <> 'sending' AND (lag_events = 0 OR state = 'misconfigured') FROM persistomata.stat_route WHERE route = 'quiet'") eq 't' }, 'a verdict');
	last if sql("SELECT state FROM persistomata.stat_route WHERE route = 'quiet'") eq 'misconfigured';
}
is(sql("SELECT state FROM persistomata.stat_route WHERE route = 'quiet'"), 'misconfigured', 'without its queue the route holds');
cmp_ok(sql("SELECT dead FROM persistomata.stat_route WHERE route = 'quiet'"), '<=', 10, 'after a few dead letters');
$node->stop;
done_testing();
