/*
 * shmem.h
 *	  The workers' shared memory: who runs, who should, and what there is to do.
 *
 * A worker is a place in an array and a state:
 *
 *		FREE ---want---> WANTED ---register---> STARTING ---attach---> RUNNING
 *		  ^                 ^                       |                     |
 *		  |                 +-------(time is up)----+---- WAITING <--ended+
 *		  |                                         |
 *		  +------- ended quietly, or not needed any more
 *
 * and STOPPED, which only stop_workers() enters, from any state, and only
 * start_workers() leaves.  Schedulers are cared for by the launcher, sink
 * workers by the scheduler of their database.  Each transition is a function
 * below.  The array's lock guards all fields but the atomic ones.
 */
#ifndef PST_SHMEM_H
#define PST_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define PST_MAX_WORKERS 96
#define PST_DOING_SIZE 48
#define PST_COMMIT_NOTES 16

typedef enum PstWorkerKind
{
	PST_SCHEDULER,
	PST_SINK_WORKER
} PstWorkerKind;

typedef enum PstWorkerState
{
	PST_WORKER_FREE,
	PST_WORKER_WANTED,
	PST_WORKER_STARTING,
	PST_WORKER_RUNNING,
	PST_WORKER_WAITING,
	PST_WORKER_STOPPED
} PstWorkerState;

/* When the first of the commits that a cut was made for took place. */
typedef struct PstCommitNote
{
	int64		stream_ms;		/* the cut's */
	TimestampTz committed_at;
} PstCommitNote;

typedef struct PstWorker
{
	PstWorkerKind kind;
	PstWorkerState state;
	uint32		generation;		/* tells a place's users apart */
	Oid			database;
	char		server[NAMEDATALEN];	/* of a sink worker */
	pid_t		pid;			/* 0: no process */
	Latch	   *latch;			/* a process's, never freed; may be stale: a wake-up for nothing */
	TimestampTz since;
	TimestampTz restart_at;		/* while WAITING */
	int			failures;		/* in a row */
	int			restarts;		/* since somebody first wanted it */

	/* of the process itself, which writes them without the lock, for views */
	char		doing[PST_DOING_SIZE];
	TimestampTz doing_since;

	/* of a scheduler */
	bool		sink_ended;		/* since sinks were last settled on */
	bool		foreign;		/* the log belongs to another system or database */
	pg_atomic_uint32 events;	/* something was committed */
	pg_atomic_uint32 prepared;	/* something was prepared */
	pg_atomic_uint32 routes;	/* rises with each change of routes */
	pg_atomic_uint64 newest_cut;	/* durable, and so to be sent */
	pg_atomic_uint64 end_position;	/* of the newest cut */
	pg_atomic_uint64 committed_at;	/* when events was set last */
	PstCommitNote commits[PST_COMMIT_NOTES];	/* of the last cuts, by number; written before newest_cut */
} PstWorker;

typedef struct PstShared
{
	LWLock		lock;
	int			tranche;
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	PstWorker	workers[PST_MAX_WORKERS];
} PstShared;

extern bool pst_preloaded;

extern Size pst_shared_size(void);

/* Attached on first use; throws if shared memory has no room. */
extern PstShared *pst_shared(void);

/* Places; the lock must be held.  NULL if there is none. */
extern PstWorker *pst_find_worker(PstWorkerKind kind, Oid database, const char *server);
extern bool pst_worker_is(const PstWorker *worker, PstWorkerKind kind, Oid database);

/* Transitions, in slot.c.  All but the last two want the lock held exclusively. */
extern PstWorker *pst_worker_want(PstWorkerKind kind, Oid database, const char *server);
extern bool pst_worker_register(PstWorker *worker, bool *exhausted);	/* takes the lock itself */
extern void pst_worker_free(PstWorker *worker);
extern void pst_worker_wait(PstWorker *worker);
extern void pst_worker_stop(PstWorker *worker);

/* In the worker itself: its place, or NULL if it is not wanted any more. */
extern PstWorker *pst_worker_attach(Datum arg);
/* From now on the end of this process is not a failure; a scheduler may be wanted again. */
extern void pst_worker_ends_quietly(bool again);

/* Say what this process does, in its place and in pg_stat_activity; idle or not. */
extern void pst_worker_doing(const char *doing, bool idle);

/* When the commits of a cut took place, at the earliest; 0: not known any more. */
extern void pst_note_commits(PstWorker *scheduler, int64 cut, int64 stream_ms, TimestampTz at);
extern TimestampTz pst_noted_commits(const PstWorker *scheduler, int64 stream_ms);

extern void pst_wake_launcher(void);
extern void pst_wake_worker(PstWorker *worker);
extern void pst_wake_sinks(Oid database);

/* Hangs the hooks of event/wake.h in. */
extern void pst_wake_init(void);

#endif							/* PST_SHMEM_H */
