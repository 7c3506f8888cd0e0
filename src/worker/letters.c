/*
 * letters.c
 *	  Sending dead letters again.
 *
 * A dead letter is the event as JSON.  It is sent under its own name; its place
 * in a stream is new, behind all that the route has sent, so it waits until the
 * route has caught up with the newest cut.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/utf8.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/backoff.h"
#include "worker/outlet.h"

/* Ordinals of letters begin behind those of any cut's events. */
#define LETTER_ORDINAL (INT64CONST(1) << 40)

/* As JSON again: of a string ->> would take away what makes it one. */
#define JSON_MEMBER(name) \
	" CASE WHEN pg_catalog.jsonb_typeof(d.event OPERATOR(pg_catalog.->) '" name "') OPERATOR(pg_catalog.<>) 'null'" \
	" THEN (d.event OPERATOR(pg_catalog.->) '" name "')::pg_catalog.text END"

static PstQuery letters_query = {
	"SELECT d.id, d.retry, d.position, d.name,"
	" (d.event OPERATOR(pg_catalog.->>) 'event_id')::pg_catalog.int8,"
	" (pg_catalog.extract('epoch', (d.event OPERATOR(pg_catalog.->>) 'occurred_at')::pg_catalog.timestamptz)"
	"  OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8,"
	" (d.event OPERATOR(pg_catalog.->>) 'version')::pg_catalog.int8,"
	" (d.event OPERATOR(pg_catalog.->>) 'xid')::pg_catalog.int8,"
	" d.event OPERATOR(pg_catalog.->>) 'type',"
	" d.event OPERATOR(pg_catalog.->>) 'machine',"
	" d.event OPERATOR(pg_catalog.->>) 'fsm',"
	" d.event OPERATOR(pg_catalog.->>) 'key',"
	" d.event OPERATOR(pg_catalog.->>) 'event',"
	" d.event OPERATOR(pg_catalog.->>) 'from_state',"
	" d.event OPERATOR(pg_catalog.->>) 'to_state',"
	JSON_MEMBER("args") ","
	JSON_MEMBER("payload") ","
	" d.event OPERATOR(pg_catalog.->>) 'reason',"
	" d.event OPERATOR(pg_catalog.->>) 'actor',"
	JSON_MEMBER("headers") ","
	" d.event OPERATOR(pg_catalog.->>) 'node'"
	" FROM persistomata.dead_letter_entry d"
	" WHERE d.route OPERATOR(pg_catalog.=) $1 AND d.retry IS NOT NULL ORDER BY d.retry LIMIT 100",
	1, {INT4OID}, NULL
};

static PstQuery wait_query = {
	"SELECT 1 FROM persistomata.dead_letter_entry WHERE route OPERATOR(pg_catalog.=) $1"
	" AND retry IS NOT NULL LIMIT 1",
	1, {INT4OID}, NULL
};

