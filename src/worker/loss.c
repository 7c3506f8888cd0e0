/*
 * loss.c
 *	  A sink that lost what it had acknowledged.
 *
 * Where a route's option on_loss asks for it, nothing is sent over a new
 * connection before the sink was asked where what it holds ends.  If that is
 * before the last events that it has acknowledged, the route is held, or goes
 * back behind what is there.
 *
 * The last events are read as if they were to be sent, through an outlet of its
 * own, as a reconciliation does; no transaction is open while the sink thinks.
 * How a route is held is in fence.c.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/outlet.h"

/* So many positions before the cursor are looked at; more if none is the route's. */
#define WINDOW 2000

typedef struct Loss
{
	int64		oldest;			/* the first position that the route is known to have sent */
	int64		own_from;		/* from here on ids were shifted as they are now */
	int64		last;			/* the last of its events that are acknowledged; 0: none */
	bool		lost;
	int64		top;			/* what is there ends here, at the address where that is earliest */
	bool		failed;			/* the sink did not say: its fault tells why */
	bool		broken_off;
} Loss;

#define FIRST(slot) "(SELECT pg_catalog.min(from_position) FROM persistomata.ack_" #slot \
	" WHERE route OPERATOR(pg_catalog.=) $1)"

static PstQuery first_query = {
	"SELECT LEAST(" FIRST(0) ", " FIRST(1) ", " FIRST(2) ", " FIRST(3) ", "
	FIRST(4) ", " FIRST(5) ", " FIRST(6) ", " FIRST(7) ")",
	1, {INT4OID}, NULL
};

static PstQuery generation_query = {
	"SELECT from_position FROM persistomata.route_generation"
	" WHERE route OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $2",
	2, {INT4OID, INT4OID}, NULL
};

static PstQuery refused_query = {
	"SELECT 1 FROM persistomata.dead_letter_entry WHERE route OPERATOR(pg_catalog.=) $1"
	" AND position OPERATOR(pg_catalog.=) $2 AND name OPERATOR(pg_catalog.=) $3"
	" UNION ALL SELECT 1 FROM persistomata.discarded_letter WHERE route OPERATOR(pg_catalog.=) $1"
	" AND position OPERATOR(pg_catalog.=) $2 AND name OPERATOR(pg_catalog.=) $3",
	3, {INT4OID, INT8OID, TEXTOID}, NULL
};

int
pst_loss_era(const PstSinkWorker *worker, const PstParcel *parcel)
{
	if (parcel->outlet->route->on_loss == 'c' || worker->ops->look == NULL || parcel->letters)
		return 0;
	return parcel->outlet->era;
}

/* ---- looking ---- */

static void
find_bounds(const PstOutlet *outlet, Loss *loss)
{
	const PstCursor *cursor = &outlet->cursor;
	Datum		args[2] = {Int32GetDatum(outlet->route->id), Int32GetDatum(cursor->generation)};
	Datum		value;
	bool		isnull;

	pst_work_begin_sql("looking for what a sink should hold");
	pst_query_read(&first_query, args);
	value = pst_result(0, 1, &isnull);
	loss->oldest = outlet->acked_position;
	if (!isnull)
		loss->oldest = Min(loss->oldest, DatumGetInt64(value));
	if (pst_query_read(&generation_query, args) > 0)
	{
		value = pst_result(0, 1, &isnull);
		loss->own_from = isnull ? 0 : DatumGetInt64(value);
	}
	if (cursor->replay_to > 0)
		loss->own_from = cursor->resume_position;
	pst_work_end_sql();
}

static void
open_reading(const PstOutlet *outlet, PstOutlet *reading)
{
	memset(reading, 0, sizeof(*reading));
	reading->route = outlet->route;
	reading->context = CurrentMemoryContext;
	reading->settings_context = AllocSetContextCreate(CurrentMemoryContext, "persistomata settings", ALLOCSET_SMALL_SIZES);
	reading->reader = pst_reader_create(CurrentMemoryContext);
	reading->cursor = outlet->cursor;
	reading->cursor.intent = false;
	reading->cursor.replay_to = reading->cursor.resume_position = 0;
	reading->cursor.settings = 0;
}

/* Of the parcel, what is acknowledged, with the ids that were sent. */
static void
take_acknowledged(const PstOutlet *outlet, const Loss *loss, PstParcel *parcel)
{
	int			n = 0;

	while (n < parcel->shipment.nevents && parcel->batch.events[n].position < outlet->cursor.next_position)
	{
		/* those of earlier generations at least so */
		if (parcel->batch.events[n].position < loss->own_from)
			parcel->batch.events[n].stream_ms -= outlet->cursor.shift_ms;
		n++;
	}
	parcel->shipment.nevents = n;
}

/* What the sink refused it has never had. */
static bool
was_refused(const PstOutlet *outlet, const PstEvent *event)
{
	Datum		args[3];
	bool		refused;

	pst_work_begin_sql("looking for a dead letter");
	args[0] = Int32GetDatum(outlet->route->id);
	args[1] = Int64GetDatum(event->position);
	args[2] = CStringGetTextDatum(event->name);
	refused = pst_query_read(&refused_query, args) > 0;
	pst_work_end_sql();
	return refused;
}

