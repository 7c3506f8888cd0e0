/*
 * webhook_request.c
 *	  The requests of the HTTP sink: body, headers, signature.
 *
 * One event is a CloudEvent, either structured (format "cloudevents") or, as
 * format "json", in the binary mode of the CloudEvents HTTP binding: the body
 * is the event and the attributes are headers.  Several are a JSON array of
 * such bodies.
 *
 * The signature is that of Standard Webhooks: webhook-id, webhook-timestamp,
 * and webhook-signature, "v1," and the base64 of HMAC-SHA256 over
 * "id.timestamp.body".
 */
#include "postgres.h"

#include <time.h>

#include "common/base64.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "encode/encode.h"
#include "sink/webhook.h"
#include "utils/resowner.h"

static bool
is_enveloped(const PstShipment *shipment)
{
	return shipment->format && strcmp(shipment->format, "cloudevents") == 0;
}

static void
make_body(PstWebhook *hook, int until)
{
	const PstShipment *shipment = hook->shipment;

	resetStringInfo(&hook->body);
	if (hook->batched)
		appendStringInfoChar(&hook->body, '[');
	for (int i = hook->pieces.from; i < until; i++)
	{
		if (i > hook->pieces.from)
			appendStringInfoChar(&hook->body, ',');
		pst_encode_event(&hook->body, &shipment->events[i], shipment->format);
	}
	if (hook->batched)
		appendStringInfoChar(&hook->body, ']');
}

/* ----- headers ----- */

/* As the CloudEvents binding wants it: what is no visible ASCII is percent-encoded. */
static void
append_attribute(StringInfo out, const char *value)
{
	for (const unsigned char *at = (const unsigned char *) value; *at; at++)
	{
		if (*at > 0x20 && *at < 0x7F && *at != '"' && *at != '%')
			appendStringInfoCharMacro(out, *at);
		else
			appendStringInfo(out, "%%%02X", *at);
	}
}

static bool
add_attribute(PstWebhook *hook, const char *name, const char *value)
{
	if (value == NULL || *value == '\0')
		return true;
	resetStringInfo(&hook->text);
	append_attribute(&hook->text, value);
	return pst_http_add_header(hook->http, name, hook->text.data);
}

/* The attributes that a structured event has in its envelope. */
static bool
add_attributes(PstWebhook *hook, const PstEvent *event)
{
	StringInfoData value;
	bool		added;

	initStringInfo(&value);
	pst_encode_source(&value, event);
	added = pst_http_add_header(hook->http, "ce-specversion:", "1.0") &&
		add_attribute(hook, "ce-id:", event->name) &&
		add_attribute(hook, "ce-source:", value.data) &&
		add_attribute(hook, "ce-subject:", event->key);
	resetStringInfo(&value);
	appendStringInfo(&value, "persistomata.%s", pst_event_type_name(event->type));
	added = added && add_attribute(hook, "ce-type:", value.data);
	resetStringInfo(&value);
	pst_encode_time(&value, event->occurred_at);
	added = added && add_attribute(hook, "ce-time:", value.data);
	pfree(value.data);
	return added;
}

/* A trace that the event belongs to goes on at the receiver. */
static bool
add_trace(PstWebhook *hook, const PstEvent *event)
{
	StringInfoData name;
	StringInfoData value;
	bool		added = true;

	initStringInfo(&name);
	initStringInfo(&value);
	for (const char *at = event->headers; added && at != NULL;)
	{
		at = pst_next_member(at, &name, &value);
		if (at == NULL || strlen(value.data) != (size_t) value.len || !pst_http_fits_header(value.data))
			continue;
		if (strcmp(name.data, "traceparent") == 0)
			added = pst_http_add_header(hook->http, "traceparent:", value.data);
		else if (strcmp(name.data, "tracestate") == 0)
			added = pst_http_add_header(hook->http, "tracestate:", value.data);
	}
	pfree(name.data);
	pfree(value.data);
	return added;
}