static PstQuery delete_query = {
	"DELETE FROM persistomata.dead_letter_entry WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

static PstQuery refused_query = {
	"UPDATE persistomata.dead_letter_entry SET retry = NULL, reason = $2 WHERE id OPERATOR(pg_catalog.=) $1",
	2, {INT8OID, TEXTOID}, NULL
};

static PstQuery held_query = {
	"UPDATE persistomata.dead_letter_entry SET reason = $2 WHERE id OPERATOR(pg_catalog.=) $1",
	2, {INT8OID, TEXTOID}, NULL
};

/* Are there letters that are to be sent again?  In SPI. */
bool
pst_letters_wait(int route)
{
	Datum		arg = Int32GetDatum(route);

	return pst_query_read(&wait_query, &arg) > 0;
}

static int64
number(uint64 row, int column)
{
	bool		isnull;
	Datum		value = pst_result(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static char *
string(uint64 row, int column)
{
	bool		isnull;
	Datum		value = pst_result(row, column, &isnull);

	return isnull ? NULL : pst_to_utf8(TextDatumGetCString(value));
}

static PstEventType
type_of(const char *name)
{
	return (PstEventType) (name ? name[0] : 's');
}

static void
read_letter(uint64 row, PstEvent *event, const PstCut *newest)
{
	int64		event_id;

	memset(event, 0, sizeof(*event));
	event->position = number(row, 3);
	event->name = string(row, 4);
	event->event_id = number(row, 5);
	event->occurred_at = number(row, 6);
	event->version = (int) number(row, 7);
	event->xid = (uint64) number(row, 8);
	event->type = type_of(string(row, 9));
	event->machine = string(row, 10);
	event->fsm = string(row, 11);
	event->key = string(row, 12);
	event->event = string(row, 13);
	event->from_state = string(row, 14);
	event->to_state = string(row, 15);
	event->args = string(row, 16);
	event->payload = string(row, 17);
	event->reason = string(row, 18);
	event->actor = string(row, 19);
	event->headers = string(row, 20);
	event->node = string(row, 21);
	(void) pst_event_name_read(event->name, &event->timeline, &event_id);
	event->stream_ms = newest->stream_ms;
	event->ordinal = LETTER_ORDINAL + number(row, 2);
}

static void
name_letters(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel, uint64 rows)
{
	PstShipment *shipment = &parcel->shipment;

	memset(shipment, 0, sizeof(*shipment));
	snprintf(parcel->name, sizeof(parcel->name), "%s-%d-%d-letters-" INT64_FORMAT,
			 worker->log_id, outlet->route->id, outlet->cursor.generation, number(0, 2));
	shipment->route = outlet->route->utf8_name;
	shipment->name = parcel->name;
	shipment->from_position = number(0, 3);
	shipment->to_position = number(rows - 1, 3);
	shipment->format = outlet->settings->format;
	shipment->options = outlet->settings->options;
	shipment->events = parcel->batch.events;
	shipment->nevents = (int) rows;
	parcel->batch.nevents = (int) rows;
	parcel->settings = outlet->settings;
	parcel->in_doubt_since = 0;
}

/* In a transaction; true if there is a parcel of letters to send. */
bool
pst_letters_read(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel)
{
	PstBatch   *batch = &parcel->batch;
	Datum		arg = Int32GetDatum(outlet->route->id);
	PstRing		ring;
	PstCut		newest;
	uint64		rows;
	MemoryContext old;

	MemoryContextReset(batch->context);
	if (outlet->settings == NULL || !pst_letters_due(outlet))
		return false;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_ring_read(&ring);
	pst_cut_newest(&ring, &newest);
	rows = newest.cut == outlet->read_cut ? pst_query_read(&letters_query, &arg) : 0;
	/* if cuts have come since, they go first */
	outlet->letters = rows > 0 || newest.cut != outlet->read_cut;
	if (outlet->letters && rows == 0)
		outlet->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100);

	old = MemoryContextSwitchTo(batch->context);
	if (rows > 0)
	{
		batch->events = palloc(sizeof(PstEvent) * rows);
		parcel->letters = palloc(sizeof(int64) * rows);
		name_letters(worker, outlet, parcel, rows);
	}
	for (uint64 row = 0; row < rows; row++)
	{
		parcel->letters[row] = number(row, 1);
		read_letter(row, &batch->events[row], &newest);
		batch->events[row].stream_ms += outlet->cursor.shift_ms;
	}
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	return rows > 0;
}

/*
 * What a filter does not want any more is gone, what fails again keeps the new
 * reason; the rest is sent.
 */
void
pst_letters_sort_out(PstParcel *parcel, const PstCodeRun *run)
{
	int			kept = 0;

	pst_work_begin_sql("settling dead letters");
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		Datum		args[2] = {Int64GetDatum(parcel->letters[i]), (Datum) 0};

		if (run->verdicts[i] == PST_CODE_WANTED)
		{
			parcel->batch.events[kept] = parcel->batch.events[i];
			parcel->letters[kept++] = parcel->letters[i];
		}
		else if (run->verdicts[i] == PST_CODE_UNWANTED)
			pst_query_write(&delete_query, args, NULL);
		else
		{
			args[1] = CStringGetTextDatum(run->reasons[i]);
			pst_query_write(&refused_query, args, NULL);
		}
	}
	pst_work_end_sql();
	parcel->batch.nevents = parcel->shipment.nevents = kept;
}

/* Those taken are gone, those refused again say why; in SPI. */
void
pst_letters_write(const PstSink *sink, const PstParcel *parcel)
{
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		Datum		args[2] = {Int64GetDatum(parcel->letters[i]), (Datum) 0};
		PstVerdict	verdict = pst_sink_verdict(sink, i);

		if (verdict == PST_DELIVERED)
			pst_query_write(&delete_query, args, NULL);
		else if (verdict == PST_REJECTED)
		{
			args[1] = CStringGetTextDatum(pst_reason(sink, i));
			pst_query_write(&refused_query, args, NULL);
		}
	}
}

/* In SPI: they wait, and say what for. */
static void
write_held(const PstSink *sink, const PstParcel *parcel)
{
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		Datum		args[2] = {Int64GetDatum(parcel->letters[i]), (Datum) 0};

		if (pst_sink_verdict(sink, i) != PST_MISCONFIGURED)
			continue;
		args[1] = CStringGetTextDatum(pst_reason(sink, i));
		pst_query_write(&held_query, args, NULL);
	}
}

/* Not now: the sink is down or busy, so the events wait, too. */
static void
wait_for_sink(PstOutlet *outlet, const PstSink *sink)
{
	const PstFault *fault = sink->ops->fault(sink);
	int			backoff_ms = pst_backoff_ms(++outlet->failures);
	int			asked_ms = fault ? fault->retry_after : 0;

	outlet->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(backoff_ms, asked_ms));
	pst_stat_fault(outlet->stat, PST_ROUTE_RETRYING, pst_reason(sink, -1), outlet->retry_at);
}

void
pst_letters_settle(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstSink    *sink = outlet->connection->sink;
	int			remaining = 0;
	int			held = 0;

	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		PstVerdict	verdict = pst_sink_verdict(sink, i);

		outlet->cursor.counts.sent += verdict == PST_DELIVERED;
		remaining += verdict != PST_DELIVERED && verdict != PST_REJECTED;
		held += verdict == PST_MISCONFIGURED;
	}
	pst_work_begin_sql("settling dead letters");
	pst_letters_write(sink, parcel);
	if (held > 0 && outlet->letters_failures == 0)
		write_held(sink, parcel);
	pst_work_end_sql();

	outlet->letters = true;		/* there may be more: the next look tells */
	outlet->retry_at = outlet->letters_at = 0;
	if (held == 0)
		outlet->letters_failures = 0;
	if (remaining == 0)
		outlet->failures = 0;
	if (held > 0)
		/* they are held as the route would be, and probe; what its events meet is for these to find out */
		outlet->letters_at = pst_fault_route(outlet, PST_ROUTE_MISCONFIGURED, &outlet->letters_failures, sink);
	else if (remaining > 0)
		wait_for_sink(outlet, sink);
	else
		pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	pst_parcel_drop(parcel);
}

bool
pst_letters_due(const PstOutlet *outlet)
{
	return outlet->letters && (outlet->letters_at == 0 || outlet->letters_at <= GetCurrentTimestamp());
}
