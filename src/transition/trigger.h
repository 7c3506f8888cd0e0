/*
 * trigger.h
 *	  What the triggers share with fire()'s own way of writing a row.
 */
#ifndef PST_TRIGGER_H
#define PST_TRIGGER_H

#include "postgres.h"

#include "transition/decision.h"
#include "transition/fire.h"
#include "utils/reltrigger.h"

/* decide() or record(), as attach() makes them? */
extern bool pst_is_our_trigger(const Trigger *trigger);

/*
 * The event decides about the row: returns the row after, or NULL if it is
 * refused or a duplicate.  Draws the ids.  The decision goes to the place given,
 * or, if that is NULL, is kept until the AFTER trigger.
 */
extern HeapTuple pst_decide_firing(PstFsm *fsm, PstFiring *firing, HeapTuple old, HeapTuple new,
								   PstDecision *decision);

/* The row is written: log it, arm timers, run void actions. */
extern void pst_record_move(PstFsm *fsm, PstDecision *decision, const char *key, const char *from,
							const char *state, HeapTuple new);

#endif							/* PST_TRIGGER_H */
