/*
 * launcher.c
 *	  One process per cluster: keeps a scheduler in each database that uses the
 *	  extension.
 *
 * It is connected to no database, only to the shared catalogs.  Which databases
 * have the extension cannot be seen from there: when it starts it sends a
 * scheduler to each, which ends at once where there is none.  Later ones are
 * heard of by the wake-up that follows a commit there.  Without a wake-up or a
 * restart that is due, it sleeps.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "net/net.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "stat/counters.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

/* Schedulers that are on their way up at a time. */
#define MAX_STARTING 3

/* One that has not come up by now never will. */
#define STARTING_MS 30000

static void
at_exit(int code, Datum arg)
{
	PstShared  *shared = pst_shared();

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (shared->launcher_pid == MyProcPid)
	{
		shared->launcher_pid = 0;
		shared->launcher_latch = NULL;
	}
	LWLockRelease(&shared->lock);
}

static bool
become_the_launcher(PstShared *shared)
{
	bool		first;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	first = shared->launcher_pid == 0;
	if (first)
	{
		shared->launcher_pid = MyProcPid;
		shared->launcher_latch = MyLatch;
	}
	LWLockRelease(&shared->lock);
	return first;
}

/* The databases that one can connect to. */
static List *
list_databases(MemoryContext context)
{
	List	   *databases = NIL;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!database->datallowconn || database->datistemplate)
			continue;
		old = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Places of databases that are gone are freed; with `probe` each gets one. */
static void
look_at_databases(PstShared *shared, bool probe)
{
	List	   *databases = list_databases(CurrentMemoryContext);
	ListCell   *cell;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->state == PST_WORKER_FREE || worker->pid != 0 ||
			worker->state == PST_WORKER_STARTING ||
			list_member_oid(databases, worker->database))
			continue;
		pst_route_stat_free(worker->database, 0);
		pst_worker_free(worker);
	}
	if (probe)
		foreach(cell, databases)
			if (pst_worker_want(PST_SCHEDULER, lfirst_oid(cell), NULL) == NULL)
			{
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("persistomata cannot look at more than %d databases at once", PST_MAX_WORKERS),
						 errhint("In the others, start its workers with persistomata.start_workers().")));
				break;
			}
	LWLockRelease(&shared->lock);
	list_free(databases);
}

/*
 * Start what is due.  Returns the ms until something else may be, or -1.
 */
static int
start_schedulers(PstShared *shared, bool *exhausted)
{
	TimestampTz now = GetCurrentTimestamp();
	PstWorker  *due[PST_MAX_WORKERS];
	int			ndue = 0,
				starting = 0,
				wait = -1;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (worker->kind != PST_SCHEDULER)
			continue;
		if (worker->state == PST_WORKER_STARTING)
		{
			if (TimestampDifferenceExceeds(worker->since, now, STARTING_MS))
				pst_worker_wait(worker);
			else
				starting++;
			wait = pst_sooner(wait, 1000);
		}
		if (worker->state == PST_WORKER_WAITING && worker->restart_at > now)
			wait = pst_sooner(wait, pst_ms_until(worker->restart_at) + 1);
		else if (worker->state == PST_WORKER_WANTED || worker->state == PST_WORKER_WAITING)
			due[ndue++] = worker;
	}
	LWLockRelease(&shared->lock);

	for (int i = 0; i < ndue; i++)
	{
		if (starting++ >= MAX_STARTING || !pst_worker_register(due[i], exhausted))
			return pst_sooner(wait, *exhausted ? 5000 : 1000);
	}
	return wait;
}

/* Is a scheduler due that ran before?  Its database may have been dropped. */
static bool
any_restart(PstShared *shared)
{
	bool		found = false;

	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
		if (shared->workers[i].state == PST_WORKER_WAITING || shared->workers[i].state == PST_WORKER_STOPPED)
			found = true;
	LWLockRelease(&shared->lock);
	return found;
}

void
pst_launcher_main(Datum arg)
{
	PstShared  *shared;
	MemoryContext cycle;
	bool		exhausted = false;
	bool		probe = true;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	shared = pst_shared();
	pst_counters();
	before_shmem_exit(at_exit, (Datum) 0);
	if (!become_the_launcher(shared))
		proc_exit(0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);

	cycle = AllocSetContextCreate(TopMemoryContext, "persistomata launcher", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		int			wait;

		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		pst_worker_reload();
		if (probe || any_restart(shared))
			look_at_databases(shared, probe);
		probe = false;
		wait = start_schedulers(shared, &exhausted);
		pst_work_idle("waiting for a database to need workers");
		(void) pst_net_wait(NULL, wait, pst_wait_event(PST_WAIT_WORK));
	}
}
