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

/*
 * SET … NX, and GET: what stands there then?  A change of it from the WATCH on
 * has the next EXEC do nothing.
 */
static void
format_claim(PstRedis *redis, StringInfo out, const char *name, const char *value)
{
	const char *set[] = {"SET", NULL, value, "NX"};
	const char *watch[] = {"WATCH", NULL};
	const char *get[] = {"GET", NULL};

	resetStringInfo(&redis->scratch);
	appendStringInfo(&redis->scratch, "{%s}:persistomata", name);
	set[1] = watch[1] = get[1] = redis->scratch.data;
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

/* What a claim of this log and route says besides; false if it is another's. */
static bool
read_nonce(const char *claim, const char *log_id, size_t log_len, const char *route, long long nonce[2])
{
	const char *space = strchr(claim, ' ');

	nonce[0] = nonce[1] = 0;
	if (space == NULL || strncmp(claim, log_id, log_len) != 0 ||
		(claim[log_len] != '-' && claim[log_len] != ' ') || strcmp(space + 1, route) != 0)
		return false;
	(void) sscanf(claim + log_len, "-%lld-%lld", &nonce[0], &nonce[1]);
	return true;
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
	redis->superseded = false;
	if (redis->address.mode != PST_REDIS_STREAM)
		return false;
	if (redis->claimed_by != redis->conn.serial || redis->supersede)
	{
		resetStringInfo(&redis->claimed);
		resetStringInfo(&redis->claimants);
	}
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

/* Our own write would count as a change of what is watched. */
static void
claim_anew(PstRedis *redis)
{
	redis->supersede = true;
	pst_redis_close(&redis->conn);
	redis->step = PST_REDIS_CONNECT;
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

/* Ours, older than ours, newer, or somebody else's? */
static void
judge_claim(PstRedis *redis, const char *name, const redisReply *reply)
{
	const char *log_id = redis->shipment->events[0].name;
	size_t		log_len = strcspn(log_id, "-");
	long long	theirs[2];
	long long	ours[2];

	if (reply->type == REDIS_REPLY_STRING && strcmp(reply->str, redis->owner.data) == 0)
		return;
	if (reply->type != REDIS_REPLY_STRING ||
		!read_nonce(reply->str, log_id, log_len, redis->shipment->route, theirs))
	{
		note_foreign(redis, name, reply);
		return;
	}
	(void) read_nonce(redis->owner.data, log_id, log_len, redis->shipment->route, ours);
	if (ours[0] > theirs[0] || (ours[0] == theirs[0] && ours[1] > theirs[1]))
	{
		redis->superseded = true;
		return;
	}
	pst_fault_set(&redis->fault, PST_MISCONFIGURED, 0,
				  "another copy of this cluster delivers to stream \"%.60s\", and began later", name);
	redis->fault.fenced = true;
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
	else if (redis->answers % 3 == 2 && redis->fault.verdict == PST_VERDICT_NONE)
		judge_claim(redis, name, reply);
	if (redis->answers++ % 3 != 2)
		return;
	redis->claim_at += (int) strlen(name) + 1;
	if (redis->claim_at < redis->claiming.len)
		return;
	redis->step = redis->fault.verdict == PST_VERDICT_NONE ? PST_REDIS_NEXT : PST_REDIS_THROUGH;
	if (redis->fault.verdict != PST_VERDICT_NONE)
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

	if (redis->address.mode != PST_REDIS_STREAM || redis->claimed.len == 0)
		return false;
	for (int at = 0; at < redis->claimed.len; at += (int) strlen(redis->claimed.data + at) + 1)
		n++;
	words = palloc(sizeof(char *) * n);
	n = 1;
	for (int at = 0; at < redis->claimed.len; at += (int) strlen(redis->claimed.data + at) + 1)
		words[n++] = psprintf("{%s}:persistomata", redis->claimed.data + at);
	words[0] = "WATCH";
	pst_redis_format_command(out, n, words);
	words[0] = "MGET";
	pst_redis_format_command(out, n, words);
	for (int i = 1; i < n; i++)
		pfree((char *) words[i]);
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
