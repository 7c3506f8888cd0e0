# A physical copy of the cluster beside the original, both with a route to one
# stream: the one that began later delivers, the other is fenced.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $redis = sink_server('redis');
my $node = new_node('original', allows_streaming => 1, autovacuum => 'off');
my $state = q{SELECT state FROM persistomata.stat_route WHERE route = 'r'};

$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|off| dark
	$$);
	CREATE TABLE lamp (id int PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
});
create_sink($node, 'postgres', 'queue', $redis);
$node->safe_psql('postgres', q{SELECT persistomata.create_route('r', 'queue', options => '{"stream": "s"}')});

sub make
{
	my ($on, $from, $to) = @_;
	$on->safe_psql('postgres', "INSERT INTO lamp SELECT generate_series($from, $to)");
}

sub keys_there
{
	return join(' ', map { $_->{fields}{key} } client($redis)->entries('s'));
}

sub claim
{
	return client($redis)->command('GET', '{s}:persistomata') // '';
}

make($node, 1, 3);
ok(wait_for_drain($node, 'postgres', 'r'), 'the original sends');
like(claim(), qr/^[0-9a-f]+-1-\d+-[0-9a-f]{8} r$/, 'its worker stands in the claim');

# ---- a restart of our own does not fence itself ----
my $before = claim();
$node->restart;
make($node, 4, 4);
ok(wait_for_drain($node, 'postgres', 'r'), 'it goes on after a restart');
isnt(claim(), $before, 'as another worker');
$node->stop('immediate');
$node->start;
make($node, 5, 5);
ok(wait_for_drain($node, 'postgres', 'r'), 'and after a crash');

# ---- a copy that is told not to deliver ----
$node->backup('base');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'base');
$copy->append_conf('postgresql.conf', 'persistomata.deliver = off');
$copy->start;
make($copy, 101, 102);
make($node, 6, 6);
ok(wait_for_drain($node, 'postgres', 'r'), 'the original goes on beside a silent copy');
is($copy->safe_psql('postgres', q{SELECT count(*) FROM persistomata.stat_worker WHERE kind = 'sink' AND state = 'running'}), 0,
	'which has no sink worker');
is(keys_there(), '1 2 3 4 5 6', 'and sends nothing');

# ---- and one that delivers: it began later ----
$copy->append_conf('postgresql.conf', 'persistomata.deliver = on');
$copy->reload;
# What it made before the original's last event is behind that in the stream: ids only rise.
ok(wait_for_value($copy, 'postgres', $state, 'misconfigured'), 'the copy takes over');
is(keys_there(), '1 2 3 4 5 6', 'and passes nothing over');
$copy->safe_psql('postgres', q{SELECT persistomata.disable_route('r')});
make($copy, 103, 103);
ok(wait_for_value($copy, 'postgres', q{SELECT lag_events FROM persistomata.stat_route WHERE route = 'r'}, 3), 'three wait');
$copy->safe_psql('postgres', q{SELECT persistomata.seek_route('r', position + 1) FROM persistomata.stat_route WHERE route = 'r';
	SELECT persistomata.enable_route('r')});
ok(wait_for_drain($copy, 'postgres', 'r'), 'with ids of now it delivers');
is(keys_there(), '1 2 3 4 5 6 101 102 103', 'all that it has to send');
make($node, 7, 8);
ok(wait_for_value($node, 'postgres', $state, 'fenced'), 'the original finds that out before its next event');
like($node->safe_psql('postgres', q{SELECT last_error FROM persistomata.stat_route WHERE route = 'r'}),
	qr/another copy of this cluster delivers to stream "s", and began later/, 'and says so');
make($copy, 104, 110);
ok(wait_for_drain($copy, 'postgres', 'r'), 'the copy goes on');
is(keys_there(), '1 2 3 4 5 6 101 102 103 104 105 106 107 108 109 110', 'nothing lost, nothing doubled, nothing of the other');

# ---- until somebody says otherwise ----
$node->restart;
make($node, 9, 9);
ok(wait_for_value($node, 'postgres', $state, 'fenced'), 'it is fenced after a restart, too');
make($copy, 111, 111);
ok(wait_for_drain($copy, 'postgres', 'r'), 'and does not hinder the copy');
like(keys_there(), qr/ 110 111$/, 'which sends on');
$node->safe_psql('postgres', q{SELECT persistomata.enable_route('r')});
ok(wait_for(sub { $node->safe_psql('postgres', $state) ne 'fenced' }, 'the original to go on'), 'enabled, it is the later one');
ok(wait_for(sub { my ($nonce) = claim() =~ /-1-(\d+)-/; my ($old) = $before =~ /-1-(\d+)-/; $nonce > $old }, 'a new claim'), 'and claims the stream');
make($copy, 112, 112);
ok(wait_for_value($copy, 'postgres', $state, 'fenced'), 'and the copy is fenced');
unlike(keys_there(), qr/ 112/, 'before its next event');
done_testing();
