/*
 * sink.c
 *	  A sink worker: one process per foreign server that routes send to.
 *
 * Its cycle has three steps: read a parcel (a short transaction), send it (no
 * transaction, no lock, no snapshot; waits only in pst_net_wait), settle it (a
 * short transaction, shared by what came before).  While the sink digests one
 * parcel the next is read.  An ERROR ends the process; the scheduler starts it
 * again, later each time.
 */
#include "postgres.h"

#include <malloc.h>

#include "access/xlog.h"
#include "config/config.h"
#include "event/log.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "net/net.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

/* How long a shipment may go on after its route or server was changed. */
#define BREAK_OFF_MS 500

/* How long what waits for its time may miss such a change. */
#define LOOK_AGAIN_MS 1000

static bool settings_changed = true;
static bool roles_changed = false;

/* A server or a user mapping was altered: connect anew, as soon as nothing is under way. */
static void
notice_change(Datum arg, int cacheid, uint32 hashvalue)
{
	settings_changed = true;
}

/* A role was made, renamed or dropped, perhaps an owner: what is under way is let be. */
static void
notice_role(Datum arg, int cacheid, uint32 hashvalue)
{
	roles_changed = true;
}

/* ---- the beginning ---- */

static void
read_log_id(PstSinkWorker *worker)
{
	PstHome		home;

	pst_work_begin_sql("starting");
	pst_home_read(&home);
	if (home.ours)
		pst_nonce_draw(worker);
	pst_work_end_sql();
	if (!home.ours)
		pst_worker_quit();
	strlcpy(worker->log_id, home.log_id, sizeof(worker->log_id));
}

/*
 * An earlier scheduler may have been ended while it waited for a standby: its
 * cut is visible, and no standby may have it.  Wait for the same here, once.
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

/*
 * The memory of a parcel is freed with it, and taken again for the next: while
 * there is a backlog it stays ours, since pages that the kernel has to clear
 * each time were seen to cost a fifth of a worker's time.
 */
static void
keep_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, 8 * 1024 * 1024);
	(void) mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
#endif
}

static void
give_back_memory(PstSinkWorker *worker)
{
	if (!worker->swollen)
		return;
	worker->swollen = false;
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}

static void
begin(PstSinkWorker *worker, Datum arg)
{
	PstShared  *shared = pst_shared();

	worker->place = pst_worker_begin(arg);
	keep_memory();
	LWLockAcquire(&shared->lock, LW_SHARED);
	worker->scheduler = pst_find_worker(PST_SCHEDULER, MyDatabaseId, NULL);
	LWLockRelease(&shared->lock);
	if (worker->scheduler == NULL)
		pst_worker_quit();
	worker->context = AllocSetContextCreate(TopMemoryContext, "persistomata sink worker",
											ALLOCSET_DEFAULT_SIZES);
	worker->server = MemoryContextStrdup(worker->context, worker->place->server);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, notice_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, notice_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, notice_role, (Datum) 0);
	read_log_id(worker);
	pst_worker_be_alone(worker->server);
	wait_for_durability();
}

/* Settle on what routes, server and mappings are now. */
static void
take_changes(PstSinkWorker *worker)
{
	/* a parcel that waits to be tried again is no reason to begin a transaction */
	AcceptInvalidationMessages();
	if (!settings_changed && !roles_changed &&
		worker->routes_seen == pg_atomic_read_u32(&worker->scheduler->routes))
		return;
	settings_changed = roles_changed = false;
	pst_connections_reset(worker);
	/* reading the routes answers all invalidations that had come by then */
	pst_outlets_reload(worker);
	settings_changed = roles_changed = false;
}

/* ---- read ---- */

static PstOutlet *
next_ready(PstSinkWorker *worker)
{
	int			n = list_length(worker->outlets);

	for (int i = 1; i <= n; i++)
	{
		int			turn = (worker->turn + i) % n;
		PstOutlet  *outlet = list_nth(worker->outlets, turn);

		if (pst_outlet_is_ready(worker, outlet))
		{
			worker->turn = turn;
			return outlet;
		}
	}
	return NULL;
}

/* Read a parcel for whoever has something to send. */
static bool
read_parcel(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet;

	if (worker->ops == NULL)
		return false;
	/* once round at most */
	for (int i = list_length(worker->outlets); i > 0 && (outlet = next_ready(worker)) != NULL; i--)
		if (pst_parcel_read(worker, outlet, parcel))
			return true;
	return false;
}

