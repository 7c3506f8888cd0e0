/*
 * redis_answer.c
 *	  What Redis' answers mean for the events of a chunk.
 *
 * Every answer is looked at.  Those before EXEC say whether each command was
 * queued; if one was not, EXEC does nothing at all.  EXEC then answers for each
 * XADD: its id, or why not.  Then, if it is asked for, WAIT says how many replicas
 * have all that, and last what the claims of the streams say (redis_claim.c).
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/redis_shipment.h"

void
pst_redis_begin_answers(PstRedis *redis)
{
	redis->answers = 0;
	redis->not_queued = false;
	redis->nrefused = 0;
}

/* The first fault of a chunk is the one to report. */
static void
note_fault(PstRedis *redis, const char *said, size_t len)
{
	if (redis->fault.verdict == PST_VERDICT_NONE)
		pst_redis_fault_of_error(&redis->fault, said, len);
}

/* XADD's complaint about an id that does not rise */
static bool
is_too_small(const redisReply *reply)
{
	return strstr(reply->str, "equal or smaller than the target stream top item") != NULL;
}

static void
take_result(PstRedis *redis, int nth, const redisReply *reply)
{
	PstFault	fault;

	if (redis->address.mode != PST_REDIS_STREAM && reply->type == REDIS_REPLY_INTEGER)
	{
		redis->verdicts[nth] = PST_DELIVERED;
		/* the hash has it, or a later one, already */
		if (redis->address.mode == PST_REDIS_HASH && reply->integer == 0 &&
			redis->shipment->events[nth].type != PST_ERRORED)
			redis->duplicates++;
	}
	else if (redis->address.mode == PST_REDIS_STREAM && reply->type == REDIS_REPLY_STRING)
		redis->verdicts[nth] = PST_DELIVERED;
	else if (reply->type == REDIS_REPLY_ERROR && is_too_small(reply))
		redis->refused[redis->nrefused++] = nth;
	else if (reply->type == REDIS_REPLY_ERROR)
	{
		pst_redis_fault_of_error(&fault, reply->str, reply->len);
		redis->verdicts[nth] = fault.verdict;
		note_fault(redis, reply->str, reply->len);
	}
	else
	{
		/* not what the command answers: a proxy? */
		redis->verdicts[nth] = PST_RETRY;
		if (redis->fault.verdict == PST_VERDICT_NONE)
			pst_fault_set(&redis->fault, PST_RETRY, 0, "unexpected answer to a command");
	}
}

static void
take_exec(PstRedis *redis, const redisReply *reply)
{
	const PstRedisChunk *chunk = &redis->chunks[redis->current];

	redis->after = PST_REDIS_THROUGH;
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == (size_t) chunk->nqueued - 1 &&
		!redis->not_queued)
	{
		for (int i = 0; i < chunk->nevents; i++)
			take_result(redis, chunk->first + i, reply->element[i]);
		if (redis->nrefused > 0)
			redis->after = PST_REDIS_REFUSED;
		return;
	}
	if (reply->type == REDIS_REPLY_NIL)
	{
		/* Nothing was done: what is watched has changed. */
		if (redis->fault.verdict == PST_VERDICT_NONE)
			pst_fault_set(&redis->fault, PST_RETRY, 0, "the claim of a stream has changed");
		return;
	}
	if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "EXECABORT", 9) == 0)
	{
		/* Nothing was done, because of an earlier refusal or of one of EXEC itself. */
		const char *cause = strstr(reply->str, "because of: ");

		cause = cause ? cause + strlen("because of: ") : reply->str;
		note_fault(redis, cause, strlen(cause));
		return;
	}

	/*
	 * Either EXEC itself was refused, or MULTI was and the commands after it
	 * were carried out one by one: the next try will find out what landed.
	 */
	if (reply->type == REDIS_REPLY_ERROR)
		note_fault(redis, reply->str, reply->len);
	else if (redis->fault.verdict == PST_VERDICT_NONE)
		pst_fault_set(&redis->fault, PST_RETRY, 0, "unexpected answer to EXEC");
	redis->fault.in_doubt = redis->not_queued;
}

/* The master has the chunk; it counts only if enough replicas have it, too. */
static void
take_wait(PstRedis *redis, const redisReply *reply)
{
	const PstRedisChunk *chunk = &redis->chunks[redis->current];

	if (redis->fault.verdict != PST_VERDICT_NONE ||
		(reply->type == REDIS_REPLY_INTEGER && reply->integer >= redis->wait_replicas))
		return;
	if (reply->type == REDIS_REPLY_ERROR)
		pst_redis_fault_of_error(&redis->fault, reply->str, reply->len);
	else
		pst_fault_set(&redis->fault, PST_RETRY, 0, "%lld of %d replicas have the events in time",
					  reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0, redis->wait_replicas);
	redis->fault.in_doubt = true;
	for (int i = chunk->first; i < chunk->first + chunk->nevents; i++)
		redis->verdicts[i] = redis->fault.verdict;
	redis->after = PST_REDIS_THROUGH;
}

