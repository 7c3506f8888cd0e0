/*
 * postgres.c
 *	  The PostgreSQL sink: its options, and what a worker calls.
 *
 * A route to it has one of three modes.  "call" and "notify" end in this very
 * database; they are the worker's own to do, in the transaction that
 * acknowledges them, and nothing here is opened for them.  "table" writes to a
 * table of another server, over libpq: see postgres_table.c.
 *
 * Options.  Server: host, hostaddr, port, dbname, sslmode, sslrootcert,
 * connect_timeout and request_timeout (ms), max_rows, max_bytes.  User mapping:
 * user, password.  Route: mode; function, timeout
 * and lock_timeout (ms) of "call";
 * channel (a template) of "notify"; table and create_table of "table".
 */
#include "postgres.h"

#include <limits.h>

#include "compat/libpq.h"
#include "sink/postgres_shipment.h"
#include "utils/memutils.h"

#define MAX_KEYWORDS 12			/* those passed, and four of ours */

static const PstOptionDef postgres_options[] = {
	{"host", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"hostaddr", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"port", PST_OPTION_SERVER, PST_OPTION_INT, "5432", 1, 65535, NULL},
	{"dbname", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"sslmode", PST_OPTION_SERVER, PST_OPTION_ENUM, NULL, 0, 0,
	"disable|allow|prefer|require|verify-ca|verify-full"},
	{"sslrootcert", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"connect_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "5000", 10, 600000, NULL},
	{"request_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "30000", 10, 3600000, NULL},
	{"max_rows", PST_OPTION_SERVER, PST_OPTION_INT, "1000", 1, 1000, NULL},
	{"max_bytes", PST_OPTION_SERVER, PST_OPTION_INT, "4194304", 1024, 4194304, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"mode", PST_OPTION_ROUTE, PST_OPTION_ENUM, "call", 0, 0, "call|notify|table"},
	{"function", PST_OPTION_ROUTE, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"timeout", PST_OPTION_ROUTE, PST_OPTION_INT, "30000", 0, INT_MAX, NULL},
	{"lock_timeout", PST_OPTION_ROUTE, PST_OPTION_INT, "1000", 1, INT_MAX, NULL},
	{"channel", PST_OPTION_ROUTE, PST_OPTION_TEMPLATE, "persistomata", 0, 0, NULL},
	{"table", PST_OPTION_ROUTE, PST_OPTION_NAME, "persistomata_event", 0, 0, NULL},
	{"create_table", PST_OPTION_ROUTE, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

/* ----- routes ----- */

static const char *
mode_of(const PstOption *route)
{
	return pst_option_or_default(&pst_postgres_sink, route, "mode");
}

static bool
postgres_embedded(const PstOption *route)
{
	return strcmp(mode_of(route), "table") != 0;
}

static const char *
postgres_check_route(const PstOption *route)
{
	const char *mode = mode_of(route);
	const char *function = pst_option(route, "function");

	if (strcmp(mode, "call") == 0)
	{
		if (function == NULL)
			return "a route that calls needs the option \"function\"";
		if (strchr(function, '.') == NULL)
			return "the option \"function\" must name a function with its schema";
	}
	else if (function != NULL)
		return "the option \"function\" is for routes of mode \"call\"";
	if (pst_option(route, "channel") != NULL && strcmp(mode, "notify") != 0)
		return "the option \"channel\" is for routes of mode \"notify\"";
	if (strcmp(mode, "table") != 0 &&
		(pst_option(route, "table") != NULL || pst_option(route, "create_table") != NULL))
		return "the options \"table\" and \"create_table\" are for routes of mode \"table\"";
	return NULL;
}

/* ----- opening and closing ----- */

/* Does a list of hosts name but this very machine?  Without a name, libpq takes its socket. */
static bool
is_local(const char *hosts)
{
	for (const char *host = hosts; host != NULL; host = strchr(host, ','))
	{
		size_t		len;

		host += *host == ',';
		len = strcspn(host, ",");
		if (!(len == 0 || *host == '/' || *host == '@' || strncmp(host, "127.", 4) == 0 ||
			  (len == 3 && strncmp(host, "::1", 3) == 0) ||
			  (len == 9 && pg_strncasecmp(host, "localhost", 9) == 0)))
			return false;
	}
	return true;
}

/* As at the other sinks: who is elsewhere has to show a certificate, unless sslmode says otherwise. */
static const char *
default_sslmode(const PstOption *options)
{
	const char *host = pst_option(options, "host");

	return is_local(host ? host : pst_option(options, "hostaddr")) ? "prefer" : "verify-full";
}

/* The parameters of libpq: those that are given, and ours. */
static void
read_settings(PstPgConnection *link, const PstSinkSettings *settings)
{
	static const char *const passed[] = {
		"host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert", "user", "password"
	};
	const PstSinkOps *ops = &pst_postgres_sink;
	const char *sslmode = pst_option(settings->options, "sslmode");
	const char *authorities = NULL;
	int			n = 0;

	if (sslmode == NULL)
	{
		sslmode = default_sslmode(settings->options);
		if (strcmp(sslmode, "verify-full") == 0)
			authorities = pst_system_authorities();
	}
	link->keywords = palloc0(sizeof(char *) * (MAX_KEYWORDS + 1));
	link->values = palloc0(sizeof(char *) * (MAX_KEYWORDS + 1));
	for (int i = 0; i < (int) lengthof(passed); i++)
	{
		const char *value = pst_option_or_default(ops, settings->options, passed[i]);

		if (strcmp(passed[i], "sslmode") == 0)
			value = sslmode;
		else if (value == NULL && strcmp(passed[i], "sslrootcert") == 0)
			value = authorities;
		if (value == NULL)
			continue;
		link->keywords[n] = passed[i];
		link->values[n++] = pstrdup(value);
	}
	link->keywords[n] = "client_encoding";
	link->values[n++] = "UTF8";
	link->keywords[n] = "application_name";
	link->values[n++] = psprintf("persistomata %s", settings->server);
	/* whatever the postmaster's environment says */
	link->keywords[n] = "passfile";
	link->values[n++] = "/dev/null";
	link->keywords[n] = "gssencmode";
	link->values[n++] = "disable";
	Assert(n <= MAX_KEYWORDS);
	link->connect_timeout = pst_option_int(ops, settings->options, "connect_timeout");
	link->request_timeout = pst_option_int(ops, settings->options, "request_timeout");
}

/* libpq's memory is not ours: free it with the sink's, however that ends. */
static void
free_foreign(void *arg)
{
	pst_pg_close(&((PstPostgres *) arg)->link);
}

static PstSink *
postgres_open(const PstSinkSettings *settings)
{
	PstPostgres *sink = palloc0(sizeof(PstPostgres));
	MemoryContextCallback *callback;
	MemoryContext before;

	sink->base.ops = &pst_postgres_sink;
	sink->context = AllocSetContextCreate(CurrentMemoryContext, "PostgreSQL sink", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(sink->context);
	sink->scratch = AllocSetContextCreate(sink->context, "PostgreSQL shipment", ALLOCSET_DEFAULT_SIZES);
	read_settings(&sink->link, settings);
	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = free_foreign;
	callback->arg = sink;
	MemoryContextRegisterResetCallback(sink->context, callback);
	MemoryContextSwitchTo(before);
	return &sink->base;
}

static void
postgres_close(PstSink *base)
{
	PstPostgres *sink = (PstPostgres *) base;

	if (sink->context == NULL)
		return;
	for (int i = 0; sink->link.keywords[i] != NULL; i++)
		if (strcmp(sink->link.keywords[i], "password") == 0)
			explicit_bzero((char *) sink->link.values[i], strlen(sink->link.values[i]));
	MemoryContextDelete(sink->context);
	sink->context = NULL;
}

/* ----- a shipment ----- */

/* The memory of what comes next, emptied; returns the one that was current. */
static MemoryContext
begin_scratch(PstPostgres *sink)
{
	MemoryContext before;

	MemoryContextReset(sink->scratch);
	before = MemoryContextSwitchTo(sink->scratch);
	initStringInfo(&sink->sql);
	initStringInfo(&sink->json);
	return before;
}

static void
postgres_send(PstSink *base, const PstShipment *shipment)
{
	PstPostgres *sink = (PstPostgres *) base;
	MemoryContext before = begin_scratch(sink);

	pst_pg_ship_begin(sink, shipment);
	MemoryContextSwitchTo(before);
}

static void
postgres_mark(PstSink *base, const PstShipment *shipment, bool leave)
{
	PstPostgres *sink = (PstPostgres *) base;
	MemoryContext before = begin_scratch(sink);

	pst_pg_mark_begin(sink, shipment, leave);
	MemoryContextSwitchTo(before);
}

static PstSinkProgress
postgres_poll(PstSink *base)
{
	PstPostgres *sink = (PstPostgres *) base;
	MemoryContext before = MemoryContextSwitchTo(sink->scratch);
	PstSinkProgress progress = sink->marking ? pst_pg_mark_step(sink) : pst_pg_ship_step(sink);

	MemoryContextSwitchTo(before);
	return progress;
}

static void
postgres_wants(const PstSink *base, PstWants *wants)
{
	const PstPostgres *sink = (const PstPostgres *) base;

	if (base->sending && sink->step != PST_PG_IDLE)
		pst_pg_wants(&sink->link, wants);
	else if (base->sending)
		wants->timeout_ms = 0;
}

static PstVerdict
postgres_verdict(const PstSink *base, int nth)
{
	return ((const PstPostgres *) base)->pieces.verdicts[nth];
}

static const PstFault *
postgres_event_fault(const PstSink *base, int nth)
{
	return pst_pieces_fault(&((const PstPostgres *) base)->pieces, nth);
}

static const PstFault *
postgres_fault(const PstSink *base)
{
	return &((const PstPostgres *) base)->pieces.fault;
}

static int
postgres_duplicates(const PstSink *base)
{
	return ((const PstPostgres *) base)->duplicates;
}

/* Nothing keeps a connection alive here; do not keep a dead one. */
static void
postgres_idle(PstSink *base)
{
	PstPostgres *sink = (PstPostgres *) base;

	if (sink->step == PST_PG_IDLE && pst_pg_is_stale(&sink->link))
		pst_pg_close(&sink->link);
}

const PstSinkOps pst_postgres_sink = {
	.kind = "postgres",
	.options = postgres_options,
	.names_shipments = false,
	.embedded = postgres_embedded,
	.check_route = postgres_check_route,
	.max_rows = 1000,
	.max_bytes = 4 * 1024 * 1024,
	.open = postgres_open,
	.send = postgres_send,
	.poll = postgres_poll,
	.wants = postgres_wants,
	.verdict = postgres_verdict,
	.event_fault = postgres_event_fault,
	.fault = postgres_fault,
	.duplicates = postgres_duplicates,
	.idle = postgres_idle,
	.close = postgres_close,
	.mark = postgres_mark,
	.marked = pst_pg_marked,
};
