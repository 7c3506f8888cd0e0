# The part of test/demo.sh that talks to the sinks.
#
#	demo.pl prepare RABBITMQ
#		makes the exchange and the queue that the route sends to
#	demo.pl run CLICKHOUSE RABBITMQ REDIS PSQL [OPTION...]
#		sends one turnstile through its life, and prints what each sink holds
#		and when it came
#
# The three are ports.  One watcher for each sink reads the sink itself and notes
# when an event is first seen there: Redis and RabbitMQ push, ClickHouse is asked
# again and again.  The time of the commit is PostgreSQL's own, of the same clock.

use strict;
use warnings;
use utf8;
use JSON::PP;
use PstTest::ClickHouse;
use PstTest::RabbitMQ;
use PstTest::Redis;
use Time::HiRes qw(sleep time);

use constant {
	POLL => 0.002,		# pause between two reads of ClickHouse, seconds
	PATIENCE => 20,		# how long to wait for the last event
};

binmode(STDOUT, ':encoding(UTF-8)');
$| = 1;

my $colour = -t STDOUT && !$ENV{NO_COLOR};
my @sinks = qw(ClickHouse RabbitMQ Redis);

sub paint
{
	my ($code, $text) = @_;
	return $colour ? "\e[${code}m$text\e[0m" : $text;
}

# ---- what the routes send to ----

sub prepare
{
	my ($rabbitmq) = @_;
	my $broker = PstTest::RabbitMQ->connect($rabbitmq);
	$broker->declare_exchange('persistomata', 'topic');
	$broker->declare_queue('turnstile');
	$broker->bind_queue('turnstile', 'persistomata', '#');
	$broker->close;
	return;
}

# ---- watchers ----

# Each calls $seen->($event) for every event that is new to it, and $ready once
# it will miss none.

sub watch_clickhouse
{
	my ($port, $ready, $seen) = @_;
	my $clickhouse = PstTest::ClickHouse->connect($port, keep_alive => 1);
	# the table is not there before the first event
	my $last = eval { $clickhouse->value('SELECT max(position) FROM turnstile') } || 0;
	$ready->();
	while (1)
	{
		for my $event (eval { $clickhouse->rows(
				"SELECT * FROM turnstile WHERE position > $last ORDER BY position") })
		{
			$seen->($event);
			$last = $event->{position};
		}
		sleep(POLL);
	}
}

# A queue of the watcher's own, so that the messages stay in the other one.
sub watch_rabbitmq
{
	my ($port, $ready, $seen) = @_;
	my $broker = PstTest::RabbitMQ->connect($port);
	my $queue = "watch-$$";
	$broker->declare_queue($queue, transient => 1, exclusive => 1);
	$broker->bind_queue($queue, 'persistomata', '#');
	$broker->consume($queue);
	$ready->();
	while (1)
	{
		my $message = $broker->next_message(3600) or next;
		$seen->({ %{ decode_json($message->{body}) }, message_id => $message->{message_id} });
	}
}

sub watch_redis
{
	my ($port, $ready, $seen) = @_;
	my $redis = PstTest::Redis->connect($port);
	my ($newest) = @{ $redis->command('XREVRANGE', 'persistomata:turnstile', '+', '-', 'COUNT', 1) };
	my $last = $newest ? $newest->[0] : '0';
	$ready->();
	while (1)
	{
		for my $entry ($redis->entries_after('persistomata:turnstile', $last, 1000))
		{
			$seen->({ %{ decode_json($entry->{fields}{data}) }, id => $entry->{id} });
			$last = $entry->{id};
		}
	}
}

my %watch = (
	ClickHouse => \&watch_clickhouse,
	RabbitMQ => \&watch_rabbitmq,
	Redis => \&watch_redis);

# Starts a watcher; it writes lines to the pipe, one JSON array each.
my @watchers;
END { kill('KILL', @watchers) if @watchers }
$SIG{INT} = $SIG{TERM} = sub { exit 1 };