void
pst_redis_take_answer(PstRedis *redis, const redisReply *reply)
{
	const PstRedisChunk *chunk = &redis->chunks[redis->current];
	int			nth = redis->answers++;

	if (nth < chunk->nqueued)
	{
		if (reply->type == REDIS_REPLY_STATUS)
			return;
		redis->not_queued = true;
		if (reply->type == REDIS_REPLY_ERROR)
			note_fault(redis, reply->str, reply->len);
		return;
	}
	if (nth == chunk->nqueued)
		take_exec(redis, reply);
	else if (nth == chunk->nqueued + 1 && redis->wait_replicas > 0)
		take_wait(redis, reply);
	else if (nth == chunk->nanswers - 1)
		pst_redis_take_guard(redis, reply);
	if (nth == chunk->nanswers - 1)
		redis->step = redis->after;
}

/* The only entry of an XRANGE's answer, or NULL: an array of id and fields. */
static const redisReply *
sole_entry(const redisReply *reply)
{
	const redisReply *entry;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1)
		return NULL;
	entry = reply->element[0];
	if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 ||
		entry->element[0]->type != REDIS_REPLY_STRING ||
		entry->element[1]->type != REDIS_REPLY_ARRAY)
		return NULL;
	return entry;
}

const char *
pst_redis_entry_field(const redisReply *entry, const char *name)
{
	const redisReply *fields = entry->element[1];

	for (size_t i = 0; i + 1 < fields->elements; i += 2)
		if (fields->element[i]->type == REDIS_REPLY_STRING &&
			fields->element[i + 1]->type == REDIS_REPLY_STRING &&
			strcmp(fields->element[i]->str, name) == 0)
			return fields->element[i + 1]->str;
	return NULL;
}

/*
 * Was our entry trimmed away?  It was if the stream is trimmed by us, an
 * earlier try may have landed, and the stream now begins with a later event of
 * our own log: we send in order, so ours must have come before that one.
 */
static bool
was_trimmed(const PstRedis *redis, const PstEvent *event, const redisReply *first)
{
	const char *name = pst_redis_entry_field(first, "name");
	const char *position = pst_redis_entry_field(first, "position");
	const char *tail = strrchr(event->name, '-');
	size_t		home;

	if (!name || !position || !tail)
		return false;
	home = tail - event->name + 1;	/* log id and timeline */
	return strncmp(name, event->name, home) == 0 &&
		strtoll(position, NULL, 10) > event->position;
}

/* All answers about a refused event have come: what is its verdict? */
static void
conclude(PstRedis *redis, int nth, const redisReply *first)
{
	const PstEvent *event = &redis->shipment->events[nth];

	if (redis->found || (redis->empty && first && was_trimmed(redis, event, first)))
	{
		redis->verdicts[nth] = PST_DELIVERED;
		redis->duplicates++;
		return;
	}
	redis->verdicts[nth] = PST_MISCONFIGURED;
	if (redis->fault.verdict != PST_MISCONFIGURED)
		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
					  "the stream has entries that are not of this route: id %lld-%lld is taken or passed",
					  (long long) event->stream_ms, (long long) event->ordinal);
}

/*
 * For each refused id comes what stands there and, if it may have been trimmed,
 * where the stream begins.
 */
void
pst_redis_take_finding(PstRedis *redis, const redisReply *reply)
{
	int			each = redis->may_be_trimmed ? 2 : 1;
	int			nth = redis->refused[redis->answers / each];
	const redisReply *entry = sole_entry(reply);
	bool		is_last = redis->answers % each == each - 1;
	const char *name;

	if (reply->type == REDIS_REPLY_ERROR)
	{
		/* Not known after all: ask again at the next try. */
		note_fault(redis, reply->str, reply->len);
		redis->fault.in_doubt = true;
		redis->verdicts[nth] = redis->fault.verdict;
	}
	else if (redis->answers % each == 0)
	{
		name = entry ? pst_redis_entry_field(entry, "name") : NULL;
		redis->found = name && strcmp(name, redis->shipment->events[nth].name) == 0;
		redis->empty = entry == NULL;
	}
	if (is_last && redis->verdicts[nth] == PST_VERDICT_NONE)
		conclude(redis, nth, each == 2 ? entry : NULL);
	redis->answers++;
	if (redis->answers == each * redis->nrefused)
		redis->step = PST_REDIS_THROUGH;
}