/* The token, or user and password. */
static bool
add_authorization(PstWebhook *hook)
{
	const PstHttpPeer *peer = &hook->peer;
	StringInfoData pair;
	bool		added;

	if (peer->token == NULL && peer->user == NULL && peer->password == NULL)
		return true;
	initStringInfo(&pair);
	resetStringInfo(&hook->text);
	if (peer->token != NULL)
		appendStringInfo(&hook->text, "Bearer %s", peer->token);
	else
	{
		int			room;

		appendStringInfo(&pair, "%s:%s", peer->user ? peer->user : "", peer->password ? peer->password : "");
		appendStringInfoString(&hook->text, "Basic ");
		room = pg_b64_enc_len(pair.len);
		enlargeStringInfo(&hook->text, room);
		room = pg_b64_encode((const void *) pair.data, pair.len, hook->text.data + hook->text.len, room);
		hook->text.len += room;
		hook->text.data[hook->text.len] = '\0';
	}
	added = pst_http_add_header(hook->http, "Authorization:", hook->text.data);
	explicit_bzero(hook->text.data, hook->text.len);
	explicit_bzero(pair.data, pair.len);
	pfree(pair.data);
	return added;
}

/* ----- signature ----- */

static bool
compute_hmac(const PstWebhook *hook, const char *head, uint8 *digest)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	bool		good;

	if (hmac == NULL)
		return false;
	good = pg_hmac_init(hmac, hook->secret, hook->secret_length) == 0 &&
		pg_hmac_update(hmac, (const uint8 *) head, strlen(head)) == 0 &&
		pg_hmac_update(hmac, (const uint8 *) hook->body.data, hook->body.len) == 0 &&
		pg_hmac_final(hmac, digest, PG_SHA256_DIGEST_LENGTH) == 0;
	pg_hmac_free(hmac);
	return good;
}

/* PostgreSQL notes the state of an HMAC with a resource owner, which there is none of outside of transactions. */
static bool
sign(const PstWebhook *hook, const char *head, uint8 *digest)
{
	ResourceOwner before = CurrentResourceOwner;
	ResourceOwner owner = ResourceOwnerCreate(NULL, "persistomata signature");
	bool		good;

	CurrentResourceOwner = owner;
	good = compute_hmac(hook, head, digest);
	CurrentResourceOwner = before;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, good, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, good, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, good, true);
	ResourceOwnerDelete(owner);
	return good;
}

static bool
add_signature(PstWebhook *hook, const char *id)
{
	char		stamp[24];
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char		encoded[64];
	int			length;

	if (hook->secret == NULL)
		return true;
	snprintf(stamp, sizeof(stamp), "%lld", (long long) time(NULL));
	resetStringInfo(&hook->text);
	appendStringInfo(&hook->text, "%s.%s.", id, stamp);
	if (!sign(hook, hook->text.data, digest))
		return false;
	length = pg_b64_encode((const void *) digest, sizeof(digest), encoded, sizeof(encoded) - 1);
	encoded[length] = '\0';
	resetStringInfo(&hook->text);
	appendStringInfo(&hook->text, "v1,%s", encoded);
	return pst_http_add_header(hook->http, "webhook-timestamp:", stamp) &&
		pst_http_add_header(hook->http, "webhook-signature:", hook->text.data);
}

/*
 * What names the request: the same at each try of the same events, so that a
 * receiver can drop a repeat.
 */
static char *
request_id(const PstWebhook *hook, int until)
{
	const PstEvent *first = &hook->shipment->events[hook->pieces.from];

	if (hook->batched)
		return psprintf("%s+%d", first->name, until - hook->pieces.from);
	return pstrdup(first->name);
}

static bool
make_headers(PstWebhook *hook, int until)
{
	const PstEvent *event = &hook->shipment->events[hook->pieces.from];
	bool		enveloped = is_enveloped(hook->shipment);
	const char *type = !enveloped ? "application/json" :
		hook->batched ? "application/cloudevents-batch+json" : "application/cloudevents+json";
	char	   *id = request_id(hook, until);
	bool		added;

	pst_http_clear_headers(hook->http);
	added = pst_http_add_header(hook->http, "Expect:", "") &&
		pst_http_add_header(hook->http, "Content-Type:", type) &&
		pst_http_add_header(hook->http, "webhook-id:", id) &&
		pst_http_add_header(hook->http, "Idempotency-Key:", id) &&
		add_authorization(hook) &&
		add_signature(hook, id);
	if (added && !hook->batched)
		added = add_trace(hook, event) && (enveloped || add_attributes(hook, event));
	pfree(id);
	return added;
}

bool
pst_webhook_begin(PstWebhook *hook, int until, char *errbuf, size_t errlen)
{
	make_body(hook, until);
	if (!make_headers(hook, until))
	{
		strlcpy(errbuf, "the request's headers could not be made: out of memory", errlen);
		return false;
	}
	return pst_http_begin(hook->http, &hook->peer, hook->peer.url, hook->body.data, hook->body.len,
						  4096, errbuf, errlen);
}
