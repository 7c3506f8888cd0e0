package PstTest::Proxy;

# A network in trouble: a TCP proxy in front of a server, on a port of 127.0.0.1.
#
#	my $proxy = PstTest::Proxy->start($server->port);
#	$proxy->pass;		# as if it were not there (how it starts)
#	$proxy->hold;		# nothing moves any more, nothing is closed: half-open
#	$proxy->deaf;		# what is sent arrives, no answer comes back
#	$proxy->refuse;		# every connection is reset, new ones too
#	$proxy->cut($n);	# resets all connections after $n more bytes have been sent
#						# to the server; those made after that pass
#	$proxy->connections;	# how many there have been so far
#	$proxy->sent;			# how many bytes have been sent to the server
#
# Each call returns when it has taken effect.  The proxy ends with the program.

use strict;
use warnings;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use PstTest::Server qw(free_port);
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);

use constant MOST => 1024 * 1024;	# bytes waiting for one side

my @live;
my $owner = $$;

sub start
{
	my ($class, $target) = @_;
	my $self = bless { port => free_port() }, $class;
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => $self->{port},
		Listen => 128,
		ReuseAddr => 1,
		Blocking => 0)
	  or die "proxy: $@\n";
	socketpair($self->{control}, my $control, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
	  or die "proxy: $!\n";
	$self->{control}->autoflush;
	$self->{pid} = fork() // die "proxy: $!\n";
	if ($self->{pid} == 0)
	{
		@live = ();
		close($self->{control});
		$SIG{PIPE} = 'IGNORE';
		$SIG{$_} = 'DEFAULT' for qw(TERM INT);
		eval { PstTest::Proxy::Loop->new($listener, $target, $control)->run; 1 }
		  or warn "proxy: $@";
		# Not exit: what the parent registered for its end is not ours to do.
		require POSIX;
		POSIX::_exit(0);
	}
	close($control);
	push @live, $self;
	return $self;
}

sub port { return $_[0]{port} }
sub pass { return $_[0]->_tell('pass') }
sub hold { return $_[0]->_tell('hold') }
sub deaf { return $_[0]->_tell('deaf') }
sub refuse { return $_[0]->_tell('refuse') }
sub cut { return $_[0]->_tell('cut', $_[1]) }
sub connections { return $_[0]->_ask('connections') }
sub sent { return $_[0]->_ask('sent') }

sub _tell
{
	my ($self, @words) = @_;
	$self->_ask(@words);
	return $self;
}

sub _ask
{
	my ($self, @words) = @_;
	my $control = $self->{control};
	print $control "@words\n";
	my $answer = <$control> // die "proxy: it has ended\n";
	chomp $answer;
	return $answer;
}

# The child ends when its control is closed.
sub stop
{
	my ($self) = @_;
	return unless $self->{control};
	close(delete $self->{control});
	waitpid($self->{pid}, 0);
	return;
}

END
{
	if ($$ == $owner)
	{
		my $status = $?;
		$_->stop for @live;
		$? = $status;
	}
}

# ---- the child ----

package PstTest::Proxy::Loop;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Socket qw(SOL_SOCKET SO_LINGER);

sub new
{
	my ($class, $listener, $target, $control) = @_;
	return bless {
		listener => $listener,
		target => $target,
		control => $control,
		commands => '',
		mode => 'pass',
		connections => 0,
		sent => 0,
		flows => {},	# by fileno: where the bytes read there go
	}, $class;
}

