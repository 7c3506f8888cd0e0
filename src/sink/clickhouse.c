/*
 * clickhouse.c
 *	  The ClickHouse sink: its options, and what a worker calls.
 *
 * A shipment becomes one block of the Native format per destination table, sent
 * over HTTP under a name that is the same at each try; see clickhouse_ship.c.
 */
#include "postgres.h"

#include <time.h>

#include "sink/clickhouse.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A buffer that one large shipment has blown up is not kept above this. */
#define KEEP_BODY (32 * 1024 * 1024)

static const PstOptionDef clickhouse_options[] = {
	{"url", PST_OPTION_SERVER, PST_OPTION_URL, "http://127.0.0.1:8123", 0, 0, NULL},
	{"address", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"database", PST_OPTION_SERVER, PST_OPTION_NAME, "default", 0, 0, NULL},
	{"connect_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "5000", 1, 600000, NULL},
	{"request_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "30000", 1, 3600000, NULL},
	{"tls_verify", PST_OPTION_SERVER, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{"ca_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"cert_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"key_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"compression", PST_OPTION_SERVER, PST_OPTION_ENUM, "none", 0, 0, "none|gzip|zstd"},
	{"max_rows", PST_OPTION_SERVER, PST_OPTION_INT, "50000", 1, 1000000, NULL},
	{"max_bytes", PST_OPTION_SERVER, PST_OPTION_INT, "10485760", 1024, 268435456, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"token", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"table", PST_OPTION_ROUTE, PST_OPTION_TEMPLATE, "{machine}", 0, 0, NULL},
	{"latest", PST_OPTION_ROUTE, PST_OPTION_TEXT, "{table}_latest", 0, 0, NULL},
	{"create_tables", PST_OPTION_ROUTE, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{"json", PST_OPTION_ROUTE, PST_OPTION_BOOL, "off", 0, 0, NULL},
	{"engine", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"latest_engine", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"order_by", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"partition_by", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"ttl", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"cluster", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"on_loss", PST_OPTION_ROUTE, PST_OPTION_ENUM, "continue", 0, 0, "resend|continue|hold"},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

int64
pst_ch_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ----- opening and closing ----- */

/* The url goes into log lines and faults, so it must not hold a secret. */
static bool
has_credentials(const char *url)
{
	const char *host = strstr(url, "://");

	host = host != NULL ? host + 3 : url;
	return memchr(host, '@', strcspn(host, "/?#")) != NULL;
}

static const char *
find_open_error(const PstHttpPeer *peer)
{
	if (!pst_http_fits_header(peer->user) || !pst_http_fits_header(peer->password) || !pst_http_fits_header(peer->token))
		return "the user, password or token contains a control character";
	if (has_credentials(peer->url))
		return "the url must not contain a user or password: use a user mapping";
	return NULL;
}

static void
read_settings(PstChSink *sink, const PstSinkSettings *settings)
{
	const PstOption *options = settings->options;

	pst_http_read_peer(&sink->peer, &pst_clickhouse_sink, options);
	sink->database = pst_option_copy(&pst_clickhouse_sink, options, "database");
	sink->packing = pst_option_copy(&pst_clickhouse_sink, options, "compression");
	if (strcmp(sink->packing, "none") == 0)
		sink->packing = NULL;
	sink->open_error = find_open_error(&sink->peer);
}

/* curl's handles go with the sink's memory, however that ends. */
static void
free_http(void *data)
{
	PstChSink  *sink = data;

	pst_http_destroy(sink->http);
	sink->http = NULL;
}

static PstSink *
clickhouse_open(const PstSinkSettings *settings)
{
	PstChSink  *sink = palloc0(sizeof(PstChSink));
	MemoryContextCallback *callback;
	MemoryContext before;

	sink->base.ops = &pst_clickhouse_sink;
	sink->era = 1;
	sink->context = AllocSetContextCreate(CurrentMemoryContext, "ClickHouse sink",
										  ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(sink->context);
	sink->scratch = AllocSetContextCreate(sink->context, "ClickHouse shipment",
										  ALLOCSET_DEFAULT_SIZES);
	read_settings(sink, settings);
	initStringInfo(&sink->sql);
	initStringInfo(&sink->query);
	initStringInfo(&sink->body);
	initStringInfo(&sink->packed);
	initStringInfo(&sink->ahead.body);

	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = free_http;
	callback->arg = sink;
	MemoryContextRegisterResetCallback(sink->context, callback);
	sink->http = pst_ch_http_create();
	if (sink->http == NULL)
		sink->open_error = "libcurl cannot be used: out of memory";
	MemoryContextSwitchTo(before);
	return &sink->base;
}

static void
clickhouse_close(PstSink *base)
{
	PstChSink  *sink = (PstChSink *) base;

	if (sink->context == NULL)
		return;
	if (sink->peer.password != NULL)
		explicit_bzero((char *) sink->peer.password, strlen(sink->peer.password));
	if (sink->peer.token != NULL)
		explicit_bzero((char *) sink->peer.token, strlen(sink->peer.token));
	MemoryContextDelete(sink->context);
	sink->context = sink->holding.context = NULL;
}

/* ----- a shipment ----- */

/* A buffer that one large shipment has blown up. */
static void
drop_large(PstChSink *sink, StringInfo buffer)
{
	MemoryContext before;

	if (buffer->maxlen <= KEEP_BODY)
		return;
	pfree(buffer->data);
	before = MemoryContextSwitchTo(sink->context);
	initStringInfo(buffer);
	MemoryContextSwitchTo(before);
}

static void
clickhouse_send(PstSink *base, const PstShipment *shipment)
{
	PstChSink  *sink = (PstChSink *) base;
	MemoryContext before;

	MemoryContextReset(sink->scratch);
	drop_large(sink, &sink->body);
	if (sink->ahead.serial != shipment->serial)
		drop_large(sink, &sink->ahead.body);
	drop_large(sink, &sink->packed);
	before = MemoryContextSwitchTo(sink->scratch);
	pst_ch_ship_begin(sink, shipment);
	MemoryContextSwitchTo(before);
}

static PstSinkProgress
clickhouse_poll(PstSink *base)
{
	PstChSink  *sink = (PstChSink *) base;
	MemoryContext before = MemoryContextSwitchTo(sink->scratch);
	PstSinkProgress progress = pst_ch_ship_step(sink);

	MemoryContextSwitchTo(before);
	return progress;
}

static void
clickhouse_wants(const PstSink *base, PstWants *wants)
{
	const PstChSink *sink = (const PstChSink *) base;

	if (sink->step == PST_CH_PAUSE)
		wants->timeout_ms = (int) Max(sink->resume_at - pst_ch_now_ms(), 0);
	else if (sink->step != PST_CH_IDLE)
		pst_http_wants(sink->http, wants);
	else if (sink->base.sending)
		wants->timeout_ms = 0;	/* it ended within send() */
}

static PstVerdict
clickhouse_verdict(const PstSink *base, int nth)
{
	return ((const PstChSink *) base)->verdicts[nth];
}

static const PstFault *
clickhouse_event_fault(const PstSink *base, int nth)
{
	const PstChSink *sink = (const PstChSink *) base;

	if (sink->verdicts[nth] == PST_REJECTED)
		for (int i = 0; i < sink->nrefusals; i++)
			if (sink->refusals[i].event == nth)
				return &sink->refusals[i].fault;
	return NULL;
}

static const PstFault *
clickhouse_fault(const PstSink *base)
{
	return &((const PstChSink *) base)->fault;
}

static int
clickhouse_duplicates(const PstSink *base)
{
	return ((const PstChSink *) base)->duplicates;
}

/* A connection that the server closes meanwhile is noticed, and made anew, when it is used. */
static void
clickhouse_idle(PstSink *base)
{
}

const PstSinkOps pst_clickhouse_sink = {
	.kind = "clickhouse",
	.options = clickhouse_options,
	.names_shipments = true,
	.has_columns = true,
	.max_rows = 50000,
	.max_bytes = 10 * 1024 * 1024,
	.open = clickhouse_open,
	.send = clickhouse_send,
	.prepare = pst_ch_prepare,
	.poll = clickhouse_poll,
	.wants = clickhouse_wants,
	.verdict = clickhouse_verdict,
	.event_fault = clickhouse_event_fault,
	.fault = clickhouse_fault,
	.duplicates = clickhouse_duplicates,
	.idle = clickhouse_idle,
	.close = clickhouse_close,
	.ask = pst_ch_ask,
	.held = pst_ch_held,
	.look = pst_ch_look,
	.lacks = pst_ch_lacks,
	.era = pst_ch_era,
	.mark = pst_ch_mark,
	.marked = pst_ch_marked,
};
