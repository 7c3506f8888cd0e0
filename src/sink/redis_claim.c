/*
 * redis_claim.c
 *	  Whose is a stream?
 *
 * Ids only rise, so a second writer in a stream would have the first one's events
 * refused, or taken for his own.  Therefore a stream belongs to one route of one
 * log: the key `{stream}:persistomata` names both, and whoever comes first sets
 * it.  A claim of somebody else's makes the route misconfigured before anything is
 * sent.  Claims are made once per connection and stream, and watched from then on:
 * a chunk that follows a change is not carried out.
 *
 * A copy of the cluster has log and route in common with the original, so a claim
 * names its worker, too, by a number that is greater the later it began (after
 * the timeline, which a promotion raises).  The later one takes the claim over,
 * and the other finds that out before its next event, and is fenced.
 *
 * Where the template has {key} there may be a stream for each instance: what
 * stands before it is claimed, once for all.
 *
 * A list, a channel or a hash may be shared; there it is the route itself that is
 * claimed, under `persistomata:claim:<mark>`, and only copies hinder each other.  A user who
 * has no right to that key delivers without.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/redis_shipment.h"

#define STREAM_CLAIM "}:persistomata"

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

/*
 * SET … NX, and GET: what stands there then?  A change of it from the WATCH on
 * has the next EXEC do nothing.
 */
static void
format_claim(PstRedis *redis, StringInfo out, const char *key, const char *value)
{
	const char *set[] = {"SET", key, value, "NX"};
	const char *watch[] = {"WATCH", key};
	const char *get[] = {"GET", key};

	pst_redis_format_command(out, redis->supersede ? 3 : 4, set);
	pst_redis_format_command(out, 2, watch);
	pst_redis_format_command(out, 2, get);
}

/* "<log id>-<nonce> <route>" */
static void
claim_value(PstRedis *redis)
{
	const PstShipment *shipment = redis->shipment;
	const char *name = shipment->events[0].name;

	resetStringInfo(&redis->owner);
	appendStringInfo(&redis->owner, "%.*s%s%s %s", (int) strcspn(name, "-"), name,
					 shipment->nonce ? "-" : "", shipment->nonce ? shipment->nonce : "", shipment->route);
}

/* The nonce in a claim of this log and route, empty if there is none; NULL if it is another's.  In scratch. */
static const char *
read_nonce(PstRedis *redis, const char *claim)
{
	const char *name = redis->shipment->events[0].name;
	size_t		log_len = strcspn(name, "-");
	const char *space = strchr(claim, ' ');

	if (space == NULL || strncmp(claim, name, log_len) != 0 ||
		(claim[log_len] != '-' && claim[log_len] != ' ') || strcmp(space + 1, redis->shipment->route) != 0)
		return NULL;
	resetStringInfo(&redis->scratch);
	if (claim[log_len] == '-')
		appendBinaryStringInfo(&redis->scratch, claim + log_len + 1, (int) (space - claim - log_len - 1));
	return redis->scratch.data;
}

/* Unless it is claimed already, claim this key. */
static void
begin_claim(PstRedis *redis, const char *key)
{
	if (is_listed(&redis->claimed, key) || is_listed(&redis->claiming, key))
		return;
	appendBinaryStringInfo(&redis->claiming, key, (int) strlen(key) + 1);
	format_claim(redis, &redis->chunks[0].bytes, key, redis->owner.data);
}

static void
begin_stream_claims(PstRedis *redis)
{
	const PstShipment *shipment = redis->shipment;
	StringInfoData template;
	StringInfoData key;

	initStringInfo(&template);
	initStringInfo(&key);
	claim_template(&template, redis->address.key);
	for (int i = 0; i < shipment->nevents; i++)
	{
		if (i > 0 && same_claim(&shipment->events[i - 1], &shipment->events[i]))
			continue;
		resetStringInfo(&key);
		appendStringInfoChar(&key, '{');
		pst_encode_address(&key, template.data, &shipment->events[i]);
		appendStringInfoString(&key, STREAM_CLAIM);
		begin_claim(redis, key.data);
	}
	pfree(template.data);
	pfree(key.data);
}

static void
begin_route_claim(PstRedis *redis)
{
	resetStringInfo(&redis->scratch);
	appendStringInfo(&redis->scratch, "persistomata:claim:%s", redis->shipment->mark);
	begin_claim(redis, redis->scratch.data);
}

bool
pst_redis_begin_claims(PstRedis *redis)
{
	StringInfo	out = &redis->chunks[0].bytes;

	resetStringInfo(&redis->claiming);
	redis->answers = 0;
	redis->superseded = false;
	if (redis->claimed_by != redis->conn.serial || redis->supersede)
	{
		resetStringInfo(&redis->claimed);
		resetStringInfo(&redis->claimants);
	}
	redis->claimed_by = redis->conn.serial;
	claim_value(redis);
	resetStringInfo(out);
	if (redis->address.mode == PST_REDIS_STREAM)
		begin_stream_claims(redis);
	else if (redis->shipment->mark && !redis->may_not_claim)
		begin_route_claim(redis);
	if (redis->claiming.len == 0)
		return false;
	redis->claim_at = 0;
	pst_redis_write(&redis->conn, out->data, out->len);
	redis->step = PST_REDIS_CLAIMING;
	return true;
}

/* Our own write would count as a change of what is watched. */
static void
claim_anew(PstRedis *redis)
{
	redis->supersede = true;
	pst_redis_close(&redis->conn);
	redis->step = PST_REDIS_CONNECT;
}

