package PstTest;

# For TAP tests: a PostgreSQL cluster with the library preloaded, real servers as
# sinks, and ways to wait for them.
#
#	use PstTest;
#	my $redis = sink_server('redis');
#	my $node = new_node('main');
#	create_sink($node, 'postgres', 'queue', $redis);
#	wait_for(sub { client($redis)->command('XLEN', 's') == 3 }, 'three entries');

use strict;
use warnings;
use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest::ClickHouse;
use PstTest::Http;
use PstTest::Proxy;
use PstTest::RabbitMQ;
use PstTest::Redis;
use PstTest::Server;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_node sink_server sink_proxy client create_sink wait_for
  wait_for_value wait_for_drain log_tail);

# new_node($name, setting => value, …): a running cluster.  The values of settings
# are written as they are, so quote what PostgreSQL wants quoted.
sub new_node
{
	my ($name, %settings) = @_;
	my %all = (
		shared_preload_libraries => "'persistomata'",
		max_worker_processes => 16,
		autovacuum_naptime => "'5s'",
		%settings);
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => delete $all{allows_streaming});
	$node->append_conf('postgresql.conf',
		join('', map { "$_ = $all{$_}\n" } sort keys %all));
	$node->start;
	return $node;
}

# sink_server($kind): a real server, see PstTest::Server; ends with the test.
sub sink_server
{
	my ($kind, %opt) = @_;
	return PstTest::Server->start($kind, %opt);
}

# sink_proxy($server): a network in front of it that can be put in trouble, see
# PstTest::Proxy; give it to create_sink as via => $proxy.
sub sink_proxy
{
	my ($server) = @_;
	return PstTest::Proxy->start($server->port);
}

# client($server, …): a fresh connection to it.
sub client
{
	my ($server, %opt) = @_;
	my $class =
	    $server->kind eq 'redis' ? 'PstTest::Redis'
	  : $server->kind eq 'rabbitmq' ? 'PstTest::RabbitMQ'
	  : $server->kind eq 'http' ? 'PstTest::Http'
	  : 'PstTest::ClickHouse';
	return $class->connect($server->port, %opt);
}

# create_sink($node, $database, $name, $server, option => value, …): the foreign
# server and the user mapping that a route needs.
sub create_sink
{
	my ($node, $database, $name, $server, %options) = @_;
	my $via = delete $options{via} // $server;
	my ($port, $kind) = ($via->port, $server->kind);
	my ($user, $password);
	if ($kind eq 'redis')
	{
		%options = (host => '127.0.0.1', port => $port, %options);
	}
	elsif ($kind eq 'rabbitmq')
	{
		%options = (host => '127.0.0.1', port => $port, %options);
		($user, $password) = ('guest', 'guest');
	}
	elsif ($kind eq 'http')
	{
		%options = (url => "http://127.0.0.1:$port/hook", %options);
	}
	else
	{
		%options = (url => "http://127.0.0.1:$port", %options);
		$kind = 'clickhouse';
	}
	$node->safe_psql(
		$database,
		"CREATE SERVER $name FOREIGN DATA WRAPPER persistomata_$kind OPTIONS ("
		  . join(', ', map { "$_ '$options{$_}'" } sort keys %options) . ')');
	$node->safe_psql($database,
		"CREATE USER MAPPING FOR CURRENT_USER SERVER $name"
		  . (defined $user ? " OPTIONS (user '$user', password '$password')" : ''));
	return;
}

# wait_for($code, $what, $seconds): whether $code came to return something true.
# What it dies with counts as not yet.  Says what was missing when time is up.
sub wait_for
{
	my ($code, $what, $seconds) = @_;
	$seconds //= 30;
	my $until = time + $seconds;
	my $trouble;
	while (1)
	{
		my $result = eval { $code->() };
		$trouble = $@;
		return $result if $result;
		last if time > $until;
		sleep 0.05;
	}
	diag("timed out after $seconds s waiting for "
		  . ($what // 'a condition')
		  . ($trouble ? ": $trouble" : ''));
	return 0;
}

# wait_for_value($node, $database, $sql, $value, $seconds): until the query's
# result is the value.
sub wait_for_value
{
	my ($node, $database, $sql, $value, $seconds) = @_;
	my $last = '';
	return 1
	  if wait_for(sub { ($last = $node->safe_psql($database, $sql)) eq $value },
		"$value from $sql", $seconds);
	diag("last seen: $last");
	return 0;
}

# wait_for_drain($node, $database, $route, $seconds): until nothing of a route is
# left to send.
sub wait_for_drain
{
	my ($node, $database, $route, $seconds) = @_;
	return 1
	  if wait_for(
		sub {
			$node->safe_psql($database,
				"SELECT lag_events FROM persistomata.stat_route WHERE route = '$route'") eq '0';
		},
		"route $route to drain",
		$seconds // 60);
	diag($node->safe_psql($database,
			"SELECT to_jsonb(r) FROM persistomata.stat_route r WHERE route = '$route'"));
	diag(log_tail($node));
	return 0;
}

sub log_tail
{
	my ($node, $lines) = @_;
	my @lines = split /\n/, slurp_file($node->logfile);
	my $from = @lines - ($lines // 30);
	return join("\n", @lines[ ($from < 0 ? 0 : $from) .. $#lines ]);
}

1;
