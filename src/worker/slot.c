/*
 * slot.c
 *	  The life of a worker, one function per transition (see shmem.h).
 *
 * Workers are registered with the postmaster as never to be restarted: their
 * parent does that, later after each failure.  A worker that ends says so
 * itself, from its exit hook, which is set before anything of it can fail; one
 * that never came to life is noticed by its parent, which waits for it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"
#include "worker/backoff.h"
#include "worker/shmem.h"

/* A worker that ran this long has not failed in a row. */
#define GOOD_RUN_MS 60000

/* Not sooner than this after an end: a database may be being dropped. */
#define LEAST_WAIT_MS 1000

static PstWorker *me = NULL;
static bool quietly = false;
static bool wanted_again = false;

static void
enter(PstWorker *worker, PstWorkerState state)
{
	worker->state = state;
	worker->since = GetCurrentTimestamp();
}

/* FREE (or nowhere) -> WANTED; a place that there is already stays as it is. */
PstWorker *
pst_worker_want(PstWorkerKind kind, Oid database, const char *server)
{
	PstShared  *shared = pst_shared();
	PstWorker  *worker = pst_find_worker(kind, database, server);

	if (worker)
		return worker;
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		worker = &shared->workers[i];
		if (worker->state != PST_WORKER_FREE || worker->pid != 0)
			continue;
		worker->kind = kind;
		worker->database = database;
		worker->generation++;
		worker->failures = worker->restarts = 0;
		worker->doing[0] = '\0';
		worker->doing_since = 0;
		memset(worker->commits, 0, sizeof(worker->commits));
		worker->foreign = false;
		worker->latch = NULL;
		strlcpy(worker->server, server ? server : "", NAMEDATALEN);
		pg_atomic_write_u32(&worker->events, 0);
		pg_atomic_write_u32(&worker->prepared, 0);
		pg_atomic_write_u64(&worker->newest_cut, 0);
		pg_atomic_write_u64(&worker->end_position, 0);
		enter(worker, PST_WORKER_WANTED);
		return worker;
	}
	return NULL;
}

/* WANTED or WAITING -> STARTING; false if the postmaster has no room. */
bool
pst_worker_register(PstWorker *worker, bool *exhausted)
{
	static const char *const mains[] = {"pst_scheduler_main", "pst_sink_main"};
	static const char *const types[] = {"persistomata scheduler", "persistomata sink"};
	PstShared  *shared = pst_shared();
	BackgroundWorker bgw;
	bool		registered;

	memset(&bgw, 0, sizeof(bgw));
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (worker->state != PST_WORKER_WANTED && worker->state != PST_WORKER_WAITING)
	{
		LWLockRelease(&shared->lock);
		return true;
	}
	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw.bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw.bgw_restart_time = BGW_NEVER_RESTART;
	bgw.bgw_notify_pid = MyProcPid;
	bgw.bgw_main_arg = Int32GetDatum((int) (worker - shared->workers));
	memcpy(bgw.bgw_extra, &worker->generation, sizeof(worker->generation));
	strlcpy(bgw.bgw_library_name, "persistomata", sizeof(bgw.bgw_library_name));
	strlcpy(bgw.bgw_function_name, mains[worker->kind], sizeof(bgw.bgw_function_name));
	strlcpy(bgw.bgw_type, types[worker->kind], sizeof(bgw.bgw_type));
	if (worker->kind == PST_SCHEDULER)
		snprintf(bgw.bgw_name, sizeof(bgw.bgw_name), "persistomata scheduler for database %u", worker->database);
	else
		snprintf(bgw.bgw_name, sizeof(bgw.bgw_name), "persistomata sink %s", worker->server);
	enter(worker, PST_WORKER_STARTING);
	LWLockRelease(&shared->lock);

	registered = RegisterDynamicBackgroundWorker(&bgw, NULL);
	if (!registered)
	{
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		if (worker->state == PST_WORKER_STARTING)
			pst_worker_wait(worker);
		LWLockRelease(&shared->lock);
	}

	/* said once, not at each try */
	if (registered)
		*exhausted = false;
	else if (!*exhausted)
	{
		*exhausted = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for another worker of persistomata"),
				 errhint("Raise max_worker_processes: there is a launcher, and in each database that uses persistomata a scheduler and a worker per server that routes send to.")));
	}
	return registered;
}

/* RUNNING or STARTING -> WAITING, for longer after each failure */
void
pst_worker_wait(PstWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();

	if (worker->state == PST_WORKER_RUNNING &&
		TimestampDifferenceExceeds(worker->since, now, GOOD_RUN_MS))
		worker->failures = 0;
	worker->failures++;
	worker->restarts++;
	worker->restart_at = TimestampTzPlusMilliseconds(now, Max(LEAST_WAIT_MS, pst_backoff_ms(worker->failures)));
	enter(worker, PST_WORKER_WAITING);
}

/* any -> FREE */
void
pst_worker_free(PstWorker *worker)
{
	enter(worker, PST_WORKER_FREE);
	worker->pid = 0;
	worker->latch = NULL;
}

/* any -> STOPPED; the process, if there is one, is told by the caller */
void
pst_worker_stop(PstWorker *worker)
{
	enter(worker, PST_WORKER_STOPPED);
}

void
pst_worker_ends_quietly(bool again)
{
	quietly = true;
	wanted_again = again;
}

/* RUNNING -> FREE, WANTED or WAITING, from the worker's own exit hook */
static void
at_exit(int code, Datum arg)
{
	PstShared  *shared = pst_shared();

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	me->pid = 0;
	me->latch = NULL;
	me->doing[0] = '\0';
	if (me->state == PST_WORKER_RUNNING)
	{
		if (quietly && wanted_again && me->kind == PST_SCHEDULER)
			enter(me, PST_WORKER_WANTED);
		else if (quietly)
			pst_worker_free(me);
		else
			pst_worker_wait(me);
	}
	if (me->kind == PST_SCHEDULER)
		pst_wake_launcher();
	else
	{
		PstWorker  *scheduler = pst_find_worker(PST_SCHEDULER, me->database, NULL);

		if (scheduler)
		{
			scheduler->sink_ended = true;
			pst_wake_worker(scheduler);
		}
	}
	LWLockRelease(&shared->lock);
}

/* A reader may see it half written: it is for looking at. */
void
pst_worker_doing(const char *doing, bool idle)
{
	pgstat_report_activity(idle ? STATE_IDLE : STATE_RUNNING, doing);
	if (me == NULL || strcmp(me->doing, doing) == 0)
		return;
	strlcpy(me->doing, doing, sizeof(me->doing));
	me->doing_since = GetCurrentTimestamp();
}

/* STARTING -> RUNNING, in the worker itself */
PstWorker *
pst_worker_attach(Datum arg)
{
	PstShared  *shared = pst_shared();
	PstWorker  *worker = &shared->workers[DatumGetInt32(arg)];
	uint32		generation;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (worker->generation != generation || worker->state != PST_WORKER_STARTING)
	{
		LWLockRelease(&shared->lock);
		return NULL;
	}
	enter(worker, PST_WORKER_RUNNING);
	worker->pid = MyProcPid;
	worker->latch = MyLatch;
	me = worker;
	before_shmem_exit(at_exit, (Datum) 0);
	LWLockRelease(&shared->lock);
	return worker;
}
