/*
 * redis_compare.c
 *	  Is an entry of a stream as we send it?
 *
 * The event's XADD is formatted once more, and its fields, which come last in
 * it, are held against the entry's, in their order.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/redis_shipment.h"

/* One bulk string of a command of ours. */
typedef struct Word
{
	const char *bytes;
	size_t		length;
} Word;

static const char *
take_word(const char *at, Word *word)
{
	char	   *end;

	Assert(*at == '$');
	word->length = strtoul(at + 1, &end, 10);
	word->bytes = end + 2;
	return word->bytes + word->length + 2;
}

static bool
is_word(const redisReply *reply, const Word *word)
{
	return reply->type == REDIS_REPLY_STRING && reply->len == word->length &&
		memcmp(reply->str, word->bytes, word->length) == 0;
}

/*
 * Is this the event's data under another name of its table?  An event that is
 * read again after a table was renamed has the new one.
 */
static bool
has_another_table(PstRedis *redis, const PstEvent *event, const redisReply *data)
{
	PstEvent	renamed = *event;
	StringInfoData name;
	StringInfoData value;
	const char *at;
	bool		same = false;

	if (event->body || strcmp(redis->address.format, "json") != 0)
		return false;
	initStringInfo(&name);
	initStringInfo(&value);
	for (at = pst_next_member(data->str, &name, &value); at; at = pst_next_member(at, &name, &value))
		if (strcmp(name.data, "fsm") == 0)
		{
			renamed.fsm = value.data;
			resetStringInfo(&redis->scratch);
			pst_encode_event(&redis->scratch, &renamed, redis->address.format);
			same = (size_t) redis->scratch.len == data->len &&
				memcmp(redis->scratch.data, data->str, data->len) == 0;
			break;
		}
	pfree(name.data);
	pfree(value.data);
	return same;
}

static void
alter(PstRedis *redis, int nth, const char *field, size_t length)
{
	char		name[NAMEDATALEN];

	strlcpy(name, field, Min(length + 1, sizeof(name)));
	pst_holding_alter(&redis->asking.holding, nth, name);
}

void
pst_redis_compare(PstRedis *redis, int nth, const redisReply *fields)
{
	const PstEvent *event = &redis->shipment->events[nth];
	StringInfo	out = &redis->chunks[1].bytes;
	int			skipped = redis->address.maxlen ? 6 : 3;	/* XADD key [MAXLEN ~ n] id */
	size_t		n = 0;
	const char *at;
	Word		name;
	Word		value;

	resetStringInfo(out);
	pst_redis_format_event(out, &redis->scratch, &redis->address, event);
	at = strchr(out->data, '$');
	while (skipped-- > 0)
		at = take_word(at, &name);
	for (; at < out->data + out->len; n += 2)
	{
		at = take_word(take_word(at, &name), &value);
		if (n + 1 < fields->elements && is_word(fields->element[n], &name) &&
			(is_word(fields->element[n + 1], &value) ||
			 (name.length == 4 && memcmp(name.bytes, "data", 4) == 0 &&
			  fields->element[n + 1]->type == REDIS_REPLY_STRING &&
			  has_another_table(redis, event, fields->element[n + 1]))))
			continue;
		alter(redis, nth, name.bytes, name.length);
	}
	for (; n < fields->elements; n += 2)
		if (fields->element[n]->type == REDIS_REPLY_STRING)
			alter(redis, nth, fields->element[n]->str, fields->element[n]->len);
}
