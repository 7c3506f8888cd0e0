# The registry is public: another extension brings a kind of sink.  And what
# events look like in bytes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SinkProbe;
use Test::More;

my $node = SinkProbe::cluster();

sub fails_with
{
	my ($sql, $expected, $what) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', $sql);

	like($stderr, $expected, $what);
}

# A kind of another extension's.
my @events = map { { position => $_, key => $_ == 3 ? 'bad' : 'good' } } 1 .. 5;
my $events = SinkProbe::quoted(JSON::PP->new->encode(\@events)) . '::jsonb';
my @answers = split /\n/, $node->safe_psql('postgres', join(';',
	SinkProbe::probe_sql('memory', { limit => '4' }, {}, $events),
	SinkProbe::probe_sql('memory', { limit => '4' }, {}, 'sink_probe.some(1, 7)')));
my @rows = SinkProbe::decode($answers[0]);
is_deeply([ map { $_->{verdict} } @rows[ 1 .. 5 ] ], [qw(delivered delivered rejected delivered delivered)],
	'a kind that another extension registers is driven like any other');
@rows = SinkProbe::decode($answers[1]);
is($rows[0]{duplicates}, 4, 'it tells duplicates');
is($rows[0]{verdict}, 'retry', 'and faults');
$node->safe_psql('postgres', q{CREATE SERVER m FOREIGN DATA WRAPPER sink_probe_memory OPTIONS (limit '10')});
fails_with(q{CREATE SERVER n FOREIGN DATA WRAPPER sink_probe_memory OPTIONS (limit '0')},
	qr/integer from 1 to 1000/, 'its options are checked');
fails_with(q{CREATE SERVER n FOREIGN DATA WRAPPER sink_probe_memory OPTIONS (token 'x')},
	qr/Valid options of a memory server are: limit, max_rows, max_bytes, linger_ms\./, 'by their place');

# Options of routes.
fails_with(q{SELECT sink_probe.check_option('redis', 'maxlen', '0')}, qr/integer from 1/, 'maxlen is checked');
fails_with(q{SELECT sink_probe.check_option('redis', 'mode', 'set')}, qr/one of: stream, pubsub, list, hash\./, 'mode is one of those there are');
fails_with(q{SELECT sink_probe.check_option('redis', 'stream', 'a{machin}')}, qr/There is no field "machin"/, 'templates are checked');
fails_with(q~SELECT sink_probe.check_option('rabbitmq', 'routing_key', '{key')~, qr/There is no field "\{key"/, 'for their braces too');
fails_with(q{SELECT sink_probe.check_option('rabbitmq', 'stream', 's')}, qr/route to a rabbitmq server are: exchange, exchange_type, routing_key/, 'names are checked');
is($node->safe_psql('postgres', q{SELECT sink_probe.check_option('redis', 'stream', '{{{fsm}}}:{type}.{event}.{key}.{from}.{to}.{machine}')}), '', 'a good one passes');
is($node->safe_psql('postgres', q{SELECT * FROM sink_probe.encode('[{"event": "e", "to_state": "t", "key": "k"}]', '{{{fsm}}}:{type}.{event}.{key}.{from}.{to}.{machine}')}),
	'{public.turnstile}:state.e.k.-.t.turnstile', 'and is filled in, with - for what is absent');

# JSON.
is($node->safe_psql('postgres', q{
	WITH strings AS (
		SELECT pg_catalog.chr(c) || 'x' || pg_catalog.chr(c) AS s FROM pg_catalog.generate_series(1, 1000) c
		UNION ALL VALUES (''), ('"'), ('\\'), ('\\"'), ('a' || chr(10) || 'b'), ('äöü€😀'), (repeat('x', 100000)))
	SELECT count(*), count(*) FILTER (WHERE
		(SELECT e::json->>'key' FROM sink_probe.encode(jsonb_build_array(jsonb_build_object('key', s)), 'json') e) = s)
	  FROM strings}), '1007|1007', 'every string comes back from JSON as it was');
is($node->safe_psql('postgres', q{SELECT pg_catalog.string_agg(key, ',') FROM (SELECT pg_catalog.json_object_keys(e::json) AS key FROM sink_probe.encode('[{}]', 'json') e) k}),
	'name,position,event_id,type,machine,version,fsm,key,event,from_state,to_state,args,payload,reason,occurred_at,xid,actor,headers,node',
	'an event has all its fields, null or not');
is($node->safe_psql('postgres', q{SELECT e::json->'args'->>'a', e::json->'payload'->>'b', e::json->'headers' FROM sink_probe.encode('[{"args": "{\"a\": 1}", "payload": "{\"b\": [1]}"}]', 'json') e}),
	'1|[1]|null', 'args and payload are embedded');
is($node->safe_psql('postgres', q{
	WITH times AS (SELECT pg_catalog.make_timestamptz(y, m, d, 23, 59, 59.123456, 'UTC') AS t
		FROM pg_catalog.generate_series(1, 9999, 7) y, pg_catalog.unnest('{1, 2, 3, 12}'::int[]) m, pg_catalog.unnest('{1, 28}'::int[]) d
		UNION ALL VALUES ('2024-02-29 00:00Z'::timestamptz), ('2000-02-29 12:00Z'), ('1900-02-28 23:59:59.999999Z'), ('1970-01-01 00:00Z'))
	SELECT count(*) FILTER (WHERE (SELECT e::json->>'occurred_at' FROM sink_probe.encode(jsonb_build_array(jsonb_build_object('occurred_at', (extract(epoch FROM t) * 1000000)::bigint)), 'json') e)
		IS DISTINCT FROM to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
	  FROM times}), '0', 'times are ISO 8601 in UTC');
is($node->safe_psql('postgres', q{SELECT e::json->>'specversion', e::json->>'id', e::json->>'source', e::json->>'type', e::json->>'subject', e::json->>'time', e::json->>'datacontenttype', e::json->'data'->>'name'
	FROM sink_probe.encode('[{"node": "a b", "fsm": "public.ä"}]', 'cloudevents') e}),
	'1.0|0123456789ab-1-1|/a%20b/public.%C3%A4|persistomata.state|1|2023-11-14T22:13:20.123456Z|application/json|0123456789ab-1-1',
	'an envelope is a CloudEvent');

# Bytes that are no UTF-8, as a database without an encoding may have them.
$node->safe_psql('postgres', q{CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'});
$node->safe_psql('plain', 'CREATE EXTENSION persistomata; CREATE EXTENSION sink_probe');
is($node->safe_psql('plain', q{SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.substring(e, '"key":("[^"]*")'), 'SQL_ASCII'), 'hex')
	FROM sink_probe.encode(pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('key', E'a\xffb\xc3(\xe2\x82')), 'json') e}),
	'2261efbfbd62efbfbd28efbfbdefbfbd22', 'a byte that is no UTF-8 becomes U+FFFD');

$node->stop;
done_testing();
