/*
 * sink_worker.c
 *	  One process per server in use: reads, sends, acknowledges.
 *
 * The cycle is three steps, each in a function: read a parcel (a short
 * transaction), send it (no transaction, lock or snapshot; all waiting is in
 * pst_net_wait), settle it (a short transaction, or none if acknowledging can
 * be left for later).  While the sink digests a parcel, the next is read.
 *
 * A sink that is down holds its parcel; one that is misconfigured for a route
 * holds only that route.  A change of routes, of the server or of a user
 * mapping ends every wait.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "config/config.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "net/net.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

/* Acknowledgements wait for each other this long. */
#define ACK_MS 100

static volatile bool options_changed = false;

static void
note_options_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	options_changed = true;
}

static bool
routes_changed(const PstSinkWorker *worker)
{
	return pg_atomic_read_u32(&worker->scheduler->routes) != worker->routes_seen;
}

/* Serve what may have come while we slept or sent. */
static void
serve_changes(PstSinkWorker *worker)
{
	pst_worker_reload();
	if (!pst_deliver)
	{
		pst_acknowledge(worker);
		pst_worker_quit();
	}
	AcceptInvalidationMessages();
	if (!routes_changed(worker) && !options_changed)
		return;
	if (options_changed)
	{
		/* what is in hand was made for the old connection */
		if (worker->parcels[0].outlet)
		{
			PstOutlet  *outlet = worker->parcels[0].outlet;

			pst_parcel_drop(&worker->parcels[0]);
			if (worker->parcels[1].outlet == outlet)
				pst_parcel_drop(&worker->parcels[1]);
			pst_outlet_rewind(outlet);
		}
		options_changed = false;
		pst_connections_reset(worker);
	}
	pst_outlets_reload(worker);
}

/* The next outlet, in turn, that could send something; NULL if none could. */
static PstOutlet *
next_outlet(PstSinkWorker *worker)
{
	int			n = list_length(worker->outlets);

	for (int i = 0; i < n; i++)
	{
		PstOutlet  *outlet = list_nth(worker->outlets, (worker->turn + i) % n);

		if (pst_outlet_is_ready(worker, outlet))
		{
			worker->turn = (worker->turn + i + 1) % n;
			return outlet;
		}
	}
	return NULL;
}

/* First step: have a parcel at hand.  False if there is nothing to send. */
static bool
have_parcel(PstSinkWorker *worker)
{
	PstParcel  *parcel = &worker->parcels[0];
	PstOutlet  *outlet;

	if (parcel->outlet)
		return parcel->outlet->connection->retry_at <= GetCurrentTimestamp();
	if (worker->parcels[1].outlet)
	{
		PstParcel	empty = *parcel;

		*parcel = worker->parcels[1];
		worker->parcels[1] = empty;
		return true;
	}
	if (worker->ops == NULL)
		return false;
	while ((outlet = next_outlet(worker)) != NULL)
		if (pst_parcel_read(worker, outlet, parcel))
			return true;
	return false;
}

/* Has the parcel's route been changed so that sending it on makes no sense? */
static bool
to_be_broken_off(const PstSinkWorker *worker)
{
	return options_changed || routes_changed(worker);
}

/* Second step: send.  False if it was broken off. */
static bool
send_parcel(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstSink    *sink = outlet->connection->sink;
	PstShipment *shipment = &parcel->shipment;
	bool		prefetched = worker->parcels[1].outlet != NULL;
	TimestampTz broken_off_at = 0;

	if (shipment->nevents == 0)
		return true;
	pst_stat_progress(outlet->stat, PST_ROUTE_SENDING, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	pgstat_report_activity(STATE_RUNNING, "sending");
	shipment->name = parcel->name;
	shipment->in_doubt_ms = shipment->in_doubt ?
		(int) Min(TimestampDifferenceMilliseconds(parcel->in_doubt_since, GetCurrentTimestamp()), INT_MAX) : 0;
	parcel->sent = true;
	pst_sink_send(sink, shipment);
	while (pst_sink_poll(sink) == PST_SINK_BUSY)
	{
		PstWants	wants;

		if (!prefetched)
		{
			/* the next one, while the sink digests this */
			PstOutlet  *next = next_outlet(worker);

			prefetched = true;
			if (next)
			{
				(void) pst_parcel_read(worker, next, &worker->parcels[1]);
				pgstat_report_activity(STATE_RUNNING, "sending");
				continue;
			}
		}
		pst_sink_wants(sink, &wants);
		(void) pst_net_wait(&wants, 1000, PG_WAIT_EXTENSION);
		AcceptInvalidationMessages();
		if (!to_be_broken_off(worker))
			continue;
		/* a healthy sink is done in a moment: let it, but not for long */
		if (broken_off_at == 0)
			broken_off_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 500);
		else if (GetCurrentTimestamp() >= broken_off_at)
			return false;
	}
	return true;
}

