/*
 * scheduler.c
 *	  One process per database: fires timers, cuts the log, wakes those who
 *	  send, turns the ring.
 *
 * It looks when it is told to: a flag in shared memory that commits set.  While
 * prepared transactions exist it looks once a second, since their commit tells
 * nobody; and once per naptime if the library is not preloaded, where shared
 * memory may have had no room for the flag.  Otherwise it sleeps until a timer,
 * a restart or a slot of the ring is due, and does nothing at all.
 *
 * A cut is told to sink workers only after its commit has returned: by then it
 * is on disk here and, if so configured, on a standby.
 */
#include "postgres.h"

#include "access/xact.h"
#include "config/config.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/ring.h"
#include "miscadmin.h"
#include "net/net.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "route/route.h"
#include "stat/counters.h"
#include "transition/idempotency.h"
#include "transition/timer.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

#define PREPARED_MS 1000
#define TIMERS_MS 20			/* at least between two looks at the timers */
#define RING_MS 1000			/* likewise at the ring */
#define STARTING_MS 30000

typedef struct Scheduler
{
	PstWorker  *place;
	bool		look;			/* at the log, though no flag is set */
	uint32		routes_seen;	/* place->routes when sinks were last settled on */
	bool		settled;		/* they were */
	bool		exhausted;
	int64		last_cut_ms;	/* times by pst_net_now() */
	int64		timers_ms;
	int64		timers_due_ms;	/* -1: none */
	int64		ring_ms;
	int64		ring_due_ms;	/* -1: after the next cut */
	bool		full;			/* the log takes more than it may */
	int64		look_ms;		/* when it last looked unasked */
} Scheduler;

static PstQuery prepared_query = {
	"SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database() LIMIT 1",
	0, {0}, NULL
};

/*
 * Make a cut if there is something new, and tell of it.  committed_at is when
 * the first commit since the last look took place, or 0.
 */
static void
cut(Scheduler *scheduler, TimestampTz committed_at)
{
	PstWorker  *place = scheduler->place;
	PstCutResult result;
	PstCut		newest;

	pst_work_begin("cutting the event log");
	result = pst_cut_make(&newest);
	pst_work_end();
	/* a wait for a standby that was broken off is no promise: do not tell */
	CHECK_FOR_INTERRUPTS();
	scheduler->last_cut_ms = pst_net_now();
	scheduler->look = false;

	place->foreign = result == PST_CUT_FOREIGN;
	if (place->foreign)
		return;
	if (newest.cut > 0 && pg_atomic_read_u64(&place->newest_cut) != (uint64) newest.cut)
	{
		pst_note_commits(place, newest.cut, newest.stream_ms, committed_at);
		pg_atomic_write_u64(&place->end_position, newest.first_position + newest.events);
		pg_write_barrier();
		pg_atomic_write_u64(&place->newest_cut, newest.cut);
		pst_wake_sinks(MyDatabaseId);
		/* whatever a slot waits for, the current one may be due */
		if (scheduler->ring_due_ms < 0 || scheduler->ring_due_ms > scheduler->ring_ms + RING_MS)
			scheduler->ring_due_ms = scheduler->ring_ms + RING_MS;
	}
}

/* Do prepared transactions exist?  The flag is cleared before looking. */
static void
look_for_prepared(PstWorker *place)
{
	pg_atomic_exchange_u32(&place->prepared, 0);
	pst_work_begin_sql("looking for prepared transactions");
	if (pst_query_read(&prepared_query, NULL) > 0)
		pg_atomic_exchange_u32(&place->prepared, 1);
	pst_work_end_sql();
}

/* Cut as often as the linger allows; returns ms until it may be done, or -1. */
static int
look_at_log(Scheduler *scheduler)
{
	PstWorker  *place = scheduler->place;
	int64		now = pst_net_now();
	TimestampTz committed_at;
	int			unasked = -1;

	if (pg_atomic_read_u32(&place->prepared) != 0)
		unasked = PREPARED_MS;
	else if (!pst_preloaded)
		unasked = pst_naptime;
	if (unasked >= 0 && now - scheduler->look_ms >= unasked)
	{
		scheduler->look = true;
		scheduler->look_ms = now;
		if (pg_atomic_read_u32(&place->prepared) != 0)
			look_for_prepared(place);
	}
	if (unasked >= 0)
		unasked = Max(1, unasked - (int) (now - scheduler->look_ms));

	if (!scheduler->look && pg_atomic_read_u32(&place->events) == 0)
		return unasked;
	if (now - scheduler->last_cut_ms < pst_min_linger)
		return pst_sooner(unasked, pst_min_linger - (int) (now - scheduler->last_cut_ms));
	/* before the snapshot: what is committed later sets it again */
	committed_at = (TimestampTz) pg_atomic_read_u64(&place->committed_at);
	if (pg_atomic_exchange_u32(&place->events, 0) == 0)
		committed_at = 0;
	cut(scheduler, committed_at);
	return unasked;
}

