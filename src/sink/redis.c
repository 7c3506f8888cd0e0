/*
 * redis.c
 *	  The sink for Redis (5 and later) and Valkey: streams, and three that are less:
 *	  channels and lists, which cannot tell a repeat, and hashes of latest states.
 *
 * A shipment goes out in chunks, each in a MULTI/EXEC of its own and only one
 * at a time: what stops a chunk (no memory, a read-only replica) stops it whole
 * and stops the run, so that no later event slips past an earlier one.  A later
 * one would hide it: ids only rise, and an id below the top is refused for ever.
 * While the server works on a chunk, the next one is formatted.
 *
 * The ids are the events' own, so that a repeat is refused by the server.  Such
 * a refusal counts as delivered only if the entry at that id bears our event's
 * name, or if it is shown to have been trimmed (see redis_answer.c); otherwise
 * someone else writes to the stream, and that is for a human to settle.
 *
 * Options.  Server: host (a list: tried in turn), port, database; sentinels (a
 * list) and master; tls, tls_verify, ca_file, cert_file, key_file; wait_replicas
 * and wait_timeout (ms); connect_timeout and reply_timeout (ms).  User mapping:
 * user (Redis 6 and later), password, sentinel_user, sentinel_password.  Route:
 * mode; stream (a template), maxlen (about how many entries the stream keeps),
 * on_loss (see redis_look.c); key (a template) in the other modes.
 */
#include "postgres.h"

#include <limits.h>

#include "sink/fault.h"
#include "sink/redis.h"
#include "sink/redis_shipment.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define CHUNK_BYTES (4 * 1024 * 1024)

