#!/usr/bin/perl
# Sessions fire random events at random instances and write them raw, in
# transactions with savepoints, rollbacks and two-phase commits, at every level of
# isolation.  Afterwards a model, which knows the machines but not the extension,
# takes the operations that were committed in the order in which the log has them,
# and must come to the same rows, hop for hop; and the log replayed alone, too.
#
#	nemesis.pl [--seed N] [--seconds N] [--sessions N] [--keys N] [--database NAME]
#
# Connects as psql does (PGHOST, PGPORT, PGUSER), to a server with
# max_prepared_transactions.  The seed gives each session's operations; their
# interleaving is the machine's.  Exits with 0 if all agree.

use strict;
use warnings;
use File::Temp qw(tempdir);
use Getopt::Long;
use IPC::Open2;
use Time::HiRes qw(time);

my %opt = (seed => int(rand(1_000_000)) + 1, seconds => 60, sessions => 8, keys => 8, database => 'nemesis');
GetOptions(\%opt, 'seed=i', 'seconds=f', 'sessions=i', 'keys=i', 'database=s') or exit 2;
$| = 1;
print "nemesis: --seed $opt{seed} --seconds $opt{seconds} --sessions $opt{sessions} --keys $opt{keys}\n";

# ---- the machines, as text and as what they mean ----
# An edge: from, event, to, kind, guard, action.  Guards see the row and the args.

my %machines = (
	turnstile => {
		text => q{
flowchart LR
  idle   -->|close!| closed
  closed -->|"coin / n = n + (args->>'n')::int"| opened
  opened -->|"coin / n = n + (args->>'n')::int"| opened
  opened -->|"walk [n < 3] / n = 0"| closed
  opened -->|"walk [n >= 3] / n = n - 3"| opened
  closed -->|"off [n = 0]"| inactive
},
		edges => [
			[qw(idle close closed hard)],
			['closed', 'coin', 'opened', 'plain', undef, sub { $_[0]{n} += $_[1]{n} }],
			['opened', 'coin', 'opened', 'plain', undef, sub { $_[0]{n} += $_[1]{n} }],
			['opened', 'walk', 'closed', 'plain', sub { $_[0]{n} < 3 }, sub { $_[0]{n} = 0 }],
			['opened', 'walk', 'opened', 'plain', sub { $_[0]{n} >= 3 }, sub { $_[0]{n} -= 3 }],
			['closed', 'off', 'inactive', 'plain', sub { $_[0]{n} == 0 }],
		],
	},
	chain => {
		text => q{
flowchart LR
  boot  -->|enter!| new
  new   -->|"go / n = n + 1"| one
  one   -->|"up! [n % 2 = 0] / n = n + 3"| two
  two   -->|"up! [n % 3 = 0] / n = n + 1"| three
  one   -->|back| new
  two   -->|"back / n = n + 10"| new
  three -->|again| one
  three -->|"forfeit"| lost
},
		edges => [
			[qw(boot enter new hard)],
			['new', 'go', 'one', 'plain', undef, sub { $_[0]{n}++ }],
			['one', 'up', 'two', 'hard', sub { $_[0]{n} % 2 == 0 }, sub { $_[0]{n} += 3 }],
			['two', 'up', 'three', 'hard', sub { $_[0]{n} % 3 == 0 }, sub { $_[0]{n}++ }],
			[qw(one back new plain)],
			['two', 'back', 'new', 'plain', undef, sub { $_[0]{n} += 10 }],
			[qw(three again one plain)],
			['three', 'forfeit', 'lost', 'plain'],
		],
	},
	soft => {
		partitioned => 1,
		text => q{
flowchart LR
  start -->|begin!| cold
  cold  -->|"heat? [n > 4] / n = n - 5"| hot
  cold  -->|"feed / n = n + 2"| cold
  hot   -->|"cool?"| cold
  hot   -->|"melt? [n > 6]"| gone
},
		edges => [
			[qw(start begin cold hard)],
			['cold', 'heat', 'hot', 'soft', sub { $_[0]{n} > 4 }, sub { $_[0]{n} -= 5 }],
			['cold', 'feed', 'cold', 'plain', undef, sub { $_[0]{n} += 2 }],
			[qw(hot cool cold soft)],
			['hot', 'melt', 'gone', 'soft', sub { $_[0]{n} > 6 }],
		],
	},
	fork => {
		text => q{
flowchart LR
  here -->|"choose / n = n + 1"| left
  here -->|"choose / n = n + 1"| right
  here -->|"choose / n = n + 1"| ahead
  left -->|return| here
  right -->|"return / n = n * 2 % 1000"| here
  ahead -->|return| here
  origin -->|depart| here
},
		edges => [
			(map { [ 'here', 'choose', $_, 'plain', undef, sub { $_[0]{n}++ } ] } qw(left right ahead)),
			[qw(left return here plain)],
			['right', 'return', 'here', 'plain', undef, sub { $_[0]{n} = $_[0]{n} * 2 % 1000 }],
			[qw(ahead return here plain)],
			['origin', 'depart', 'here', 'plain'],
		],
	},
	fleeting => {
		options => ", on_final => 'delete'",
		gone => qr/^(?:\*|lost)$/,
		text => q{
stateDiagram-v2
  [*] --> born
  born --> grown : grow / n = n + 1
  born --> lost : lose! [n % 7 = 5]
  grown --> born : shrink
  grown --> [*] : die [n % 2 = 0]
  grown --> lost : lose
},
		edges => [
			['born', 'grow', 'grown', 'plain', undef, sub { $_[0]{n}++ }],
			['born', 'lose', 'lost', 'hard', sub { $_[0]{n} % 7 == 5 }],
			['grown', 'shrink', 'born', 'plain'],
			['grown', 'die', '*', 'plain', sub { $_[0]{n} % 2 == 0 }],
			['grown', 'lose', 'lost', 'plain'],
		],
	},
	mortal => {
		text => q{
stateDiagram-v2
  [*] --> born
  born --> grown : grow / n = n + 1
  grown --> born : shrink [n < 20]
  grown --> [*] : die [n % 2 = 0]
},
		edges => [
			['born', 'grow', 'grown', 'plain', undef, sub { $_[0]{n}++ }],
			['grown', 'shrink', 'born', 'plain', sub { $_[0]{n} < 20 }],
			['grown', 'die', '*', 'plain', sub { $_[0]{n} % 2 == 0 }],
		],
	});

