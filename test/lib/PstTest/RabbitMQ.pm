package PstTest::RabbitMQ;

# The little of an AMQP 0-9-1 client that tests need: declare, bind, count, get
# and consume, with every property of a message.

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

# Properties in the order of their flags, from bit 15 down.
my @properties = (
	[ content_type => 's' ], [ content_encoding => 's' ],
	[ headers => 'F' ], [ delivery_mode => 'B' ],
	[ priority => 'B' ], [ correlation_id => 's' ],
	[ reply_to => 's' ], [ expiration => 's' ],
	[ message_id => 's' ], [ timestamp => 'T' ],
	[ type => 's' ], [ user_id => 's' ],
	[ app_id => 's' ], [ cluster_id => 's' ]);

# Fixed and string-like values of a table's fields, as pack() knows them.
my %fixed = (
	t => 'C', b => 'c', B => 'C', s => 's>', u => 'n', I => 'l>', i => 'N',
	l => 'q>', L => 'q>', f => 'f>', d => 'd>', T => 'Q>', S => 'N/a', x => 'N/a');

sub connect
{
	my ($class, $port, %opt) = @_;
	my $socket = IO::Socket::INET->new(
		PeerAddr => '127.0.0.1',
		PeerPort => $port,
		Timeout => $opt{timeout} // 5)
	  or die "no RabbitMQ on port $port: $@\n";
	my $self = bless {
		socket => $socket,
		buffer => '',
		delivered => [],
		timeout => $opt{timeout} // 10
	}, $class;
	my ($user, $password) = ($opt{user} // 'guest', $opt{password} // 'guest');

	$socket->print("AMQP\0\0\x09\x01");
	$self->_expect(0, 10, 10);
	$self->_send(0, 10, 11,
		_table() . _short('PLAIN') . _long("\0$user\0$password") . _short('en_US'));
	my ($channels, $frame_max) = unpack('n N', $self->_expect(0, 10, 30));
	$self->_send(0, 10, 31, pack('n N n', $channels, $frame_max, 0));
	$self->_send(0, 10, 40, _short($opt{vhost} // '/') . _short('') . "\0");
	$self->_expect(0, 10, 41);
	$self->_call(20, 10, _short(''));
	return $self;
}

sub declare_exchange
{
	my ($self, $exchange, $type, %opt) = @_;
	my $bits = ($opt{passive} ? 1 : 0) + ($opt{transient} ? 0 : 2);
	$self->_call(40, 10,
		pack('n', 0) . _short($exchange) . _short($type // 'topic') . chr($bits) . _table());
	return $self;
}

# declare_queue($queue, passive => 1, arguments => {'x-queue-type' => 'quorum'}):
# durable unless told otherwise; an exclusive one goes with this connection.
# Returns how many messages wait in it.
sub declare_queue
{
	my ($self, $queue, %opt) = @_;
	my $bits =
	  ($opt{passive} ? 1 : 0) + ($opt{transient} ? 0 : 2) + ($opt{exclusive} ? 4 : 0);
	my $ok = $self->_call(50, 10,
		pack('n', 0) . _short($queue) . chr($bits) . _table(%{ $opt{arguments} // {} }));
	return (unpack('C/a N', $ok))[1];
}

sub count
{
	my ($self, $queue) = @_;
	return $self->declare_queue($queue, passive => 1);
}

sub bind_queue
{
	my ($self, $queue, $exchange, $key) = @_;
	$self->_call(50, 20,
		    pack('n', 0)
		  . _short($queue)
		  . _short($exchange)
		  . _short($key // '#') . "\0"
		  . _table());
	return $self;
}

sub unbind_queue
{
	my ($self, $queue, $exchange, $key) = @_;
	$self->_call(50, 50,
		pack('n', 0) . _short($queue) . _short($exchange) . _short($key // '#') . _table());
	return $self;
}

sub purge_queue
{
	my ($self, $queue) = @_;
	return unpack('N', $self->_call(50, 30, pack('n', 0) . _short($queue) . "\0"));
}

sub delete_queue
{
	my ($self, $queue) = @_;
	return unpack('N', $self->_call(50, 40, pack('n', 0) . _short($queue) . "\0"));
}

sub delete_exchange
{
	my ($self, $exchange) = @_;
	$self->_call(40, 20, pack('n', 0) . _short($exchange) . "\0");
	return $self;
}

# publish($exchange, $key, $body, message_id => …, …): returns when the broker has
# confirmed it, so a restart right after it keeps a persistent message.
sub publish
{
	my ($self, $exchange, $key, $body, %values) = @_;
	$self->{confirms} //= $self->_call(85, 10, "\0");
	my ($flags, $encoded) = (0, '');
	for my $bit (0 .. $#properties)
	{
		my ($name, $kind) = @{ $properties[$bit] };
		next unless defined $values{$name};
		$flags |= 0x8000 >> $bit;
		$encoded .=
		    $kind eq 's' ? _short($values{$name})
		  : $kind eq 'F' ? _table(%{ $values{$name} })
		  : pack($fixed{$kind}, $values{$name});
	}
	$self->_send(1, 60, 40, pack('n', 0) . _short($exchange) . _short($key) . "\0");
	my $header = pack('n n Q> n', 60, 0, length $body, $flags) . $encoded;
	$self->{socket}->print(
		pack('C n N', 2, 1, length $header) . "$header\xCE",
		length $body ? pack('C n N', 3, 1, length $body) . "$body\xCE" : ())
	  or die "RabbitMQ: $!\n";
	$self->_expect(1, 60, 80);
	return $self;
}

# Takes one message out of a queue, or returns undef: its properties, and
# exchange, routing_key, redelivered, body.
sub get
{
	my ($self, $queue) = @_;
	$self->_send(1, 60, 70, pack('n', 0) . _short($queue) . "\1");
	my ($method, $args) = $self->_method(1, time + $self->{timeout});
	return undef if $method eq '60.72';
	die "RabbitMQ: $method in answer to basic.get\n" unless $method eq '60.71';
	return $self->_message(substr($args, 8));
}

# Takes at most so many messages (default: all there are).
sub get_all
{
	my ($self, $queue, $most) = @_;
	my @messages;
	while (!defined $most || @messages < $most)
	{
		my $message = $self->get($queue) or last;
		push @messages, $message;
	}
	return @messages;
}

# From now on, the queue's messages come by themselves: see next_message.
sub consume
{
	my ($self, $queue) = @_;
	$self->_call(60, 20, pack('n', 0) . _short($queue) . _short('') . "\2" . _table());
	return $self;
}

# The next message of those that consume() asked for, or undef when none comes
# within so many seconds.
sub next_message
{
	my ($self, $seconds) = @_;
	my $until = time + ($seconds // $self->{timeout});
	return shift @{ $self->{delivered} } if @{ $self->{delivered} };
	my ($method, $args) = $self->_method(1, $until, 1);
	return undef unless defined $method;
	die "RabbitMQ: $method instead of a delivery\n" unless $method eq '60.60';
	return $self->_delivery($args);
}

sub close
{
	my ($self) = @_;
	CORE::close($self->{socket});
	return;
}

# ---- messages ----

sub _delivery
{
	my ($self, $args) = @_;
	my ($tag, $rest) = unpack('C/a a*', $args);
	return $self->_message(substr($rest, 8));
}

# $args starts with redelivered, exchange, routing key; header and body follow.
sub _message
{
	my ($self, $args) = @_;
	my ($redelivered, $exchange, $key) = unpack('C C/a C/a', $args);
	my $until = time + $self->{timeout};
	my (undef, undef, $header) = $self->_frame($until);
	my ($size, $flags, $values) = unpack('x4 Q> n a*', $header);
	my %message =
	  (redelivered => $redelivered, exchange => $exchange, routing_key => $key);

	for my $bit (0 .. $#properties)
	{
		next unless $flags & (0x8000 >> $bit);
		my ($name, $kind) = @{ $properties[$bit] };
		$message{$name} =
		  $kind eq 's' ? _take(\$values, 'C/a') : _field(\$values, $kind);
	}
	my $body = '';
	while (length $body < $size)
	{
		my (undef, undef, $part) = $self->_frame($until);
		$body .= $part;
	}
	$message{body} = $body;
	return \%message;
}

# ---- methods and frames ----

sub _send
{
	my ($self, $channel, $class, $method, $args) = @_;
	my $payload = pack('n n', $class, $method) . $args;
	$self->{socket}->print(pack('C n N', 1, $channel, length $payload) . "$payload\xCE")
	  or die "RabbitMQ: $!\n";
}

# Calls a method of the one channel; its answer is the method of the next number.
sub _call
{
	my ($self, $class, $method, $args) = @_;
	$self->_send(1, $class, $method, $args);
	return $self->_expect(1, $class, $method + 1);
}

sub _expect
{
	my ($self, $channel, $class, $method) = @_;
	my $until = time + $self->{timeout};
	while (1)
	{
		my ($got, $args) = $self->_method($channel, $until);
		return $args if $got eq "$class.$method";
		die "RabbitMQ: $got instead of $class.$method\n" unless $got eq '60.60';
		push @{ $self->{delivered} }, $self->_delivery($args);
	}
}

# The next method: "class.method" and its arguments; heartbeats are passed over.
sub _method
{
	my ($self, $channel, $until, $may_time_out) = @_;
	while (1)
	{
		my ($type, $on, $payload) = $self->_frame($until, $may_time_out);
		return unless defined $type;
		next unless $type == 1;
		my ($class, $method, $args) = unpack('n n a*', $payload);
		if (($class == 10 && $method == 50) || ($class == 20 && $method == 40))
		{
			my ($code, $text) = unpack('n C/a', $args);
			$self->_send($on, $class, $method + 1, '');
			die "RabbitMQ: $code $text\n";
		}
		return ("$class.$method", $args);
	}
}

sub _frame
{
	my ($self, $until, $may_time_out) = @_;
	while (1)
	{
		if (length $self->{buffer} >= 7)
		{
			my ($type, $channel, $size) = unpack('C n N', $self->{buffer});
			if (length $self->{buffer} >= $size + 8)
			{
				my $frame = substr($self->{buffer}, 0, $size + 8, '');
				return ($type, $channel, substr($frame, 7, $size));
			}
		}
		my $left = $until - time;
		if ($left < 0 || !IO::Select->new($self->{socket})->can_read($left))
		{
			return if $may_time_out;
			die "RabbitMQ: no answer within $self->{timeout} s\n";
		}
		sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer})
		  or die "RabbitMQ: the connection is closed\n";
	}
}

# ---- values ----

sub _short { return pack('C/a', $_[0]) }
sub _long { return pack('N/a', $_[0]) }

sub _table
{
	my (%fields) = @_;
	return _long(
		join '',
		map {
			_short($_)
			  . ($fields{$_} =~ /^-?\d+$/ ? 'l' . pack('q>', $fields{$_}) : 'S' . _long($fields{$_}))
		} sort keys %fields);
}

# Takes what a template describes off the front of $$bytes.
sub _take
{
	my ($bytes, $template) = @_;
	(my $value, $$bytes) = unpack("$template a*", $$bytes);
	return $value;
}

sub _field
{
	my ($bytes, $kind) = @_;
	return _take($bytes, $fixed{$kind}) if $fixed{$kind};
	return undef if $kind eq 'V';
	if ($kind eq 'D')
	{
		my $scale = _take($bytes, 'C');
		return _take($bytes, 'l>') / 10**$scale;
	}
	my $inner = _take($bytes, 'N/a');
	if ($kind eq 'A')
	{
		my @items;
		push @items, _field(\$inner, _take(\$inner, 'a')) while length $inner;
		return \@items;
	}
	die "RabbitMQ: a field of kind \"$kind\"\n" unless $kind eq 'F';
	my %table;
	while (length $inner)
	{
		my $name = _take(\$inner, 'C/a');
		$table{$name} = _field(\$inner, _take(\$inner, 'a'));
	}
	return \%table;
}

1;
