/*
 * fire.h
 *	  Sending an event to an instance.
 */
#ifndef PST_FIRE_H
#define PST_FIRE_H

#include "postgres.h"

#include "fmgr.h"
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
	Datum	   *key_parts;		/* the same, parsed; NULL: not yet */
	PstSignal	signal;
	Datum		args;			/* jsonb */
	bool		args_null;
	const char *idempotency_key;	/* or NULL */
	const char *reason;			/* not NULL: the owner's override to signal.to_state */
	bool		keeps_row;		/* wanted: row and row_fsm */
	HeapTuple	row;			/* the row before, NULL if there is none */
	PstFsm	   *row_fsm;		/* as compiled for the partition it is in */
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

/*
 * The same without an error if it is refused or fails: what it did is undone,
 * an errored event is logged, and the outcome tells.  Errors that are not the
 * instance's own (serialization, resources, cancellation, ...) are thrown.
 */
extern void pst_try_fire(PstFiring *firing);

/* Throws unless the caller may write the state column. */
extern void pst_check_right_to_fire(const PstFsm *fsm, Relation rel);

/* A key as it is printed, so that it can be compared with a row's. */
extern char *pst_normal_key(PstFsm *fsm, const char *key);

/* Argument 1 of a call, a key of its type, as text; "" if it is NULL. */
extern char *pst_text_key(FunctionCallInfo fcinfo);
extern char *pst_bigint_key(FunctionCallInfo fcinfo);
extern char *pst_uuid_key(FunctionCallInfo fcinfo);

/* "=" of the key's columns and parameters $1, ...; their types into types. */
extern char *pst_key_condition(const PstFsm *fsm, Oid *types);

#endif							/* PST_FIRE_H */