sub run
{
	my ($self) = @_;
	while (1)
	{
		my ($readers, $writers) = (IO::Select->new($self->{control}), IO::Select->new);
		if ($self->{mode} ne 'hold')
		{
			$readers->add($self->{listener});
			for my $flow (values %{ $self->{flows} })
			{
				$readers->add($flow->{from})
				  if !$flow->{ended} && length $flow->{pending} < PstTest::Proxy::MOST;
				$writers->add($flow->{to}) if length $flow->{pending};
			}
		}
		my ($readable, $writable) = IO::Select->select($readers, $writers, undef, 5);
		for my $socket (@{ $readable // [] })
		{
			if ($socket == $self->{control}) { $self->command or return }
			elsif ($socket == $self->{listener}) { $self->accept }
			else { $self->take($socket) }
		}
		for my $socket (@{ $writable // [] })
		{
			$self->give($_) for grep { $_->{to} == $socket } values %{ $self->{flows} };
		}
	}
}

sub command
{
	my ($self) = @_;
	sysread($self->{control}, $self->{commands}, 4096, length $self->{commands})
	  or return 0;
	while ($self->{commands} =~ s/^(.*)\n//)
	{
		my ($word, $n) = split / /, $1;
		my $answer = 'ok';
		if ($word eq 'connections' || $word eq 'sent') { $answer = $self->{$word} }
		else
		{
			$self->{mode} = $word;
			$self->{left} = $n;
			$self->reset_all if $word eq 'refuse';
		}
		syswrite($self->{control}, "$answer\n");
	}
	return 1;
}

sub accept
{
	my ($self) = @_;
	my $client = $self->{listener}->accept or return;
	$self->{connections}++;
	my $server =
	  $self->{mode} eq 'refuse'
	  ? undef
	  : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{target});
	return _reset($client) unless $server;
	$_->blocking(0) for $client, $server;
	my $up = { from => $client, to => $server, pending => '', up => 1 };
	my $down = { from => $server, to => $client, pending => '' };
	($up->{back}, $down->{back}) = ($down, $up);
	$self->{flows}{ fileno $client } = $up;
	$self->{flows}{ fileno $server } = $down;
	return;
}

# Reads what has come.
sub take
{
	my ($self, $socket) = @_;
	my $flow = $self->{flows}{ fileno($socket) // -1 } or return;
	my $most = 65536;
	$most = $self->{left} if $flow->{up} && $self->{mode} eq 'cut' && $self->{left} < $most;
	my $got = $most ? sysread($socket, my $bytes, $most) : -1;
	return if !defined $got && ($! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR);
	return $self->drop($flow, 1) unless defined $got;
	if ($got > 0)
	{
		$flow->{pending} .= $bytes
		  unless $self->{mode} eq 'deaf' && !$flow->{up};
		$self->give($flow) if length $flow->{pending};
	}
	if ($flow->{up} && $self->{mode} eq 'cut')
	{
		$self->{left} -= $got if $got > 0;
		if ($self->{left} <= 0)
		{
			$self->reset_all;
			$self->{mode} = 'pass';
		}
	}
	elsif ($got == 0)
	{
		$flow->{ended} = 1;
		$self->finish($flow);
	}
	return;
}

# Writes what can be written.
sub give
{
	my ($self, $flow) = @_;
	return unless length $flow->{pending};
	my $put = syswrite($flow->{to}, $flow->{pending});
	if (!defined $put)
	{
		return if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
		return $self->drop($flow, 1);
	}
	substr($flow->{pending}, 0, $put, '');
	$self->{sent} += $put if $flow->{up};
	$self->finish($flow) if $flow->{ended};
	return;
}

# One side has said that it is done: tell the other once all is written.
sub finish
{
	my ($self, $flow) = @_;
	return if length $flow->{pending};
	shutdown($flow->{to}, 1);
	$self->drop($flow, 0) if $flow->{back}{ended} && !length $flow->{back}{pending};
	return;
}

sub drop
{
	my ($self, $flow, $reset) = @_;
	for my $socket ($flow->{from}, $flow->{to})
	{
		next unless defined fileno $socket;
		delete $self->{flows}{ fileno $socket };
		$reset ? _reset($socket) : close($socket);
	}
	delete $flow->{back}{back};
	delete $flow->{back};
	return;
}

sub reset_all
{
	my ($self) = @_;
	while (my ($flow) = values %{ $self->{flows} })
	{
		$self->drop($flow, 1);
	}
	return;
}

sub _reset
{
	my ($socket) = @_;
	setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close($socket);
	return;
}

1;
