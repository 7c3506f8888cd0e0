# The tutorial can be typed as it stands, and prints what it says.

use strict;
use warnings;
use IPC::Run;
use PstTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = "$ENV{PST_TEST_DIR}/../doc/tutorial.md";

# The page's statements, each with what it is said to print, in two halves: what
# follows "A moment later" is for when the workers have been there.
my @halves = ([]);
my @pieces = split /^```(\w*)\n/m, slurp_file($page);
for (my $i = 0; $i + 2 < @pieces; $i += 2)
{
	my ($before, $kind, $text) = @pieces[ $i .. $i + 2 ];
	push @halves, [] if $kind eq 'sql' && $before =~ /^A moment later:$/m;
	push @{ $halves[-1] }, { sql => $text } if $kind eq 'sql';
	$halves[-1][-1]{prints} = $text if $kind eq '' && @pieces > $i + 2 && @{ $halves[-1] } && ($i / 2) % 2 == 0;
}
is(scalar @halves, 2, 'the page has two halves');
cmp_ok(scalar(grep { length($_->{prints} // '') } map { @$_ } @halves), '>=', 12, 'and most of it says what it prints');

my $node = new_node('docs');
sub plain
{
	my ($text) = @_;
	$text =~ s/^psql:\S+ //mg;
	$text =~ s/[ \t]+$//mg;
	return $text;
}

sub run_half
{
	my ($half) = @_;
	my $script = join('', map { "$_->{sql}\n\\echo ====\n" } @$half);
	my $out;
	IPC::Run::run([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', '-' ], '<', \$script, '>&', \$out);
	my @printed = split /^====\n/m, plain($out);
	for my $i (0 .. $#$half)
	{
		my $wanted = plain($half->[$i]{prints} // next);
		my ($name) = $half->[$i]{sql} =~ /\A(.*)/;
		ok(index($printed[$i], $wanted) >= 0, $name)
		  or diag("wanted:\n$wanted\nprinted:\n$printed[$i]");
	}
	return;
}

run_half($halves[0]);
ok(wait_for_value($node, 'postgres', 'SELECT count(*) FROM orders WHERE id = 5', 1), 'the function is called');
wait_for_value($node, 'postgres', q{SELECT sent, state FROM persistomata.stat_route}, '1|idle');
run_half($halves[1]);
$node->stop;
done_testing();