for my $machine (values %machines)
{
	my (%target, %count);
	for my $edge (@{ $machine->{edges} })
	{
		$target{ $edge->[2] } = 1;
		# several targets without a guard
		$count{"$edge->[0] $edge->[1]"}{ $edge->[2] } = 1 if !$edge->[4];
	}
	($machine->{entry}) = grep { !$target{$_} } map { $_->[0] } @{ $machine->{edges} };
	$machine->{entry} //= $machine->{edges}[0][0];
	$machine->{ambiguous} = { map { $_ => keys %{ $count{$_} } > 1 } keys %count };
	my %seen;
	$machine->{states} = [ grep { !$seen{$_}++ } map { @$_[ 0, 2 ] } @{ $machine->{edges} } ];
	$machine->{events} = [ grep { !$seen{"event $_"}++ } map { $_->[1] } @{ $machine->{edges} } ];
}

# ---- the model ----
# A row is {state, n}.  These give the hops [event, from, to], or undef: refused.

sub hops_of_chain
{
	my ($machine, $row, $args) = @_;
	my @hops;
  HOP: for (1 .. 100)
	{
		for my $edge (@{ $machine->{edges} })
		{
			my ($from, $event, $to, $kind, $guard, $action) = @$edge;
			next if $from ne $row->{state} || $kind ne 'hard' || ($guard && !$guard->($row, $args));
			$action->($row, $args) if $action;
			$row->{state} = $to;
			push @hops, [ $event, $from, $to ];
			next HOP;
		}
		last;
	}
	return @hops;
}

