# Webhooks: what they look like, who signs them, and what becomes of them when the
# receiver refuses, fails, is slow, closes or hangs.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_base64);
use JSON::PP;
use PstTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $server = sink_server('http', options => [ '--secret', 'hush-hush', '--token', 'let-me-in' ]);
my $hook = client($server);
my $node = new_node('hooks');
my $db = 'postgres';
$node->safe_psql($db, q{
	CREATE EXTENSION persistomata;
	SELECT persistomata.create_machine('lamp', $$
	flowchart LR
	  none -->|on!| red
	  red -->|go| green
	$$);
	CREATE TABLE lamp (id text PRIMARY KEY, state text);
	SELECT persistomata.attach('lamp', 'lamp', types => '{init}');
});
create_sink($node, $db, 'hook', $server, request_timeout => '20000');
$node->safe_psql($db, q{ALTER USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (ADD token 'let-me-in', ADD secret 'hush-hush')});

sub sql { return $node->safe_psql($db, @_) }
sub insert { return sql('INSERT INTO lamp SELECT unnest($$' . '{' . join(',', @_) . '}$$::text[])') }

sub stat_of
{
	my ($route) = @_;
	return sql("SELECT sent, dead, lag_events FROM persistomata.stat_route WHERE route = '$route'");
}

# The keys received, in order, from single requests or batches.
sub keys_received
{
	my @keys;
	for (@{ $hook->received })
	{
		my $body = decode_json($_->{body});
		push @keys, map { $_->{key} // $_->{data}{key} } ref $body eq 'ARRAY' ? @$body : $body;
	}
	return join(',', @keys);
}

sub ended_with
{
	my ($keys, $what) = @_;
	return ok(wait_for(sub { keys_received() eq $keys }, "$keys received"), $what)
	  || diag(keys_received());
}

# ---- what a webhook looks like ----

sql(q{SELECT persistomata.create_route('plain', 'hook')});
sql(q{SELECT persistomata.create_route('enveloped', 'hook', format => 'cloudevents')});
sql(q{SET persistomata.headers = '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "other": "x"}';
	INSERT INTO lamp VALUES ('ä b')});
ok(wait_for(sub { @{ $hook->received } == 2 }, 'two requests'), 'each route sends its request');
my ($plain) = grep { $_->{headers}{'content-type'} eq 'application/json' } @{ $hook->received };
my ($enveloped) = grep { $_->{headers}{'content-type'} eq 'application/cloudevents+json' } @{ $hook->received };
my $event = decode_json($plain->{body});
my $cloud = decode_json($enveloped->{body});
my %h = %{ $plain->{headers} };
is($event->{key}, "\x{e4} b", 'the body is the event');
is($h{'ce-subject'}, '%C3%A4%20b', 'the attributes are headers, percent-encoded');
is("$h{'ce-specversion'} $h{'ce-id'} $h{'ce-type'}", "1.0 $event->{name} persistomata.init", 'of CloudEvents 1.0');
is($cloud->{id}, $event->{name}, 'a structured event has the same id');
is($cloud->{source}, $h{'ce-source'}, 'and source');
ok(!exists $enveloped->{headers}{'ce-id'}, 'in its body only');
is_deeply($cloud->{data}, $event, 'and the event is its data');
is($h{'idempotency-key'}, $event->{name}, 'the idempotency key is the name');
like($h{traceparent}, qr/^00-0af7/, 'the trace goes on');
ok(!exists $h{other}, 'other headers are the body\'s');
is($h{'webhook-signature'},
	'v1,' . hmac_sha256_base64("$h{'webhook-id'}.$h{'webhook-timestamp'}.$plain->{body}", 'hush-hush') . '=',
	'the body is signed');
is($plain->{path}, '/hook', 'it goes to the path of the url');
sql(q{SELECT persistomata.drop_route('enveloped')});

# ---- refused, one by one ----

$hook->forget;
$hook->behave(poison => '"key":"bad');
insert(qw(a bad1 c bad2 e));
ended_with('a,c,e', 'what is refused holds nobody up, and the order is kept');
ok(wait_for_value($node, $db, q{SELECT count(*) FROM persistomata.dead_letter}, 2), 'it is kept');
like(sql(q{SELECT string_agg(event->>'key' || ' ' || reason, '; ' ORDER BY position) FROM persistomata.dead_letter}),
	qr/^bad1 HTTP status 422: poison; bad2 HTTP/, 'with what the receiver said');
ok(wait_for_value($node, $db, q{SELECT sent, dead, lag_events FROM persistomata.stat_route}, '4|2|0'), 'and counted');
$hook->behave;
$hook->forget;
sql('SELECT persistomata.retry_dead_letter(id) FROM persistomata.dead_letter');
ended_with('bad1,bad2', 'and can be sent again');
ok(wait_for_value($node, $db, q{SELECT count(*) FROM persistomata.dead_letter}, 0), 'until it is taken');

# ---- in batches ----

sql(q{SELECT persistomata.drop_route('plain')});
sql(q{SELECT persistomata.create_route('batch', 'hook', format => 'cloudevents', options => '{"mode": "batched"}')});
$hook->forget;
$hook->behave(poison => '"key":"bad');
my @many = map { $_ == 70 ? 'bad3' : "n$_" } 1 .. 100;
insert(@many);
ended_with(join(',', grep { !/bad/ } @many), 'of a batch all but the poison are taken, in order');
is($hook->received->[0]{headers}{'content-type'}, 'application/cloudevents-batch+json', 'as a batch');
cmp_ok(scalar @{ $hook->requests }, '<=', 1 + 2 * 7, 'it is found by halving');
ok(wait_for_value($node, $db, q{SELECT event->>'key' FROM persistomata.dead_letter}, 'bad3'), 'the dead letter is that one');
ok(wait_for_drain($node, $db, 'batch'), 'and the route goes on');

# all refused: not the events are to blame
$hook->behave(status => 400);
$hook->forget;
insert(map { "m$_" } 1 .. 40);
my $state = q{SELECT state FROM persistomata.stat_route WHERE route = 'batch'};
ok(wait_for_value($node, $db, $state, 'misconfigured'), 'where everything is refused, the route waits');
is(sql(q{SELECT count(*) FROM persistomata.dead_letter}), 1, 'and no event is given up');
$hook->behave;
ended_with(join(',', map { "m$_" } 1 .. 40), 'it goes on by itself');
sql(q{SELECT persistomata.drop_route('batch')});

# ---- failures ----

sql(q{SELECT persistomata.create_route('one', 'hook')});
$state = q{SELECT state FROM persistomata.stat_route WHERE route = 'one'};
my $error = q{SELECT last_error FROM persistomata.stat_route WHERE route = 'one'};
for my $case (
	[ { status => 401 }, 'misconfigured' ],
	[ { status => 404 }, 'misconfigured' ],
	[ { status => 302, location => 'http://127.0.0.1:1/' }, 'misconfigured' ],
	[ { status => 500 }, 'retrying' ],
	[ { status => 408 }, 'retrying' ],
	[ { close => JSON::PP::true }, 'retrying' ])
{
	my ($how, $wanted) = @$case;
	my $name = join(' ', map { "$_ $how->{$_}" } sort keys %$how);
	my $key = 'k' . ($how->{status} // 'closed');
	$hook->forget;
	$hook->behave(%$how);
	insert($key);
	ok(wait_for_value($node, $db, $state, $wanted), "$name: $wanted");
	like(sql($error), $how->{status} ? qr/HTTP status $how->{status}: as told, Bearer \*+$/ : qr/request failed/, 'and why, without the token');
	like(slurp_file($node->logfile), qr/LOG:  route "one" to server "hook" waits/, 'as the log does');
	$hook->behave;
	ended_with($key, 'it comes when the trouble is over');
	ok(wait_for_drain($node, $db, 'one'), 'once');
}
is(sql(q{SELECT count(*) FROM persistomata.dead_letter}), 0, 'nothing is given up');

# Retry-After, as seconds and as a date
sub imf_date
{
	my @t = gmtime($_[0]);
	return sprintf('%s, %02d %s %d %02d:%02d:%02d GMT', (qw(Sun Mon Tue Wed Thu Fri Sat))[ $t[6] ], $t[3],
		(qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[ $t[4] ], $t[5] + 1900, @t[ 2, 1, 0 ]);
}
for my $as (qw(seconds date))
{
	my $until = int(time) + 4;
	$hook->forget;
	$hook->behave(status => 429, times => 1, retry_after => $as eq 'seconds' ? '3' : imf_date($until));
	insert("later-$as");
	ended_with("later-$as", "Retry-After as $as: it comes");
	my @at = @{ $hook->requests };
	is(scalar @at, 2, 'at the second try');
	cmp_ok($at[1], '>=', $as eq 'seconds' ? $at[0] + 2.9 : $until, 'and no sooner');
}

# a receiver that is down
$server->stop;
insert('down');
ok(wait_for_value($node, $db, $state, 'retrying'), 'a receiver that is down');
$server->restart;
ended_with('down', 'gets it when it is up again');
ok(wait_for_drain($node, $db, 'one'), 'and it is settled');

# ---- who lets us in ----

$hook->forget;
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (SET secret 'wrong')});
insert('signed');
ok(wait_for_value($node, $db, $state, 'misconfigured'), 'a wrong secret is refused');
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (SET secret 'whsec_aHVzaC1odXNo')});
ended_with('signed', 'a secret may be written as base64');
ok(wait_for_drain($node, $db, 'one'), 'settled');

