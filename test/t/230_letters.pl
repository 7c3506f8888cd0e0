# What a sink refuses for its content becomes a dead letter, once, and can be
# sent again or thrown away; the rest goes on.

use strict;
use warnings;
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
$node->stop;
done_testing();
