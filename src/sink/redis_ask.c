/*
 * redis_ask.c
 *	  What do the streams hold of a run of events?
 *
 * Each stream that the run names is read by XRANGE, a page at a time, from where
 * the run before ended to the last id of this one; after the last run, of every
 * stream, to its end.  So an entry that somebody added by hand, whose id is not
 * ours, is seen too.  Entries are compared as they come.  Those before a trimmed stream's first are unknown.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/redis_shipment.h"
#include "utils/memutils.h"

#define PAGE "1000"

static PstRedisStream *
find_stream(PstRedisAsking *asking, const char *key)
{
	PstRedisStream *stream;

	for (stream = asking->streams; stream; stream = stream->next)
		if (strcmp(stream->key, key) == 0)
			return stream;
	stream = MemoryContextAllocZero(asking->context, sizeof(PstRedisStream));
	stream->key = MemoryContextStrdup(asking->context, key);
	stream->next = asking->streams;
	asking->streams = stream;
	return stream;
}

/* Which part of which stream is to be read? */
static void
take_streams(PstRedis *redis, const PstShipment *shipment)
{
	PstRedisAsking *asking = &redis->asking;

	for (PstRedisStream *stream = asking->streams; stream; stream = stream->next)
		stream->wanted = asking->last;
	asking->of = MemoryContextAlloc(asking->holding.context, sizeof(PstRedisStream *) * shipment->nevents);
	for (int i = 0; i < shipment->nevents; i++)
	{
		const PstEvent *event = &shipment->events[i];
		PstRedisStream *stream;

		resetStringInfo(&redis->scratch);
		pst_encode_address(&redis->scratch, redis->address.key, event);
		asking->of[i] = stream = find_stream(asking, redis->scratch.data);
		if (stream->from_ms == 0)
		{
			stream->from_ms = event->stream_ms;
			stream->from_ordinal = event->ordinal;
		}
		stream->to_ms = event->stream_ms;
		stream->to_ordinal = event->ordinal;
		stream->wanted = true;
	}
}

void
pst_redis_ask(PstSink *sink, const PstShipment *shipment, bool first, bool last)
{
	PstRedis   *redis = (PstRedis *) sink;
	PstRedisAsking *asking = &redis->asking;

	if (asking->context == NULL)
		asking->context = AllocSetContextCreate(redis->context, "Redis streams", ALLOCSET_SMALL_SIZES);
	if (first)
	{
		MemoryContextReset(asking->context);
		asking->streams = NULL;
	}
	pst_holding_begin(&asking->holding, redis->context, shipment);
	memset(&redis->fault, 0, sizeof(redis->fault));
	redis->shipment = shipment;
	pst_redis_read_address(redis, shipment);
	asking->trims = redis->address.maxlen != NULL;
	asking->last = last;
	redis->step = PST_REDIS_ASK;
	if (redis->address.mode != PST_REDIS_STREAM)
	{
		asking->stream = NULL;
		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
					  "only streams can be asked for what they hold");
		return;
	}
	take_streams(redis, shipment);
	asking->stream = asking->streams;
	asking->sent = asking->first_known = false;
	if (pst_redis_is_stale(&redis->conn))
		pst_redis_close(&redis->conn);
}

static void
send_question(void *arg)
{
	PstRedis   *redis = arg;
	PstRedisAsking *asking = &redis->asking;
	const PstRedisStream *stream = asking->stream;
	StringInfo	out = &redis->chunks[0].bytes;
	char		from[48];
	char		to[48] = "+";

	snprintf(from, sizeof(from), INT64_FORMAT "-" INT64_FORMAT, stream->from_ms, stream->from_ordinal);
	if (!asking->last)
		snprintf(to, sizeof(to), INT64_FORMAT "-" INT64_FORMAT, stream->to_ms, stream->to_ordinal);
	resetStringInfo(out);
	if (asking->trims && !asking->first_known)
	{
		const char *const words[] = {"XRANGE", stream->key, "-", "+", "COUNT", "1"};

		pst_redis_format_command(out, lengthof(words), words);
	}
	else
	{
		const char *const words[] = {"XRANGE", stream->key, from, to, "COUNT", PAGE};

		pst_redis_format_command(out, lengthof(words), words);
	}
	pst_redis_write(&redis->conn, out->data, out->len);
	asking->sent = true;
}