sub model_fire
{
	my ($machine, $row, $name, $args, $to_state) = @_;
	for my $edge (@{ $machine->{edges} })
	{
		my ($from, $event, $to, $kind, $guard, $action) = @$edge;
		next if $from ne $row->{state} || $event ne $name;
		next if defined $to_state && $to ne $to_state;
		next if $guard && !$guard->($row, $args);
		return if !defined $to_state && $machine->{ambiguous}{"$from $event"};
		$action->($row, $args) if $action;
		$row->{state} = $to;
		return ([ $event, $from, $to ], hops_of_chain($machine, $row, $args));
	}
	return;
}

# A raw write: the guard sees the row before; only hard events run their action.
sub model_write
{
	my ($machine, $row, $to_state, $more) = @_;
	for my $edge (@{ $machine->{edges} })
	{
		my ($from, $event, $to, $kind, $guard, $action) = @$edge;
		next if $from ne $row->{state} || $to ne $to_state;
		next if $guard && !$guard->($row, {});
		$row->{n} += $more;
		$action->($row, {}) if $action && $kind eq 'hard';
		$row->{state} = $to;
		return ([ $event, $from, $to ], hops_of_chain($machine, $row, {}));
	}
	return;
}

# A row that goes when its instance has ended.
sub model_end
{
	my ($op, $rows) = @_;
	my $gone = $machines{ $op->{machine} }{gone};
	my $state = $rows->{ $op->{key} }{state};

	return if !$gone || $state !~ $gone;
	delete $rows->{ $op->{key} };
	return [ 'deleted', '', $state, '' ];
}

