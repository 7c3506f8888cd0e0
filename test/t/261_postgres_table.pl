# Events in a table of another PostgreSQL server: each once, whoever is killed, and
# what the table refuses apart.

use strict;
use warnings;
use File::Copy;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PstTest;
use PstTest::Tls;
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $there = PostgreSQL::Test::Cluster->new('there');
$there->init;
$there->append_conf('postgresql.conf', "fsync = off\n");
$there->start;
$there->safe_psql($db, q{
	CREATE ROLE writer LOGIN PASSWORD 'pass-word';
	CREATE DATABASE sinkdb OWNER writer;
});
# the role needs its password, the test none
my $hba = slurp_file($there->data_dir . '/pg_hba.conf');
open(my $file, '>', $there->data_dir . '/pg_hba.conf') or die $!;
print $file "local sinkdb writer scram-sha-256\nhost sinkdb writer 127.0.0.1/32 scram-sha-256\n$hba";
close $file;
$there->reload;

my $node = new_node('here', restart_after_crash => 'on');
$node->safe_psql($db, q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	$$);
	CREATE TABLE lamp (id text PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
});
$node->safe_psql($db, sprintf(q{
	CREATE SERVER there FOREIGN DATA WRAPPER persistomata_postgres
	OPTIONS (host '%s', port '%s', dbname 'sinkdb', connect_timeout '2000', max_rows '200');
	CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (user 'writer', password 'pass-word');
	SELECT persistomata.create_route('r', 'there', options => '{"mode": "table", "table": "inbox"}')}, $there->host, $there->port));

sub sql { return $node->safe_psql($db, @_) }
sub there { return $there->safe_psql('sinkdb', @_) }
my $state = q{SELECT state FROM persistomata.stat_route};
sub value_is { return ok(wait_for_value($node, $db, $_[0], $_[1], 60), $_[2]) || diag(log_tail($node, 15)) }
sub last_error { return sql('SELECT last_error FROM persistomata.stat_route') }

# ---- the table ----

sql(q{SET persistomata.headers = '{"a": "b"}'; INSERT INTO lamp VALUES ('first ä')});
ok(wait_for_drain($node, $db, 'r'), 'an event is written');
is(there(q{SELECT type, machine, version, fsm, key, event, to_state, payload->>'id', headers, pg_typeof(occurred_at), position, xid > 0 FROM inbox}),
	'init|lamp|1|public.lamp|first ä||none|first ä|{"a": "b"}|timestamp with time zone|1|t', 'into a table that is made');
is(there(q{SELECT tableowner FROM pg_tables WHERE tablename = 'inbox'}), 'writer', 'by the user of the mapping');
is(there(q{SELECT name FROM inbox}), sql(q{SELECT name FROM persistomata.events(1, 1)}), 'under its name');

# ---- once, across kills ----

my $n = 5000;
sql("INSERT INTO lamp SELECT 'k' || g FROM generate_series(1, $n) g");
my $pid = sql(q{SELECT pid FROM persistomata.stat_worker WHERE kind = 'sink'});
wait_for(sub { there('SELECT count(*) FROM inbox') > 100 }, 'some rows');
kill 'KILL', $pid;
ok(wait_for(sub { sql('SELECT 1') eq '1' }, 'recovery'), 'the worker is killed');
sleep 0.3;
$there->stop('immediate');
sleep 0.3;
$there->start;
ok(wait_for_drain($node, $db, 'r'), 'so is the other server');
is(there('SELECT count(*), count(DISTINCT name) FROM inbox'), ($n + 1) . '|' . ($n + 1), 'each event is there, once');

# the same positions once more
sql(q{SELECT persistomata.seek_route('r', 1)});
value_is('SELECT lag_events, duplicates >= 5001 FROM persistomata.stat_route', '0|t', 'what is sent again is found there');
is(there('SELECT count(*) FROM inbox'), $n + 1, 'and not written again');

# ---- refused rows ----

there(q{ALTER TABLE inbox ADD CHECK (key NOT LIKE 'bad%')});
sql(q{INSERT INTO lamp SELECT CASE WHEN g IN (30, 77) THEN 'bad' ELSE 'n' END || g FROM generate_series(1, 100) g});
ok(wait_for_drain($node, $db, 'r'), 'refused rows hold nobody up');
is(sql(q{SELECT string_agg(event->>'key', ',' ORDER BY position) FROM persistomata.dead_letter}), 'bad30,bad77', 'they are isolated');
like(sql(q{SELECT reason FROM persistomata.dead_letter LIMIT 1}), qr/23514: new row for relation "inbox" violates check/, 'with the reason');
is(there(q{SELECT count(*) FROM inbox WHERE key LIKE 'n%'}), 98, 'the others are there');
there(q{ALTER TABLE inbox DROP CONSTRAINT inbox_key_check});
sql('SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter');
value_is('SELECT count(*) FROM persistomata.dead_letter', 0, 'and can be sent again');

# ---- what is to be mended ----

sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (SET password 'wrong')});
sql(q{INSERT INTO lamp VALUES ('w1')});
value_is($state, 'misconfigured', 'a wrong password');
like(last_error(), qr/could not connect.*password authentication failed/, 'is told');
unlike(last_error(), qr/wrong/, 'and not shown');
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (SET user 'postgres')});
ok(wait_for(sub { last_error() =~ /did not ask for the user mapping's password/ }, 'that error'),
	'what the server lets in without a password is not used');
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (DROP password)});
ok(wait_for(sub { last_error() =~ /has no password/ }, 'that error'), 'nor a mapping without one');
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (SET user 'writer', ADD password 'pass-word')});
ok(wait_for_drain($node, $db, 'r'), 'it goes on once that is mended');

there(q{ALTER TABLE inbox RENAME COLUMN reason TO why});
sql(q{INSERT INTO lamp VALUES ('w2')});
value_is($state, 'misconfigured', 'a table that does not fit');
like(last_error(), qr/42703: column "reason"/, 'is told');
is(sql('SELECT count(*) FROM persistomata.dead_letter'), 0, 'and costs no event');
there(q{ALTER TABLE inbox RENAME COLUMN why TO reason});
ok(wait_for_drain($node, $db, 'r'), 'and waits for that');

sql(q{SELECT persistomata.alter_route('r', options => '{"mode": "table", "table": "other.box", "create_table": false}')});
sql(q{INSERT INTO lamp VALUES ('w3')});
value_is($state, 'misconfigured', 'a table that is not there, and not to be made');
there(q{CREATE SCHEMA other; CREATE TABLE other.box (LIKE inbox INCLUDING ALL); GRANT USAGE ON SCHEMA other TO writer;
	GRANT INSERT, SELECT ON other.box TO writer});
ok(wait_for_drain($node, $db, 'r'), 'until somebody makes it');
is(there('SELECT key FROM other.box'), 'w3', 'in its schema');

# ---- who is elsewhere shows a certificate ----

my $tls = PstTest::Tls::make(PostgreSQL::Test::Utils::tempdir_short() . '/tls', subject_alt_name => 'DNS:db.test');
copy("$tls/$_", $there->data_dir . "/$_") or die $! for qw(cert.pem key.pem);
chmod 0600, $there->data_dir . '/key.pem';
sub there_is
{
	my ($ssl) = @_;
	$there->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nssl = $ssl\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'");
	$there->restart;
}
sub error_is
{
	my ($error, $what) = @_;
	return ok(wait_for(sub { last_error() =~ $error }, "the error $error"), $what) || diag(last_error());
}
there_is('off');
my $events = 0;
sub one_more { $events++; sql("INSERT INTO lamp VALUES ('tls$events')") }
sql(q{ALTER SERVER there OPTIONS (SET host 'db.test', ADD hostaddr '127.0.0.1')});
one_more();
error_is(qr/does not support SSL/, 'without TLS nothing is sent');
is(sql($state), 'misconfigured', 'and somebody has to mend that');
there_is('on');
error_is(qr/certificate verify failed/, 'nor to one that nobody vouches for');
is(sql($state), 'misconfigured', 'which is for somebody to mend, too');
is(there(q{SELECT count(*) FROM other.box WHERE key LIKE 'tls%'}), 0, 'nothing was');
sql(qq{ALTER SERVER there OPTIONS (ADD sslrootcert '$tls/ca.pem')});
ok(wait_for_drain($node, $db, 'r', 60), 'with its authority named it is known');
is(there(q{SELECT string_agg(DISTINCT s.ssl::text, ' ') FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'writer'}), 'true', 'over TLS');
sql(q{ALTER SERVER there OPTIONS (SET host 'other.test')});
one_more();
error_is(qr/does not match host name/, 'under another name it is not');
sql(q{ALTER SERVER there OPTIONS (ADD sslmode 'require', DROP sslrootcert)});
ok(wait_for_drain($node, $db, 'r', 60), 'unless sslmode asks for less');
sql(q{ALTER SERVER there OPTIONS (DROP sslmode, SET host 'localhost')});
there_is('off');
one_more();
ok(wait_for_drain($node, $db, 'r', 60), 'this machine need not show one');
is(there(q{SELECT count(*) FROM other.box WHERE key LIKE 'tls%'}), $events, 'all that was held up is there');

# ---- a server that says nothing ----

my $lock = IPC::Run::start([ 'psql', '-XAtq', '-d', $there->connstr('sinkdb'), '-c', 'LOCK TABLE other.box; SELECT pg_sleep(100)' ], '<', '/dev/null', '>', \my $ignored, '2>', \my $too);
ok(wait_for(sub { there(q{SELECT count(*) FROM pg_locks WHERE relation = 'other.box'::regclass AND mode = 'AccessExclusiveLock' AND granted}) eq '1' }, 'the lock'), 'the table is locked');
sql(q{INSERT INTO lamp VALUES ('w4')});
value_is($state, 'sending', 'the worker waits');
my $start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 2, 'and a fast shutdown does not');
$lock->kill_kill;
there(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%' AND pid <> pg_backend_pid()});
$node->start;
ok(wait_for_drain($node, $db, 'r'), 'what was in doubt is settled');
is(there(q{SELECT count(*) FROM other.box WHERE key = 'w4'}), 1, 'once');

$node->stop;
$there->stop;
done_testing();
