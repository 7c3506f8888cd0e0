/*
 * progress.h
 *	  How far a backend is with long work on all rows of a table.
 *
 * It is told where PostgreSQL's own commands tell theirs, in the backend's entry
 * of pg_stat_activity, under a command that only we ask for: so nothing is left
 * behind by an error or a backend that ends, and no memory of ours is needed.
 */
#ifndef PST_PROGRESS_H
#define PST_PROGRESS_H

#include "postgres.h"

#include "utils/backend_progress.h"

/* No command of PostgreSQL's has this number. */
#define PST_PROGRESS_COMMAND ((ProgressCommandType) 0x5053)

typedef enum PstLongWork
{
	PST_WORK_BASELINE,
	PST_WORK_SNAPSHOT,
	PST_WORK_TRUNCATE,
	PST_WORK_UPGRADE
} PstLongWork;

/* Places among the entry's numbers. */
enum
{
	PST_PROGRESS_WHAT,
	PST_PROGRESS_DONE,
	PST_PROGRESS_TOTAL,			/* about so many in all; -1: not known */
	PST_PROGRESS_STARTED_AT		/* a TimestampTz */
};

extern void pst_progress_begin(PstLongWork what, Oid relid);
extern void pst_progress(int64 done, int64 total);
extern void pst_progress_end(void);

#endif							/* PST_PROGRESS_H */
