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
	{"max_rows", PST_OPTION_SERVER, PST_OPTION_INT, "500", 1, 500, NULL},
	{"max_bytes", PST_OPTION_SERVER, PST_OPTION_INT, "1048576", 1024, 1048576, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"token", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"secret", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"mode", PST_OPTION_ROUTE, PST_OPTION_ENUM, "single", 0, 0, "single|batched"},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

/* ----- opening and closing ----- */

/* "whsec_" and base64, as Standard Webhooks writes secrets, or the bytes themselves. */
static void
read_secret(PstWebhook *hook, const PstSinkSettings *settings)
{
	static const char mark[] = "whsec_";
	char	   *text = pst_option_copy(&pst_http_sink, settings->options, "secret");
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
	/* void *: to PostgreSQL these are bytes since 18, and characters before */
	length = pg_b64_decode(text + skip, length - skip, (void *) key, pg_b64_dec_len(length - skip));
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
	pst_http_read_peer(&hook->peer, &pst_http_sink, settings->options);
	if (!pst_http_fits_header(hook->peer.token))
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

/* The next request, or the end. */
static void
go_on(PstWebhook *hook)
{
	int			until = pst_pieces_next(&hook->pieces);
	PstFault	fault;
	char		errbuf[sizeof(fault.what)];

	if (hook->pieces.done || pst_webhook_begin(hook, until, errbuf, sizeof(errbuf)))
		return;
	pst_fault_set(&fault, PST_RETRY, 0, "%s", errbuf);
	pst_pieces_give_up(&hook->pieces, &fault);
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
	pst_pieces_begin(&hook->pieces, shipment->nevents, hook->batched ? shipment->nevents : 1);
	if (hook->open_error != NULL)
	{
		pst_fault_set(&fault, PST_MISCONFIGURED, 0, "%s", hook->open_error);
		pst_pieces_give_up(&hook->pieces, &fault);
	}
	else
		go_on(hook);
	MemoryContextSwitchTo(before);
}

static void
on_answer(PstWebhook *hook, const PstHttpAnswer *answer)
{
	PstFault	fault;

	switch (pst_webhook_classify(hook, answer, &fault))
	{
		case PST_WEBHOOK_FINE:
			pst_pieces_passed(&hook->pieces);
			break;
		case PST_WEBHOOK_REFUSED:
			pst_pieces_refused(&hook->pieces, &fault);
			break;
		case PST_WEBHOOK_RETRY:
		case PST_WEBHOOK_CONFIG:
			pst_pieces_give_up(&hook->pieces, &fault);
			break;
	}
	if (!hook->pieces.done)
		go_on(hook);
}

static PstSinkProgress
webhook_poll(PstSink *base)
{
	PstWebhook *hook = (PstWebhook *) base;
	MemoryContext before = MemoryContextSwitchTo(hook->scratch);
	PstHttpAnswer answer;

	if (!hook->pieces.done && pst_http_step(hook->http, &answer))
		on_answer(hook, &answer);
	MemoryContextSwitchTo(before);
	return hook->pieces.done ? PST_SINK_DONE : PST_SINK_BUSY;
}

static void
webhook_wants(const PstSink *base, PstWants *wants)
{
	const PstWebhook *hook = (const PstWebhook *) base;

	if (base->sending && !hook->pieces.done)
		pst_http_wants(hook->http, wants);
	else if (base->sending)
		wants->timeout_ms = 0;	/* it ended within send() */
}

static PstVerdict
webhook_verdict(const PstSink *base, int nth)
{
	return ((const PstWebhook *) base)->pieces.verdicts[nth];
}

static const PstFault *
webhook_event_fault(const PstSink *base, int nth)
{
	return pst_pieces_fault(&((const PstWebhook *) base)->pieces, nth);
}

static const PstFault *
webhook_fault(const PstSink *base)
{
	return &((const PstWebhook *) base)->pieces.fault;
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
