# The demo's own definition, routes and turnstile, from a fired event to the
# three sinks: all of them hold every event, and the same of it.

use strict;
use warnings;
use PstTest;
use Test::More;

my $demo = "$ENV{PST_TEST_DIR}/demo.pl";
my $node = new_node('demo', track_commit_timestamp => 'on');
my %server = map { $_ => sink_server($_) } qw(clickhouse rabbitmq redis);
my %port = map { $_ => $server{$_}->port } keys %server;

is(system($^X, $demo, 'prepare', $port{rabbitmq}), 0, 'the sinks are prepared');
$node->safe_psql('postgres', 'CREATE DATABASE demo');
$node->command_ok(
	[
		'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('demo'),
		(map { ('-v', "$_=$port{$_}") } sort keys %port),
		'-f', "$ENV{PST_TEST_DIR}/demo.sql"
	],
	'the set-up is one transaction');
for my $turnstile (1, 2)
{
	$node->command_like(
		[
			$^X, $demo, 'run', @port{qw(clickhouse rabbitmq redis)},
			'psql', '-d', $node->connstr('demo')
		],
		qr/\bstate +off +closed → inactive/,
		"turnstile $turnstile: all sinks hold the same");
}

done_testing();
