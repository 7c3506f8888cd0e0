/*
 * fence.c
 *	  Which of several copies of this cluster delivers.
 *
 * A physical copy has the log, its id and the routes in common with the original.
 * So a worker leaves a nonce in the sink, under a mark of log and route; the
 * rule is that whoever finds a newer one there stops, as fenced, and an older one
 * is replaced.  The newer one is that of the higher timeline, or on the same one
 * that of the worker that began later (or was told later by enable_route): so a
 * worker that is started again is never fenced by what ran before it.
 *
 * The sink is asked before the first shipment of a worker and after a connection
 * failed.  From then on it is asked behind a shipment, when nothing waits to be
 * sent, if the last answer is two seconds old, so that no event waits for that;
 * and before one if it is five seconds old.  Nothing sent, nothing asked.  Two
 * copies that ask at the same time may both go on until they ask again.  A sink that
 * can do better compares with every shipment by itself (redis_claim.c).
 *
 * That a route is held stands in its row, so that it holds for later workers
 * too, until the route is enabled.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

#define LOOK_BEHIND_MS 2000
#define LOOK_BEFORE_MS 5000
#define TRY_AGAIN_MS 60000		/* where the sink can keep no nonce */

typedef enum Finding
{
	FOUND_OURS,
	FOUND_OLDER,				/* or nothing */
	FOUND_NEWER,
	FOUND_NO_PLACE,				/* the sink can keep none */
	FOUND_TROUBLE,				/* not now */
	FOUND_REFUSAL,				/* the sink would refuse anything: the shipment will tell */
	FOUND_BROKEN_OFF
} Finding;

static PstQuery nonce_query = {
	"SELECT pg_catalog.setval('persistomata.worker_nonce', GREATEST(pg_catalog.nextval('persistomata.worker_nonce'),"
	" (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint))",
	0, {0}, NULL
};

static PstQuery hold_query = {
	"UPDATE persistomata.route SET held = $2, held_position = $3, held_reason = $4"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	4, {INT4OID, TEXTOID, INT8OID, TEXTOID}, NULL
};

/*
 * Who began later?  A number of this process, greater than all before it on this
 * timeline of this cluster, and than those of a copy that began before, even if
 * the clock was put back.
 */
void
pst_nonce_draw(PstSinkWorker *worker)
{
	uint32		chance;

	if (!pg_strong_random(&chance, sizeof(chance)))
		chance = (uint32) MyProcPid;
	pst_query_write(&nonce_query, NULL, NULL);
	snprintf(worker->nonce, sizeof(worker->nonce), "%d-" INT64_FORMAT "-%08x",
			 (int) GetWALInsertionTimeLine(), DatumGetInt64(pst_result(0, 1, NULL)), chance);
}

/* ---- stopping a route ---- */

/* The outlet's parcels go, and are read again if it comes to that. */
void
pst_outlet_drop_parcels(PstSinkWorker *worker, PstOutlet *outlet)
{
	for (int i = 0; i < 2; i++)
		if (worker->parcels[i].outlet == outlet)
			pst_parcel_drop(&worker->parcels[i]);
	pst_outlet_rewind(outlet);
}

void
pst_outlet_hold(PstSinkWorker *worker, PstOutlet *outlet, const char *kind, const char *reason)
{
	Datum		args[4];

	pst_outlet_drop_parcels(worker, outlet);
	pst_acknowledge(worker);
	pst_work_begin_sql("holding a route");
	args[0] = Int32GetDatum(outlet->route->id);
	args[1] = CStringGetTextDatum(kind);
	args[2] = Int64GetDatum(outlet->cursor.next_position - 1);
	args[3] = CStringGetTextDatum(reason);
	pst_query_write(&hold_query, args, NULL);
	pst_work_end_sql();
	outlet->route->held = kind[0];
	pst_stat_fault(outlet->stat, kind[0] == 'f' ? PST_ROUTE_FENCED : PST_ROUTE_MISCONFIGURED, reason, 0);
	ereport(WARNING,
			(errmsg("route \"%s\" to server \"%s\" is held", outlet->route->name, outlet->route->server),
			 errdetail_internal("%s", reason),
			 kind[0] == 'f' ?
			 errhint("See that only one copy delivers; persistomata.enable_route() makes this one the later.") :
			 errhint("persistomata.enable_route() lets it go on.")));
}

/* ---- asking ---- */

/* Is the last answer so old? */
static bool
is_old(const PstOutlet *outlet, int ms)
{
	return TimestampDifferenceExceeds(outlet->marked_at, GetCurrentTimestamp(), outlet->unmarked ? TRY_AGAIN_MS : ms);
}

static Finding
ask(PstSinkWorker *worker, const PstOutlet *outlet, const PstShipment *shipment, bool leave)
{
	PstSink    *sink = outlet->connection->sink;
	const char *there;
	int			order;

	pst_worker_doing("asking the sink who delivers", false);
	pst_sink_mark(sink, shipment, leave);
	if (!pst_await_sink(worker, sink, false))
		return FOUND_BROKEN_OFF;
	switch (sink->ops->fault(sink)->verdict)
	{
		case PST_VERDICT_NONE:
			break;
		case PST_REJECTED:
			return FOUND_NO_PLACE;
		case PST_MISCONFIGURED:
			return FOUND_REFUSAL;
		default:
			return FOUND_TROUBLE;
	}
	there = sink->ops->marked(sink);
	order = there ? pst_nonce_compare(there, worker->nonce) : -1;
	return order == 0 ? FOUND_OURS : order < 0 ? FOUND_OLDER : FOUND_NEWER;
}