/* Of what was before the stream's first entry, nothing is known. */
static void
take_first(PstRedis *redis, const redisReply *reply)
{
	PstRedisAsking *asking = &redis->asking;
	long long	ms = 0;
	long long	ordinal = 0;

	asking->first_known = true;
	if (reply->elements > 0 && reply->element[0]->elements > 0)
		(void) sscanf(reply->element[0]->element[0]->str, "%lld-%lld", &ms, &ordinal);
	for (int i = 0; i < redis->shipment->nevents; i++)
	{
		const PstEvent *event = &redis->shipment->events[i];

		if (asking->of[i] == asking->stream &&
			(reply->elements == 0 || event->stream_ms < ms || (event->stream_ms == ms && event->ordinal < ordinal)))
			asking->holding.counts[i] = PST_HOLDING_UNKNOWN;
	}
}

/* A page of entries; sets *done if it was the last. */
static void
take_page(PstRedis *redis, const redisReply *reply, bool *done)
{
	PstRedisStream *stream = redis->asking.stream;

	for (size_t i = 0; i < reply->elements; i++)
	{
		const redisReply *entry = reply->element[i];
		const char *name = entry->elements == 2 ? pst_redis_entry_field(entry, "name") : NULL;
		const char *position = entry->elements == 2 ? pst_redis_entry_field(entry, "position") : NULL;
		long long	ms;
		long long	ordinal;
		int			nth;

		if (entry->elements == 2 && sscanf(entry->element[0]->str, "%lld-%lld", &ms, &ordinal) == 2)
		{
			stream->from_ms = ms;
			stream->from_ordinal = ordinal + 1;
		}
		if (name == NULL)
			continue;
		/* what was sent since the runs were chosen is behind the last one */
		if (position && strtoll(position, NULL, 10) > redis->shipment->to_position)
		{
			if (redis->shipment->open_end)
				pst_holding_add_other(&redis->asking.holding, name, strlen(name));
			continue;
		}
		pst_holding_add(&redis->asking.holding, name, strlen(name), 1);
		nth = pst_holding_find(&redis->asking.holding, name, strlen(name));
		if (nth >= 0)
			pst_redis_compare(redis, nth, entry->element[1]);
	}
	*done = reply->elements < (size_t) atoi(PAGE);
}

static void
next_stream(PstRedis *redis)
{
	PstRedisAsking *asking = &redis->asking;

	/* the run that follows begins behind this one */
	if (!asking->last)
	{
		asking->stream->from_ms = asking->stream->to_ms;
		asking->stream->from_ordinal = asking->stream->to_ordinal + 1;
	}
	asking->stream = asking->stream->next;
	asking->first_known = false;
}

static void
take(PstRedis *redis, const redisReply *reply)
{
	PstRedisAsking *asking = &redis->asking;
	bool		done = false;

	asking->sent = false;
	if (reply->type == REDIS_REPLY_ERROR)
		pst_redis_fault_of_error(&redis->fault, reply->str, reply->len);
	else if (reply->type != REDIS_REPLY_ARRAY)
		pst_fault_set(&redis->fault, PST_RETRY, 0, "unexpected answer to XRANGE");
	else if (asking->trims && !asking->first_known)
		take_first(redis, reply);
	else
	{
		take_page(redis, reply, &done);
		if (done)
			next_stream(redis);
	}
}

static PstSinkProgress
end(PstRedis *redis)
{
	redis->step = PST_REDIS_IDLE;
	redis->conn.out = NULL;
	redis->conn.out_len = redis->conn.out_done = 0;
	return PST_SINK_DONE;
}

PstSinkProgress
pst_redis_ask_step(PstRedis *redis)
{
	PstRedisAsking *asking = &redis->asking;
	redisReply *reply;

	for (;;)
	{
		while (asking->stream && !asking->stream->wanted)
			asking->stream = asking->stream->next;
		if (asking->stream == NULL || redis->fault.verdict != PST_VERDICT_NONE)
			return end(redis);
		if (!pst_redis_answer(&redis->conn, asking->sent ? NULL : send_question, redis, &reply))
			break;
		if (reply == NULL)
			return PST_SINK_BUSY;
		take(redis, reply);
		freeReplyObject(reply);
	}
	redis->fault = redis->conn.fault;
	return end(redis);
}

const PstHolding *
pst_redis_held(const PstSink *sink)
{
	return &((const PstRedis *) sink)->asking.holding;
}
