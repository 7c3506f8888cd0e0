package PstTest::ClickHouse;

# Reads a ClickHouse server over HTTP.  The connection is kept only where asked
# for (keep_alive => 1): a server that is told to stop waits for those it has.

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

sub connect
{
	my ($class, $port, %opt) = @_;
	my %headers;
	$headers{'X-ClickHouse-User'} = $opt{user} if defined $opt{user};
	$headers{'X-ClickHouse-Key'} = $opt{password} if defined $opt{password};
	return bless {
		url => "http://127.0.0.1:$port/",
		http => HTTP::Tiny->new(
			timeout => $opt{timeout} // 30,
			keep_alive => $opt{keep_alive} // 0,
			default_headers => \%headers)
	}, $class;
}

# The answer's text; dies with the server's own words.
sub query
{
	my ($self, $sql) = @_;
	my $answer = $self->{http}->post($self->{url}, { content => $sql });
	die "ClickHouse: $answer->{content}\n" unless $answer->{status} == 200;
	return $answer->{content};
}

# One value, without its line end.
sub value
{
	my ($self, $sql) = @_;
	my $text = $self->query($sql);
	chomp $text;
	return $text;
}

# The rows of a SELECT, each a hash.
sub rows
{
	my ($self, $sql) = @_;
	return map { decode_json($_) } split /\n/, $self->query("$sql FORMAT JSONEachRow");
}

1;
