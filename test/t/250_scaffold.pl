# What test_scaffold() writes runs green under pgTAP, and would not for another
# machine.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $node = new_node('scaffold');
plan skip_all => 'needs pgtap'
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pgtap'}) eq '0';
$node->safe_psql('postgres', 'CREATE EXTENSION persistomata');

# the script's results: how many are ok, not ok, and to do; and what psql complains of
sub run_script
{
	my ($script) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $script, on_error_die => 0);
	my %result = (rc => $rc, err => $err, out => $out, good => 0, bad => 0, todo => 0);
	for (split /\n/, $out)
	{
		if (/^not ok .*# TODO/) { $result{todo}++ }
		elsif (/^not ok/) { $result{bad}++ }
		elsif (/^ok/) { $result{good}++ }
		elsif (/^1\.\.(\d+)/) { $result{planned} = $1 }
	}
	return \%result;
}

sub scaffold
{
	my ($machine, $table) = @_;
	return $node->safe_psql('postgres',
		"SELECT persistomata.test_scaffold('$machine'" . ($table ? ", '$table'" : '') . ')');
}

sub is_green
{
	my ($script, $good, $todo, $name) = @_;
	my $result = run_script($script);
	is("$result->{rc} $result->{good} $result->{bad} $result->{todo} " . ($result->{planned} // ''),
		"0 $good 0 $todo " . ($good + $todo), $name)
	  or diag("$result->{err}\n$result->{out}");
	return;
}

my %machines = (
	gate => q{
		flowchart LR
		  new    -->|set!| closed
		  closed -->|"coin [payload->>'paid' = 'yes' or args->>'paid' = 'yes'] / payload = payload || jsonb_build_object('n', 1)"| opened
		  opened -->|walk?| closed
		  opened -->|smash| broken
		  closed -->|off| away
		  closed -->|off| broken
		  away   -->|"after (1 day)"| broken
		  broken -->|repair!| mended},
	visit => q{
		stateDiagram-v2
		  [*] --> outside : arrive
		  outside --> inside : enter
		  inside --> inside : every (1 hour)
		  inside --> hall : hurry!
		  hall --> [*] : leave
		  outside --> [*] : turn_round},
	'od%d "name' => q{
		@startuml
		state "it's (odd)" as odd
		[*] --> odd : go
		odd --> Österreich : fly
		Österreich --> [*] : land
		@enduml});
my $names = join ', ', map { "('" . ($_ =~ s/'/''/gr) . "', \$def\$$machines{$_}\$def\$)" } keys %machines;
$node->safe_psql('postgres', "SELECT persistomata.create_machine(name, definition) FROM (VALUES $names) AS m(name, definition)");
my %steps;
for my $machine (sort keys %machines)
{
	$steps{$machine} = $node->safe_psql('postgres',
		"SELECT count(*) FILTER (WHERE guard IS NULL), count(*) FILTER (WHERE guard IS NOT NULL) FROM persistomata.scaffold_steps('$machine')");
	my ($good, $todo) = split /\|/, $steps{$machine};
	cmp_ok($good, '>', 1, "$machine has steps");
	is_green(scaffold($machine), $good, $todo, "the paths of $machine are green");
}

# with the args that the guard wants, nothing is left to do
my ($good, $todo) = split /\|/, $steps{gate};
my $script = scaffold('gate');
$script =~ s/^SELECT todo.*\n//mg;
$script =~ s/('coin', 'opened')\)/$1, '{"paid": "yes"}')/g;
is_green($script, $good + $todo, 0, 'a guard gets its args');

# a copy of one's own table, whose name the guard uses
$node->safe_psql('postgres', q{
	SELECT persistomata.create_machine('order', $$
	flowchart LR
	  new  -->|place!| open
	  open -->|"pay [not exists (select from item where item.order_id = orders.id)] / paid_at = now()"| paid
	  paid -->|ship| shipped
	$$);
	CREATE TABLE item (order_id bigint);
	CREATE TYPE size AS ENUM ('s', 'm');
	CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, size size NOT NULL,
		at date NOT NULL, n int NOT NULL, tags text[] NOT NULL, doc jsonb NOT NULL, token uuid NOT NULL UNIQUE,
		twice int GENERATED ALWAYS AS (n * 2) STORED, made timestamptz NOT NULL DEFAULT now(), paid_at timestamptz, phase text NOT NULL);
	SELECT persistomata.attach('orders', 'order', state_column => 'phase');
});
my $own = scaffold('order', 'orders');
$own =~ s/^SELECT todo.*\n//mg;
is_green($own, 3, 0, 'with a table of one\'s own, guards and actions run as they are');

# it would not be green for a machine that is not the one that is drawn
$own =~ s/'open', 'pay', 'paid'/'open', 'pay', 'shipped'/;
is(run_script($own)->{bad}, 1, 'what the machine does not do is not ok');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'pst_scaffold'}), 0, 'nothing is left behind');
$node->stop;
done_testing();