/* Ask the sink about one parcel. */
static void
ask(PstSinkWorker *worker, PstSink *sink, const PstParcel *parcel, Loss *loss)
{
	pst_worker_doing("asking the sink what it holds", false);
	pst_sink_look(sink, &parcel->shipment);
	loss->broken_off = !pst_await_sink(worker, sink, false);
	if (loss->broken_off)
		return;
	loss->failed = sink->ops->fault(sink)->verdict != PST_VERDICT_NONE;
	if (loss->failed)
		return;
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		int64		top;

		loss->last = Max(loss->last, parcel->batch.events[i].position);
		if (!sink->ops->lacks(sink, i, &top) || (loss->lost && top >= loss->top) ||
			was_refused(parcel->outlet, &parcel->batch.events[i]))
			continue;
		loss->top = top;
		loss->lost = true;
	}
}

/* The events of a run of positions that ends at the cursor. */
static void
look_at(PstSinkWorker *worker, PstOutlet *outlet, PstOutlet *reading, int64 from, Loss *loss)
{
	PstParcel	parcel = {0};

	parcel.batch.context = AllocSetContextCreate(CurrentMemoryContext, "persistomata batch", ALLOCSET_DEFAULT_SIZES);
	reading->cursor.next_position = from;
	pst_outlet_rewind(reading);
	while (!loss->failed && !loss->broken_off &&
		   pst_reader_position(reading->reader) < outlet->cursor.next_position &&
		   pst_parcel_read(worker, reading, &parcel))
	{
		take_acknowledged(outlet, loss, &parcel);
		if (parcel.shipment.nevents > 0)
			ask(worker, outlet->connection->sink, &parcel, loss);
		reading->cursor.next_position = parcel.shipment.to_position + 1;
		pst_parcel_drop(&parcel);
	}
	MemoryContextDelete(parcel.batch.context);
}

/* ---- what is done about it ---- */

static void
resend(PstSinkWorker *worker, PstOutlet *outlet, const Loss *loss)
{
	int64		last = outlet->cursor.next_position - 1;
	int64		from;
	char	   *told;

	pst_outlet_drop_parcels(worker, outlet);
	pst_acknowledge(worker);
	outlet->resent_to = last;
	pst_work_begin_sql("going back");
	from = pst_route_go_back(outlet->route->id, Max(loss->top + 1, loss->oldest));
	pst_work_end_sql();
	told = psprintf("the sink lost what it had acknowledged: positions " INT64_FORMAT " to " INT64_FORMAT
					" (" INT64_FORMAT ") are sent again", from, last, last - from + 1);
	pst_stat_fault(outlet->stat, PST_ROUTE_RETRYING, told, 0);
	ereport(WARNING,
			(errmsg("route \"%s\" to server \"%s\" goes back to position " INT64_FORMAT,
					outlet->route->name, outlet->route->server, from),
			 errdetail_internal("%s", told)));
}

static void
decide(PstSinkWorker *worker, PstOutlet *outlet, const Loss *loss)
{
	PstSink    *sink = outlet->connection->sink;

	if (loss->broken_off)
	{
		pst_connection_close(outlet->connection);
		pst_outlet_drop_parcels(worker, outlet);
	}
	else if (loss->failed)
		outlet->connection->retry_at = pst_fault_route(outlet, PST_ROUTE_RETRYING, &outlet->connection->failures, sink);
	else if (!loss->lost || loss->last <= outlet->route->accepted_position)
		outlet->era = sink->ops->era(sink);
	else if (outlet->route->on_loss == 'h')
		pst_outlet_hold(worker, outlet, "lost",
			 psprintf("the sink lost what it had acknowledged: it holds events up to position " INT64_FORMAT
					  ", and was sent those up to " INT64_FORMAT, loss->top, loss->last));
	else
		resend(worker, outlet, loss);
}

bool
pst_loss_look(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstSink    *sink = outlet->connection->sink;
	PstOutlet	reading;
	Loss		loss = {0};
	MemoryContext context;
	MemoryContext old;
	int64		window = WINDOW;

	if (sink->ops->fault(sink)->fenced)
	{
		pst_outlet_hold(worker, outlet, "fenced", pst_reason(sink, -1));
		return true;
	}
	if (!sink->ops->fault(sink)->unseen)
		return false;
	context = AllocSetContextCreate(worker->context, "persistomata loss", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	find_bounds(outlet, &loss);
	open_reading(outlet, &reading);
	for (;;)
	{
		int64		from = Max(outlet->cursor.next_position - window, loss.oldest);

		look_at(worker, outlet, &reading, from, &loss);
		if (loss.last > 0 || from == loss.oldest || loss.failed || loss.broken_off)
			break;
		window *= 4;
	}
	decide(worker, outlet, &loss);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return true;
}
