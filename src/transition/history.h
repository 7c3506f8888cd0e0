/*
 * history.h
 *	  The log, read back for an FSM table.
 */
#ifndef PST_HISTORY_H
#define PST_HISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fsm/fsm.h"

/*
 * Since when the log of a table is complete; *cut says whether that is
 * because older events are no longer kept.  Locks the log against being
 * emptied, and throws if the active snapshot would find a hole in it.
 */
extern TimestampTz pst_log_reach(const PstFsm *fsm, bool *cut);

/* A query on the log with the extension's rights, under the active snapshot; between SPI_connect and SPI_finish. */
extern uint64 pst_log_query(const char *sql, int nargs, Oid *types, Datum *values);

#endif							/* PST_HISTORY_H */
