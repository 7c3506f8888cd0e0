/*
 * sink_probe.c
 *	  Drives a sink from SQL, the way a worker does, and registers a kind of
 *	  sink of its own: proof that the contract and the registry are enough for
 *	  another extension.
 *
 * What persistomata exports is looked up by name, so that this library can be
 * loaded before it.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "memory.h"
#include "net/net.h"
#include "portability/instr_time.h"
#include "sink/sink.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(sink_probe);
PG_FUNCTION_INFO_V1(sink_probe_drain);
PG_FUNCTION_INFO_V1(sink_probe_idle);
PG_FUNCTION_INFO_V1(sink_probe_close);
PG_FUNCTION_INFO_V1(sink_probe_encode);
PG_FUNCTION_INFO_V1(sink_probe_check);
PG_FUNCTION_INFO_V1(memory_options);

void		_PG_init(void);

static void (*register_sink) (const PstSinkOps *);
static const PstSinkOps *(*find_sink) (const char *);
static bool (*net_wait) (const PstWants *, int, uint32);
static void (*check_options) (const char *, Datum, Oid);
static void (*check_option) (const PstSinkOps *, PstOptionPlace, const char *, const char *);
static void (*encode_event) (StringInfo, const PstEvent *, const char *);
static void (*encode_address) (StringInfo, const char *, const PstEvent *);

static PstSink *kept = NULL;
static MemoryContext kept_context = NULL;
static double longest_ms;

static void *
exported(const char *name)
{
	return (void *) load_external_function("$libdir/persistomata", name, true, NULL);
}

void
_PG_init(void)
{
	register_sink = exported("pst_register_sink");
	find_sink = exported("pst_find_sink");
	net_wait = exported("pst_net_wait");
	check_options = exported("pst_check_options");
	check_option = exported("pst_check_option");
	encode_event = exported("pst_encode_event");
	encode_address = exported("pst_encode_address");
	register_sink(&memory_sink);
}

static double
now_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* A jsonb object as options, ended by a NULL name. */
static PstOption *
options_of(Datum json)
{
	Oid			types[1] = {JSONBOID};
	PstOption  *options;

	if (SPI_execute_with_args("SELECT key, value FROM pg_catalog.jsonb_each_text($1)",
							  1, types, &json, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the options");
	options = palloc0((SPI_processed + 1) * sizeof(PstOption));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		options[i].name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		options[i].value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	return options;
}

static char *
field(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static int64
number(uint64 row, int column, int64 fallback)
{
	char	   *text = field(row, column);

	return text ? strtoll(text, NULL, 10) : fallback;
}

static char *
text_or(char *text, char *fallback)
{
	return text ? text : fallback;
}

static PstEvent *
events_of(Datum json, int *nevents)
{
	Oid			types[1] = {JSONBOID};
	PstEvent   *events;

	if (SPI_execute_with_args("SELECT * FROM pg_catalog.jsonb_populate_recordset(NULL::sink_probe.event, $1)",
							  1, types, &json, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the events");
	*nevents = (int) SPI_processed;
	events = palloc0(SPI_processed * sizeof(PstEvent));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		PstEvent   *event = &events[i];

		event->position = number(i, 2, i + 1);
		event->event_id = number(i, 1, event->position);
		event->name = text_or(field(i, 3), psprintf("0123456789ab-1-%lld", (long long) event->event_id));
		event->stream_ms = number(i, 4, 1700000000000);
		event->ordinal = number(i, 5, event->position);
		event->type = (PstEventType) text_or(field(i, 6), "s")[0];
		event->machine = text_or(field(i, 7), "turnstile");
		event->version = (int) number(i, 8, 1);
		event->fsm = text_or(field(i, 9), "public.turnstile");
		event->key = text_or(field(i, 10), psprintf("%lld", (long long) event->position % 100));
		event->event = field(i, 11);
		event->from_state = field(i, 12);
		event->to_state = field(i, 13);
		event->args = field(i, 14);
		event->payload = field(i, 15);
		event->reason = field(i, 16);
		event->occurred_at = number(i, 17, INT64CONST(1700000000123456));
		event->xid = (uint64) number(i, 18, 1000);
		event->actor = text_or(field(i, 19), "alice");
		event->headers = field(i, 20);
		event->node = text_or(field(i, 21), "main");
		event->timeline = 1;
	}
	return events;
}

/* Poll until it is done or the time is over; false in the latter case. */
static bool
drive(PstSink *sink, const PstShipment *shipment, int timeout_ms)
{
	double		stop = now_ms() + timeout_ms;
	double		start = now_ms();

	pst_sink_send(sink, shipment);
	for (;;)
	{
		PstSinkProgress progress = pst_sink_poll(sink);
		PstWants	wants;

		longest_ms = Max(longest_ms, now_ms() - start);
		if (progress == PST_SINK_DONE)
			return true;
		if (now_ms() >= stop)
			return false;
		pst_sink_wants(sink, &wants);
		net_wait(&wants, 100, PG_WAIT_EXTENSION);
		start = now_ms();
	}
}

static void
drop_kept(void)
{
	if (kept)
		pst_sink_close(kept);
	if (kept_context)
		MemoryContextDelete(kept_context);
	kept = NULL;
	kept_context = NULL;
}

static PstSink *
open_or_reuse(const char *kind, PstOption *options)
{
	const PstSinkOps *ops = find_sink(kind);
	PstSinkSettings settings = {"probe", options};
	MemoryContext old;

	if (ops == NULL)
		elog(ERROR, "sink kind \"%s\" does not exist", kind);
	if (kept && kept->ops == ops)
		return kept;
	drop_kept();
	kept_context = AllocSetContextCreate(TopMemoryContext, "sink_probe", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(kept_context);
	kept = pst_sink_open(ops, &settings);
	MemoryContextSwitchTo(old);
	return kept;
}

static const char *
verdict_name(PstVerdict verdict)
{
	static const char *const names[] = {"none", "delivered", "retry", "rejected", "misconfigured"};

	return names[verdict];
}

static void
put_row(ReturnSetInfo *rsinfo, int nth, const char *verdict, const PstFault *fault, int duplicates)
{
	Datum		values[8] = {0};
	bool		nulls[8] = {0};

	values[0] = Int32GetDatum(nth);
	values[1] = CStringGetTextDatum(verdict);
	nulls[2] = nulls[3] = nulls[4] = nulls[5] = fault == NULL || fault->verdict == PST_VERDICT_NONE;
	if (!nulls[2])
	{
		values[2] = CStringGetTextDatum(fault->what);
		values[3] = CStringGetTextDatum(fault->peer_said);
		values[4] = Int32GetDatum(fault->code);
		values[5] = BoolGetDatum(fault->in_doubt);
	}
	nulls[6] = nulls[7] = nth != 0;
	values[6] = Int32GetDatum(duplicates);
	values[7] = Float8GetDatum(longest_ms);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
sink_probe(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PstShipment shipment = {0};
	PstOption  *server_options;
	PstSink    *sink;
	bool		done;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	server_options = options_of(PG_GETARG_DATUM(1));
	shipment.options = options_of(PG_GETARG_DATUM(2));
	shipment.events = events_of(PG_GETARG_DATUM(3), &shipment.nevents);
	shipment.name = text_to_cstring(PG_GETARG_TEXT_PP(4));
	shipment.in_doubt = PG_GETARG_BOOL(5);
	shipment.format = text_to_cstring(PG_GETARG_TEXT_PP(8));
	shipment.route = text_to_cstring(PG_GETARG_TEXT_PP(9));
	shipment.from_position = shipment.events[0].position;
	shipment.to_position = shipment.events[shipment.nevents - 1].position;

	sink = open_or_reuse(kind, server_options);
	longest_ms = 0;
	done = drive(sink, &shipment, PG_GETARG_INT32(6));
	put_row(rsinfo, 0, done ? verdict_name(sink->ops->fault(sink)->verdict) : "busy",
			sink->ops->fault(sink), sink->ops->duplicates(sink));
	for (int i = 0; i < shipment.nevents; i++)
	{
		PstVerdict	verdict = sink->ops->verdict(sink, i);

		Assert(!done || verdict != PST_VERDICT_NONE);
		put_row(rsinfo, i + 1, verdict_name(verdict),
				verdict == PST_DELIVERED ? NULL : sink->ops->event_fault(sink, i), 0);
	}
	if (!done || !PG_GETARG_BOOL(7))
		drop_kept();
	SPI_finish();
	return (Datum) 0;
}

Datum
sink_probe_drain(PG_FUNCTION_ARGS)
{
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		total = PG_GETARG_INT64(3);
	int			each = PG_GETARG_INT32(4);
	PstEvent   *events = palloc0(each * sizeof(PstEvent));
	PstShipment shipment = {.route = "route", .name = "drain", .format = "json", .events = events};
	PstOption  *server_options;
	double		start;

	SPI_connect();
	server_options = options_of(PG_GETARG_DATUM(1));
	shipment.options = options_of(PG_GETARG_DATUM(2));
	drop_kept();
	(void) open_or_reuse(kind, server_options);
	start = now_ms();
	for (int64 first = 1; first <= total; first += each)
	{
		shipment.nevents = (int) Min(each, total - first + 1);
		shipment.from_position = first;
		shipment.to_position = first + shipment.nevents - 1;
		for (int i = 0; i < shipment.nevents; i++)
		{
			char	   *name = events[i].name ? events[i].name : palloc(64);
			char	   *key = events[i].key ? events[i].key : palloc(32);

			snprintf(name, 64, "0123456789ab-1-%lld", (long long) (first + i));
			snprintf(key, 32, "%lld", (long long) (first + i) % 1000);
			events[i] = (PstEvent) {
				.event_id = first + i, .position = first + i, .name = name,
				.stream_ms = 1700000000000, .ordinal = first + i, .type = PST_STATE,
				.machine = "turnstile", .version = 1, .fsm = "public.turnstile", .key = key,
				.event = "coin", .from_state = "closed", .to_state = "opened",
				.args = "{\"n\": 1}", .payload = "{\"id\": 12345, \"coins\": 5, \"note\": \"ordinary\"}",
				.occurred_at = INT64CONST(1700000000123456), .xid = 1234567, .actor = "alice",
				.node = "main", .timeline = 1
			};
		}
		if (!drive(kept, &shipment, 60000))
			elog(ERROR, "timed out");
		if (kept->ops->fault(kept)->verdict != PST_VERDICT_NONE)
			elog(ERROR, "%s: %s", kept->ops->fault(kept)->what, kept->ops->fault(kept)->peer_said);
	}
	start = now_ms() - start;
	drop_kept();
	SPI_finish();
	PG_RETURN_FLOAT8(total * 1000.0 / start);
}

Datum
sink_probe_idle(PG_FUNCTION_ARGS)
{
	double		stop = now_ms() + PG_GETARG_INT32(0);

	while (kept && now_ms() < stop)
	{
		PstWants	wants;

		pst_sink_wants(kept, &wants);
		net_wait(&wants, Max(1, (int) (stop - now_ms())), PG_WAIT_EXTENSION);
		kept->ops->idle(kept);
	}
	PG_RETURN_VOID();
}

Datum
sink_probe_close(PG_FUNCTION_ARGS)
{
	drop_kept();
	PG_RETURN_VOID();
}

/* events, format; or events, address template */
Datum
sink_probe_encode(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *format = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool		is_format = strcmp(format, "json") == 0 || strcmp(format, "cloudevents") == 0;
	PstEvent   *events;
	int			nevents;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	events = events_of(PG_GETARG_DATUM(0), &nevents);
	for (int i = 0; i < nevents; i++)
	{
		StringInfoData out;
		Datum		value;
		bool		is_null = false;

		initStringInfo(&out);
		if (is_format)
			encode_event(&out, &events[i], format);
		else
			encode_address(&out, format, &events[i]);
		value = CStringGetTextDatum(out.data);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &is_null);
	}
	SPI_finish();
	return (Datum) 0;
}

Datum
sink_probe_check(PG_FUNCTION_ARGS)
{
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const PstSinkOps *ops = find_sink(kind);

	if (ops == NULL)
		elog(ERROR, "sink kind \"%s\" does not exist", kind);
	check_option(ops, PST_OPTION_ROUTE, text_to_cstring(PG_GETARG_TEXT_PP(1)),
				 text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}

/* The validator of our own kind's foreign data wrapper. */
Datum
memory_options(PG_FUNCTION_ARGS)
{
	check_options("memory", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}
