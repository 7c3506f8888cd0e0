# Events in three real sinks: every one, once, whatever ends in the middle.

use strict;
use warnings;
use JSON::PP;
use PstTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

# Redis keeps what it has acknowledged, as one that matters does
my %server = map { $_ => sink_server($_) } qw(clickhouse rabbitmq);
$server{redis} = sink_server('redis', options => [ '--appendonly', 'yes', '--appendfsync', 'always' ]);
my $node = new_node('main', synchronous_commit => 'off', restart_after_crash => 'on',
	max_prepared_transactions => 5);
my $db = 'postgres';

$node->safe_psql($db, <<'SQL');
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('tick', $$flowchart LR
  born -->|create!| off
  off  -->|"on / n = n + 1"| on
  on   -->|"off / n = n + 1"| off
$$);
CREATE TABLE tick (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0);
SELECT persistomata.attach('tick', 'tick');
SQL
create_sink($node, $db, 'ch', $server{clickhouse});
create_sink($node, $db, 'mq', $server{rabbitmq});
create_sink($node, $db, 'rd', $server{redis});

my $broker = client($server{rabbitmq});
$broker->declare_exchange('persistomata', 'topic');
$broker->declare_queue('q');
$broker->bind_queue('q', 'persistomata', '#');

$node->safe_psql($db, "SELECT persistomata.create_route('r_$_', '$_', 'tick') FROM (VALUES ('x')) v") for qw(ch mq rd);
$node->safe_psql($db, 'INSERT INTO tick SELECT g FROM generate_series(1, 100) g');
ok(wait_for_drain($node, $db, "r_$_"), "$_ drains") for qw(ch mq rd);

# What each sink holds, by name; dies if one is there twice (RabbitMQ may).
sub in_clickhouse
{
	return [ map { $_->{name} } client($server{clickhouse})->rows('SELECT name FROM tick ORDER BY position') ];
}

sub in_redis
{
	my $entries = client($server{redis})->command('XRANGE', 'persistomata:tick', '-', '+');
	return [ map { my %f = @{ $_->[1] }; $f{name} } @$entries ];
}

my %in_rabbit;
my $rabbit_repeats = 0;
sub read_rabbit
{
	my $b = client($server{rabbitmq});
	$b->consume('q');
	while (my $message = $b->next_message(1))
	{
		my $name = decode_json($message->{body})->{name};
		is($message->{message_id}, "$name/r_mq", 'a message is named by its event and route')
		  if !%in_rabbit;
		$rabbit_repeats++ if $in_rabbit{$name}++;
		$b->ack($message) if $b->can('ack');
	}
	$b->close;
	return;
}

sub logged
{
	return [ split /\n/, $node->safe_psql($db,
			"SELECT h.log_id || '-1-' || e.event_id FROM persistomata.event e, persistomata.log_home h ORDER BY e.event_id") ];
}

sub check_all
{
	my ($what) = @_;
	ok(wait_for_drain($node, $db, "r_$_"), "$what: $_ drains") for qw(ch mq rd);
	my $log = logged();
	my ($ch, $rd) = (in_clickhouse(), in_redis());
	is_deeply([ sort @$ch ], [ sort @$log ], "$what: ClickHouse holds each event once");
	is_deeply([ sort @$rd ], [ sort @$log ], "$what: Redis holds each event once");
	read_rabbit();
	is(scalar(keys %in_rabbit), scalar(@$log), "$what: RabbitMQ has had each event");
	return;
}
check_all('at rest');

# load($seconds): fires from four sessions in the background
sub load
{
	my ($seconds) = @_;
	my $script = $node->basedir . '/load.sql';
	open(my $out, '>', $script) or die;
	print $out "\\set id random(1, 100)\n"
	  . "SELECT persistomata.fire('tick', :id, CASE state WHEN 'on' THEN 'off' ELSE 'on' END) FROM tick WHERE id = :id;\n";
	close $out;
	my $pid = fork;
	if (!$pid)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		exec('pgbench', '-n', '-c', 4, '-R', 400, '-T', $seconds, '-f', $script, $node->connstr($db));
	}
	return $pid;
}

sub worker_pids
{
	return split /\n/, $node->safe_psql($db,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'persistomata sink'");
}

# kill -9 of sink workers in mid-flight: the server restarts, and they go on
for my $round (1 .. 3)
{
	my $load = load(3);
	sleep 1 + $round / 7;
	kill 'KILL', (worker_pids())[ $round - 1 ];
	waitpid($load, 0);
	ok(wait_for(sub { $node->safe_psql($db, 'SELECT 1') eq '1' }, 'recovery'), "round $round: the server recovered");
}
check_all('after kill -9 of each worker');

# an immediate stop while events are delivered, synchronous_commit off: no phantom, no loss
my $load = load(3);
sleep 1.3;
$node->stop('immediate');
waitpid($load, 0);
$node->start;
check_all('after an immediate stop');

# each sink goes down in the middle and comes back
$load = load(6);
sleep 0.5;
$server{redis}->stop;
$server{clickhouse}->pause;
sleep 1;
$server{clickhouse}->resume;
$server{redis}->restart;
waitpid($load, 0);
check_all('after an outage of Redis and a pause of ClickHouse');

# savepoints and prepared transactions
$node->safe_psql($db, <<'SQL');
BEGIN; INSERT INTO tick VALUES (201); SAVEPOINT s; INSERT INTO tick VALUES (202); ROLLBACK TO s; INSERT INTO tick VALUES (203); COMMIT;
BEGIN; INSERT INTO tick VALUES (204); PREPARE TRANSACTION 'p';
SQL
check_all('with a transaction prepared');
$node->safe_psql($db, "COMMIT PREPARED 'p'");
my $prepared = logged()->[-1];
ok(wait_for(sub { grep { $_ eq $prepared } @{ in_redis() } }, 'the prepared event'), 'a prepared event is delivered by itself');
check_all('with it committed');

note("RabbitMQ repeats: $rabbit_repeats");
$node->stop('fast');
done_testing();
