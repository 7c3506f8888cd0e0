/*
 * pending.h
 *	  Log rows that are gathered but not written yet.
 */
#ifndef PST_PENDING_H
#define PST_PENDING_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* How rows reach the log. */
typedef void (*PstPendingWriter) (HeapTuple *tuples, int ntuples, CommandId cid);

/* Once, when the library is loaded. */
extern void pst_pending_init(PstPendingWriter writer);

/*
 * Take a row, as of the current command and subtransaction.  It is written by
 * the end of the statement, and before anything that could read it.
 */
extern void pst_pending_add(TupleDesc desc, Datum *values, bool *nulls);

/* Write what is gathered now. */
extern void pst_pending_flush(void);

#endif							/* PST_PENDING_H */
