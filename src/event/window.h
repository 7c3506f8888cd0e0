/*
 * window.h
 *	  The rows of the log between two snapshots.
 */
#ifndef PST_WINDOW_H
#define PST_WINDOW_H

#include "postgres.h"

#include "event/snapshot.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

/* Return false to end the scan. */
typedef bool (*PstWindowRow) (void *arg, int slot, uint64 xid, int64 event_id, ItemPointer tid);

/*
 * Visit the rows of a slot's log that `to` sees and `from` does not; `to` may
 * be NULL: everything that mvcc sees.  mvcc must be newer than both.  Returns
 * the number of rows visited.
 */
extern int64 pst_window_scan(int slot, const PstSnapshot *from, const PstSnapshot *to,
							 Snapshot mvcc, PstWindowRow row, void *arg);

#endif							/* PST_WINDOW_H */
