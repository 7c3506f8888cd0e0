#!/usr/bin/perl
# Sessions make events while at random workers are killed, the cluster is stopped at
# once, and sinks are frozen or killed.  Four routes send to ClickHouse, a Redis
# stream, RabbitMQ and a function in the same database.  In the end every event of
# the log must be at each sink, by name, and nothing else: once, but at RabbitMQ,
# where it may be there more often.
#
#	relay.pl [--seed N] [--seconds N] [--sessions N]
#
# relay.sh sets the stage.  The seed gives the troubles and their order; what they
# meet is the machine's.  Exits with 0 if all agree.

use strict;
use warnings;
use Getopt::Long;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;
use Time::HiRes qw(sleep time);

my %opt = (seed => int(rand(1_000_000)) + 1, seconds => 300, sessions => 4);
GetOptions(\%opt, 'seed=i', 'seconds=f', 'sessions=i') or exit 2;
note("relay: --seed $opt{seed} --seconds $opt{seconds} --sessions $opt{sessions}");

my $db = 'postgres';
my %route = (clickhouse => 'ch', redis => 'rd', rabbitmq => 'mq', postgres => 'fn');
my %sink = map { $_ => sink_server($_) } qw(clickhouse redis rabbitmq);
my $node = new_node('relay', restart_after_crash => 'on', max_worker_processes => 16, log_statement => 'none');

sub sql { return $node->safe_psql($db, @_) }

# ---- the stage ----

sub set_stage
{
	my $broker = client($sink{rabbitmq});
	$broker->declare_exchange('persistomata', 'topic');
	$broker->declare_queue('q');
	$broker->bind_queue('q', 'persistomata', '#');
	$broker->close;
	sql(q{
		CREATE EXTENSION persistomata;
		SELECT persistomata.create_machine('lamp', $$
		flowchart LR
		  none -->|make!| dark
		  dark -->|press| lit
		  lit  -->|press| dark
		$$);
		CREATE TABLE lamp (id int PRIMARY KEY, state text, pressed int NOT NULL DEFAULT 0);
		SELECT persistomata.attach('lamp', 'lamp');
		CREATE TABLE seen (nth bigserial, name text, position bigint);
		CREATE FUNCTION see(event jsonb) RETURNS void LANGUAGE sql AS
			$$ INSERT INTO public.seen (name, position) VALUES (event->>'name', (event->>'position')::bigint) $$;
		CREATE SERVER fn FOREIGN DATA WRAPPER persistomata_postgres;
	});
	create_sink($node, $db, $route{$_}, $sink{$_}) for sort keys %sink;
	my %options = (postgres => '{"function": "public.see"}', redis => '{"stream": "lamp"}', clickhouse => '{"table": "lamp"}');
	sql("SELECT persistomata.create_route('$route{$_}', '$route{$_}', 'lamp', options => '"
		  . ($options{$_} // '{}') . "')") for sort keys %route;
	return;
}

# A session that comes back whenever it is thrown out; some of its transactions are
# rolled back, some have savepoints.
sub write_events
{
	my ($session, $until) = @_;
	my $round = 0;
	while (time < $until)
	{
		my $script = '';
		for (1 .. 20)
		{
			my $id = $session * 1_000_000 + ++$round;
			my $older = $session * 1_000_000 + 1 + int(rand($round));
			$script .= "BEGIN; INSERT INTO lamp VALUES ($id);\n"
			  . "SAVEPOINT s; SELECT persistomata.try_fire('lamp', $id, 'press'); "
			  . (rand() < 0.2 ? 'ROLLBACK TO s;' : 'RELEASE s;')
			  . "\nSELECT persistomata.try_fire('lamp', $older, 'press');\n"
			  . (rand() < 0.1 ? 'ROLLBACK;' : 'COMMIT;')
			  . " SELECT pg_sleep(0.01);\n";
		}
		# it may be gone before it has read all
		local $SIG{PIPE} = 'IGNORE';
		eval { IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr($db), '-f', '-' ], '<', \$script, '>', '/dev/null', '2>', '/dev/null') };
		sleep 0.1;
	}
	return;
}

# ---- troubles ----

sub worker_pids
{
	my $pids = eval { sql('SELECT pid FROM persistomata.stat_worker WHERE pid IS NOT NULL ORDER BY kind, server') };
	return split /\n/, $pids // '';
}

sub kill_worker
{
	my ($signal) = @_;
	my @pids = worker_pids() or return 'no worker to kill';
	my $pid = $pids[ rand @pids ];
	kill $signal, $pid;
	return "SIG$signal to worker $pid";
}

