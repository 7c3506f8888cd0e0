# Databases that are not in UTF-8: what goes out is UTF-8, what comes back is in the
# database's encoding, and a byte that is no character holds nobody up.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $redis = sink_server('redis');
my $node = new_node('main', max_worker_processes => 24);

my $machine = "gr\xc3\xbcn";
my $insert = "INSERT INTO \"h\xc3\xa4lt\" VALUES ('k\xc3\xa9')";

# The file is UTF-8, as the session is; SQL is bytes.
sub run
{
	my ($database, $sql) = @_;
	return $node->safe_psql($database, "SET client_encoding = 'UTF8';\n$sql");
}

sub route
{
	my ($database, $name, $options, $more) = @_;
	run($database, "SELECT persistomata.create_route('$name', 'queue', machine => '$machine',"
		. " events => '{wei\xc3\x9f}', states => '{gr\xc3\xbcn}', $more options => '{\"stream\": \"$options\"}')");
	return;
}

sub entries
{
	my ($stream) = @_;
	return map { my %field = @{ $_->[1] }; $field{data} } @{ client($redis)->command('XRANGE', $stream, '-', '+') };
}

for my $database ('latin', 'ascii')
{
	my $encoding = $database eq 'latin' ? 'LATIN1' : 'SQL_ASCII';
	$node->safe_psql('postgres',
		"CREATE DATABASE $database ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	run($database, "CREATE EXTENSION persistomata;
		SELECT persistomata.create_machine('$machine', E'flowchart LR\\n a -->|los!| b\\n b -->|wei\xc3\x9f| gr\xc3\xbcn');
		CREATE TABLE \"h\xc3\xa4lt\" (id text PRIMARY KEY, state text, note text);
		SELECT persistomata.attach('\"h\xc3\xa4lt\"', '$machine');");
	create_sink($node, $database, 'queue', $redis);
	create_sink($node, $database, 'other', $redis);
	route($database, "st\xc3\xbcck", "str\xc3\xb6m-$database", '');

	run($database, "SET persistomata.headers = '{\"t\xc3\xbcr\": 1}'; $insert;
		SELECT persistomata.fire('\"h\xc3\xa4lt\"', 'k\xc3\xa9', 'wei\xc3\x9f', '{\"\xc3\xbc\": \"\xc3\xa9\"}')");
	ok(wait_for(sub { entries("str\xc3\xb6m-$database") > 0 }, 'an entry'), "$database: the stream has its name in UTF-8");
	my ($data) = entries("str\xc3\xb6m-$database");
	for my $piece ("\"machine\":\"$machine\"", "\"fsm\":\"public.h\xc3\xa4lt\"", "\"key\":\"k\xc3\xa9\"",
		"\"event\":\"wei\xc3\x9f\"", "\"args\":{\"\xc3\xbc\": \"\xc3\xa9\"}", "\"headers\":{\"t\xc3\xbcr\": 1}")
	{
		like($data, qr/\Q$piece\E/, "$database: and so has its event");
	}
	like(client($redis)->command('GET', "{str\xc3\xb6m-$database}:persistomata"), qr/ st\xc3\xbcck$/,
		"$database: and its route");
	is(run($database, "SELECT machine || ' ' || key FROM persistomata.events(1, 100) LIMIT 1"), "$machine k\xc3\xa9",
		"$database: events() gives them back");

	# what the sink says comes back
	run($database, "SELECT persistomata.create_route('intruder', 'other', start => 'earliest', options => '{\"stream\": \"str\xc3\xb6m-$database\"}')");
	ok(wait_for_value($node, $database,
			"SELECT state FROM persistomata.stat_route WHERE route = 'intruder'", 'misconfigured'),
		"$database: a stream of another route");
	like(run($database, "SELECT last_error FROM persistomata.stat_route WHERE route = 'intruder'"),
		qr/^stream "str\xc3\xb6m-$database" is claimed/, "$database: is named as the user knows it");
	run($database, "SELECT persistomata.drop_route('intruder')");
}

# a function is found by its name, gets the event as it was, and its error is kept with it
run('latin', "CREATE SCHEMA \"\xc3\xa4pp\"; CREATE TABLE seen (event jsonb); CREATE TABLE gate (open bool);
	CREATE FUNCTION \"\xc3\xa4pp\".\"f\xc3\xbcr\"(event jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NOT EXISTS (SELECT FROM public.gate) THEN RAISE 'nicht f\xc3\xbcr %', event->>'key'; END IF;
		INSERT INTO public.seen VALUES (event);
	END \$\$;
	CREATE SERVER here FOREIGN DATA WRAPPER persistomata_postgres;
	SELECT persistomata.create_route('call', 'here', machine => '$machine', types => '{state}',
		filter => \$\$event = 'wei\xc3\x9f'\$\$, start => 'earliest', options => '{\"function\": \"\\\"\xc3\xa4pp\\\".\\\"f\xc3\xbcr\\\"\"}');");
ok(wait_for(sub { run('latin', 'SELECT count(*) FROM persistomata.dead_letter') eq '1' }, 'a dead letter'),
	'a call fails');
is(run('latin', "SELECT reason || ' ' || (event->>'fsm') || ' ' || (event->'args')::text FROM persistomata.dead_letter"),
	"the call failed: P0001: nicht f\xc3\xbcr k\xc3\xa9 public.h\xc3\xa4lt {\"\xc3\xbc\": \"\xc3\xa9\"}", 'and its dead letter can be read');
run('latin', 'INSERT INTO gate VALUES (true); SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter');
ok(wait_for(sub { run('latin', 'SELECT count(*) FROM seen') eq '1' }, 'the call'), 'it is called again');
is(run('latin', "SELECT (event->>'event') || ' ' || (event->>'key') || ' ' || (event->'args')::text FROM seen"),
	"wei\xc3\x9f k\xc3\xa9 {\"\xc3\xbc\": \"\xc3\xa9\"}", 'with the event as it was');

# bytes that are no characters, which only SQL_ASCII lets in
run('ascii', "SELECT persistomata.create_route('all', 'queue', options => '{\"stream\": \"all\"}')");
$node->safe_psql('ascii', "SET client_encoding = 'SQL_ASCII';
	INSERT INTO \"h\xc3\xa4lt\" VALUES (E'bad\\xff', NULL, E'\\xe9'); INSERT INTO \"h\xc3\xa4lt\" VALUES ('good')");
ok(wait_for_drain($node, 'ascii', 'all'), 'a byte that is no character holds nobody up');
my @keys = map { /"key":"([^"]*)"/ } entries('all');
is("@keys", "bad\xef\xbf\xbd bad\xef\xbf\xbd good good", 'it goes out as U+FFFD, and the others follow');

done_testing();