/* ---- send ---- */

/* While the sink digests one shipment, the next is read and prepared. */
static void
read_ahead(PstSinkWorker *worker, PstSink *sink)
{
	PstParcel  *next = &worker->parcels[1];

	/* what is in doubt or promised is done with first */
	if (next->outlet != NULL ||
		(worker->parcels[0].in_doubt_since != 0 && !worker->parcels[0].long_ago) ||
		!read_parcel(worker, next))
		return;
	if (next->outlet->connection->sink == sink && next->shipment.nevents > 0 && next->shipment.serial > 0 &&
		!pst_fence_due(worker, next->outlet))
	{
		next->offered = true;
		pst_sink_prepare(sink, &next->shipment);
	}
}

/*
 * Has something changed, so long ago that we should not wait any more?  A
 * healthy sink is done in a moment, and is left that moment.
 */
static bool
to_be_broken_off(const PstSinkWorker *worker, TimestampTz *since)
{
	AcceptInvalidationMessages();
	if (pst_deliver && !settings_changed &&
		worker->routes_seen == pg_atomic_read_u32(&worker->scheduler->routes))
		return false;
	if (*since == 0)
		*since = GetCurrentTimestamp();
	return TimestampDifferenceExceeds(*since, GetCurrentTimestamp(), BREAK_OFF_MS);
}

/* What was sent and not answered may have landed. */
static void
break_off(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	pst_connection_close(outlet->connection);
	pst_parcel_doubt(parcel);
	pst_parcel_drop(parcel);
	pst_outlet_rewind(outlet);
	outlet = worker->parcels[1].outlet;
	if (outlet)
	{
		pst_parcel_drop(&worker->parcels[1]);
		pst_outlet_rewind(outlet);
	}
}

/* Is part of what the sink has to say not yet on its way? */
static bool
wants_to_write(const PstWants *wants)
{
	for (int i = 0; i < wants->nfds; i++)
		if (wants->on[i].writeable)
			return true;
	return false;
}

bool
pst_await_sink(PstSinkWorker *worker, PstSink *sink, bool read_on)
{
	TimestampTz changed_since = 0;
	bool		early = read_on && sink->ops->begins_early;

	while (pst_sink_poll(sink) == PST_SINK_BUSY)
	{
		PstWants	wants;

		pst_sink_wants(sink, &wants);
		if (read_on && !wants_to_write(&wants))
		{
			read_on = false;
			read_ahead(worker, sink);
			continue;
		}
		(void) pst_net_wait(&wants, changed_since == 0 ? -1 : BREAK_OFF_MS,
							pst_wait_event(PST_WAIT_SINK));
		pst_worker_reload();
		if (to_be_broken_off(worker, &changed_since))
			return false;
		/* what came meanwhile may be on its way at once */
		read_on |= early && changed_since == 0 && worker->parcels[1].outlet == NULL;
	}
	return true;
}

/* False if it was broken off, or may not be sent. */
static bool
send_parcel(PstSinkWorker *worker, PstParcel *parcel)
{
	PstConnection *connection = parcel->outlet->connection;

	if (connection->sink == NULL)
	{
		pst_work_begin("opening a sink");
		pst_connection_open(worker, connection);
		pst_work_end();
	}
	if (!pst_fence_pass(worker, parcel))
		return false;
	pst_parcel_intend(worker, parcel);
	parcel->shipment.in_doubt = parcel->in_doubt_since != 0;
	parcel->shipment.at_rest = parcel->long_ago ? parcel->in_doubt_since : 0;
	parcel->shipment.in_doubt_ms = parcel->in_doubt_since == 0 ? 0 :
		(int) Min(TimestampDifferenceMilliseconds(parcel->in_doubt_since, GetCurrentTimestamp()), INT_MAX / 2);
	pst_stat_progress(parcel->outlet->stat, PST_ROUTE_SENDING,
					  parcel->outlet->cursor.next_position - 1, &parcel->outlet->cursor.counts);
	parcel->shipment.era = pst_loss_era(worker, parcel);
	pst_worker_doing("sending, waiting for the sink", false);
	parcel->offered = false;
	pst_sink_send(connection->sink, &parcel->shipment);
	if (pst_await_sink(worker, connection->sink, true))
	{
		pst_fence_note(parcel);
		pst_diverged_suspect(worker, parcel);
		return true;
	}
	break_off(worker, parcel);
	return false;
}

/* ---- the rest ---- */

