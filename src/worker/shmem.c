/*
 * shmem.c
 *	  The workers' shared memory, and waking what sleeps.
 *
 * The memory is taken when it is first needed; preloading reserves room for
 * it.  Without that it fits into what the server keeps spare.  A latch in it
 * belongs to a process's place in the server's array of processes, which lives
 * as long as the server: setting a stale one wakes a stranger for nothing.
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "event/log.h"
#include "event/wake.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/shmem.h"

bool		pst_preloaded = false;

static object_access_hook_type previous_access_hook = NULL;

static PstShared *shared = NULL;
static PstWorker *my_scheduler = NULL;	/* a guess, checked at each use */

StaticAssertDecl(sizeof(PstShared) <= 64 * 1024, "the workers' shared memory is meant to be small");

Size
pst_shared_size(void)
{
	return sizeof(PstShared);
}

PstShared *
pst_shared(void)
{
	bool		found;

	if (shared)
		return shared;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("persistomata workers", sizeof(PstShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(PstShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		for (int i = 0; i < PST_MAX_WORKERS; i++)
		{
			PstWorker  *worker = &shared->workers[i];

			pg_atomic_init_u32(&worker->events, 0);
			pg_atomic_init_u32(&worker->prepared, 0);
			pg_atomic_init_u32(&worker->routes, 0);
			pg_atomic_init_u64(&worker->newest_cut, 0);
			pg_atomic_init_u64(&worker->end_position, 0);
			pg_atomic_init_u64(&worker->committed_at, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(shared->tranche, "persistomata_workers");
	return shared;
}

bool
pst_worker_is(const PstWorker *worker, PstWorkerKind kind, Oid database)
{
	return worker->state != PST_WORKER_FREE && worker->kind == kind && worker->database == database;
}

PstWorker *
pst_find_worker(PstWorkerKind kind, Oid database, const char *server)
{
	for (int i = 0; i < PST_MAX_WORKERS; i++)
	{
		PstWorker  *worker = &shared->workers[i];

		if (pst_worker_is(worker, kind, database) &&
			(server == NULL || strcmp(worker->server, server) == 0))
			return worker;
	}
	return NULL;
}

void
pst_note_commits(PstWorker *scheduler, int64 cut, int64 stream_ms, TimestampTz at)
{
	PstCommitNote *note = &scheduler->commits[cut % PST_COMMIT_NOTES];

	note->stream_ms = 0;
	pg_write_barrier();
	note->committed_at = at;
	pg_write_barrier();
	note->stream_ms = stream_ms;
}

TimestampTz
pst_noted_commits(const PstWorker *scheduler, int64 stream_ms)
{
	for (int i = 0; i < PST_COMMIT_NOTES; i++)
		if (scheduler->commits[i].stream_ms == stream_ms)
			return scheduler->commits[i].committed_at;
	return 0;
}

void
pst_wake_launcher(void)
{
	if (shared->launcher_latch)
		SetLatch(shared->launcher_latch);
}

void
pst_wake_worker(PstWorker *worker)
{
	if (worker->latch)
		SetLatch(worker->latch);
}

void
pst_wake_sinks(Oid database)
{
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < PST_MAX_WORKERS; i++)
		if (pst_worker_is(&shared->workers[i], PST_SINK_WORKER, database))
			pst_wake_worker(&shared->workers[i]);
	LWLockRelease(&shared->lock);
}

/*
 * Before a transaction's first event: have the memory at hand, since nothing
 * may fail after commit.  If there is no room the write must not fail for it:
 * the scheduler then looks by itself, once in a while.
 */
static void
attach_for_wake(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		pst_shared();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (LWLockHeldByMe(AddinShmemInitLock))
			LWLockRelease(AddinShmemInitLock);
		FlushErrorState();
	}
	PG_END_TRY();
}

static PstWorker *
scheduler_of_this_database(void)
{
	PstWorker  *found;

	if (my_scheduler && pst_worker_is(my_scheduler, PST_SCHEDULER, MyDatabaseId))
		return my_scheduler;
	LWLockAcquire(&shared->lock, LW_SHARED);
	found = pst_find_worker(PST_SCHEDULER, MyDatabaseId, NULL);
	LWLockRelease(&shared->lock);
	if (found == NULL && shared->launcher_pid != 0)
	{
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		found = pst_worker_want(PST_SCHEDULER, MyDatabaseId, NULL);
		LWLockRelease(&shared->lock);
		pst_wake_launcher();
	}
	my_scheduler = found;
	return found;
}

/*
 * After commit.  The exchange is a full barrier: whoever finds the flag set
 * before can be sure that the scheduler has not yet begun to look.
 */
static void
wake_after_commit(bool prepared, bool routes)
{
	PstWorker  *scheduler;
	bool		wake;

	if (shared == NULL)
		return;
	scheduler = scheduler_of_this_database();
	if (scheduler == NULL)
		return;
	if (routes)
		pg_atomic_fetch_add_u32(&scheduler->routes, 1);
	if (prepared)
		pg_atomic_exchange_u32(&scheduler->prepared, 1);
	/* the first since the last look; that of two at once which is later will do */
	if (pg_atomic_read_u32(&scheduler->events) == 0)
		pg_atomic_write_u64(&scheduler->committed_at, (uint64) GetCurrentTimestamp());
	wake = pg_atomic_exchange_u32(&scheduler->events, 1) == 0;
	if (wake || routes)
		pst_wake_worker(scheduler);
	if (routes)
		pst_wake_sinks(MyDatabaseId);
}

/* Workers sleep through DROP EXTENSION: have them look at its commit. */
static void
notice_drop(ObjectAccessType access, Oid classid, Oid objid, int subid, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, classid, objid, subid, arg);
	if (access == OAT_DROP && classid == ExtensionRelationId && objid == pst_extension_oid())
		pst_routes_changed();
}

void
pst_wake_init(void)
{
	previous_access_hook = object_access_hook;
	object_access_hook = notice_drop;
	pst_wake_hooks.attach = attach_for_wake;
	pst_wake_hooks.committed = wake_after_commit;
}
