package PstTest::Server;

# A private server of one kind (clickhouse, chdb, rabbitmq, redis), started by
# test/servers/KIND.sh.  It ends with the program that started it.
#
#	my $redis = PstTest::Server->start('redis', options => ['--appendonly', 'yes']);
#	$redis->pause;  $redis->resume;		# SIGSTOP, SIGCONT
#	$redis->stop;   $redis->restart;	# same folder, same port
#	$redis->kill;						# SIGKILL: no goodbye

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(free_port);

my $test_dir = $ENV{PST_TEST_DIR} // abs_path(dirname(__FILE__) . '/../..');
my $started = 0;
my @live;
my $owner = $$;

# A port of 127.0.0.1 that is free together with the three above it (a server may
# need more than one), below those that outgoing connections take.
sub free_port
{
	for (1 .. 1000)
	{
		my $port = 4 * int(2600 + rand(5000));
		my @busy = grep {
			!IO::Socket::INET->new(
				LocalAddr => '127.0.0.1',
				LocalPort => $port + $_,
				Listen => 1,
				ReuseAddr => 1)
		} 0 .. 3;
		return $port unless @busy;
	}
	die "no free port\n";
}

# Where servers keep their data: run.sh looks there for what was left running.
my $folder;

sub _folder
{
	return $folder if defined $folder;
	$folder =
	  $ENV{PST_SERVERS_DIR} // tempdir('pst-servers-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	make_path($folder);
	return $folder;
}

sub start
{
	my ($class, $kind, %opt) = @_;
	my $self = bless {
		kind => $kind,
		port => $opt{port} // free_port(),
		dir => $opt{dir} // _folder() . "/$kind-$$-" . ++$started,
		options => $opt{options} // [],		# further words for the script
		script => "$test_dir/servers/$kind.sh",
	}, $class;
	push @live, $self;
	$self->restart;
	return $self;
}

sub restart
{
	my ($self) = @_;
	$self->stop;
	$self->_script('start', $self->{dir}, $self->{port}, @{ $self->{options} });
	return $self;
}

sub _script
{
	my ($self, @args) = @_;
	system($self->{script}, @args) == 0
	  or die "$self->{script} @args: failed\n" . $self->log_tail;
}

sub kind { return $_[0]{kind} }
sub port { return $_[0]{port} }
sub dir { return $_[0]{dir} }

sub pid
{
	my ($self) = @_;
	open(my $file, '<', "$self->{dir}/pid") or return;
	my ($pid) = (<$file> // '') =~ /(\d+)/;
	return $pid;
}

# No zombie counts as running.
sub is_running
{
	my ($self) = @_;
	my $pid = $self->pid or return 0;
	open(my $stat, '<', "/proc/$pid/stat") or return 0;
	return (<$stat> // '') =~ /\) [^ZX] / ? 1 : 0;
}

sub pause { return $_[0]->signal('STOP') }
sub resume { return $_[0]->signal('CONT') }

sub signal
{
	my ($self, $signal) = @_;
	my $pid = $self->pid or die "$self->{kind} is not running\n";
	CORE::kill($signal, $pid) or die "could not signal $self->{kind}: $!\n";
	return $self;
}

# As in a crash; restart brings it back with what it had made durable.
sub kill
{
	my ($self) = @_;
	$self->signal('KILL');
	for (1 .. 500)
	{
		last unless $self->is_running;
		sleep 0.02;
	}
	return $self;
}

sub stop
{
	my ($self) = @_;
	my $pid = $self->pid or return $self;
	CORE::kill('CONT', $pid) if $self->is_running;
	$self->_script('stop', $self->{dir});
	return $self;
}

# ctl('list_queues', …): what the server's own command-line tool says (RabbitMQ).
sub ctl
{
	my ($self, @words) = @_;
	open(my $out, '-|', $self->{script}, 'ctl', $self->{dir}, @words)
	  or die "$self->{script}: $!\n";
	my $text = join '', <$out>;
	close($out) or die "$self->{script} ctl @words: failed\n";
	return $text;
}

sub log_tail
{
	my ($self, $lines) = @_;
	my $file;
	return '' unless open($file, '<', "$self->{dir}/log");
	my @lines = <$file>;
	splice(@lines, 0, -($lines // 20)) if @lines > ($lines // 20);
	return join('', @lines);
}

END
{
	if ($$ == $owner)
	{
		my $status = $?;
		for my $server (@live)
		{
			eval { $server->stop; 1 } or warn $@;
		}
		$? = $status;
	}
}

1;
