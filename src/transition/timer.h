/*
 * timer.h
 *	  Time events: armed when a state is entered, fired by the scheduler.
 */
#ifndef PST_TIMER_H
#define PST_TIMER_H

#include "postgres.h"

#include "fsm/fsm.h"

/* The row has entered a state: its old timers go, the state's own are armed. */
extern void pst_timers_entered(PstFsm *fsm, const char *key, int state, HeapTuple tuple);

/* The row is gone. */
extern void pst_timers_cancel(PstFsm *fsm, const char *key);

/* The table is no longer an FSM table. */
extern void pst_timers_cancel_all(int binding);

/* Is this timer still armed?  Asked under the row's lock. */
extern bool pst_timer_armed(int64 id);

/*
 * Fire the timers that are due, each in a transaction of its own, as the
 * table's owner.  To be called by the scheduler, outside a transaction.
 * Returns the milliseconds until the next is due, or -1 if none is.
 */
extern int64 pst_timers_run(void);

#endif							/* PST_TIMER_H */