static const PstOptionDef redis_options[] = {
	{"host", PST_OPTION_SERVER, PST_OPTION_HOSTS, "127.0.0.1", 0, 0, NULL},
	{"port", PST_OPTION_SERVER, PST_OPTION_INT, "6379", 1, 65535, NULL},
	{"database", PST_OPTION_SERVER, PST_OPTION_INT, "0", 0, 1000000, NULL},
	{"sentinels", PST_OPTION_SERVER, PST_OPTION_HOSTS, NULL, 0, 0, NULL},
	{"master", PST_OPTION_SERVER, PST_OPTION_NAME, "mymaster", 0, 0, NULL},
	{"tls", PST_OPTION_SERVER, PST_OPTION_BOOL, "off", 0, 0, NULL},
	{"tls_verify", PST_OPTION_SERVER, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{"ca_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"cert_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"key_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"wait_replicas", PST_OPTION_SERVER, PST_OPTION_INT, "0", 0, 100, NULL},
	{"wait_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "1000", 1, 600000, NULL},
	{"connect_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "5000", 10, 600000, NULL},
	{"reply_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "30000", 10, 3600000, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"sentinel_user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"sentinel_password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"mode", PST_OPTION_ROUTE, PST_OPTION_ENUM, "stream", 0, 0, "stream|pubsub|list|hash"},
	{"key", PST_OPTION_ROUTE, PST_OPTION_TEMPLATE, NULL, 0, 0, NULL},
	{"stream", PST_OPTION_ROUTE, PST_OPTION_TEMPLATE, "persistomata:{machine}", 0, 0, NULL},
	{"maxlen", PST_OPTION_ROUTE, PST_OPTION_INT, NULL, 1, INT_MAX, NULL},
	{"on_loss", PST_OPTION_ROUTE, PST_OPTION_ENUM, "continue", 0, 0, "resend|continue|hold"},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

/* The sockets and the parser are not palloc'd: free them with the memory. */
static void
free_foreign(void *arg)
{
	PstRedis   *redis = arg;

	pst_redis_close(&redis->conn);
}

static void
read_settings(PstRedis *redis, const PstSinkSettings *settings)
{
	PstRedisConnection *conn = &redis->conn;

	conn->hosts = pst_option_copy(&pst_redis_sink, settings->options, "host");
	conn->port = pst_option_int(&pst_redis_sink, settings->options, "port");
	conn->sentinels = pst_option_copy(&pst_redis_sink, settings->options, "sentinels");
	conn->master = pst_option_copy(&pst_redis_sink, settings->options, "master");
	conn->sentinel_user = pst_option_copy(&pst_redis_sink, settings->options, "sentinel_user");
	conn->sentinel_password = pst_option_copy(&pst_redis_sink, settings->options, "sentinel_password");
	conn->database = pst_option_int(&pst_redis_sink, settings->options, "database");
	conn->connect_timeout = pst_option_int(&pst_redis_sink, settings->options, "connect_timeout");
	conn->reply_timeout = pst_option_int(&pst_redis_sink, settings->options, "reply_timeout");
	conn->user = pst_option_copy(&pst_redis_sink, settings->options, "user");
	conn->password = pst_option_copy(&pst_redis_sink, settings->options, "password");
	conn->tls.on = pst_option_bool(&pst_redis_sink, settings->options, "tls");
	conn->tls.verify = pst_option_bool(&pst_redis_sink, settings->options, "tls_verify");
	conn->tls.ca_file = pst_option_copy(&pst_redis_sink, settings->options, "ca_file");
	conn->tls.cert_file = pst_option_copy(&pst_redis_sink, settings->options, "cert_file");
	conn->tls.key_file = pst_option_copy(&pst_redis_sink, settings->options, "key_file");
	redis->wait_replicas = pst_option_int(&pst_redis_sink, settings->options, "wait_replicas");
	redis->wait_timeout = pst_option_int(&pst_redis_sink, settings->options, "wait_timeout");
}

static PstSink *
redis_open(const PstSinkSettings *settings)
{
	PstRedis   *redis = palloc0(sizeof(PstRedis));
	MemoryContext old;

	redis->base.ops = &pst_redis_sink;
	redis->conn.stream.fd = -1;
	redis->on_reset.func = free_foreign;
	redis->on_reset.arg = redis;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &redis->on_reset);
	redis->context = AllocSetContextCreate(CurrentMemoryContext, "Redis sink",
										   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(redis->context);
	read_settings(redis, settings);
	initStringInfo(&redis->conn.greeting);
	initStringInfo(&redis->scratch);
	initStringInfo(&redis->owner);
	initStringInfo(&redis->claimed);
	initStringInfo(&redis->claimants);
	initStringInfo(&redis->claiming);
	for (int i = 0; i < (int) lengthof(redis->chunks); i++)
		initStringInfo(&redis->chunks[i].bytes);
	MemoryContextSwitchTo(old);
	return &redis->base;
}

/* Every event that has no verdict yet gets this one. */
static PstSinkProgress
settle(PstRedis *redis, PstVerdict verdict)
{
	for (int i = 0; i < redis->shipment->nevents; i++)
		if (redis->verdicts[i] == PST_VERDICT_NONE)
			redis->verdicts[i] = verdict;
	if (redis->fault.verdict == PST_VERDICT_NONE)
		redis->fault = redis->unmarked;
	redis->step = PST_REDIS_IDLE;
	redis->conn.out = NULL;
	redis->conn.out_len = redis->conn.out_done = 0;
	return PST_SINK_DONE;
}

/* The connection is gone, and conn.fault says why. */
static PstSinkProgress
settle_broken(PstRedis *redis, bool in_doubt)
{
	redis->fault = redis->conn.fault;
	redis->fault.in_doubt = in_doubt;
	return settle(redis, redis->fault.verdict);
}

void
pst_redis_read_address(PstRedis *redis, const PstShipment *shipment)
{
	static const struct
	{
		const char *name;
		PstRedisMode mode;
		const char *key;
	}			modes[] = {
		{"stream", PST_REDIS_STREAM, NULL},
		{"pubsub", PST_REDIS_PUBSUB, "persistomata:{machine}"},
		{"list", PST_REDIS_LIST, "persistomata:{machine}"},
		{"hash", PST_REDIS_HASH, "persistomata:{fsm}:{key}"},
	};
	const PstSinkOps *ops = &pst_redis_sink;
	const char *mode = pst_option_or_default(ops, shipment->options, "mode");
	const char *key = pst_option(shipment->options, "key");

	for (int i = 0; i < (int) lengthof(modes); i++)
		if (strcmp(modes[i].name, mode) == 0)
		{
			redis->address.mode = modes[i].mode;
			redis->address.key = key ? key : modes[i].key;
		}
	redis->address.maxlen = NULL;
	redis->address.format = shipment->format;
	if (redis->address.mode == PST_REDIS_STREAM)
	{
		redis->address.key = pst_option_or_default(ops, shipment->options, "stream");
		redis->address.maxlen = pst_option_or_default(ops, shipment->options, "maxlen");
	}
}

static const char *
redis_check_route(const PstOption *route)
{
	const char *mode = pst_option_or_default(&pst_redis_sink, route, "mode");
	const char *on_loss = pst_option_or_default(&pst_redis_sink, route, "on_loss");

	if (strcmp(mode, "stream") != 0 && strcmp(on_loss, "continue") != 0)
		return "only of streams is it known what they have lost: on_loss must be continue in other modes";
	return NULL;
}

static void
redis_send(PstSink *sink, const PstShipment *shipment)
{
	PstRedis   *redis = (PstRedis *) sink;

	if (redis->nverdicts < shipment->nevents)
	{
		if (redis->verdicts)
			pfree(redis->verdicts);
		redis->verdicts = MemoryContextAlloc(redis->context, shipment->nevents);
		redis->nverdicts = shipment->nevents;
	}
	memset(redis->verdicts, PST_VERDICT_NONE, shipment->nevents);
	memset(&redis->fault, 0, sizeof(redis->fault));
	memset(&redis->unmarked, 0, sizeof(redis->unmarked));
	redis->shipment = shipment;
	pst_redis_read_address(redis, shipment);
	redis->may_be_trimmed = redis->address.maxlen && shipment->in_doubt;
	redis->duplicates = 0;
	redis->formatted = 0;
	redis->current = 0;
	redis->chunks[0].nevents = redis->chunks[1].nevents = 0;
	redis->step = PST_REDIS_CONNECT;
	redis->turns = pst_net_count_hosts(redis->conn.sentinels ? redis->conn.sentinels : redis->conn.hosts);

	/* The server may have closed an idle connection: no reason for a doubt. */
	if (redis->moved || pst_redis_is_stale(&redis->conn))
		pst_redis_close(&redis->conn);
	redis->moved = false;
}

static void
format_wait(PstRedis *redis, PstRedisChunk *chunk)
{
	char		replicas[16];
	char		timeout[16];
	const char *wait[] = {"WAIT", replicas, timeout};

	snprintf(replicas, sizeof(replicas), "%d", redis->wait_replicas);
	snprintf(timeout, sizeof(timeout), "%d", redis->wait_timeout);
	pst_redis_format_command(&chunk->bytes, 3, wait);
}

/* Format the next events into the chunk. */
static void
format_chunk(PstRedis *redis, PstRedisChunk *chunk)
{
	static const char *const multi[] = {"MULTI"};
	static const char *const exec[] = {"EXEC"};
	static const char *const mark[] = {"SET", "persistomata:wait", "1"};
	const PstShipment *shipment = redis->shipment;

	chunk->first = redis->formatted;
	chunk->nevents = 0;
	if (redis->formatted >= shipment->nevents)
		return;
	resetStringInfo(&chunk->bytes);
	pst_redis_format_command(&chunk->bytes, 1, multi);
	while (redis->formatted < shipment->nevents && chunk->nevents < PST_REDIS_CHUNK &&
		   chunk->bytes.len < CHUNK_BYTES)
	{
		pst_redis_format_event(&chunk->bytes, &redis->scratch, &redis->address,
							   &shipment->events[redis->formatted++]);
		chunk->nevents++;
	}
	chunk->nqueued = 1 + chunk->nevents;
	if (redis->wait_replicas > 0)
	{
		/* WAIT looks at this connection's last write, and a repeat writes nothing */
		pst_redis_format_command(&chunk->bytes, 3, mark);
		chunk->nqueued++;
	}
	pst_redis_format_command(&chunk->bytes, 1, exec);
	chunk->nanswers = chunk->nqueued + 1;
	if (redis->wait_replicas > 0)
	{
		format_wait(redis, chunk);
		chunk->nanswers++;
	}
	if (pst_redis_format_guard(redis, &chunk->bytes))
		chunk->nanswers += 2;
}

/* Hand the next chunk to the connection; false if there is none. */
static bool
begin_chunk(PstRedis *redis)
{
	PstRedisChunk *chunk = &redis->chunks[redis->current];

	if (chunk->nevents == 0)
		format_chunk(redis, chunk);
	if (chunk->nevents == 0)
		return false;
	if (redis->moved)
	{
		pst_fault_set(&redis->fault, PST_RETRY, 0, "the claim of a stream has changed");
		redis->step = PST_REDIS_THROUGH;
		return true;
	}
	pst_redis_begin_answers(redis);
	pst_redis_write(&redis->conn, chunk->bytes.data, chunk->bytes.len);
	redis->step = PST_REDIS_ANSWERS;
	return true;
}

/* The chunk is through: the other buffer is next. */
static void
finish_chunk(PstRedis *redis)
{
	redis->chunks[redis->current].nevents = 0;
	redis->current = 1 - redis->current;
	redis->step = PST_REDIS_NEXT;
}

/* Ask what stands at the ids that were refused. */
static void
begin_check(PstRedis *redis)
{
	PstRedisChunk *chunk = &redis->chunks[redis->current];

	resetStringInfo(&chunk->bytes);
	for (int i = 0; i < redis->nrefused; i++)
	{
		const PstEvent *event = &redis->shipment->events[redis->refused[i]];

		pst_redis_format_find(&chunk->bytes, &redis->scratch, &redis->address, event);
		if (redis->may_be_trimmed)
			pst_redis_format_first(&chunk->bytes, &redis->scratch, &redis->address, event);
	}
	redis->answers = 0;
	pst_redis_write(&redis->conn, chunk->bytes.data, chunk->bytes.len);
	redis->step = PST_REDIS_CHECK;
}

/* A step with the server; sets *wait if only the peer can go on now. */
static bool
exchange(PstRedis *redis, bool *wait)
{
	PstRedisChunk *ahead = &redis->chunks[1 - redis->current];
	redisReply *reply;

	if (!pst_redis_pump(&redis->conn))
		return false;
	/* While it digests this chunk, make the next. */
	if (redis->step == PST_REDIS_ANSWERS && ahead->nevents == 0)
		format_chunk(redis, ahead);
	for (;;)
	{
		if (!pst_redis_next(&redis->conn, &reply))
			return false;
		if (reply == NULL)
			break;
		if (redis->step == PST_REDIS_CLAIMING)
			pst_redis_take_claim(redis, reply);
		else if (redis->step == PST_REDIS_ANSWERS)
			pst_redis_take_answer(redis, reply);
		else
			pst_redis_take_finding(redis, reply);
		freeReplyObject(reply);
		if (redis->step != PST_REDIS_CLAIMING && redis->step != PST_REDIS_ANSWERS &&
			redis->step != PST_REDIS_CHECK)
			return true;
	}
	*wait = true;
	return true;
}

static PstSinkProgress
redis_poll(PstSink *sink)
{
	PstRedis   *redis = (PstRedis *) sink;
	bool		wait = false;

	if (redis->step == PST_REDIS_ASK)
		return pst_redis_ask_step(redis);
	if (redis->step == PST_REDIS_LOOK)
		return pst_redis_look_step(redis);
	while (!wait)
	{
		switch (redis->step)
		{
			case PST_REDIS_CONNECT:
				if (!pst_redis_connect(&redis->conn))
				{
					/* not before all hosts have had their turn */
					if (redis->conn.fault.verdict == PST_RETRY && --redis->turns > 0)
						break;
					return settle_broken(redis, false);
				}
				wait = redis->conn.stage != PST_REDIS_READY;
				if (!wait && redis->shipment->era != 0 && redis->shipment->era != redis->conn.serial)
				{
					pst_fault_set(&redis->fault, PST_RETRY, 0, "a new connection: what is there is not known");
					redis->fault.unseen = true;
					return settle(redis, PST_RETRY);
				}
				if (!wait && !pst_redis_begin_claims(redis))
					redis->step = PST_REDIS_NEXT;
				break;
			case PST_REDIS_CLAIMING:
				if (!exchange(redis, &wait))
					return settle_broken(redis, false);
				break;
			case PST_REDIS_NEXT:
				if (!begin_chunk(redis))
					return settle(redis, PST_DELIVERED);
				break;
			case PST_REDIS_ANSWERS:
			case PST_REDIS_CHECK:
				if (!exchange(redis, &wait))
					return settle_broken(redis, true);
				break;
			case PST_REDIS_REFUSED:
				begin_check(redis);
				break;
			case PST_REDIS_THROUGH:
				if (redis->fault.verdict != PST_VERDICT_NONE)
				{
					/* A log-in, a replica's role or a proxy may have changed. */
					pst_redis_close(&redis->conn);
					pst_redis_turn(&redis->conn);
					return settle(redis, redis->fault.verdict);
				}
				finish_chunk(redis);
				break;
			case PST_REDIS_ASK:
			case PST_REDIS_LOOK:
			case PST_REDIS_IDLE:
				return PST_SINK_DONE;
		}
	}
	return PST_SINK_BUSY;
}

static void
redis_wants(const PstSink *sink, PstWants *wants)
{
	const PstRedis *redis = (const PstRedis *) sink;

	if (redis->step != PST_REDIS_IDLE)
		pst_redis_wants(&redis->conn, wants);
}

static PstVerdict
redis_verdict(const PstSink *sink, int nth)
{
	return ((const PstRedis *) sink)->verdicts[nth];
}

/* Redis refuses no event for its content: what refuses, refuses all. */
static const PstFault *
redis_event_fault(const PstSink *sink, int nth)
{
	const PstRedis *redis = (const PstRedis *) sink;

	return redis->verdicts[nth] == PST_DELIVERED ? NULL : &redis->fault;
}

static const PstFault *
redis_fault(const PstSink *sink)
{
	return &((const PstRedis *) sink)->fault;
}

static int
redis_duplicates(const PstSink *sink)
{
	return ((const PstRedis *) sink)->duplicates;
}

static void
redis_idle(PstSink *sink)
{
	PstRedis   *redis = (PstRedis *) sink;

	/* Nothing keeps a connection alive here; do not keep a dead one. */
	if (redis->step == PST_REDIS_IDLE && pst_redis_is_stale(&redis->conn))
		pst_redis_close(&redis->conn);
}

static void
redis_close(PstSink *sink)
{
	PstRedis   *redis = (PstRedis *) sink;

	pst_redis_close(&redis->conn);
	if (redis->context)
		MemoryContextDelete(redis->context);
	redis->context = NULL;
	redis->asking.context = redis->asking.holding.context = redis->looking.context = NULL;
	redis->verdicts = NULL;
	redis->nverdicts = 0;
	redis->step = PST_REDIS_IDLE;
}

const PstSinkOps pst_redis_sink = {
	.kind = "redis",
	.options = redis_options,
	.check_route = redis_check_route,
	.names_shipments = false,
	.max_rows = 10000,
	.max_bytes = 16 * 1024 * 1024,
	.open = redis_open,
	.send = redis_send,
	.poll = redis_poll,
	.wants = redis_wants,
	.verdict = redis_verdict,
	.event_fault = redis_event_fault,
	.fault = redis_fault,
	.duplicates = redis_duplicates,
	.idle = redis_idle,
	.close = redis_close,
	.ask = pst_redis_ask,
	.held = pst_redis_held,
	.look = pst_redis_look,
	.lacks = pst_redis_lacks,
	.era = pst_redis_era,
};
