/*
 * control.c
 *	  start_workers(), stop_workers() and what there is to see of workers.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "event/wake.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "net/net.h"
#include "postmaster/bgworker.h"
#include "stat/counters.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(pst_start_workers);
PG_FUNCTION_INFO_V1(pst_stop_workers);
PG_FUNCTION_INFO_V1(pst_stat_worker);
PG_FUNCTION_INFO_V1(pst_wake);

static const char *const state_names[] = {
	"free", "wanted", "starting", "running", "waiting", "stopped"
};

static void
need_superuser(const char *function)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to call %s", function)));
}

/* Where the library is not preloaded, the first one starts the launcher. */
static void
start_launcher(PstShared *shared)
{
	BackgroundWorker bgw;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	if (shared->launcher_pid != 0)
		return;
	memset(&bgw, 0, sizeof(bgw));
	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw.bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw.bgw_restart_time = 5;
	bgw.bgw_notify_pid = MyProcPid;
	strlcpy(bgw.bgw_library_name, "persistomata", sizeof(bgw.bgw_library_name));
	strlcpy(bgw.bgw_function_name, "pst_launcher_main", sizeof(bgw.bgw_function_name));
	strlcpy(bgw.bgw_name, "persistomata launcher", sizeof(bgw.bgw_name));
	strlcpy(bgw.bgw_type, "persistomata launcher", sizeof(bgw.bgw_type));
	if (!RegisterDynamicBackgroundWorker(&bgw, &handle) ||
		WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the launcher of persistomata"),
				 errhint("Raise max_worker_processes, or see the server's log.")));
}

/* start_workers() returns void */
Datum
pst_start_workers(PG_FUNCTION_ARGS)
{
	PstShared  *shared;
	PstWorker  *scheduler;

	need_superuser("start_workers()");
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workers do not run during recovery")));
	shared = pst_shared();
	start_launcher(shared);

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->state != PST_WORKER_STOPPED || worker->database != MyDatabaseId)
			continue;
		pst_worker_free(worker);
	}
	scheduler = pst_worker_want(PST_SCHEDULER, MyDatabaseId, NULL);
	if (scheduler && scheduler->state == PST_WORKER_WAITING)
		scheduler->restart_at = 0;
	LWLockRelease(&shared->lock);
	if (scheduler == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("persistomata has no room for the workers of another database")));
	pst_wake_launcher();
	pst_routes_changed();
	PG_RETURN_VOID();
}

/* Tell this database's workers to end; returns how many still run. */
static int
tell_to_stop(PstShared *shared)
{
	int			running = 0;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (pst_worker_want(PST_SCHEDULER, MyDatabaseId, NULL) == NULL)
	{
		LWLockRelease(&shared->lock);
		return 0;
	}
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->state == PST_WORKER_FREE || worker->database != MyDatabaseId)
			continue;
		if (worker->pid != 0)
		{
			running++;
			kill(worker->pid, SIGTERM);
			pst_worker_stop(worker);
		}
		else if (worker->kind == PST_SCHEDULER)
			pst_worker_stop(worker);
		else
			pst_worker_free(worker);
	}
	LWLockRelease(&shared->lock);
	return running;
}

/* stop_workers() returns void: when it returns, none of this database's runs */
Datum
pst_stop_workers(PG_FUNCTION_ARGS)
{
	need_superuser("stop_workers()");
	while (tell_to_stop(pst_shared()) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	PG_RETURN_VOID();
}

/* wake() returns void: at commit, workers look at the log and at routes */
Datum
pst_wake(PG_FUNCTION_ARGS)
{
	pst_routes_changed();
	PG_RETURN_VOID();
}

static void
put_worker(ReturnSetInfo *rsinfo, const PstWorker *worker)
{
	Datum		values[6];
	bool		nulls[6] = {false};
	char	   *database = get_database_name(worker->database);

	if (database)
		values[0] = CStringGetTextDatum(database);
	nulls[0] = database == NULL;
	values[1] = CStringGetTextDatum(worker->kind == PST_SCHEDULER ? "scheduler" : "sink");
	values[2] = CStringGetTextDatum(worker->server);
	nulls[2] = worker->kind == PST_SCHEDULER;
	values[3] = Int32GetDatum(worker->pid);
	nulls[3] = worker->pid == 0;
	values[4] = CStringGetTextDatum(worker->foreign ? "foreign" : state_names[worker->state]);
	values[5] = TimestampTzGetDatum(worker->since);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* the rows of the view stat_worker */
Datum
pst_stat_worker(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PstShared  *shared = pst_shared();
	PstWorker  *workers = palloc(sizeof(shared->workers));
	pid_t		launcher;

	pst_materialized_srf(fcinfo);
	LWLockAcquire(&shared->lock, LW_SHARED);
	memcpy(workers, shared->workers, sizeof(shared->workers));
	launcher = shared->launcher_pid;
	LWLockRelease(&shared->lock);

	if (launcher != 0)
	{
		Datum		values[6] = {0};
		bool		nulls[6] = {true, false, true, false, false, true};

		values[1] = CStringGetTextDatum("launcher");
		values[3] = Int32GetDatum(launcher);
		values[4] = CStringGetTextDatum("running");
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	for (int i = 0; i < PST_MAX_WORKERS; i++)
		if (workers[i].state != PST_WORKER_FREE)
			put_worker(rsinfo, &workers[i]);
	return (Datum) 0;
}
