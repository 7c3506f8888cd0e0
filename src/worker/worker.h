/*
 * worker.h
 *	  Within the room: what launcher, scheduler and sink workers share.
 */
#ifndef PST_WORKER_H
#define PST_WORKER_H

#include "postgres.h"

#include "compat/compat.h"
#include "compat/wait.h"
#include "postmaster/bgworker.h"
#include "worker/shmem.h"

extern PGDLLEXPORT void pst_launcher_main(Datum arg);
extern PGDLLEXPORT void pst_scheduler_main(Datum arg);
extern PGDLLEXPORT void pst_sink_main(Datum arg);

/* Registers the launcher if the library is being preloaded. */
extern void pst_worker_init(void);

/* What the postmaster is told of the launcher. */
extern void pst_describe_launcher(BackgroundWorker *bgw);

/* Attach, connect to the place's database and set what a worker needs set. */
extern PstWorker *pst_worker_begin(Datum arg);

/* Be the only one of this name in the database, for as long as the process lives. */
extern void pst_worker_be_alone(const char *name);

/* A transaction of a worker; begin ends the process if the extension is gone. */
extern void pst_work_begin(const char *doing);
extern void pst_work_end(void);

/* The same, in SPI and with a snapshot. */
extern void pst_work_begin_sql(const char *doing);
extern void pst_work_end_sql(void);

extern void pst_work_idle(const char *why);

/* The end of this process, without complaint and for good. */
PST_NORETURN extern void pst_worker_quit(void);

/* Reload the configuration if asked to. */
extern void pst_worker_reload(void);

/* The first position that some route has yet to read; in a transaction. */
extern int64 pst_least_position(void);

/* In limit.c, each in transactions of its own.  Does the log take more than it may? */
extern bool pst_log_over_limit(void);
/* Empty the oldest slot, and move the routes that have not passed it; false if that cannot be. */
extern bool pst_drop_oldest(void);
extern void pst_refuse_writers(bool refuse);

/* The lesser of two waits in ms, of which -1 is none. */
extern int	pst_sooner(int a, int b);
extern int	pst_ms_until(TimestampTz at);

#endif							/* PST_WORKER_H */
