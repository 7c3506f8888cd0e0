/*
 * fire.h
 *	  Sending an event to an instance.
 */
#ifndef PST_FIRE_H
#define PST_FIRE_H

#include "postgres.h"

#include "transition/engine.h"
#include "transition/outcome.h"

/*
 * An event on its way.  fire() puts it here and writes the row; the row's
 * BEFORE trigger, which holds the row's lock, finds it and lets it decide.
 */
typedef struct PstFiring
{
	PstFsm	   *fsm;			/* of the table that fire() was called for */
	const char *key;			/* as printed */
	PstSignal	signal;
	Datum		args;			/* jsonb */
	bool		args_null;
	int64		timer_id;		/* not 0: only if this timer is still armed */
	bool		taken;			/* a trigger has decided it */
	PstRefusal	refusal;		/* sqlstate != 0: refused */
	bool		soft;			/* ... quietly */
	PstOutcome	outcome;
	MemoryContext cxt;			/* for what is in the outcome */
	struct PstFiring *outer;
} PstFiring;

/* The firing under way for this row, or NULL: it is a raw write. */
extern PstFiring *pst_firing_for(const PstFsm *fsm, const char *key);

/* Is any under way for this table? Cheap. */
extern bool pst_firing_any(const PstFsm *fsm);

/*
 * Fire firing->signal at firing->key; fills outcome and refusal.  A missing
 * instance is a refusal too.  Errors of guards and actions are thrown.
 */
extern void pst_fire(PstFiring *firing);

#endif							/* PST_FIRE_H */
