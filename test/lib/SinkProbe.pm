# What the tests of sinks share: a cluster with the probe, and calls of the probe
# with their rows as hashes.
package SinkProbe;

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

my $json = JSON::PP->new->canonical->utf8;

# A running cluster with both extensions.
sub cluster
{
	my $node = PostgreSQL::Test::Cluster->new('probe');

	$node->init;
	$node->append_conf('postgresql.conf', "fsync = off\nlog_min_messages = info");
	$node->start;
	$node->safe_psql('postgres',
		'CREATE EXTENSION persistomata; CREATE EXTENSION sink_probe');
	return $node;
}

sub quoted
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

# So many events with these fields each, as an SQL expression.
sub some
{
	my ($first, $n, %fields) = @_;

	return "sink_probe.some($first, $n, " . quoted($json->encode(\%fields)) . ')';
}

# The call of the probe as SQL; events is an SQL expression.
sub probe_sql
{
	my ($kind, $server, $route, $events, %more) = @_;
	my $sql = 'SELECT pg_catalog.jsonb_agg(t ORDER BY nth) FROM sink_probe.probe('
	  . join(', ', quoted($kind), quoted($json->encode($server)), quoted($json->encode($route)), $events);

	$sql .= ", $_ => $more{$_}" for sort keys %more;
	return "$sql) t";
}

# The rows: [0] is the shipment's.
sub probe
{
	my ($node, @arguments) = @_;

	return decode($node->safe_psql('postgres', probe_sql(@arguments)));
}

sub decode
{
	return @{ $json->decode($_[0]) };
}

# One object.
sub decode_object
{
	return $json->decode($_[0]);
}

# How many events have this verdict?
sub count
{
	my ($verdict, @rows) = @_;

	shift @rows;
	return scalar grep { $_->{verdict} eq $verdict } @rows;
}

# Are those delivered a prefix?
sub is_prefix
{
	my (@rows) = @_;
	my $ended = 0;

	shift @rows;
	for (@rows)
	{
		return 0 if $ended && $_->{verdict} eq 'delivered';
		$ended = 1 if $_->{verdict} ne 'delivered';
	}
	return 1;
}

1;