/* A send that was broken off may have landed. */
static void
break_off(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	pst_connection_close(outlet->connection);
	pst_parcel_drop(parcel);
	pst_outlet_rewind(outlet);
	outlet = worker->parcels[1].outlet;
	if (outlet)
	{
		pst_parcel_drop(&worker->parcels[1]);
		pst_outlet_rewind(outlet);
	}
}

/* How long there is nothing to do, in ms; -1: until woken. */
static int
time_to_sleep(PstSinkWorker *worker)
{
	int			wait = -1;
	ListCell   *cell;

	if (worker->unacked_since != 0)
		wait = Max(0, pst_ms_until(TimestampTzPlusMilliseconds(worker->unacked_since, ACK_MS)));
	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		TimestampTz at = outlet->retry_at;

		if (outlet->connection && outlet->connection->retry_at > at)
			at = outlet->connection->retry_at;
		if (at != 0)
			wait = pst_sooner(wait, pst_ms_until(at) + 1);
	}
	return wait;
}

/* Sleep, and keep idle connections alive. */
static void
rest(PstSinkWorker *worker)
{
	int			wait = time_to_sleep(worker);
	PstSink    *sink = NULL;
	PstWants	wants;
	ListCell   *cell;
	bool		woken;

	foreach(cell, worker->connections)
		if (((PstConnection *) lfirst(cell))->sink)
			sink = ((PstConnection *) lfirst(cell))->sink;
	if (wait < 0 || wait > 10)
		pst_work_idle();
	if (sink == NULL || sink->ops->idle == NULL)
	{
		(void) pst_net_wait(NULL, wait, PG_WAIT_EXTENSION);
		return;
	}
	pst_sink_wants(sink, &wants);
	woken = pst_net_wait(&wants, wait, PG_WAIT_EXTENSION);
	if (!woken)
		foreach(cell, worker->connections)
		{
			PstConnection *connection = lfirst(cell);

			if (connection->sink && connection->sink->ops->idle)
				connection->sink->ops->idle(connection->sink);
		}
}

/* Acknowledge what has waited for company long enough. */
static void
acknowledge_if_due(PstSinkWorker *worker)
{
	if (worker->unacked_since != 0 &&
		TimestampDifferenceExceeds(worker->unacked_since, GetCurrentTimestamp(), ACK_MS))
		pst_acknowledge(worker);
}

/*
 * An earlier scheduler may have ended while it waited for a standby: its cut is
 * visible, and no standby may have it.  Wait for the same here, once.
 */
static void
wait_for_durability(void)
{
	XLogRecPtr	now = GetXLogInsertRecPtr();

	XLogFlush(now);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(now, true);
	RESUME_INTERRUPTS();
	CHECK_FOR_INTERRUPTS();
}

static void
set_up(PstSinkWorker *worker, PstWorker *place)
{
	PstShared  *shared = pst_shared();

	memset(worker, 0, sizeof(*worker));
	worker->place = place;
	worker->context = AllocSetContextCreate(TopMemoryContext, "persistomata sink worker", ALLOCSET_DEFAULT_SIZES);
	worker->server = MemoryContextStrdup(worker->context, place->server);
	for (int i = 0; i < 2; i++)
		worker->parcels[i].batch.context = AllocSetContextCreate(worker->context, "persistomata parcel",
																 ALLOCSET_DEFAULT_SIZES);
	LWLockAcquire(&shared->lock, LW_SHARED);
	worker->scheduler = pst_find_worker(PST_SCHEDULER, MyDatabaseId, NULL);
	LWLockRelease(&shared->lock);
	if (worker->scheduler == NULL)
		pst_worker_quit();
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_options_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, note_options_changed, (Datum) 0);
}

void
pst_sink_main(Datum arg)
{
	PstSinkWorker worker;
	MemoryContext cycle = AllocSetContextCreate(TopMemoryContext, "persistomata cycle", ALLOCSET_DEFAULT_SIZES);

	set_up(&worker, pst_worker_begin(arg));
	/* by name: the server itself may come and go */
	pst_work_begin("starting");
	pst_worker_be_alone(ForeignServerRelationId, hash_bytes((const unsigned char *) worker.server, (int) strlen(worker.server)), 16);
	pst_work_end();
	wait_for_durability();
	options_changed = false;
	pst_outlets_reload(&worker);

	for (;;)
	{
		PstParcel  *parcel = &worker.parcels[0];

		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		CHECK_FOR_INTERRUPTS();
		serve_changes(&worker);
		acknowledge_if_due(&worker);

		if (!have_parcel(&worker))
		{
			rest(&worker);
			continue;
		}
		pst_parcel_intend(&worker, parcel);
		if (send_parcel(&worker, parcel))
			pst_settle(&worker, parcel);
		else
			break_off(&worker, parcel);
	}
}