# ---- a receiver that hangs ----

$hook->behave(delay => 100);
insert('hangs');
ok(wait_for_value($node, $db, $state, 'sending'), 'it hangs');
my $start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 2, 'a fast shutdown does not wait');
$hook->behave;
$hook->forget;
$node->start;
# the one before may come once more: its acknowledgement may not have been written yet
ok(wait_for(sub { keys_received() =~ /^(signed,)?hangs$/ }, 'hangs received'), 'and the event is sent again')
  || diag(keys_received());

# ---- TLS ----

my $dir = PostgreSQL::Test::Utils::tempdir;
system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', "$dir/key", '-out', "$dir/cert");
my $tls = sink_server('http', options => [ '--cert', "$dir/cert", '--key', "$dir/key" ]);
$hook = client($tls);
sql(q{SELECT persistomata.drop_route('one')});
create_sink($node, $db, 'tls', $tls, url => 'https://localhost:' . $tls->port . '/');
sql(q{SELECT persistomata.create_route('one', 'tls')});
insert('secret');
ok(wait_for_value($node, $db, $state, 'misconfigured'), 'a certificate that nobody vouches for is refused');
like(sql($error), qr/certificate/, 'and that is said');
is(keys_received(), '', 'nothing was sent');
sql("ALTER SERVER tls OPTIONS (ADD ca_file '$dir/cert')");
ended_with('secret', 'with its authority it is taken');

$node->stop;
done_testing();