/* Returns ms until the next timer, or -1. */
static int
look_at_timers(Scheduler *scheduler, bool events)
{
	int64		now = pst_net_now();
	bool		due = scheduler->timers_due_ms >= 0 && now >= scheduler->timers_due_ms;

	if (scheduler->place->foreign)
		return -1;
	if (events && now - scheduler->timers_ms < TIMERS_MS)
	{
		/* a timer may have been armed: look soon, not with each commit */
		if (scheduler->timers_due_ms < 0 || scheduler->timers_due_ms > scheduler->timers_ms + TIMERS_MS)
			scheduler->timers_due_ms = scheduler->timers_ms + TIMERS_MS;
	}
	else if (events || due)
	{
		int64		next;

		/* ends the process if the extension is gone, or not there yet */
		pst_work_begin("looking at timers");
		pst_work_end();
		next = pst_timers_run();

		scheduler->timers_ms = now = pst_net_now();
		scheduler->timers_due_ms = next < 0 ? -1 : now + next;
	}
	if (scheduler->timers_due_ms < 0)
		return -1;
	return (int) Min(Max(scheduler->timers_due_ms - now, 0), 60000);
}

/* The first position that some route has yet to read. */
int64
pst_least_position(void)
{
	List	   *routes;
	ListCell   *cell;
	int64		least = PG_INT64_MAX;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	routes = pst_route_list(NULL, CurrentMemoryContext);
	foreach(cell, routes)
	{
		PstCursor	cursor;

		pst_cursor_read(((PstRoute *) lfirst(cell))->id, &cursor);
		if (cursor.begun)
			least = Min(least, cursor.next_position);
	}
	PopActiveSnapshot();
	SPI_finish();
	return least;
}

/* Empty what can be emptied; *wait_ms as of pst_ring_empty_one(). */
static void
empty_slots(Scheduler *scheduler, int64 *wait_ms)
{
	bool		emptied;

	scheduler->full = pst_log_over_limit();
	do
	{
		pst_work_begin("emptying a slot of the ring");
		emptied = pst_ring_empty_one(pst_least_position(), scheduler->full, wait_ms);
		pst_work_end();
		if (!emptied && scheduler->full && pst_log_full == PST_LOG_FULL_DROP_OLDEST)
			emptied = pst_drop_oldest();
		if (emptied)
			scheduler->full = pst_log_over_limit();
		CHECK_FOR_INTERRUPTS();
	} while (emptied);
	pst_refuse_writers(scheduler->full && pst_log_full == PST_LOG_FULL_REFUSE);
	/* routes go on without telling */
	if (scheduler->full)
		*wait_ms = RING_MS;
}

/* Returns ms until the ring wants to be looked at, or -1. */
static int
look_at_ring(Scheduler *scheduler)
{
	int64		now = pst_net_now();
	int64		wait_ms;
	bool		turned;

	if (scheduler->place->foreign)
		return -1;
	if (scheduler->ring_due_ms < 0 || now < scheduler->ring_due_ms)
		return scheduler->ring_due_ms < 0 ? -1 : (int) Min(scheduler->ring_due_ms - now, 60000);

	pst_work_begin("forgetting idempotency keys");
	pst_idempotency_expire();
	pst_work_end();
	pst_work_begin("turning the ring");
	turned = pst_ring_turn(scheduler->full);
	pst_work_end();
	pst_work_begin("turning the ring");
	turned |= pst_ring_follow();
	pst_work_end();

	/* a slot is closed by the next look at the log */
	if (turned)
		scheduler->look = true;
	empty_slots(scheduler, &wait_ms);
	/* what keeps a slot open ends without a word */
	if (wait_ms >= 0 && wait_ms <= 5000)
		scheduler->look = true;

	scheduler->ring_ms = pst_net_now();
	if (turned)
		wait_ms = RING_MS;
	scheduler->ring_due_ms = wait_ms < 0 ? -1 : scheduler->ring_ms + wait_ms;
	return wait_ms < 0 ? -1 : (int) Min(wait_ms, 60000);
}

