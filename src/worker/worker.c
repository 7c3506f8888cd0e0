/*
 * worker.c
 *	  What launcher, scheduler and sink workers share.
 *
 * Errors are not survived: a worker in trouble ends, and its parent starts it
 * again, later each time.  All it knows is in tables or in shared memory.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "event/log.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "stat/counters.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

static Oid	my_extension = InvalidOid;
static MemoryContext outside;	/* current when the transaction began */

static shmem_request_hook_type previous_request_hook = NULL;

/* Settings that would change bytes, waiting or plans are a worker's own. */
static const char *const own_settings[][2] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"transaction_timeout", "0"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"row_security", "off"},
	{"session_replication_role", "origin"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "iso_8601"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"xmlbinary", "base64"},
	{"lc_messages", "C"},
	/* our tables grow and empty faster than their statistics follow */
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
};

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(pst_shared_size()) + MAXALIGN(pst_counters_size()));
}

/* The launcher, preloaded or not. */
void
pst_describe_launcher(BackgroundWorker *bgw)
{
	memset(bgw, 0, sizeof(*bgw));
	bgw->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw->bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw->bgw_restart_time = 5;
	strlcpy(bgw->bgw_library_name, "persistomata", sizeof(bgw->bgw_library_name));
	strlcpy(bgw->bgw_function_name, "pst_launcher_main", sizeof(bgw->bgw_function_name));
	strlcpy(bgw->bgw_name, "persistomata launcher", sizeof(bgw->bgw_name));
	strlcpy(bgw->bgw_type, "persistomata launcher", sizeof(bgw->bgw_type));
}

void
pst_worker_init(void)
{
	BackgroundWorker bgw;

	pst_wake_init();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	pst_preloaded = true;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;

	pst_describe_launcher(&bgw);
	RegisterBackgroundWorker(&bgw);
}

PstWorker *
pst_worker_begin(Datum arg)
{
	PstWorker  *worker;

	/* before signals are let in: an early one must find its handler */
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	worker = pst_worker_attach(arg);
	if (worker == NULL)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(worker->database, InvalidOid, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);
	for (int i = 0; i < (int) lengthof(own_settings); i++)
		if (GetConfigOption(own_settings[i][0], true, false) != NULL)
			SetConfigOption(own_settings[i][0], own_settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	return worker;
}

static LOCKTAG alone;

static void
stop_being_alone(int code, Datum arg)
{
	LockRelease(&alone, ExclusiveLock, true);
}

/*
 * An advisory lock, in a class that no SQL function reaches, and by the method of
 * ordinary locks: what runs in a worker may call pg_advisory_unlock_all().  Held
 * by the session, it is not given back by a process that ends outside of a
 * transaction, so a hook does that.
 */
void
pst_worker_be_alone(const char *name)
{
	SET_LOCKTAG_ADVISORY(alone, MyDatabaseId, 0,
						 hash_bytes((const unsigned char *) name, (int) strlen(name)), 0x5053);
	alone.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
	(void) LockAcquire(&alone, ExclusiveLock, true, false);
	before_shmem_exit(stop_being_alone, (Datum) 0);
}

void
pst_worker_quit(void)
{
	pst_worker_ends_quietly(false);
	proc_exit(0);
}

/*
 * The lock on the extension keeps DROP EXTENSION away until the transaction
 * ends, and waits for one that is under way.
 */
void
pst_work_begin(const char *doing)
{
	Oid			extension;

	SetCurrentStatementStartTimestamp();
	pst_worker_doing(doing, false);
	outside = CurrentMemoryContext;
	StartTransactionCommand();
	extension = pst_extension_lock();
	if (!OidIsValid(my_extension))
		my_extension = extension;
	if (!OidIsValid(extension) || extension != my_extension)
	{
		/* what is known is of an extension that is gone; another may be there */
		CommitTransactionCommand();
		pst_route_stat_free(MyDatabaseId, 0);
		pst_worker_ends_quietly(OidIsValid(extension));
		proc_exit(0);
	}
}

void
pst_work_end(void)
{
	CommitTransactionCommand();
	/* advisory locks that somebody's code took for the session, which is ours */
	LockReleaseSession(USER_LOCKMETHOD);
	MemoryContextSwitchTo(outside);
	pgstat_report_stat(false);
}

void
pst_work_begin_sql(const char *doing)
{
	pst_work_begin(doing);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
pst_work_end_sql(void)
{
	PopActiveSnapshot();
	SPI_finish();
	pst_work_end();
}

void
pst_work_idle(const char *why)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_stat(true);
	pst_worker_doing(why, true);
}

void
pst_worker_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

int
pst_sooner(int a, int b)
{
	if (a < 0)
		return b;
	if (b < 0)
		return a;
	return Min(a, b);
}

int
pst_ms_until(TimestampTz at)
{
	return (int) Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), at), INT_MAX / 2);
}
