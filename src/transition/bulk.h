/*
 * bulk.h
 *	  Events about all rows of a table at once: the baseline of its history, or
 *	  the end of all.
 */
#ifndef PST_BULK_H
#define PST_BULK_H

#include "postgres.h"

#include "event/event.h"
#include "utils/rel.h"

/*
 * Log an init or a deleted event for each row of an ordinary table (if log),
 * and arm or cancel its timers.  The caller holds a lock that keeps writers out.
 */
extern void pst_log_all_rows(Relation rel, PstEventType type, const char *reason, bool log);

/* An init of each row that only one route gets; arms no timer. */
extern void pst_log_rows_for(Relation rel, int route);

/* An init of each row of a table and its partitions. */
extern void pst_baseline(Relation rel, bool log);

#endif							/* PST_BULK_H */
