# Whose log it is: a restored dump is silent until it is taken over; a promoted
# standby goes on, under positions and names of its own.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('home', allows_streaming => 1, autovacuum => 'off');
my $redis = sink_server('redis');
my $newest = "SELECT coalesce(max(first_position + events), 1) FROM persistomata.cuts()";

$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	  green -->|off| dark
	$$);
	CREATE TABLE lamp (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
});
create_sink($node, 'postgres', 'queue', $redis);
$node->safe_psql('postgres', q{SELECT persistomata.create_route('r', 'queue', options => '{"stream": "s"}')});
$node->safe_psql('postgres', 'INSERT INTO lamp SELECT FROM generate_series(1, 3)');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == 3 }, 'three entries'), 'the log is sent');
ok(wait_for_drain($node, 'postgres', 'r'), 'and acknowledged');

# ---- a dump, restored beside it ----
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ],
	'is restored without an error');
is($node->safe_psql('copy', 'SELECT count(*) FROM persistomata.event'), 3, 'the log came along');
$node->safe_psql('copy', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_value($node, 'copy', q{SELECT state FROM persistomata.stat_worker WHERE database = 'copy' AND kind = 'scheduler'}, 'foreign'),
	'its scheduler sees that it is not ours');
sleep 1;
is(client($redis)->command('XLEN', 's'), 3, 'and nothing is sent');
$node->safe_psql('copy', q{SELECT persistomata.takeover()});
$node->safe_psql('copy', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_value($node, 'copy', 'SELECT string_agg(key, \' \') FROM persistomata.events(4294967296, 9223372036854775807)', 5),
	'taken over, it begins with what comes');
$node->safe_psql('copy', q{SELECT persistomata.drop_route('r'); SELECT persistomata.stop_workers()});
$node->safe_psql('postgres', 'DROP DATABASE copy');

# ---- a standby ----
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for_drain($node, 'postgres', 'r'), 'the primary sends');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'persistomata%'}), 0,
	'nothing runs on a standby');
my $before = client($redis)->command('XLEN', 's');

# what the standby never saw, the primary has sent
$standby->stop;
$node->safe_psql('postgres', 'INSERT INTO lamp DEFAULT VALUES');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == $before + 1 }, 'one more'), 'one more event, that the standby lacks');
my %lost = @{ client($redis)->command('XREVRANGE', 's', '+', '-', 'COUNT', 1)->[0][1] };
$node->stop('immediate');
$standby->start;
$standby->promote;
$standby->safe_psql('postgres', 'INSERT INTO lamp SELECT FROM generate_series(1, 2)');
ok(wait_for(sub { client($redis)->command('XLEN', 's') == $before + 3 }, 'two more'), 'the promoted standby sends what is new');
ok(wait_for_drain($standby, 'postgres', 'r'), 'and acknowledges');
my $entries = client($redis)->command('XRANGE', 's', '-', '+');
my %last = @{ $entries->[-1][1] };
cmp_ok($last{position}, '>=', 2**32, 'its positions are far ahead');
like($last{name}, qr/^[0-9a-f]+-2-\d+$/, 'its names are of its timeline');
my %seen;
for my $entry (@$entries)
{
	my %fields = @{ $entry->[1] };
	$seen{ $fields{name} }++;
}
is(scalar(grep { $_ > 1 } values %seen), 0, 'no name twice');
is($standby->safe_psql('postgres', 'SELECT string_agg(timeline::text, \' \' ORDER BY timeline) FROM persistomata.node'), '1 2', 'both timelines have a node');

# what the old primary had sent and this one lacks is named, and not taken for ours
my $run = $standby->safe_psql('postgres', q{SELECT persistomata.reconcile('r')});
ok(wait_for_value($standby, 'postgres', "SELECT state FROM persistomata.reconciliation WHERE run = $run", 'done', 60), 'stream and log are compared');
is($standby->safe_psql('postgres', "SELECT missing FROM persistomata.reconciliation WHERE run = $run"), 0, 'nothing of the log is missing');
is($standby->safe_psql('postgres', "SELECT string_agg(name, ' ') FROM persistomata.reconciliation_detail d, unnest(d.diverged_names) name WHERE run = $run"),
	$lost{name}, 'and the event that only the old primary knew is named');
$standby->stop;
done_testing();
