# Sinks that hang hold up nothing: DROP DATABASE, of another database too, and a
# fast shutdown answer in under two seconds.  Then the plain troubles, each told
# clearly and with nothing lost; and time events.

use strict;
use warnings;
use PstTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my %server = map { $_ => sink_server($_) } qw(clickhouse rabbitmq redis);
my $node = new_node('main', max_worker_processes => 32);
my $machine = <<'SQL';
CREATE EXTENSION persistomata;
SELECT persistomata.create_machine('coffee', $$flowchart LR
  idle --> |power_on!| ready
  ready --> |insert_money| brewing
  brewing --> |finish| done
  brewing --> |"after (100 milliseconds)"| done
  done --> |take_coffee| ready
  ready --> |power_off| off
  done --> |power_off| off
$$);
CREATE TABLE coffee (id int PRIMARY KEY, state text);
SELECT persistomata.attach('coffee', 'coffee');
SQL

sub took
{
	my ($what, $code) = @_;
	my $start = time;
	$code->();
	my $seconds = time - $start;
	cmp_ok($seconds, '<', 2, sprintf('%s took %.2f s', $what, $seconds));
	return;
}

sub make_database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, $machine);
	create_sink($node, $name, 'ch', $server{clickhouse});
	create_sink($node, $name, 'mq', $server{rabbitmq});
	$node->safe_psql($name, "SELECT persistomata.create_route('r_ch', 'ch', 'coffee')");
	$node->safe_psql($name, "SELECT persistomata.create_route('r_mq', 'mq', 'coffee')");
	return;
}

my $broker = client($server{rabbitmq});
$broker->declare_exchange('persistomata', 'topic');
$broker->declare_queue('q');
$broker->bind_queue('q', 'persistomata', '#');
$broker->close;

# ---- hanging sinks ----

for my $trouble ('stopped', 'under a memory alarm')
{
	make_database($_) for qw(one two);
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	if ($trouble eq 'stopped')
	{
		$server{rabbitmq}->pause;
	}
	else
	{
		$server{rabbitmq}->ctl('set_vm_memory_high_watermark', 'absolute', '1');
		sleep 1;
	}
	$server{clickhouse}->pause;
	$node->safe_psql($_, 'INSERT INTO coffee SELECT g FROM generate_series(1, 20000) g') for qw(one two);
	sleep 1.5;
	took("dropping another database, RabbitMQ $trouble",
		sub { $node->safe_psql('postgres', 'DROP DATABASE other') });
	took("DROP DATABASE WITH (FORCE), RabbitMQ $trouble",
		sub { $node->safe_psql('postgres', 'DROP DATABASE one WITH (FORCE)') });
	took("stop_workers() and DROP DATABASE, RabbitMQ $trouble", sub {
		$node->safe_psql('two', 'SELECT persistomata.stop_workers()');
		$node->safe_psql('postgres', 'DROP DATABASE two');
	});
	make_database('three');
	$node->safe_psql('three', 'INSERT INTO coffee SELECT g FROM generate_series(1, 20000) g');
	sleep 1.5;
	took("fast shutdown, RabbitMQ $trouble", sub { $node->stop('fast') });
	$server{clickhouse}->resume;
	if ($trouble eq 'stopped')
	{
		$server{rabbitmq}->resume;
	}
	else
	{
		$server{rabbitmq}->ctl('set_vm_memory_high_watermark', '0.4');
	}
	$node->start;
	ok(wait_for_drain($node, 'three', "r_$_"), "and after it $_ drains") for qw(ch mq);
	$node->safe_psql('three', 'SELECT persistomata.stop_workers()');
	$node->safe_psql('postgres', 'DROP DATABASE three');
	client($server{clickhouse})->query("DROP TABLE IF EXISTS $_") for qw(coffee coffee_latest coffee_latest_feed);
}

# ---- down at the start, wrong password, wrong options ----

$node->safe_psql('postgres', $machine);
create_sink($node, 'postgres', 'rd', $server{redis});
$server{redis}->stop;
$node->safe_psql('postgres', "SELECT persistomata.create_route('r_rd', 'rd', 'coffee')");
$node->safe_psql('postgres', 'INSERT INTO coffee VALUES (1)');
ok(wait_for_value($node, 'postgres',
		"SELECT state, last_error IS NOT NULL, lag_events FROM persistomata.stat_route", 'retrying|t|2'),
	'a sink that is down at the start: it waits, and says why');
$server{redis}->restart;
ok(wait_for_drain($node, 'postgres', 'r_rd'), 'and goes on by itself');
is(client($server{redis})->command('XLEN', 'persistomata:coffee'), 2, 'with nothing lost');

client($server{redis})->command('CONFIG', 'SET', 'requirepass', 'right');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR CURRENT_USER SERVER rd OPTIONS (ADD password 'wrong-secret')");
$node->safe_psql('postgres', 'INSERT INTO coffee VALUES (2)');
ok(wait_for_value($node, 'postgres', 'SELECT state FROM persistomata.stat_route', 'misconfigured'),
	'a wrong password is misconfigured');
unlike($node->safe_psql('postgres', 'SELECT last_error FROM persistomata.stat_route'), qr/wrong-secret/,
	'without telling the password');
is((grep { /wrong-secret/ && !/statement: ALTER USER MAPPING/ }
		split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile)),
	0, 'nor in the log, but for the statement itself');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR CURRENT_USER SERVER rd OPTIONS (SET password 'right')");
ok(wait_for_drain($node, 'postgres', 'r_rd'), 'it goes on when the password is mended');

my ($rc, $out, $err) = $node->psql('postgres',
	"CREATE SERVER bad FOREIGN DATA WRAPPER persistomata_redis OPTIONS (hots 'x')");
like($err, qr/invalid option "hots".*HINT:.*host.*port/s, 'a wrong option: the valid ones are named');

# ---- time events ----

$node->safe_psql('postgres', "SELECT persistomata.fire('coffee', 1, 'insert_money')");
is($node->safe_psql('postgres', "SELECT fsm, key, event FROM persistomata.timer"),
	'coffee|1|after (100 milliseconds)', 'a timer is a row to look at');
ok(wait_for_value($node, 'postgres', "SELECT state FROM coffee WHERE id = 1", 'done'), 'the brewing finishes by itself');
is($node->safe_psql('postgres', "SELECT count(*) FROM persistomata.timer"), '0', 'and its timer is gone');
is($node->safe_psql('postgres',
		"SELECT event, from_state, to_state, actor = current_user FROM persistomata.event WHERE key = '1' ORDER BY event_id DESC LIMIT 1"),
	'after (100 milliseconds)|brewing|done|t', 'as an event of its own, by the owner');
$node->safe_psql('postgres', "SELECT persistomata.fire('coffee', 1, 'take_coffee'); SELECT persistomata.fire('coffee', 1, 'insert_money'); SELECT persistomata.fire('coffee', 1, 'finish')");
is($node->safe_psql('postgres', "SELECT count(*) FROM persistomata.timer"), '0', 'a state that is left takes its timer along');
$node->safe_psql('postgres', "SELECT persistomata.fire('coffee', 2, 'insert_money')");
$node->stop('immediate');
$node->start;
ok(wait_for_value($node, 'postgres', "SELECT state FROM coffee WHERE id = 2", 'done'), 'a timer fires after a crash, too');
is($node->safe_psql('postgres', "SELECT count(*) FROM persistomata.event WHERE key = '2' AND to_state = 'done'"), '1', 'once');

$node->stop('fast');
done_testing();