/* Said once by each worker: the route goes on all the same. */
static void
tell_unmarked(PstOutlet *outlet, const char *why)
{
	char	   *told = psprintf("copies of this cluster are not told apart here: %s", why);

	if (outlet->told_unmarked)
		return;
	outlet->told_unmarked = true;
	pst_stat_fault(outlet->stat, PST_ROUTE_SENDING, told, 0);
	ereport(LOG,
			(errmsg("route \"%s\" to server \"%s\" delivers without a nonce in the sink",
					outlet->route->name, outlet->route->server),
			 errdetail_internal("%s", told),
			 errhint("Make sure that no copy of this cluster delivers, or give the sink's user the rights that the reference names.")));
	pfree(told);
}

void
pst_fence_note(PstParcel *parcel)
{
	const PstSink *sink = parcel->outlet->connection->sink;
	const PstFault *fault = sink->ops->fault(sink);

	if (fault && fault->unmarked)
		tell_unmarked(parcel->outlet, pst_reason(sink, -1));
}

/* As when the shipment itself had failed. */
static void
wait_again(PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	outlet->cursor.counts.retried += parcel->shipment.nevents;
	outlet->connection->retry_at = pst_fault_route(outlet, PST_ROUTE_RETRYING, &outlet->connection->failures,
												   outlet->connection->sink);
	pst_stat_progress(outlet->stat, PST_ROUTE_RETRYING, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	/* a dead letter may be given up meanwhile */
	if (parcel->letters)
		pst_parcel_drop(parcel);
}

/* Ask, leave our nonce if there is no newer one, and do what follows for the route. */
static Finding
look(PstSinkWorker *worker, PstOutlet *outlet, const PstShipment *shipment)
{
	Finding		finding = ask(worker, outlet, shipment, false);

	if (finding == FOUND_OLDER)
		finding = ask(worker, outlet, shipment, true);
	outlet->marked_at = 0;
	switch (finding)
	{
		case FOUND_NEWER:
			pst_outlet_hold(worker, outlet, "fenced",
							"another copy of this cluster delivers for this route, and began later");
			break;
		case FOUND_BROKEN_OFF:
			pst_connection_close(outlet->connection);
			pst_outlet_drop_parcels(worker, outlet);
			break;
		case FOUND_NO_PLACE:
			tell_unmarked(outlet, pst_reason(outlet->connection->sink, -1));
			/* FALLTHROUGH */
		case FOUND_OURS:
		case FOUND_OLDER:		/* somebody was quicker, or took it away: asked again soon */
			outlet->unmarked = finding == FOUND_NO_PLACE;
			outlet->marked_at = GetCurrentTimestamp();
			break;
		case FOUND_TROUBLE:
		case FOUND_REFUSAL:
			break;
	}
	return finding;
}

static void
set_mark(PstSinkWorker *worker, PstOutlet *outlet, PstShipment *shipment)
{
	snprintf(outlet->mark, sizeof(outlet->mark), "%s-%d", worker->log_id, outlet->route->id);
	shipment->mark = outlet->mark;
	shipment->nonce = worker->nonce;
}

bool
pst_fence_due(const PstSinkWorker *worker, const PstOutlet *outlet)
{
	return worker->ops->mark != NULL &&
		(outlet->marked_at == 0 || outlet->connection->failures != 0 || is_old(outlet, LOOK_BEFORE_MS));
}

bool
pst_fence_pass(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	set_mark(worker, outlet, &parcel->shipment);
	if (!pst_fence_due(worker, outlet))
		return true;
	/* it may have been begun, when it was not yet due: before the next one, then */
	if (parcel->offered && outlet->marked_at != 0 && outlet->connection->failures == 0)
		return true;
	switch (look(worker, outlet, &parcel->shipment))
	{
		case FOUND_NEWER:
		case FOUND_BROKEN_OFF:
			return false;
		case FOUND_TROUBLE:
			wait_again(parcel);
			return false;
		default:
			return true;
	}
}

bool
pst_fence_step(PstSinkWorker *worker)
{
	ListCell   *cell;

	if (worker->ops == NULL || worker->ops->mark == NULL)
		return false;
	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		const PstConnection *connection = outlet->connection;
		PstShipment shipment = {0};

		if (connection == NULL || connection->sink == NULL || connection->failures > 0 || outlet->route->held ||
			outlet->settings == NULL || outlet->marked_at == 0 || outlet->sent_at < outlet->marked_at ||
			!is_old(outlet, LOOK_BEHIND_MS))
			continue;
		shipment.route = outlet->route->utf8_name;
		shipment.options = outlet->settings->options;
		set_mark(worker, outlet, &shipment);
		(void) look(worker, outlet, &shipment);
		return true;
	}
	return false;
}