sub stop_cluster
{
	my ($mode) = @_;
	$node->stop($mode);
	sleep rand(1);
	$node->start;
	return "the cluster stopped, $mode";
}

sub freeze_sink
{
	my ($kind) = @_;
	my $seconds = 0.2 + rand(rand() < 0.2 ? 12 : 3);
	$sink{$kind}->pause;
	my $more = rand() < 0.4 ? ', meanwhile ' . kill_worker('KILL') : '';
	sleep $seconds;
	$sink{$kind}->resume;
	return sprintf('%s frozen for %.1f s%s', $kind, $seconds, $more);
}

my @troubles = (
	(sub { kill_worker('KILL') }) x 4,
	(sub { kill_worker('TERM') }) x 3,
	sub { stop_cluster('immediate') },
	sub { stop_cluster('fast') },
	(map { my $kind = $_; (sub { freeze_sink($kind) }) x 2 } sort keys %sink));

sub make_trouble
{
	my ($until) = @_;
	my $n = 0;
	srand($opt{seed});
	while (time < $until)
	{
		my $what = $troubles[ rand @troubles ]->();
		note(scalar(gmtime) . " $what");
		$n++;
		sleep 0.3 + rand(3);
	}
	return $n;
}

# ---- comparing ----

sub found_at
{
	my ($kind) = @_;
	return map { $_->{name} } client($sink{clickhouse})->rows('SELECT name FROM lamp') if $kind eq 'clickhouse';
	return map { $_->{fields}{name} } client($sink{redis})->entries('lamp') if $kind eq 'redis';
	return map { decode_json($_->{body})->{name} } client($sink{rabbitmq})->get_all('q') if $kind eq 'rabbitmq';
	return split /\n/, sql('SELECT name FROM seen ORDER BY nth');
}

sub some { return join(' ', @_ > 5 ? (@_[ 0 .. 4 ], '…') : @_) }

sub compare
{
	my ($kind, $wanted) = @_;
	my %found;
	$found{$_}++ for found_at($kind);
	my @missing = grep { !$found{$_} } sort keys %$wanted;
	my @strange = grep { !$wanted->{$_} } sort keys %found;
	my @doubled = grep { $found{$_} > 1 } sort keys %found;
	is(scalar(@missing), 0, "$kind: none is missing") or diag(some(@missing));
	is(scalar(@strange), 0, "$kind: none is strange") or diag(some(@strange));
	return note("$kind: " . @doubled . ' more than once') if $kind eq 'rabbitmq';
	is(scalar(@doubled), 0, "$kind: none is there twice") or diag(some(@doubled));
	return;
}

# ---- the run ----

set_stage();
my $until = time + $opt{seconds};
my @children;
for my $session (1 .. $opt{sessions})
{
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0)
	{
		srand($opt{seed} + $session);
		eval { write_events($session, $until) };
		# the servers are not the child's to stop
		POSIX::_exit(0);
	}
	push @children, $pid;
}
my $troubles = make_trouble($until);
waitpid $_, 0 for @children;
ok($troubles > 0, "$troubles troubles");
ok(wait_for_value($node, $db, 'SELECT count(*) FROM lamp WHERE false', 0, 60), 'the cluster is up');
ok(wait_for_drain($node, $db, $route{$_}, 180), "$_ has all") for sort keys %route;

my %wanted = map { $_ => 1 } split /\n/,
  sql('SELECT e.name FROM persistomata.stat_log l, persistomata.events(1, l.position) e');
ok(keys %wanted > 0, keys(%wanted) . ' events');
is(scalar(keys %wanted), sql('SELECT count(*) FROM persistomata.event'), 'each event has a name');
compare($_, \%wanted) for sort keys %route;
is(sql('SELECT count(*) FROM (SELECT position - lag(position) OVER (ORDER BY nth) AS step FROM seen) s WHERE step <= 0'),
	0, 'the function was called in the order of the log');
is(sql('SELECT count(*) FROM persistomata.dead_letter'), 0, 'no dead letters');
is(sql("SELECT string_agg(l.id || ': ' || l.state, ' ') FROM lamp l JOIN (SELECT DISTINCT ON (key) key, to_state FROM persistomata.event ORDER BY key, event_id DESC) e
	ON e.key = l.id::text WHERE e.to_state <> l.state"), '', 'each row is in the state of its last event');
unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|terminated by signal (?!9\b)/, 'nothing crashed that was not killed');
$node->stop;
done_testing();
