# A physical copy of the cluster beside the original, at every sink that can keep a
# nonce: the one that began later delivers, the other is fenced until it is enabled.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $db = 'postgres';
my %server = map { $_ => sink_server($_) } qw(clickhouse chdb rabbitmq redis);
my $there = PostgreSQL::Test::Cluster->new('there');
$there->init;
$there->append_conf('postgresql.conf', "fsync = off\n");
$there->start;
$there->safe_psql($db, q{CREATE ROLE writer LOGIN PASSWORD 'secret'; CREATE DATABASE sinkdb OWNER writer});
my $hba = slurp_file($there->data_dir . '/pg_hba.conf');
open(my $file, '>', $there->data_dir . '/pg_hba.conf') or die $!;
print $file "local sinkdb writer scram-sha-256\n$hba";
close $file;
$there->reload;
my $node = new_node('original', allows_streaming => 1, autovacuum => 'off');
my @routes = qw(old new mq list hash pubsub table);

$node->safe_psql($db, q{
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
create_sink($node, $db, 'ch', $server{clickhouse});
create_sink($node, $db, 'modern', $server{chdb});
create_sink($node, $db, 'broker', $server{rabbitmq});
create_sink($node, $db, 'redis', $server{redis});
my $listener = client($server{redis});
$listener->command('SUBSCRIBE', 'p');
my $amqp = client($server{rabbitmq});
$amqp->declare_exchange('persistomata', 'topic')->declare_queue('all');
$amqp->bind_queue('all', 'persistomata', '#');
$node->safe_psql($db, sprintf(q{
	CREATE SERVER there FOREIGN DATA WRAPPER persistomata_postgres OPTIONS (host '%s', port '%s', dbname 'sinkdb');
	CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (user 'writer', password 'secret');
	SELECT persistomata.create_route('table', 'there', options => '{"mode": "table", "table": "inbox"}')}, $there->host, $there->port));
$node->safe_psql($db, q{
	SELECT persistomata.create_route('mq', 'broker');
	SELECT persistomata.create_route('list', 'redis', options => '{"mode": "list", "key": "l"}');
	SELECT persistomata.create_route('hash', 'redis', options => '{"mode": "hash", "key": "h:{key}"}');
	SELECT persistomata.create_route('pubsub', 'redis', options => '{"mode": "pubsub", "key": "p"}');
	SELECT persistomata.create_route('old', 'ch');
	SELECT persistomata.create_route('new', 'modern');
});

# What each sink holds, by route: keys in order.
sub in_order { return join(' ', sort { $a <=> $b } @_) }
sub of_table { return in_order(split ' ', client($server{ $_[0] })->query('SELECT key FROM lamp')) }
my (@published, @heard);
sub heard
{
	while (my $message = eval { local $listener->{timeout} = 0.2; $listener->_reply }) { push @heard, $message->[2] =~ /"key":\s*"(\d+)"/ }
	return in_order(@heard);
}
my %held = (
	list => sub { in_order(map { /"key":\s*"(\d+)"/ } @{ client($server{redis})->command('LRANGE', 'l', 0, -1) }) },
	hash => sub { in_order(map { /(\d+)/ } @{ client($server{redis})->command('KEYS', 'h:*') }) },
	pubsub => \&heard,
	table => sub { $there->safe_psql('sinkdb', q{SELECT string_agg(key, ' ' ORDER BY key::int) FROM inbox}) },

	old => sub { of_table('clickhouse') },
	new => sub { of_table('chdb') },
	mq => sub { push @published, map { $_->{body} =~ /"key":\s*"(\d+)"/ } $amqp->get_all('all'); return in_order(@published) },
);
my %nonces = (
	old => sub { client($server{clickhouse})->value('SELECT count(), uniqExact(mark) FROM persistomata_claim FINAL') },
);

sub make
{
	my ($on, $from, $to) = @_;
	$on->safe_psql($db, "INSERT INTO lamp SELECT generate_series($from, $to)");
}

sub drains
{
	my ($on, $what) = @_;
	ok(wait_for_drain($on, $db, $_, 60), "$what: $_") || diag(log_tail($on, 20)) for @routes;
}

sub holds
{
	my ($keys, $what) = @_;
	is($held{$_}->(), $keys, "$what: $_") for @routes;
}

sub fenced
{
	my ($on, $what) = @_;
	for my $route (@routes)
	{
		ok(wait_for_value($on, $db, "SELECT state FROM persistomata.stat_route WHERE route = '$route'", 'fenced', 60), "$what: $route")
		  || diag(log_tail($on, 20));
	}
	is($on->safe_psql($db, q{SELECT DISTINCT last_error FROM persistomata.stat_route}),
		'another copy of this cluster delivers for this route, and began later', 'which last_error says');
}

make($node, 1, 3);
drains($node, 'the original sends');

# ---- what runs before and after a restart is the same ----
$node->restart;
make($node, 4, 4);
drains($node, 'it goes on after a restart');
$node->stop('immediate');
$node->start;
make($node, 5, 5);
drains($node, 'and after a crash');

# ---- a copy begins later ----
$node->backup('base');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'base');
$copy->start;
make($copy, 101, 102);
drains($copy, 'a copy delivers, since it began later');
holds('1 2 3 4 5 101 102', 'what both made is there');
# nothing is asked while nothing is sent; each reading is a query itself
sub queries { return client($server{clickhouse})->value("SELECT value FROM system.events WHERE event = 'Query'") }
ok(wait_for(sub { my $before = queries(); sleep 3; queries() == $before + 1 }, 'a quiet server', 60), 'idle, both ask nothing');
sleep 3;	# for five seconds the original relies on its last look
make($node, 6, 7);
fenced($node, 'the original finds that out');
holds('1 2 3 4 5 101 102', 'and sends nothing');
like(slurp_file($node->logfile), qr/HINT:  See that only one copy delivers; persistomata.enable_route\(\) makes this one the later/,
	'its log says what to do');

# ---- until somebody says otherwise ----
$node->restart;
make($node, 8, 8);
fenced($node, 'it is fenced after a restart, too');
make($copy, 103, 103);
drains($copy, 'and does not hinder the copy');
holds('1 2 3 4 5 101 102 103', 'which alone sends');

# ---- the other order: the original becomes the later one ----
$node->safe_psql($db, "SELECT persistomata.enable_route('$_')") for @routes;
drains($node, 'enabled, the original sends what waited');
sleep 6;
make($copy, 104, 104);
fenced($copy, 'and the copy is fenced');
is($held{table}->(), '1 2 3 4 5 101 102 103', 'where a name can be there but once, the other copy has it already');
is($node->safe_psql($db, q{SELECT string_agg(event->>'key', ' ' ORDER BY position), min(reason) FROM persistomata.dead_letter}),
	'6 7 8|the table has another event under this name: another copy of this cluster wrote it', 'and the event is not lost');
@routes = grep { $_ ne 'table' } @routes;
holds('1 2 3 4 5 6 7 8 101 102 103', 'elsewhere what both sent is there');
is($nonces{old}->(), "1\t1", 'of a route the newest nonce is kept');
my $log_id = $node->safe_psql($db, 'SELECT log_id FROM persistomata.log_home');
my $mq = $node->safe_psql($db, q{SELECT id FROM persistomata.route WHERE name = 'mq'});
is($amqp->count("persistomata.claim.$log_id-$mq"), 1, 'and in a queue there is one');

# ---- a log of one's own ends it, too ----
my $dump = $copy->basedir . '/dump.sql';
$copy->command_ok([ 'pg_dump', '-d', $copy->connstr($db), '-f', $dump ], 'a dump of the fenced copy');
$copy->stop;
$node->safe_psql($db, 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'is restored');
is($node->safe_psql('restored', q{SELECT DISTINCT held FROM persistomata.route WHERE name <> 'table'}), 'fenced', 'with its routes as they were');
$node->safe_psql('restored', 'SELECT persistomata.takeover()');
$node->safe_psql('restored', 'INSERT INTO lamp VALUES (201)');
ok(wait_for_drain($node, 'restored', $_, 60), "taken over it delivers: $_") for @routes;
make($node, 9, 9);
drains($node, 'beside the other');
holds('1 2 3 4 5 6 7 8 9 101 102 103 201', 'and neither is fenced');
$node->safe_psql('restored', 'SELECT persistomata.stop_workers()');

# ---- who has no right to leave a nonce delivers without ----
$server{rabbitmq}->ctl('add_user', 'writer', 's3cret');
$server{rabbitmq}->ctl('set_permissions', 'writer', '^$', '.*', '^$');
client($server{redis})->command('ACL', 'SETUSER', 'writer', 'on', '>s3cret', '~own', '+@all');
my $ch = client($server{clickhouse});
$ch->query('CREATE DATABASE own');
$ch->query('CREATE TABLE own.box (position UInt64, name String, key String) ENGINE = MergeTree ORDER BY position');
create_sink($node, $db, 'lone_ch', $server{clickhouse}, database => 'own');
create_sink($node, $db, 'lone_mq', $server{rabbitmq});
create_sink($node, $db, 'lone_redis', $server{redis});
$node->safe_psql($db, q{
	ALTER USER MAPPING FOR CURRENT_USER SERVER lone_mq OPTIONS (SET user 'writer', SET password 's3cret');
	ALTER USER MAPPING FOR CURRENT_USER SERVER lone_redis OPTIONS (ADD user 'writer', ADD password 's3cret');
	SELECT persistomata.create_route('lone1', 'lone_ch', options => '{"table": "box", "latest": "", "create_tables": "off"}');
	SELECT persistomata.create_route('lone2', 'lone_mq');
	SELECT persistomata.create_route('lone3', 'lone_redis', options => '{"mode": "list", "key": "own"}');
});
$amqp->get_all('all');
make($node, 10, 10);
ok(wait_for_drain($node, $db, "lone$_", 60), "a route delivers without: $_") || diag(log_tail($node, 20)) for 1 .. 3;
is($ch->value('SELECT key FROM own.box'), 10, 'to a table');
is(scalar(grep { $_->{message_id} =~ m{/lone2$} } $amqp->get_all('all')), 1, 'to an exchange');
is(client($server{redis})->command('LLEN', 'own'), 1, 'to a list');
my %why = (
	lone1 => 'there is no table "persistomata_claim", and create_tables is off: Code: 60.*',
	lone2 => 'the queue "persistomata.claim.*" cannot be used: ACCESS_REFUSED.*',
	lone3 => "the key of the route's claim cannot be used: NOPERM.*");
for my $route (sort keys %why)
{
	like($node->safe_psql($db, "SELECT last_error FROM persistomata.stat_route WHERE route = '$route'"),
		qr/^copies of this cluster are not told apart here: $why{$route}/, "and says so: $route");
}
make($node, 11, 12);
ok(wait_for_drain($node, $db, "lone$_", 60), "and goes on: $_") for 1 .. 3;
is(scalar(() = slurp_file($node->logfile) =~ /delivers without a nonce/g), 3, 'which is logged once');
is($node->safe_psql($db, q{SELECT count(*) FROM persistomata.stat_route WHERE route LIKE 'lone%' AND state = 'idle'}), 3, 'and is no fault');

$node->stop;
$there->stop;
done_testing();
