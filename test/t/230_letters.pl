# What a sink refuses for its content becomes a dead letter, once, and can be
# sent again or thrown away; the rest goes on.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

plan skip_all => 'needs the test module sink_probe'
  unless -e "$ENV{PST_TEST_DIR}/modules/sink_probe/sink_probe.so"
  || system('test -e "$(pg_config --pkglibdir)/sink_probe.so"') == 0;

my $node = new_node('letters', shared_preload_libraries => "'persistomata, sink_probe'");
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	CREATE EXTENSION sink_probe;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|off| dark
	$$);
	CREATE TABLE lamp (id text PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
	CREATE SERVER memory FOREIGN DATA WRAPPER sink_probe_memory;
	SELECT persistomata.create_route('m', 'memory');
	INSERT INTO lamp VALUES ('a'), ('bad'), ('c');
});
my $state = 'SELECT sent, dead, lag_events FROM persistomata.stat_route';
ok(wait_for_value($node, 'postgres', $state, '2|1|0'), 'one is refused, the others are delivered');
is($node->safe_psql('postgres', q{SELECT route, position, event->>'key', retrying FROM persistomata.dead_letter}),
	'm|2|bad|f', 'the dead letter has the event');
my $id = $node->safe_psql('postgres', 'SELECT id FROM persistomata.dead_letter');

$node->safe_psql('postgres', "SELECT persistomata.retry_dead_letter($id)");
ok(wait_for_value($node, 'postgres', 'SELECT retrying FROM persistomata.dead_letter', 'f'), 'refused again, it is kept');
$node->safe_psql('postgres', qq{
	UPDATE persistomata.dead_letter_entry SET event = event || '{"key": "good"}';
	SELECT persistomata.retry_dead_letter($id)});
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM persistomata.dead_letter', '0'), 'taken, it is gone');
ok(wait_for_value($node, 'postgres', $state, '3|0|0'), 'and counted');
# ---- what would be refused whatever it is waits, says so, and holds nobody up ----
my $broker = sink_server('rabbitmq');
my $amqp = client($broker);
$amqp->declare_exchange('persistomata', 'topic')->declare_queue('taken');
$amqp->bind_queue('taken', 'persistomata', 'a.#');
create_sink($node, 'postgres', 'broker', $broker);
$node->safe_psql('postgres', q{
	SELECT persistomata.drop_route('m');
	SELECT persistomata.create_route('q', 'broker', options => '{"routing_key": "{key}"}');
	INSERT INTO lamp VALUES ('a.1')});
ok(wait_for_drain($node, 'postgres', 'q', 60), 'a route that delivers');
$node->safe_psql('postgres', q{INSERT INTO lamp VALUES ('b.1')});
my $letters = q{SELECT event->>'key', retrying, reason LIKE 'no queue is bound %' FROM persistomata.dead_letter};
ok(wait_for_value($node, 'postgres', $letters, 'b.1|f|t'), 'an event that no queue takes is a dead letter');
$node->restart;
$node->safe_psql('postgres', q{UPDATE persistomata.dead_letter_entry SET reason = 'earlier';
	SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter});
$state = q{SELECT state, last_error LIKE 'no queue is bound %' FROM persistomata.stat_route};
ok(wait_for_value($node, 'postgres', $state, 'misconfigured|t'), 'retried where nothing else was taken yet, it is held as the route would be');
is($node->safe_psql('postgres', $letters), 'b.1|t|t', 'and says what it waits for');
like(slurp_file($node->logfile), qr/LOG:  route "q" to server "broker" waits/, 'so does the log');
my $probe = $node->safe_psql('postgres', 'SELECT last_error_at FROM persistomata.stat_route');
ok(wait_for(sub { $node->safe_psql('postgres', 'SELECT last_error_at FROM persistomata.stat_route') ne $probe }, 'another try'), 'it probes');
$amqp->declare_queue('late');
$amqp->bind_queue('late', 'persistomata', 'b.#');
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM persistomata.dead_letter', 0, 60), 'and goes once it can be routed');
is($amqp->count('late'), 1, 'to the queue');
ok(wait_for_value($node, 'postgres', 'SELECT state FROM persistomata.stat_route', 'idle'), 'the route is as before');

$node->safe_psql('postgres', q{INSERT INTO lamp VALUES ('c.1')});
ok(wait_for_value($node, 'postgres', $letters, 'c.1|f|t'), 'another dead letter');
$node->restart;
$node->safe_psql('postgres', q{SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter});
ok(wait_for_value($node, 'postgres', $state, 'misconfigured|t'), 'that is held');
$node->safe_psql('postgres', q{INSERT INTO lamp VALUES ('a.2')});
ok(wait_for(sub { $amqp->count('taken') == 2 }, 'the event'), 'events are sent beside it');
ok(wait_for_value($node, 'postgres', $letters, 'c.1|f|t', 60), 'and once the route is known to deliver, it alone is refused again');
$node->stop;
done_testing();