/* Connections that have nothing to send keep their heartbeat. */
static void
rest(PstSinkWorker *worker, int wait_ms, bool retry)
{
	PstWants	wants = {.timeout_ms = -1};
	ListCell   *cell;

	foreach(cell, worker->connections)
	{
		PstConnection *connection = lfirst(cell);
		PstWants	one;

		if (connection->sink == NULL || connection->sink->sending)
			continue;
		pst_sink_wants(connection->sink, &one);
		wants.timeout_ms = pst_sooner(wants.timeout_ms, one.timeout_ms);
		for (int i = 0; i < one.nfds && wants.nfds < PST_MAX_FDS; i++)
			wants.on[wants.nfds++] = one.on[i];
	}
	if (wait_ms != 0)
	{
		give_back_memory(worker);
		pst_work_idle(retry ? "waiting to try again" : "waiting for events");
	}
	(void) pst_net_wait(&wants, wait_ms, pst_wait_event(retry ? PST_WAIT_RETRY : PST_WAIT_WORK));
	foreach(cell, worker->connections)
	{
		PstConnection *connection = lfirst(cell);

		if (connection->sink && !connection->sink->sending && connection->sink->ops->idle)
			connection->sink->ops->idle(connection->sink);
	}
}

/*
 * Milliseconds until something that waits may be sent, or -1; *retry tells that
 * it waits after a failure.
 */
static int
next_attempt_ms(const PstSinkWorker *worker, bool *retry)
{
	TimestampTz now = GetCurrentTimestamp();
	int			wait = -1;
	ListCell   *cell;

	*retry = false;
	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		TimestampTz at;

		if (outlet->connection == NULL)
		{
			/* nobody wakes us when a server or an owner is there again */
			wait = pst_sooner(wait, LOOK_AGAIN_MS);
			continue;
		}
		at = pst_outlet_due_at(worker, outlet);
		if (at > now)
		{
			wait = pst_sooner(wait, pst_ms_until(at) + 1);
			*retry |= Max(Max(outlet->retry_at, outlet->letters_at), outlet->connection->retry_at) > now;
		}
	}
	/* nor when one is mended */
	return wait < 0 ? wait : Min(wait, LOOK_AGAIN_MS);
}

/* A parcel that failed waits for its connection. */
static bool
may_send(const PstParcel *parcel)
{
	const PstOutlet *outlet = parcel->outlet;

	return outlet->connection->retry_at <= GetCurrentTimestamp();
}

static void
cycle(PstSinkWorker *worker)
{
	PstParcel  *parcel = &worker->parcels[0];

	if (parcel->outlet == NULL && worker->parcels[1].outlet != NULL)
		pst_parcel_advance(worker);
	if (parcel->outlet == NULL)
		(void) read_parcel(worker, parcel);

	/* reading may have told of a server, mapping or role that was altered */
	if (settings_changed || roles_changed)
		return;
	if (parcel->outlet != NULL && parcel->shipment.nevents == 0)
		pst_settle_empty(worker, parcel);
	else if (parcel->outlet != NULL && pst_is_embedded(worker, parcel))
		pst_embedded_run(worker, parcel);
	else if (parcel->outlet != NULL && may_send(parcel))
	{
		if (send_parcel(worker, parcel) && !pst_loss_look(worker, parcel))
			pst_settle(worker, parcel);
	}
	else if (parcel->outlet != NULL || !(pst_fence_step(worker) || pst_audit_step(worker)))
	{
		/* nobody waits for a byte of ours: now or soon */
		int			wait = pst_acknowledge_in_ms(worker);
		bool		retry;
		int			attempt = next_attempt_ms(worker, &retry);

		if (wait == 0)
		{
			pst_acknowledge(worker);
			wait = -1;
		}
		rest(worker, pst_sooner(wait, attempt), retry);
	}
	if (pst_acknowledge_in_ms(worker) == 0)
		pst_acknowledge(worker);
}

void
pst_sink_main(Datum arg)
{
	PstSinkWorker *worker = MemoryContextAllocZero(TopMemoryContext, sizeof(PstSinkWorker));
	MemoryContext scratch;

	begin(worker, arg);
	scratch = AllocSetContextCreate(TopMemoryContext, "persistomata sink cycle", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextSwitchTo(scratch);
		MemoryContextReset(scratch);
		CHECK_FOR_INTERRUPTS();
		pst_worker_reload();
		if (!pst_deliver)
			pst_worker_quit();
		take_changes(worker);
		cycle(worker);
	}
}
