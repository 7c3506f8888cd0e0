package PstTest::Redis;

# The little of a Redis client that tests need.

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

sub connect
{
	my ($class, $port, %opt) = @_;
	my $socket = IO::Socket::INET->new(
		PeerAddr => '127.0.0.1',
		PeerPort => $port,
		Timeout => $opt{timeout} // 5)
	  or die "no Redis on port $port: $@\n";
	my $self = bless {
		socket => $socket,
		buffer => '',
		timeout => $opt{timeout} // 10
	}, $class;
	$self->command('AUTH', $opt{password}) if defined $opt{password};
	return $self;
}

# command('XADD', ...): what Redis answers, nested arrays as references, nil as
# undef; dies with the text of an error.
sub command
{
	my ($self, @words) = @_;
	my $bytes = '*' . @words . "\r\n";
	$bytes .= '$' . length($_) . "\r\n$_\r\n" for @words;
	$self->{socket}->print($bytes) or die "Redis: $!\n";
	return $self->_reply;
}

sub _fill
{
	my ($self) = @_;
	IO::Select->new($self->{socket})->can_read($self->{timeout})
	  or die "Redis: no answer within $self->{timeout} s\n";
	sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer})
	  or die "Redis: the connection is closed\n";
}

sub _line
{
	my ($self) = @_;
	$self->_fill until $self->{buffer} =~ s/^([^\r]*)\r\n//;
	return $1;
}

sub _reply
{
	my ($self) = @_;
	my ($kind, $rest) = $self->_line =~ /^(.)(.*)$/ or die "Redis: not understood\n";
	return $rest if $kind eq '+' || $kind eq ':';
	die "$rest\n" if $kind eq '-';
	return undef if $rest < 0;
	if ($kind eq '$')
	{
		$self->_fill until length $self->{buffer} >= $rest + 2;
		my $value = substr($self->{buffer}, 0, $rest + 2, '');
		return substr($value, 0, $rest);
	}
	return [ map { $self->_reply } 1 .. $rest ];
}

# The entries of a stream, oldest first: { id => …, fields => { … } }.
sub entries
{
	my ($self, $stream, $from, $to) = @_;
	return map { _entry($_) }
	  @{ $self->command('XRANGE', $stream, $from // '-', $to // '+') };
}

# New entries after an id, waiting for them at most so many milliseconds.
sub entries_after
{
	my ($self, $stream, $id, $wait_ms) = @_;
	my $reply = $self->command('XREAD', 'BLOCK', $wait_ms // 1000, 'STREAMS', $stream, $id);
	return map { _entry($_) } map { @{ $_->[1] } } @{ $reply // [] };
}

sub _entry
{
	my ($id, $fields) = @{ $_[0] };
	return { id => $id, fields => {@$fields} };
}

1;
