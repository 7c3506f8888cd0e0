# The log's disk space: what happens at persistomata.max_log_size, and without it.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $node = new_node('limit', 'persistomata.turn_size' => "'1MB'", 'persistomata.retention' => "'1d'",
	'persistomata.turn_interval' => "'1d'", max_prepared_transactions => 5);
my $redis = sink_server('redis');
$node->safe_psql('postgres', q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('tank', $$flowchart LR
	  none -->|fill!| full
	  full -->|drain| empty
	  empty -->|fill| full
	$$);
	CREATE TABLE tank (id int PRIMARY KEY, state text, note text);
	SELECT persistomata.attach('tank', 'tank')});
create_sink($node, 'postgres', 'queue', $redis);

my $next = 1;
my $logged_events = 'SELECT position FROM persistomata.stat_log';

# fill($n): so many events of 2 kB and more, each a transaction
sub fill
{
	my ($n) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', qq{
		INSERT INTO tank SELECT i, NULL, (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 64) j)
		  FROM generate_series($next, $next + $n - 1) i});
	$next += $n if $rc == 0;
	return $err;
}

sub value { return $node->safe_psql('postgres', $_[0]); }

# set($name => $value, …): and wait until all have heard
sub set
{
	my (%settings) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET persistomata.$_ = '$settings{$_}'") for sort keys %settings;
	$node->reload;
	ok(wait_for_value($node, 'postgres', "SHOW persistomata.$_", $settings{$_}), "$_ is set") for sort keys %settings;
	return;
}

# fill_until($condition): while the log goes on, in small steps
sub fill_until
{
	my ($condition, $what) = @_;
	return wait_for(sub { my $error = fill(200); die $error if $error && $error !~ /log is full/; return $condition->($error) }, $what, 90);
}

# ---- without a limit ----

my $past = "SELECT count(*) FROM persistomata.stat_ring WHERE state IN ('open', 'closed')";
$node->safe_psql('postgres', q{SELECT persistomata.create_route('fast', 'queue', options => '{"stream": "fast"}');
	SELECT persistomata.create_route('lame', 'queue', options => '{"stream": "lame"}')});
ok(fill_until(sub { value($past) >= 2 }, 'two turns'), 'the ring turns while older slots wait for their retention');
my $log_from = -s $node->logfile;
ok(fill_until(sub { slurp_file($node->logfile, $log_from) =~ /the event log of database "postgres" takes (\d+) MB/ }, 'a warning'),
	'a log that outgrows its ring is told of');
ok(wait_for_drain($node, 'postgres', 'lame'), 'routes have passed it all');
ok(wait_for_value($node, 'postgres', "SELECT DISTINCT left(pinned_by, 15) FROM persistomata.stat_ring WHERE state = 'closed'",
		'retention until'), 'only the retention keeps it');

# ---- space is more than retention ----

my ($rc, $out, $err) = $node->psql('postgres', q{SET persistomata.max_log_size = '3MB'});
like($err, qr/cannot be changed now/, 'the limit is set for the server');
($rc, $out, $err) = $node->psql('postgres', q{ALTER SYSTEM SET persistomata.max_log_size = '3MB'});
like($err, qr/at least 8 MB/, 'too small a limit is none');
set(max_log_size => '8MB');
fill(1);
ok(wait_for(sub { value('SELECT bytes < 8388608 FROM persistomata.stat_log') eq 't' }, 'space'), 'what is passed goes before its time');
is(value('SELECT sum(skipped) FROM persistomata.stat_route'), '0', 'and nothing else');

# ---- refuse ----