sub start_watcher
{
	my ($sink, $port, $pipe) = @_;
	my $pid = fork() // die "fork: $!\n";
	if ($pid)
	{
		push @watchers, $pid;
		return;
	}
	@watchers = ();
	my $report = sub { syswrite($pipe, encode_json([ $sink, @_ ]) . "\n") or exit 1 };
	eval {
		$watch{$sink}->($port, sub { $report->('ready') },
			sub { my $now = time; $report->('seen', $now, $_[0]) });
	};
	$report->('failed', $@);
	exit 1;
}

# ---- the turnstile ----

my @psql;

sub psql
{
	my ($sql) = @_;
	open(my $out, '-|', @psql, '-X', '-q', '-At', '-v', 'ON_ERROR_STOP=1', '-c', $sql)
	  or die "psql: $!\n";
	my @lines = map { chomp; $_ } <$out>;
	close($out) or die "psql failed: $sql\n";
	return @lines;
}

# Shows a statement and what PostgreSQL says to it, errors as well.
sub show
{
	my ($sql) = @_;
	open(my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', @psql, '-X', '-q', '-At',
		'-v', 'VERBOSITY=terse', '-c', $sql)
	  or die "psql: $!\n";
	binmode($out, ':encoding(UTF-8)');
	my @lines = map { chomp; $_ } <$out>;
	close($out);
	print "  $sql\n";
	print '    ', paint(/^ERROR/ ? 33 : 2, $_), "\n" for @lines;
	return @lines;
}

