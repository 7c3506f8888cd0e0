# A short run of test/chaos/nemesis.pl: random operations from many sessions against
# a model.  What it prints names the seed; test/chaos/nemesis.sh runs it at length.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PstTest;
use Test::More;

my $node = new_node('nemesis', max_prepared_transactions => 64, autovacuum => 'off');
$node->safe_psql('postgres', 'CREATE DATABASE nemesis');
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
my $out = '';
my $result = IPC::Run::run([ 'perl', "$ENV{PST_TEST_DIR}/chaos/nemesis.pl", '--seconds', 8 ], '>&', \$out);
note($out);
ok($result, 'the model, the log and the tables agree') or diag($out);
unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
