/*
 * timer.h
 *	  Timers: time events, armed when a state is entered, and delayed events;
 *	  fired by the scheduler.
 */
#ifndef PST_TIMER_H
#define PST_TIMER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "event/query.h"
#include "fsm/fsm.h"

/* The row has entered a state: its old time events go, the state's own are armed. */
extern void pst_timers_entered(PstFsm *fsm, const char *key, int state, HeapTuple tuple);

/* The second half of that. */
extern void pst_timers_arm(PstFsm *fsm, const char *key, int state, HeapTuple tuple);

/* The row is gone, and all its timers with it. */
extern void pst_timers_cancel(PstFsm *fsm, const char *key);

/* All time events of a binding, with the delayed events or without. */
extern void pst_timers_cancel_all(int binding, bool delayed);

/* An event to be sent later, whatever state the instance is in then; returns the timer's id. */
extern int64 pst_timer_add(PstFsm *fsm, const char *key, const char *event, TimestampTz at,
						   Datum args, bool args_null);

/*
 * One statement on the timers with the extension's rights; returns how many
 * rows it was about, and the first one's first column, a bigint, into id.
 */
extern uint64 pst_timer_write(PstQuery *query, const Datum *args, const char *nulls, int64 *id);

/*
 * Fire the timers that are due, each in a transaction of its own, as the
 * table's owner.  To be called by the scheduler, outside a transaction.
 * Returns the milliseconds until the next is due, or -1 if none is.
 */
extern int64 pst_timers_run(void);

#endif							/* PST_TIMER_H */