sub turn
{
	my ($id) = show('INSERT INTO turnstile DEFAULT VALUES RETURNING id');
	die "no turnstile\n" unless defined $id && $id =~ /^\d+$/;
	my $fire = sub {
		my ($event, $n, $call) = @_;
		show(sprintf "SELECT status, from_state, to_state, reason FROM persistomata.%s('turnstile', %d, '%s'%s)",
			$call // 'fire', $id, $event, defined $n ? qq(, '{"n": $n}') : '');
	};
	$fire->('coin', 2);
	$fire->('coin', 1);
	$fire->('walk', 1);
	show("UPDATE turnstile SET state = 'inactive' WHERE id = $id");
	$fire->('walk', 5);
	$fire->('walk', 2);
	$fire->('off');
	return $id;
}

# ---- the table ----

# When each transaction committed, in seconds since 1970, by xid.
sub commit_times
{
	my %times;
	return \%times unless @_;
	for (psql('SELECT x, extract(epoch FROM pg_xact_commit_timestamp((x % 4294967296)::text::xid))'
			. ' FROM unnest(ARRAY[' . join(',', @_) . ']::bigint[]) x'))
	{
		my ($xid, $time) = split /\|/;
		$times{$xid} = $time;
	}
	return \%times;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ $#sorted / 2 ];
}

sub milliseconds { return sprintf '%.1f ms', 1000 * $_[0] }

# Pads by characters, not by the bytes or colours that they take.
sub cell
{
	my ($text, $width, $code) = @_;
	my $pad = $width - length $text;
	$text = paint($code, $text) if defined $code;
	return $pad > 0 ? $text . ' ' x $pad : $text;
}

# What must be the same in every sink.
my @same = qw(name position type key event from_state to_state xid);

sub differs
{
	my ($one, $other) = @_;
	# what is absent is an empty string in ClickHouse's own table
	return grep { ($one->{$_} // '') ne ($other->{$_} // '') } @same;
}

# One line for each event; under each sink what it holds of it, and since when.
sub print_table
{
	my ($held) = @_;
	my (%events, %took, $faults);
	for my $sink (reverse @sinks)
	{
		$events{$_} = $held->{$sink}{$_} for keys %{ $held->{$sink} };
	}
	my $committed = commit_times(map { $_->{event}{xid} } values %events);

	print "\n", paint(1, 'What each sink holds, and how long after the commit it was there'), "\n";
	my @head = ('position', 'type', 'event', @sinks);
	my @widths = (8, 7, 5, (28) x @sinks);
	print '  ', join('  ', map { cell($head[$_], $widths[$_], 1) } 0 .. $#head), "\n";
	for my $any (sort { $a->{event}{position} <=> $b->{event}{position} } values %events)
	{
		my $event = $any->{event};
		my $start = $committed->{ $event->{xid} };
		my @cells = ($event->{position}, $event->{type}, $event->{event} // '');
		my @line = map { cell($cells[$_], $widths[$_]) } 0 .. $#cells;
		for my $sink (@sinks)
		{
			my $entry = $held->{$sink}{ $event->{event_id} };
			my $fault = !$entry ? 'missing'
			  : join(', ', differs($event, $entry->{event}));
			if ($fault)
			{
				push @line, cell($entry ? "differs in $fault" : $fault, 28, 31);
				$faults++;
				next;
			}
			my $way = join ' → ', map { $_ // '·' } @{ $entry->{event} }{qw(from_state to_state)};
			my $delay = defined $start ? $entry->{time} - $start : undef;
			push @{ $took{$sink} }, $delay if defined $delay;
			push @line, cell($way, 18) . cell(defined $delay ? milliseconds($delay) : '', 10, 32);
		}
		print '  ', join('  ', @line), "\n";
	}
	print '  ', join('  ', cell('median', 24),
		map { ' ' x 18 . cell($took{$_} ? milliseconds(median(@{ $took{$_} })) : '', 10, 1) } @sinks),
	  "\n";
	return $faults ? 0 : scalar keys %events;
}

sub run
{
	my ($clickhouse, $rabbitmq, $redis, @command) = @_;
	my %port = (ClickHouse => $clickhouse, RabbitMQ => $rabbitmq, Redis => $redis);
	my (%ready, %held);
	my $buffer = '';
	@psql = @command;

	pipe(my $lines, my $pipe) or die "pipe: $!\n";
	start_watcher($_, $port{$_}, $pipe) for @sinks;
	close($pipe);

	# Takes in what watchers say until $done or time is up.
	my $listen = sub {
		my ($done) = @_;
		my $until = time + PATIENCE;
		until ($done->())
		{
			my $ready = '';
			vec($ready, fileno($lines), 1) = 1;
			my $left = $until - time;
			return if $left <= 0 || !select($ready, undef, undef, $left);
			sysread($lines, $buffer, 65536, length $buffer) or return;
			while ($buffer =~ s/^(.*)\n//)
			{
				my ($sink, $what, $time, $event) = @{ decode_json($1) };
				die "$sink: $time" if $what eq 'failed';
				$ready{$sink} = 1;
				next unless $what eq 'seen';
				$held{$sink}{ $event->{event_id} } //= { event => $event, time => $time };
			}
		}
	};

	$listen->(sub { keys %ready == @sinks });
	print paint(1, 'A turnstile from its first day to its last'), "\n";
	my $id = turn();
	my ($due) = psql("SELECT count(*) FROM persistomata.event WHERE fsm = 'public.turnstile' AND key = '$id'");
	# Others may use the demo's cluster meanwhile.
	my $mine = sub {
		my ($sink) = @_;
		return { map { $_->{event}{event_id} => $_ }
			  grep { $_->{event}{key} eq $id } values %{ $held{$sink} // {} } };
	};
	$listen->(sub { !grep { keys %{ $mine->($_) } < $due } @sinks });
	if (print_table({ map { $_ => $mine->($_) } @sinks }) < $due)
	{
		print paint(31, "not every sink holds all $due events as they are"), "\n";
		print "  $_\n" for psql('SELECT route, last_error FROM persistomata.stat_route');
		return 1;
	}
	return 0;
}

my $what = shift // '';
if ($what eq 'prepare' && @ARGV == 1) { prepare(@ARGV) }
elsif ($what eq 'run' && @ARGV >= 4) { exit run(@ARGV) }
else { die "usage: see test/demo.sh\n" }
