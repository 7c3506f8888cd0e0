/*
 * trigger.h
 *	  What the triggers share with fire()'s own way of writing a row.
 */
#ifndef PST_TRIGGER_H
#define PST_TRIGGER_H

#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "transition/decision.h"
#include "transition/fire.h"
#include "utils/reltrigger.h"

extern Datum pst_decide(PG_FUNCTION_ARGS);
extern Datum pst_record(PG_FUNCTION_ARGS);

/* An error unless the function is called by the trigger that attach() makes. */
extern TriggerData *pst_row_trigger_data(FunctionCallInfo fcinfo, const char *name,
										 const char *trigger, TriggerEvent timing);

/* decide() or record(), as attach() makes them? */
extern bool pst_is_our_trigger(const Trigger *trigger);

/*
 * The event decides about the row: returns the row after, or NULL if it is
 * refused or a duplicate.  The decision goes to the place given, its ids still to
 * be drawn, or, if that is NULL, is kept until the AFTER trigger, with ids.
 */
extern HeapTuple pst_decide_firing(PstFsm *fsm, PstFiring *firing, HeapTuple old, HeapTuple new,
								   PstDecision *decision);

extern void pst_refuse_key_change(PstFsm *fsm, HeapTuple old, HeapTuple new);
/* The events' ids, in order; under the row's lock, or once it is written. */
extern void pst_draw_hop_ids(PstDecision *decision);

/* The row is written: log it, arm timers, run void actions. */
extern void pst_record_move(PstFsm *fsm, PstDecision *decision, const char *key, const char *from,
							const char *state, HeapTuple new);

#endif							/* PST_TRIGGER_H */
