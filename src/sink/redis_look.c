/*
 * redis_look.c
 *	  Where do the streams end?
 *
 * Ids only rise, so a stream whose last entry has a smaller id than an event that
 * it has acknowledged has lost that event: it was emptied, or comes from an older
 * copy.  Trimming leaves the newest entries, and so the end, as they are.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/redis_shipment.h"
#include "utils/memutils.h"

static PstRedisTop *
find_top(PstRedisLooking *looking, const char *key)
{
	PstRedisTop **link = &looking->tops;

	for (; *link; link = &(*link)->next)
		if (strcmp((*link)->key, key) == 0)
			return *link;
	*link = MemoryContextAllocZero(looking->context, sizeof(PstRedisTop));
	(*link)->key = MemoryContextStrdup(looking->context, key);
	return *link;
}

void
pst_redis_look(PstSink *sink, const PstShipment *shipment)
{
	PstRedis   *redis = (PstRedis *) sink;
	PstRedisLooking *looking = &redis->looking;

	if (looking->context == NULL)
		looking->context = AllocSetContextCreate(redis->context, "Redis tops", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(looking->context);
	looking->tops = NULL;
	looking->of = MemoryContextAlloc(looking->context, sizeof(PstRedisTop *) * shipment->nevents);
	looking->sent = false;
	memset(&redis->fault, 0, sizeof(redis->fault));
	redis->shipment = shipment;
	redis->step = PST_REDIS_LOOK;
	pst_redis_read_address(redis, shipment);
	for (int i = 0; i < shipment->nevents; i++)
	{
		resetStringInfo(&redis->scratch);
		pst_encode_address(&redis->scratch, redis->address.key, &shipment->events[i]);
		looking->of[i] = find_top(looking, redis->scratch.data);
	}
	looking->top = looking->tops;
	if (pst_redis_is_stale(&redis->conn))
		pst_redis_close(&redis->conn);
}

static void
send_questions(void *arg)
{
	PstRedis   *redis = arg;
	StringInfo	out = &redis->chunks[0].bytes;

	resetStringInfo(out);
	for (PstRedisTop *top = redis->looking.tops; top; top = top->next)
	{
		const char *const words[] = {"XREVRANGE", top->key, "+", "-", "COUNT", "1"};

		pst_redis_format_command(out, lengthof(words), words);
	}
	pst_redis_write(&redis->conn, out->data, out->len);
	redis->looking.sent = true;
}

/* What all names of this log begin with. */
static bool
is_ours(const PstRedis *redis, const char *name)
{
	const char *ours = redis->shipment->events[0].name;

	return strncmp(name, ours, strcspn(ours, "-") + 1) == 0;
}

static void
take(PstRedis *redis, const redisReply *reply)
{
	PstRedisTop *top = redis->looking.top;
	const redisReply *entry;
	const char *name;
	const char *position;
	long long	ms;
	long long	ordinal;

	redis->looking.top = top->next;
	if (reply->type == REDIS_REPLY_ERROR)
		pst_redis_fault_of_error(&redis->fault, reply->str, reply->len);
	else if (reply->type != REDIS_REPLY_ARRAY)
		pst_fault_set(&redis->fault, PST_RETRY, 0, "unexpected answer to XREVRANGE");
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
		return;
	entry = reply->element[0];
	if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 || entry->element[0]->type != REDIS_REPLY_STRING ||
		sscanf(entry->element[0]->str, "%lld-%lld", &ms, &ordinal) != 2)
	{
		pst_fault_set(&redis->fault, PST_RETRY, 0, "unexpected answer to XREVRANGE");
		return;
	}
	top->ms = ms;
	top->ordinal = ordinal;
	name = pst_redis_entry_field(entry, "name");
	position = pst_redis_entry_field(entry, "position");
	if (name && position && is_ours(redis, name))
		top->position = strtoll(position, NULL, 10);
}

static PstSinkProgress
end(PstRedis *redis)
{
	redis->step = PST_REDIS_IDLE;
	redis->conn.out = NULL;
	redis->conn.out_len = redis->conn.out_done = 0;
	/* answers may be left */
	if (redis->fault.verdict != PST_VERDICT_NONE)
		pst_redis_close(&redis->conn);
	return PST_SINK_DONE;
}

PstSinkProgress
pst_redis_look_step(PstRedis *redis)
{
	redisReply *reply;

	for (;;)
	{
		if (redis->looking.top == NULL || redis->fault.verdict != PST_VERDICT_NONE)
			return end(redis);
		if (!pst_redis_answer(&redis->conn, redis->looking.sent ? NULL : send_questions, redis, &reply))
			break;
		if (reply == NULL)
			return PST_SINK_BUSY;
		take(redis, reply);
		freeReplyObject(reply);
	}
	redis->fault = redis->conn.fault;
	return end(redis);
}

bool
pst_redis_lacks(const PstSink *sink, int nth, int64 *position)
{
	const PstRedis *redis = (const PstRedis *) sink;
	const PstEvent *event = &redis->shipment->events[nth];
	const PstRedisTop *top = redis->looking.of[nth];

	*position = top->position;
	return top->ms < event->stream_ms || (top->ms == event->stream_ms && top->ordinal < event->ordinal);
}

int
pst_redis_era(const PstSink *sink)
{
	return ((const PstRedis *) sink)->conn.serial;
}
