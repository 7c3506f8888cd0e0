/*
 * redis_claim.c
 *	  Whose is a stream?
 *
 * Ids only rise, so a second writer in a stream would have the first one's events
 * refused, or taken for his own.  Therefore a stream belongs to one route of one
 * log: the key `{stream}:persistomata` names both, and whoever comes first sets
 * it.  A claim of somebody else's makes the route misconfigured before anything is
 * sent.  Claims are looked at once per connection and stream.
 *
 * Where the template has {key} there may be a stream for each instance: what
 * stands before it is claimed, once for all.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/redis_shipment.h"

/* The template that claims are made from: cut before {key}. */
static void
claim_template(StringInfo out, const char *template)
{
	const char *key = template;

	while ((key = strstr(key, "{key}")) != NULL && key > template && key[-1] == '{')
		key++;
	resetStringInfo(out);
	appendBinaryStringInfo(out, template, key ? (int) (key - template) : (int) strlen(template));
}

/* Is the name in a list whose entries end with NUL? */
static bool
is_listed(const StringInfo list, const char *name)
{
	for (int at = 0; at < list->len; at += (int) strlen(list->data + at) + 1)
		if (strcmp(list->data + at, name) == 0)
			return true;
	return false;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Do two events surely go to streams of one claim? */
static bool
same_claim(const PstEvent *a, const PstEvent *b)
{
	return a->type == b->type && same_text(a->machine, b->machine) &&
		same_text(a->fsm, b->fsm) && same_text(a->event, b->event) &&
		same_text(a->from_state, b->from_state) && same_text(a->to_state, b->to_state);
}

/* SET … NX, and GET: what stands there then? */
static void
format_claim(PstRedis *redis, StringInfo out, const char *name, const char *value)
{
	const char *set[] = {"SET", NULL, value, "NX"};
	const char *get[] = {"GET", NULL};

	resetStringInfo(&redis->scratch);
	appendStringInfo(&redis->scratch, "{%s}:persistomata", name);
	set[1] = get[1] = redis->scratch.data;
	pst_redis_format_command(out, 4, set);
	pst_redis_format_command(out, 2, get);
}

/* "<log id> <route>" */
static void
claim_value(PstRedis *redis)
{
	const char *name = redis->shipment->events[0].name;
	const char *timeline = strchr(name, '-');

	resetStringInfo(&redis->owner);
	appendStringInfo(&redis->owner, "%.*s %s",
					 (int) (timeline ? timeline - name : (ptrdiff_t) strlen(name)), name,
					 redis->shipment->route);
}

bool
pst_redis_begin_claims(PstRedis *redis)
{
	const PstShipment *shipment = redis->shipment;
	StringInfo	out = &redis->chunks[0].bytes;
	StringInfoData template;
	StringInfoData name;

	resetStringInfo(&redis->claiming);
	redis->answers = 0;
	if (redis->address.mode != PST_REDIS_STREAM)
		return false;
	if (redis->claimed_by != redis->conn.serial)
		resetStringInfo(&redis->claimed);
	redis->claimed_by = redis->conn.serial;
	claim_value(redis);
	initStringInfo(&template);
	initStringInfo(&name);
	claim_template(&template, redis->address.key);
	resetStringInfo(out);
	for (int i = 0; i < shipment->nevents; i++)
	{
		if (i > 0 && same_claim(&shipment->events[i - 1], &shipment->events[i]))
			continue;
		resetStringInfo(&name);
		pst_encode_address(&name, template.data, &shipment->events[i]);
		if (is_listed(&redis->claimed, name.data) || is_listed(&redis->claiming, name.data))
			continue;
		appendBinaryStringInfo(&redis->claiming, name.data, name.len + 1);
		format_claim(redis, out, name.data, redis->owner.data);
	}
	pfree(template.data);
	pfree(name.data);
	if (redis->claiming.len == 0)
		return false;
	redis->claim_at = 0;
	pst_redis_write(&redis->conn, out->data, out->len);
	redis->step = PST_REDIS_CLAIMING;
	return true;
}

/* Somebody else's: nothing is sent. */
static void
note_foreign(PstRedis *redis, const char *name, const redisReply *reply)
{
	pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
				  "stream \"%.60s\" is claimed by another route or database: see key \"{%.60s}:persistomata\"",
				  name, name);
	if (reply->type == REDIS_REPLY_STRING)
		pst_fault_quote(&redis->fault, reply->str, reply->len);
}

void
pst_redis_take_claim(PstRedis *redis, const redisReply *reply)
{
	const char *name = redis->claiming.data + redis->claim_at;

	if (reply->type == REDIS_REPLY_ERROR)
	{
		if (redis->fault.verdict == PST_VERDICT_NONE)
			pst_redis_fault_of_error(&redis->fault, reply->str, reply->len);
	}
	else if (redis->answers % 2 == 1 && redis->fault.verdict == PST_VERDICT_NONE &&
			 (reply->type != REDIS_REPLY_STRING || strcmp(reply->str, redis->owner.data) != 0))
		note_foreign(redis, name, reply);
	if (redis->answers++ % 2 == 0)
		return;
	redis->claim_at += (int) strlen(name) + 1;
	if (redis->claim_at < redis->claiming.len)
		return;
	if (redis->fault.verdict == PST_VERDICT_NONE)
		appendBinaryStringInfo(&redis->claimed, redis->claiming.data, redis->claiming.len);
	redis->step = redis->fault.verdict == PST_VERDICT_NONE ? PST_REDIS_NEXT : PST_REDIS_THROUGH;
}