$node->safe_psql('postgres', "SELECT persistomata.disable_route('lame')");
my $refusal;
ok(fill_until(sub { $refusal = $_[0]; return $refusal =~ /log is full/ }, 'a refusal'), 'at the limit writes are refused');
like($refusal, qr/It has reached persistomata.max_log_size, 8 MB/, 'and why');
cmp_ok(value('SELECT bytes FROM persistomata.stat_log'), '<', 16 * 1024 * 1024, 'not long after it');
is(value("SELECT state FROM persistomata.stat_ring WHERE state IN ('full', 'current')"), 'full', 'stat_ring shows it');
is(value("SELECT DISTINCT pinned_by FROM persistomata.stat_ring WHERE state = 'closed'"), 'route lame', 'and who keeps it');
for my $write (q{UPDATE tank SET state = 'empty' WHERE id = 1}, q{SELECT persistomata.fire('tank', '1', 'drain')},
	q{SELECT persistomata.try_fire('tank', '1', 'drain')}, q{DELETE FROM tank WHERE id = 1})
{
	($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$write");
	like($err, qr/53400/, "53400: $write");
}
is(value('SELECT state FROM tank WHERE id = 1'), 'full', 'nothing has changed');
is(value("SELECT count(*) FROM persistomata.event WHERE event = 'drain' OR type NOT IN ('init', 'state')"), '0', 'nor been logged');
$node->safe_psql('postgres', q{UPDATE tank SET id = id WHERE id = 1; CREATE TABLE other AS SELECT 1});
pass('what is no event goes on');
is(value("SELECT string_agg(k.route::text, ',') IS NULL FROM persistomata.route_skip k"), 't', 'nothing is dropped');
$node->restart('immediate');
like(fill(1), qr/log is full/, 'a crash frees nothing');
$node->safe_psql('postgres', "SELECT persistomata.enable_route('lame')");
ok(wait_for(sub { fill(1) eq '' }, 'a write'), 'once the route has passed, writes go on by themselves');
ok(wait_for_drain($node, 'postgres', 'lame'), 'it misses nothing');
my $logged = value($logged_events);
is(client($redis)->command('XLEN', 'lame'), $logged, 'every event is there');
is(client($redis)->command('XLEN', 'fast'), $logged, 'in both streams');

# ---- drop_oldest ----

set(log_full => 'drop_oldest');
$node->safe_psql('postgres', "SELECT persistomata.disable_route('lame')");
my $first = $next;
$log_from = -s $node->logfile;
ok(fill_until(sub { value("SELECT skipped FROM persistomata.stat_route WHERE route = 'lame'") > 2000 }, 'dropped events'),
	'the oldest is dropped, time and again');
is(fill(1), '', 'and writes go on');
is(value("SELECT skipped FROM persistomata.stat_route WHERE route = 'fast'"), '0', 'a route that keeps up loses nothing');
like(slurp_file($node->logfile, $log_from), qr/WARNING:  route "lame" loses \d+ positions of the event log/, 'it is told');
unlike(slurp_file($node->logfile, $log_from), qr/route "fast" loses/, 'of those that lose only');
my $skipped = value("SELECT skipped FROM persistomata.stat_route WHERE route = 'lame'");
is(value(q{SELECT count(*) FROM (SELECT from_position, lag(to_position) OVER (ORDER BY to_position) + 1 AS want
		FROM persistomata.route_skip) k WHERE from_position <> want}), '0', 'what is dropped is one run of positions');
ok(wait_for_drain($node, 'postgres', 'fast'), 'the other goes on');
is(client($redis)->command('XLEN', 'fast'), value($logged_events), 'with every event');
$node->safe_psql('postgres', "SELECT persistomata.enable_route('lame')");
ok(wait_for_drain($node, 'postgres', 'lame'), 'the lame one goes on after the gap');
$skipped = value("SELECT skipped FROM persistomata.stat_route WHERE route = 'lame'");
is(client($redis)->command('XLEN', 'lame'), value($logged_events) - $skipped, 'and has all but what it skipped');
my @got = map { $_->{fields}{position} } client($redis)->entries('lame');
is(scalar(grep { $got[$_] <= $got[ $_ - 1 ] } 1 .. $#got), 0, 'in order, nothing twice');

# ---- a writer that was late at the turn: a cut has rows in several slots ----

$node->safe_psql('postgres', "SELECT persistomata.disable_route('lame')");
$node->safe_psql('postgres', "BEGIN; INSERT INTO tank VALUES (0, NULL, 'late'); PREPARE TRANSACTION 'late'");
ok(fill_until(sub { value($past) >= 3 && value("SELECT count(*) FROM persistomata.stat_ring WHERE state = 'open'") >= 1 }, 'turns'),
	'the ring turns behind an open transaction');
is(value("SELECT DISTINCT pinned_by FROM persistomata.stat_ring WHERE state = 'open'"), 'writer prepared', 'which is shown');
$node->safe_psql('postgres', "COMMIT PREPARED 'late'");
ok(fill_until(sub { value("SELECT skipped FROM persistomata.stat_route WHERE route = 'lame'") > $skipped }, 'dropped events'), 'its slot is dropped');
$node->safe_psql('postgres', "SELECT persistomata.enable_route('lame')");
ok(wait_for_drain($node, 'postgres', 'lame'), 'the route goes on');
$skipped = value("SELECT skipped FROM persistomata.stat_route WHERE route = 'lame'");
is(client($redis)->command('XLEN', 'lame'), value($logged_events) - $skipped, 'with all but what it skipped');
my %at;
is(scalar(grep { $at{ $_->{fields}{position} }++ } client($redis)->entries('lame')), 0, 'no position is used twice');
my %name = map { split /\|/ } split /\n/, value('SELECT position, name FROM persistomata.events(1, 1000000)');
my %sent = map { $_->{fields}{position} => $_->{fields}{name} } client($redis)->entries('lame');
is(scalar(grep { exists $sent{$_} && $sent{$_} ne $name{$_} } keys %name), 0, 'and each is that of the same event for all');

# ---- while a worker stands in the midst of it ----

$redis->pause;
my $before = $skipped;
ok(fill_until(sub { value("SELECT count(*) FROM persistomata.stat_route WHERE skipped > $before") == 1
			&& value("SELECT count(*) FROM persistomata.stat_route WHERE skipped > 0") == 2 }, 'dropped events'),
	'a sink that is stuck holds nothing up');
$redis->resume;
for my $route (qw(lame fast))
{
	ok(wait_for_drain($node, 'postgres', $route), "$route catches up");
	my $missing = value("SELECT skipped FROM persistomata.stat_route WHERE route = '$route'");
	my $have = client($redis)->command('XLEN', $route);
	cmp_ok($have, '>=', value($logged_events) - $missing, "$route has all but what it skipped");
	my @names = map { $_->{fields}{name} } client($redis)->entries($route);
	my %seen;
	is(scalar(grep { $seen{$_}++ } @names), 0, "$route has nothing twice");
}
$node->safe_psql('postgres', "SELECT persistomata.drop_route('lame')");
is(value("SELECT count(*) FROM persistomata.route_skip k LEFT JOIN persistomata.route r ON r.id = k.route WHERE r.id IS NULL"), '0',
	'a dropped route leaves nothing');
ok(wait_for(sub { value("SELECT bytes < 8388608 FROM persistomata.stat_log") eq 't' }, 'space'), 'and pins nothing');

# ---- no limit any more ----

set(log_full => 'refuse', max_log_size => '0');
is(fill(200), '', 'without a limit nothing is refused');
$node->stop;
done_testing();