# What an operation logs: rows of "type event from to n"; changes %$rows.
sub model_apply
{
	my ($op, $rows) = @_;
	my $machine = $machines{ $op->{machine} };
	my $row = $rows->{ $op->{key} };
	my $line = sub { join(' ', map { $_ // '' } @_) };
	my @hops;

	if ($op->{what} eq 'insert' || $op->{what} eq 'upsert' && !$row)
	{
		return if $row;
		$row = $rows->{ $op->{key} } = { state => $machine->{entry}, n => $op->{n} };
		@hops = hops_of_chain($machine, $row, {});
		return map { $line->(@$_, $row->{n}) }
		  ([ 'init', '', '*', $machine->{entry} ], (map { [ 'state', @$_ ] } @hops), model_end($op, $rows));
	}
	return if !$row;
	if ($op->{what} eq 'delete')
	{
		delete $rows->{ $op->{key} };
		return $line->('deleted', '', $row->{state}, '', $row->{n});
	}
	if ($op->{what} eq 'upsert' || $op->{what} eq 'value' || $op->{what} eq 'write' && $op->{to} eq $row->{state})
	{
		$row->{n} += $op->{n};
		return $op->{n} ? $line->('value', '', $row->{state}, $row->{state}, $row->{n}) : ();
	}
	@hops =
	  $op->{what} eq 'write'
	  ? model_write($machine, $row, $op->{to}, $op->{n})
	  : model_fire($machine, $row, $op->{event}, { n => $op->{n} }, $op->{to});
	return map { $line->(@$_, $row->{n}) } ((map { [ 'state', @$_ ] } @hops), model_end($op, $rows)) if @hops;
	return $line->('errored', $op->{event}, $row->{state}, $row->{state}, $row->{n}) if $op->{what} eq 'try';
	return;
}

# ---- talking to the server ----

sub psql_open
{
	my ($out, $in);
	my $pid = open2($out, $in, 'psql -XqAt -v VERBOSITY=sqlstate -v ON_ERROR_STOP=0 -d ' . $opt{database} . ' 2>&1');
	my $self = { pid => $pid, in => $in, out => $out, marks => 0 };
	$in->autoflush(1);
	return $self;
}

# All that it answers; dies when the server is gone.
sub ask
{
	my ($psql, $sql) = @_;
	my $mark = 'mark ' . ++$psql->{marks};
	my $answer = '';
	print { $psql->{in} } "$sql\n\\echo $mark\n";
	while (defined(my $line = readline $psql->{out}))
	{
		return $answer if $line eq "$mark\n";
		$answer .= $line;
	}
	die "the session ended: $answer\n";
}

sub ask_well
{
	my ($psql, $sql) = @_;
	my $answer = ask($psql, $sql);
	die "$sql: $answer" if $answer =~ /^(?:psql:.*)?(?:ERROR|FATAL|PANIC)/m;
	return $answer;
}

sub psql_close
{
	my ($psql) = @_;
	close $psql->{in};
	waitpid $psql->{pid}, 0;
	return;
}

# ---- a session ----

sub pick { return $_[ int(rand(@_)) ] }

sub quote { return "'" . ($_[0] =~ s/'/''/gr) . "'" }

sub random_op
{
	my ($number) = @_;
	my $name = pick(sort keys %machines);
	my $machine = $machines{$name};
	my $op = { number => $number, machine => $name, key => int(rand($opt{keys})) + 1, n => int(rand(4)) };
	my $dice = rand;

	if ($dice < 0.6)
	{
		$op->{what} = rand() < 0.5 ? 'fire' : 'try';
		$op->{event} = pick(@{ $machine->{events} });
		$op->{to} = pick(@{ $machine->{states} }) if rand() < ($name eq 'fork' ? 0.7 : 0.05);
	}
	elsif ($dice < 0.75) { $op->{what} = 'write'; $op->{to} = pick(@{ $machine->{states} }, 'nowhere'); }
	elsif ($dice < 0.85) { $op->{what} = 'value'; }
	elsif ($dice < 0.90) { $op->{what} = 'delete'; }
	elsif ($dice < 0.95) { $op->{what} = 'insert'; }
	else { $op->{what} = 'upsert'; }
	$op->{form} = int(rand(3));
	$op->{twice} = rand() < 0.2;	# sent again under its idempotency key
	return $op;
}

sub sql_of
{
	my ($op) = @_;
	my ($t, $k, $n) = ("n_$op->{machine}", $op->{key}, $op->{n});
	my $headers = qq(SET persistomata.headers = '{"op": $op->{number}}'; );

	if ($op->{what} eq 'fire' || $op->{what} eq 'try')
	{
		my $to = defined $op->{to} ? ', to_state => ' . quote($op->{to}) : '';
		$to .= ", idempotency_key => 'op $op->{number}'" if $op->{twice};
		my $call = $op->{what} eq 'try' ? 'try_fire' : 'fire';
		return $headers . "SELECT status FROM persistomata.$call('$t', $k, " . quote($op->{event}) . qq[, '{"n": $n}'$to);];
	}
	return $headers . "UPDATE $t SET state = " . quote($op->{to}) . ", n = n + $n WHERE id = $k RETURNING 'done';"
	  if $op->{what} eq 'write';
	return $headers . (
		"UPDATE $t SET n = n + $n WHERE id = $k RETURNING 'done';",
		"UPDATE $t SET n = $t.n + v.n FROM (VALUES ($k, $n)) v(id, n) WHERE v.id = $t.id RETURNING 'done';",
		"MERGE INTO $t USING (VALUES ($k, $n)) v(id, n) ON v.id = $t.id WHEN MATCHED THEN UPDATE SET n = $t.n + v.n;"
	)[ $op->{form} ] if $op->{what} eq 'value';
	return $headers . "DELETE FROM $t WHERE id = $k RETURNING 'done';" if $op->{what} eq 'delete';
	return $headers . (
		"INSERT INTO $t (id, n) VALUES ($k, $n) RETURNING 'done';",
		"INSERT INTO $t (id, n) VALUES ($k, $n) ON CONFLICT DO NOTHING RETURNING 'done';",
		"COPY $t (id, n) FROM stdin;\n$k\t$n\n\\."
	)[ $op->{form} ] if $op->{what} eq 'insert';
	return $headers . "INSERT INTO $t (id, n) VALUES ($k, $n) ON CONFLICT (id) DO UPDATE SET n = $t.n + EXCLUDED.n RETURNING 'done';";
}

# Runs one operation; true if it raised no error.
sub run_op
{
	my ($psql, $op) = @_;
	my $answer = ask($psql, sql_of($op));

	if ($answer =~ /(?:ERROR|FATAL|PANIC):\s+(\w+)/)
	{
		$op->{error} = $1;
		die "operation $op->{number}: $answer" if $op->{error} !~ /^(?:PF0..|40001|40P01|23505|25P02)$/;
		return 0;
	}
	$op->{answer} = $answer =~ s/\n.*//sr;
	if ($op->{twice} && $op->{answer} eq 'transitioned')
	{
		$answer = ask($psql, sql_of($op));
		return 0 if $answer =~ /ERROR:\s+40001/;
		die "operation $op->{number}, sent again: $answer" if $answer ne "duplicate\n";
	}
	return 1;
}

# A statement that only serialization may fail, as any may at that level.
sub step
{
	my ($psql, $sql) = @_;
	my $answer = ask($psql, $sql);
	return 0 if $answer =~ /ERROR:\s+(?:40001|25P02)/;
	die "$sql: $answer" if $answer =~ /ERROR|FATAL|PANIC/;
	return 1;
}

# A transaction of a few operations; gives those that were committed.
sub run_transaction
{
	my ($psql, $name, $next) = @_;
	my @kept;
	my $level = pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $end = pick(qw(COMMIT COMMIT COMMIT ROLLBACK prepare prepare_rollback));
	my $count = 1 + int(rand(5));
	my $broken = 0;

	ask_well($psql, "BEGIN ISOLATION LEVEL $level;");
	for (1 .. $count)
	{
		my $op = $next->();
		my ($protected, $undo) = (rand() < 0.7, rand() < 0.2);
		next if $broken;
		if ($protected && !step($psql, 'SAVEPOINT s;')) { $broken = 1; next; }
		my $good = run_op($psql, $op);
		if ($protected)
		{
			$broken = !step($psql, $undo || !$good ? 'ROLLBACK TO s; RELEASE s;' : 'RELEASE s;');
			push @kept, $op if $good && !$undo;
		}
		elsif ($good) { push @kept, $op; }
		else { $broken = 1; }
	}
	if ($broken || $end eq 'ROLLBACK')
	{
		ask_well($psql, 'ROLLBACK;');
		return;
	}
	return step($psql, 'COMMIT;') ? @kept : () if $end eq 'COMMIT';
	return if !step($psql, "PREPARE TRANSACTION '$name';");
	ask_well($psql, $end eq 'prepare' ? "COMMIT PREPARED '$name';" : "ROLLBACK PREPARED '$name';");
	return $end eq 'prepare' ? @kept : ();
}

sub run_session
{
	my ($session, $file, $until) = @_;
	my $psql = psql_open();
	my $number = $session * 10_000_000;
	my $transactions = 0;
	my $next = sub { return random_op(++$number) };

	srand($opt{seed} * 1000 + $session);
	open my $journal, '>', $file or die "$file: $!";
	ask_well($psql, "SET deadlock_timeout = '20ms'; SET client_min_messages = error;");
	while (time < $until)
	{
		my @kept;
		$transactions++;
		if (rand() < 0.4)
		{
			my $op = $next->();
			push @kept, $op if run_op($psql, $op);
		}
		else { @kept = run_transaction($psql, "nemesis_${session}_$transactions", $next); }
		for my $op (@kept)
		{
			print $journal join("\t", map { $_ // '' } @$op{qw(number machine key what event to n form answer)}), "\n";
		}
	}
	print $journal "end\t", $number - $session * 10_000_000, "\t$transactions\n";
	close $journal or die "$file: $!";
	psql_close($psql);
	return;
}

# ---- the run ----

my $before = 0;

sub setup
{
	my ($psql) = @_;
	ask_well($psql, 'SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS persistomata;');
	# what an earlier run in this database left
	$before = ask_well($psql, 'SELECT coalesce(max(event_id), 0) FROM persistomata.event;') + 0;
	for my $name (sort keys %machines)
	{
		my $half = int($opt{keys} / 2) + 1;
		ask_well($psql, "DROP TABLE IF EXISTS n_$name;"
			  . "CREATE TABLE n_$name (id int PRIMARY KEY, state text, n int NOT NULL DEFAULT 0)"
			  . ($machines{$name}{partitioned} ? " PARTITION BY RANGE (id);"
				  . "CREATE TABLE n_${name}_1 PARTITION OF n_$name FOR VALUES FROM (MINVALUE) TO ($half);"
				  . "CREATE TABLE n_${name}_2 (n int NOT NULL DEFAULT 0, state text, id int NOT NULL);"
				  . "ALTER TABLE n_$name ATTACH PARTITION n_${name}_2 FOR VALUES FROM ($half) TO (MAXVALUE)" : '') . ';'
			  . "SELECT persistomata.create_machine('nemesis $name', " . quote($machines{$name}{text}) . ');'
			  . "SELECT persistomata.attach('n_$name', 'nemesis $name'" . ($machines{$name}{options} // '') . ');');
	}
	return;
}

sub run_sessions
{
	my ($dir) = @_;
	my $until = time + $opt{seconds};
	my %pids;
	my $failed = 0;

	for my $session (1 .. $opt{sessions})
	{
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			eval { run_session($session, "$dir/$session", $until); 1 } or do { print "session $session: $@"; exit 1 };
			exit 0;
		}
		$pids{$pid} = 1;
	}
	for my $pid (keys %pids)
	{
		waitpid $pid, 0;
		$failed ||= $?;
	}
	return !$failed;
}

sub read_journals
{
	my ($dir) = @_;
	my (%ops, $tried, $transactions);

	for my $session (1 .. $opt{sessions})
	{
		open my $journal, '<', "$dir/$session" or die "$dir/$session: $!";
		while (my $line = <$journal>)
		{
			chomp $line;
			my @fields = split /\t/, $line, -1;
			if ($fields[0] eq 'end') { $tried += $fields[1]; $transactions += $fields[2]; next; }
			my %op;
			@op{qw(number machine key what event to n form answer)} = @fields;
			$op{to} = undef if $op{to} eq '';
			$ops{ $op{number} } = \%op;
		}
		close $journal;
	}
	print "nemesis: $tried operations in $transactions transactions, " . keys(%ops) . " of them kept\n";
	return \%ops;
}

my $complaints = 0;

sub complain
{
	my ($what) = @_;
	print "nemesis: $what\n" if ++$complaints <= 20;
	return;
}

# ---- the proof ----

sub read_log
{
	my ($psql, $name) = @_;
	my @log;
	my $answer = ask_well($psql,
		q{SELECT key, headers->>'op', type, event, from_state, to_state, payload->>'n', payload->>'state'}
		  . " FROM persistomata.event WHERE fsm = 'public.n_$name' AND event_id > $before ORDER BY event_id;");
	for my $line (split /\n/, $answer)
	{
		my %row;
		@row{qw(key op type event from to n state)} = split /\|/, $line, -1;
		push @log, \%row;
	}
	return \@log;
}

# The operations that the log has, in its order, through the model.
sub prove_model
{
	my ($name, $log, $ops, $table) = @_;
	my (%rows, %logged, @order);

	for my $row (@$log)
	{
		my $number = $row->{op};
		push @order, $number if !$logged{$number};
		push @{ $logged{$number} }, join(' ', @$row{qw(type event from to n)});
	}
	for my $number (@order)
	{
		my $op = $ops->{$number};
		if (!$op || $op->{machine} ne $name) { complain("$name: operation $number is in the log, but was undone"); next; }
		my $want = join('; ', model_apply($op, \%rows));
		my $have = join('; ', @{ $logged{$number} });
		complain("$name $op->{key}: operation $number ($op->{what} "
			  . join(' ', grep { defined } @$op{qw(event to n)}) . "): logged [$have], the model has [$want]")
		  if $want ne $have;
	}
	# what said that it did something is in the log
	for my $op (grep { $_->{machine} eq $name && !$logged{ $_->{number} } } values %$ops)
	{
		my $did = $op->{answer} eq 'transitioned' || $op->{answer} eq 'done' && ($op->{n} || $op->{what} ne 'value');
		next if $op->{what} eq 'upsert' && !$op->{n};
		next if $op->{what} eq 'write' && !$op->{n};
		complain("$name $op->{key}: operation $op->{number} ($op->{what}) was committed and is not in the log") if $did;
	}
	my %model = map { $_ => "$rows{$_}{state} $rows{$_}{n}" } keys %rows;
	compare($name, 'the model', \%model, $table);
	return;
}

# The log alone: each row begins where the one before ended.
sub prove_log
{
	my ($name, $log, $table) = @_;
	my (%state, %replayed);

	for my $row (grep { $_->{type} ne 'errored' } @$log)
	{
		my $before = $state{ $row->{key} } // '*';
		complain("$name $row->{key}: the log goes from \"$before\" on with \"$row->{from}\"")
		  if $row->{from} ne $before || ($row->{type} eq 'init') != !defined $state{ $row->{key} };
		$state{ $row->{key} } = $row->{to};
		$replayed{ $row->{key} } = "$row->{state} $row->{n}";
		if ($row->{type} eq 'deleted') { delete $state{ $row->{key} }; delete $replayed{ $row->{key} }; }
	}
	compare($name, 'the log', \%replayed, $table);
	return;
}

sub compare
{
	my ($name, $whose, $mine, $table) = @_;
	my %keys = (%$mine, %$table);
	for my $key (sort { $a <=> $b } keys %keys)
	{
		my ($want, $have) = ($mine->{$key} // 'no row', $table->{$key} // 'no row');
		complain("$name $key: the table has $have, $whose $want") if $want ne $have;
	}
	return;
}

sub read_table
{
	my ($psql, $name) = @_;
	return { map { split /\|/, $_, 2 } split /\n/, ask_well($psql, "SELECT id, state || ' ' || n FROM n_$name;") };
}

# What the extension itself says of it, where it can.
sub prove_verify
{
	my ($psql, $name) = @_;
	return if ask_well($psql, q{SELECT 1 FROM pg_proc WHERE proname = 'verify' AND pronamespace = 'persistomata'::regnamespace;}) eq '';
	my $found = ask_well($psql, "SELECT * FROM persistomata.verify('n_$name');");
	complain("$name: verify() says $found") if $found =~ /\S/;
	return;
}

my $dir = tempdir(CLEANUP => 1);
my $psql = psql_open();
setup($psql);
my $good = run_sessions($dir);
if ($good)
{
	my $ops = read_journals($dir);
	for my $name (sort keys %machines)
	{
		my $log = read_log($psql, $name);
		my $table = read_table($psql, $name);
		print "nemesis: $name: " . @$log . ' events, ' . keys(%$table) . " instances left\n";
		complain("$name: nothing happened") if !@$log;
		prove_model($name, $log, $ops, $table);
		prove_log($name, $log, $table);
		prove_verify($psql, $name);
	}
	complain('prepared transactions are left') if ask_well($psql, 'SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database();') != 0;
}
psql_close($psql);
if (!$good || $complaints)
{
	print "nemesis: $complaints complaints; seed $opt{seed}\n";
	exit 1;
}
print "nemesis: all agree; seed $opt{seed}\n";
exit 0;
