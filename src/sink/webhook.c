/*
 * webhook.c
 *	  The HTTP sink: events as webhooks, one a request or in batches.
 *
 * Requests go out one after the other, over one connection that is kept, so the
 * receiver sees the events in their order.  A batch that is refused is halved
 * until the events to blame are found.  If many are refused and none is taken,
 * it is not their content: the route is misconfigured, and keeps all.
 *
 * Delivery is at least once: of a request without an answer it is not known
 * whether it was taken, so it is sent again under the same names.
 *
 * Options.  Server: url, address, connect_timeout and request_timeout (ms),
 * tls_verify, ca_file, cert_file, key_file, max_rows, max_bytes.  User mapping:
 * user and password, or token; secret, the key of signatures.  Route: mode.
 */
#include "postgres.h"

#include "common/base64.h"
#include "sink/fault.h"
#include "sink/webhook.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Refusals without a single event taken, after which it is not the events. */
#define MANY_REFUSALS 16
/* Buffers that one large shipment has blown up are not kept above this. */
#define KEEP_BODY (8 * 1024 * 1024)

static const PstOptionDef http_options[] = {
	{"url", PST_OPTION_SERVER, PST_OPTION_URL, "http://127.0.0.1:8080/", 0, 0, NULL},
	{"address", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"connect_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "5000", 1, 600000, NULL},
	{"request_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "30000", 1, 3600000, NULL},
	{"tls_verify", PST_OPTION_SERVER, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{"ca_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"cert_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"key_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"max_rows", PST_OPTION_SERVER, PST_OPTION_INT, "500", 1, 100000, NULL},
	{"max_bytes", PST_OPTION_SERVER, PST_OPTION_INT, "1048576", 1024, 67108864, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"token", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"secret", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"mode", PST_OPTION_ROUTE, PST_OPTION_ENUM, "single", 0, 0, "single|batched"},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

/* ----- opening and closing ----- */

static char *
option_copy(const PstSinkSettings *settings, const char *name)
{
	const char *value = pst_option_or_default(&pst_http_sink, settings->options, name);

	return value != NULL ? pstrdup(value) : NULL;
}

static int
option_int(const PstSinkSettings *settings, const char *name)
{
	return atoi(pst_option_or_default(&pst_http_sink, settings->options, name));
}

/* "whsec_" and base64, as Standard Webhooks writes secrets, or the bytes themselves. */
static void
read_secret(PstWebhook *hook, const PstSinkSettings *settings)
{
	static const char mark[] = "whsec_";
	char	   *text = option_copy(settings, "secret");
	int			skip = sizeof(mark) - 1;
	int			length;
	char	   *key;

	if (text == NULL || *text == '\0')
		return;
	length = (int) strlen(text);
	hook->secret = (const uint8 *) text;
	hook->secret_length = length;
	if (strncmp(text, mark, skip) != 0)
		return;
	key = palloc(pg_b64_dec_len(length - skip) + 1);
	length = pg_b64_decode(text + skip, length - skip, key, pg_b64_dec_len(length - skip));
	if (length <= 0)
		hook->open_error = "the secret begins with \"whsec_\" and what follows is not base64";
	key[Max(length, 0)] = '\0';
	hook->secret = (const uint8 *) key;
	hook->secret_length = Max(length, 0);
	explicit_bzero(text, strlen(text));
}

static void
read_settings(PstWebhook *hook, const PstSinkSettings *settings)
{
	PstHttpPeer *peer = &hook->peer;

	peer->url = option_copy(settings, "url");
	peer->address = option_copy(settings, "address");
	peer->user = option_copy(settings, "user");
	peer->password = option_copy(settings, "password");
	peer->token = option_copy(settings, "token");
	peer->ca_file = option_copy(settings, "ca_file");
	peer->cert_file = option_copy(settings, "cert_file");
	peer->key_file = option_copy(settings, "key_file");
	peer->tls_verify = true;
	(void) parse_bool(pst_option_or_default(&pst_http_sink, settings->options, "tls_verify"), &peer->tls_verify);
	peer->connect_timeout = option_int(settings, "connect_timeout");
	peer->request_timeout = option_int(settings, "request_timeout");
	if (!pst_http_fits_header(peer->token))
		hook->open_error = "the token contains a control character";
	read_secret(hook, settings);
}

/* curl's handles go with the sink's memory, however that ends. */
static void
free_http(void *data)
{
	PstWebhook *hook = data;

	pst_http_destroy(hook->http);
	hook->http = NULL;
}

static PstSink *
webhook_open(const PstSinkSettings *settings)
{
	PstWebhook *hook = palloc0(sizeof(PstWebhook));
	MemoryContextCallback *callback;
	MemoryContext before;

	hook->base.ops = &pst_http_sink;
	hook->context = AllocSetContextCreate(CurrentMemoryContext, "HTTP sink", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(hook->context);
	hook->scratch = AllocSetContextCreate(hook->context, "HTTP shipment", ALLOCSET_DEFAULT_SIZES);
	read_settings(hook, settings);
	initStringInfo(&hook->text);
	initStringInfo(&hook->body);
	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = free_http;
	callback->arg = hook;
	MemoryContextRegisterResetCallback(hook->context, callback);
	hook->http = pst_http_create("retry-after:");
	if (hook->http == NULL)
		hook->open_error = "libcurl cannot be used: out of memory";
	MemoryContextSwitchTo(before);
	return &hook->base;
}

static void
wipe(const char *secret, size_t length)
{
	if (secret != NULL)
		explicit_bzero((char *) secret, length);
}

static void
webhook_close(PstSink *base)
{
	PstWebhook *hook = (PstWebhook *) base;

	if (hook->context == NULL)
		return;
	wipe(hook->peer.password, hook->peer.password ? strlen(hook->peer.password) : 0);
	wipe(hook->peer.token, hook->peer.token ? strlen(hook->peer.token) : 0);
	wipe((const char *) hook->secret, hook->secret_length);
	MemoryContextDelete(hook->context);
	hook->context = NULL;
}

/* ----- a shipment ----- */

/* Every event that has no verdict yet gets this one. */
static void
settle(PstWebhook *hook, PstVerdict verdict)
{
	for (int i = 0; i < hook->shipment->nevents; i++)
		if (hook->verdicts[i] == PST_VERDICT_NONE)
			hook->verdicts[i] = verdict;
	hook->done = true;
}

/*
 * The end of the shipment, with a fault.  What would hold up the whole route is
 * told only when nothing was taken: what was taken is then settled first.
 */
static void
give_up(PstWebhook *hook, const PstFault *fault)
{
	hook->fault = *fault;
	if (fault->verdict == PST_MISCONFIGURED && hook->ndelivered + hook->nrefusals > 0)
		hook->fault.verdict = PST_RETRY;
	settle(hook, hook->fault.verdict);
}

/* The next request, or the end. */
static void
go_on(PstWebhook *hook)
{
	PstFault	fault;
	char		errbuf[sizeof(fault.what)];

	if (hook->from == hook->shipment->nevents)
	{
		hook->done = true;
		return;
	}
	if (hook->nends == 0)
		hook->ends[hook->nends++] = hook->batched ? hook->shipment->nevents : hook->from + 1;
	if (pst_webhook_begin(hook, hook->ends[hook->nends - 1], errbuf, sizeof(errbuf)))
		return;
	pst_fault_set(&fault, PST_RETRY, 0, "%s", errbuf);
	give_up(hook, &fault);
}

static void
webhook_send(PstSink *base, const PstShipment *shipment)
{
	PstWebhook *hook = (PstWebhook *) base;
	MemoryContext before;
	PstFault	fault;

	MemoryContextReset(hook->scratch);
	if (hook->body.maxlen > KEEP_BODY)
	{
		pfree(hook->body.data);
		before = MemoryContextSwitchTo(hook->context);
		initStringInfo(&hook->body);
		MemoryContextSwitchTo(before);
	}
	before = MemoryContextSwitchTo(hook->scratch);
	hook->shipment = shipment;
	hook->batched = strcmp(pst_option_or_default(&pst_http_sink, shipment->options, "mode"), "batched") == 0;
	hook->done = false;
	hook->verdicts = palloc0(sizeof(PstVerdict) * shipment->nevents);
	hook->refusals = NULL;
	hook->nrefusals = hook->ndelivered = 0;
	hook->from = hook->nends = 0;
	memset(&hook->fault, 0, sizeof(hook->fault));
	if (hook->open_error != NULL)
	{
		pst_fault_set(&fault, PST_MISCONFIGURED, 0, "%s", hook->open_error);
		give_up(hook, &fault);
	}
	else
		go_on(hook);
	MemoryContextSwitchTo(before);
}

/* The piece under way has its verdict. */
static void
finish_piece(PstWebhook *hook, PstVerdict verdict)
{
	int			until = hook->ends[--hook->nends];

	while (hook->from < until)
		hook->verdicts[hook->from++] = verdict;
}

/* This one event is to blame; false if it turns out that it is not the events. */
static bool
refuse(PstWebhook *hook, const PstFault *fault)
{
	Size		size = sizeof(PstWebhookRefusal) * (hook->nrefusals + 1);

	if (hook->ndelivered == 0 && hook->nrefusals + 1 >= MANY_REFUSALS)
	{
		memset(hook->verdicts, 0, sizeof(PstVerdict) * hook->shipment->nevents);
		hook->nrefusals = 0;
		hook->fault = *fault;
		hook->fault.verdict = PST_MISCONFIGURED;
		settle(hook, PST_MISCONFIGURED);
		return false;
	}
	hook->refusals = hook->refusals ? repalloc(hook->refusals, size) : palloc(size);
	hook->refusals[hook->nrefusals].event = hook->from;
	hook->refusals[hook->nrefusals++].fault = *fault;
	finish_piece(hook, PST_REJECTED);
	return true;
}

static void
on_answer(PstWebhook *hook, const PstHttpAnswer *answer)
{
	int			count = hook->ends[hook->nends - 1] - hook->from;
	PstFault	fault;

	switch (pst_webhook_classify(hook, answer, &fault))
	{
		case PST_WEBHOOK_FINE:
			hook->ndelivered += count;
			finish_piece(hook, PST_DELIVERED);
			break;
		case PST_WEBHOOK_REFUSED:
			if (count > 1)
			{
				hook->ends[hook->nends] = hook->from + count / 2;
				hook->nends++;
			}
			else if (!refuse(hook, &fault))
				return;
			break;
		case PST_WEBHOOK_RETRY:
		case PST_WEBHOOK_CONFIG:
			give_up(hook, &fault);
			return;
	}
	go_on(hook);
}

static PstSinkProgress
webhook_poll(PstSink *base)
{
	PstWebhook *hook = (PstWebhook *) base;
	MemoryContext before = MemoryContextSwitchTo(hook->scratch);
	PstHttpAnswer answer;

	if (!hook->done && pst_http_step(hook->http, &answer))
		on_answer(hook, &answer);
	MemoryContextSwitchTo(before);
	return hook->done ? PST_SINK_DONE : PST_SINK_BUSY;
}

static void
webhook_wants(const PstSink *base, PstWants *wants)
{
	const PstWebhook *hook = (const PstWebhook *) base;

	if (base->sending && !hook->done)
		pst_http_wants(hook->http, wants);
	else if (base->sending)
		wants->timeout_ms = 0;	/* it ended within send() */
}

static PstVerdict
webhook_verdict(const PstSink *base, int nth)
{
	return ((const PstWebhook *) base)->verdicts[nth];
}

static const PstFault *
webhook_event_fault(const PstSink *base, int nth)
{
	const PstWebhook *hook = (const PstWebhook *) base;

	for (int i = 0; i < hook->nrefusals; i++)
		if (hook->refusals[i].event == nth)
			return &hook->refusals[i].fault;
	return NULL;
}

static const PstFault *
webhook_fault(const PstSink *base)
{
	return &((const PstWebhook *) base)->fault;
}

/* Whether a repeat found itself there already is the receiver's to know. */
static int
webhook_duplicates(const PstSink *base)
{
	return 0;
}

/* A connection that the server closes meanwhile is noticed, and made anew, when it is used. */
static void
webhook_idle(PstSink *base)
{
}

const PstSinkOps pst_http_sink = {
	.kind = "http",
	.options = http_options,
	.names_shipments = false,
	.max_rows = 500,
	.max_bytes = 1024 * 1024,
	.open = webhook_open,
	.send = webhook_send,
	.poll = webhook_poll,
	.wants = webhook_wants,
	.verdict = webhook_verdict,
	.event_fault = webhook_event_fault,
	.fault = webhook_fault,
	.duplicates = webhook_duplicates,
	.idle = webhook_idle,
	.close = webhook_close,
};