/* The servers that enabled routes send to get a place each. */
static void
settle_on_sinks(Scheduler *scheduler)
{
	uint32		version = pg_atomic_read_u32(&scheduler->place->routes);
	PstShared  *shared = pst_shared();
	List	   *routes;
	List	   *ids = NIL;
	ListCell   *cell;

	if (scheduler->settled && version == scheduler->routes_seen && !scheduler->place->sink_ended)
		return;
	scheduler->settled = true;
	scheduler->place->sink_ended = false;
	scheduler->routes_seen = version;

	pst_work_begin_sql("reading routes");
	routes = pst_route_list(NULL, CurrentMemoryContext);
	foreach(cell, routes)
		ids = lappend_int(ids, ((PstRoute *) lfirst(cell))->id);
	/* of a route that was dropped while it was disabled, no worker tells */
	pst_route_stat_keep(MyDatabaseId, ids);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	foreach(cell, routes)
	{
		PstRoute   *route = lfirst(cell);

		if (route->enabled && pst_worker_want(PST_SINK_WORKER, MyDatabaseId, route->server) == NULL)
		{
			scheduler->exhausted = true;
			break;
		}
	}
	LWLockRelease(&shared->lock);
	pst_work_end_sql();
}

/* Start the sink workers that are due; returns ms until the next may be, or -1. */
static int
start_sinks(Scheduler *scheduler)
{
	PstShared  *shared = pst_shared();
	PstWorker  *due[PST_MAX_WORKERS];
	TimestampTz now = GetCurrentTimestamp();
	int			ndue = 0,
				wait = -1;

	if (!pst_deliver || scheduler->place->foreign)
	{
		scheduler->settled = false;
		return -1;
	}
	settle_on_sinks(scheduler);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (!pst_worker_is(worker, PST_SINK_WORKER, MyDatabaseId))
			continue;
		if (worker->state == PST_WORKER_STARTING)
		{
			if (TimestampDifferenceExceeds(worker->since, now, STARTING_MS))
				pst_worker_wait(worker);
			wait = pst_sooner(wait, 1000);
		}
		if (worker->state == PST_WORKER_WAITING && worker->restart_at > now)
			wait = pst_sooner(wait, pst_ms_until(worker->restart_at) + 1);
		else if (worker->state == PST_WORKER_WANTED || worker->state == PST_WORKER_WAITING)
			due[ndue++] = worker;
	}
	LWLockRelease(&shared->lock);
	for (int i = 0; i < ndue; i++)
		if (!pst_worker_register(due[i], &scheduler->exhausted))
			wait = pst_sooner(wait, 5000);
	return wait;
}

void
pst_scheduler_main(Datum arg)
{
	Scheduler	scheduler = {0};
	MemoryContext cycle;
	PstWorker  *place = pst_worker_begin(arg);

	/* ends here where there is no extension */
	pst_work_begin("starting");
	pst_work_end();
	pst_worker_be_alone("");
	scheduler.place = place;
	scheduler.look = true;
	scheduler.ring_due_ms = scheduler.timers_due_ms = 0;
	pg_atomic_write_u32(&place->prepared, 1);	/* until it is known better */

	cycle = AllocSetContextCreate(TopMemoryContext, "persistomata scheduler", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		bool		events;
		int			wait;

		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		pst_worker_reload();
		events = pg_atomic_read_u32(&place->events) != 0;
		wait = look_at_timers(&scheduler, events);
		wait = pst_sooner(wait, look_at_log(&scheduler));
		wait = pst_sooner(wait, look_at_ring(&scheduler));
		wait = pst_sooner(wait, start_sinks(&scheduler));
		if (scheduler.look)
			wait = pst_sooner(wait, pst_min_linger);
		if (wait < 0 || wait > 10)
			pst_work_idle(place->foreign ? "waiting for takeover()" : "waiting for events, timers and the ring");
		(void) pst_net_wait(NULL, wait, pst_wait_event(PST_WAIT_WORK));
	}
}