/* The stream that a claim is for. */
static char *
stream_of(const char *key)
{
	return pnstrdup(key + 1, strlen(key) - 1 - strlen(STREAM_CLAIM));
}

/* Somebody else's: nothing is sent. */
static void
note_foreign(PstRedis *redis, const char *key, const redisReply *reply)
{
	if (redis->address.mode == PST_REDIS_STREAM)
	{
		char	   *stream = stream_of(key);

		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
					  "stream \"%.60s\" is claimed by another route or database: see key \"%.80s\"", stream, key);
		pfree(stream);
	}
	else
		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0, "what stands at key \"%.100s\" is not ours", key);
	if (reply->type == REDIS_REPLY_STRING)
		pst_fault_quote(&redis->fault, reply->str, reply->len);
}

static void
note_fenced(PstRedis *redis, const char *key)
{
	if (redis->address.mode == PST_REDIS_STREAM)
	{
		char	   *stream = stream_of(key);

		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
					  "another copy of this cluster delivers to stream \"%.60s\", and began later", stream);
		pfree(stream);
	}
	else
		pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
					  "another copy of this cluster delivers for this route, and began later");
	redis->fault.fenced = true;
}

/* Ours, older than ours, newer, or somebody else's? */
static void
judge_claim(PstRedis *redis, const char *key, const redisReply *reply)
{
	const char *theirs;
	int			order;

	if (reply->type == REDIS_REPLY_STRING && strcmp(reply->str, redis->owner.data) == 0)
		return;
	theirs = reply->type == REDIS_REPLY_STRING ? read_nonce(redis, reply->str) : NULL;
	if (theirs == NULL)
	{
		note_foreign(redis, key, reply);
		return;
	}
	order = pst_nonce_compare(redis->shipment->nonce ? redis->shipment->nonce : "", theirs);
	if (order > 0)
		redis->superseded = true;
	else
		note_fenced(redis, key);
}

/*
 * Is a claim that was refused no reason not to deliver?  A route to a stream needs
 * its claim.  A replica takes messages for channels, but no keys.
 */
static bool
goes_without(PstRedis *redis, const PstFault *fault)
{
	if (redis->address.mode == PST_REDIS_STREAM ||
		(fault->verdict != PST_MISCONFIGURED && redis->address.mode != PST_REDIS_PUBSUB))
		return false;
	redis->may_not_claim |= fault->verdict == PST_MISCONFIGURED;
	redis->unmarked = *fault;
	redis->unmarked.verdict = PST_VERDICT_NONE;
	redis->unmarked.unmarked = true;
	strlcpy(redis->unmarked.what, "the key of the route's claim cannot be used", sizeof(redis->unmarked.what));
	return true;
}

void
pst_redis_take_claim(PstRedis *redis, const redisReply *reply)
{
	const char *key = redis->claiming.data + redis->claim_at;
	PstFault	fault;

	if (reply->type == REDIS_REPLY_ERROR)
	{
		pst_redis_fault_of_error(&fault, reply->str, reply->len);
		if (redis->fault.verdict == PST_VERDICT_NONE && !goes_without(redis, &fault))
			redis->fault = fault;
	}
	else if (redis->answers % 3 == 2 && redis->fault.verdict == PST_VERDICT_NONE && !redis->unmarked.unmarked)
		judge_claim(redis, key, reply);
	if (redis->answers++ % 3 != 2)
		return;
	redis->claim_at += (int) strlen(key) + 1;
	if (redis->claim_at < redis->claiming.len)
		return;
	redis->step = redis->fault.verdict == PST_VERDICT_NONE ? PST_REDIS_NEXT : PST_REDIS_THROUGH;
	if (redis->fault.verdict != PST_VERDICT_NONE || redis->unmarked.unmarked)
		return;
	if (redis->superseded)
	{
		claim_anew(redis);
		return;
	}
	redis->supersede = false;
	for (int at = 0; at < redis->claiming.len; at += (int) strlen(redis->claiming.data + at) + 1)
		appendBinaryStringInfo(&redis->claimants, redis->owner.data, redis->owner.len + 1);
	appendBinaryStringInfo(&redis->claimed, redis->claiming.data, redis->claiming.len);
}

/* ----- while the connection lives ----- */

/*
 * EXEC forgets what is watched: watch all claims again for the chunk that
 * follows, and see that they have not changed in between.  False if there are none.
 */
bool
pst_redis_format_guard(PstRedis *redis, StringInfo out)
{
	int			n = 1;
	const char **words;

	if (redis->claimed.len == 0)
		return false;
	for (int at = 0; at < redis->claimed.len; at += (int) strlen(redis->claimed.data + at) + 1)
		n++;
	words = palloc(sizeof(char *) * n);
	n = 1;
	for (int at = 0; at < redis->claimed.len; at += (int) strlen(redis->claimed.data + at) + 1)
		words[n++] = redis->claimed.data + at;
	words[0] = "WATCH";
	pst_redis_format_command(out, n, words);
	words[0] = "MGET";
	pst_redis_format_command(out, n, words);
	pfree(words);
	return true;
}

/* The answer to MGET: what is not as it was makes the connection begin anew. */
void
pst_redis_take_guard(PstRedis *redis, const redisReply *reply)
{
	const char *claimant = redis->claimants.data;

	redis->moved = reply->type != REDIS_REPLY_ARRAY;
	for (size_t i = 0; !redis->moved && i < reply->elements; i++)
	{
		redis->moved = reply->element[i]->type != REDIS_REPLY_STRING ||
			strcmp(reply->element[i]->str, claimant) != 0;
		claimant += strlen(claimant) + 1;
	}
}
