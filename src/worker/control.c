/*
 * control.c
 *	  start_workers(), stop_workers() and stat_worker.
 *
 * Stopping is told to the workers' places under the shared lock, so that nobody
 * starts them again, and to the processes by SIGTERM; it is over when their exit
 * hooks have left the places.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "event/ring.h"
#include "event/wake.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "net/net.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "worker/worker.h"

#define STOP_TIMEOUT_MS 10000
#define WORKER_COLUMNS 11

PG_FUNCTION_INFO_V1(pst_start_workers);
PG_FUNCTION_INFO_V1(pst_stop_workers);
PG_FUNCTION_INFO_V1(pst_stat_worker);
PG_FUNCTION_INFO_V1(pst_wake);
PG_FUNCTION_INFO_V1(pst_empty_slot);

static void
start_launcher(void)
{
	BackgroundWorker bgw;
	BackgroundWorkerHandle *handle;

	pst_describe_launcher(&bgw);
	if (!RegisterDynamicBackgroundWorker(&bgw, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for the launcher of persistomata"),
				 errhint("Raise max_worker_processes.")));
}

Datum
pst_start_workers(PG_FUNCTION_ARGS)
{
	PstShared  *shared = pst_shared();
	bool		launcher;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workers do not run during recovery")));
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->database == MyDatabaseId && worker->state == PST_WORKER_STOPPED)
			pst_worker_free(worker);
	}
	(void) pst_worker_want(PST_SCHEDULER, MyDatabaseId, NULL);
	launcher = shared->launcher_pid != 0;
	pst_wake_launcher();
	LWLockRelease(&shared->lock);
	if (!launcher)
		start_launcher();
	PG_RETURN_VOID();
}

/* Tell all of this database's workers to end; returns how many still run. */
static int
stop_all(PstShared *shared, bool tell)
{
	int			running = 0;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	/* a place of its own remembers that none is to be started */
	(void) pst_worker_want(PST_SCHEDULER, MyDatabaseId, NULL);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->state == PST_WORKER_FREE || worker->database != MyDatabaseId)
			continue;
		if (worker->state != PST_WORKER_STOPPED)
			pst_worker_stop(worker);
		if (worker->pid == 0)
			continue;
		running++;
		if (tell)
			kill(worker->pid, SIGTERM);
	}
	LWLockRelease(&shared->lock);
	return running;
}

Datum
pst_stop_workers(PG_FUNCTION_ARGS)
{
	PstShared  *shared = pst_shared();
	int64		deadline = pst_net_now() + STOP_TIMEOUT_MS;
	bool		tell = true;

	while (stop_all(shared, tell) > 0)
	{
		if (pst_net_now() > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("the workers of persistomata did not end within %d s", STOP_TIMEOUT_MS / 1000)));
		tell = false;
		(void) pst_net_wait(NULL, 20, pst_wait_event(PST_WAIT_END));
	}
	PG_RETURN_VOID();
}

static void
put_launcher(ReturnSetInfo *rsinfo, const PstShared *shared)
{
	Datum		values[WORKER_COLUMNS] = {0};
	bool		nulls[WORKER_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	nulls[1] = nulls[3] = nulls[4] = false;
	values[1] = CStringGetTextDatum("launcher");
	values[3] = Int32GetDatum(shared->launcher_pid);
	values[4] = CStringGetTextDatum("running");
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_worker(ReturnSetInfo *rsinfo, const PstWorker *worker)
{
	static const char *const kinds[] = {"scheduler", "sink"};
	static const char *const states[] = {"free", "wanted", "starting", "running", "waiting", "stopped"};
	Datum		values[WORKER_COLUMNS];
	bool		nulls[WORKER_COLUMNS] = {false};
	char		doing[PST_DOING_SIZE];

	strlcpy(doing, worker->doing, sizeof(doing));
	values[0] = ObjectIdGetDatum(worker->database);
	values[1] = CStringGetTextDatum(kinds[worker->kind]);
	values[2] = CStringGetTextDatum(worker->server);
	nulls[2] = worker->server[0] == '\0';
	values[3] = Int32GetDatum(worker->pid);
	nulls[3] = worker->pid == 0;
	values[4] = CStringGetTextDatum(worker->foreign ? "foreign" : states[worker->state]);
	values[5] = TimestampTzGetDatum(worker->since);
	values[6] = CStringGetTextDatum(doing);
	values[7] = TimestampTzGetDatum(worker->doing_since);
	nulls[6] = nulls[7] = doing[0] == '\0';
	values[8] = Int32GetDatum(worker->restarts);
	values[9] = Int32GetDatum(worker->failures);
	values[10] = TimestampTzGetDatum(worker->restart_at);
	nulls[10] = worker->state != PST_WORKER_WAITING;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* live_workers() */
Datum
pst_stat_worker(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PstShared  *shared = pst_shared();

	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(&shared->lock, LW_SHARED);
	if (shared->launcher_pid != 0)
		put_launcher(rsinfo, shared);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
		if (shared->workers[i].state != PST_WORKER_FREE)
			put_worker(rsinfo, &shared->workers[i]);
	LWLockRelease(&shared->lock);
	return (Datum) 0;
}

/* wake(): at commit, workers look at the log and at routes */
Datum
pst_wake(PG_FUNCTION_ARGS)
{
	pst_routes_changed();
	PG_RETURN_VOID();
}

/* empty_slot(): what the scheduler does, for tests */
Datum
pst_empty_slot(PG_FUNCTION_ARGS)
{
	int64		wait_ms;

	PG_RETURN_BOOL(pst_ring_empty_one(pst_least_position(), false, &wait_ms));
}
