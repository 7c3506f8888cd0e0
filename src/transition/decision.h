/*
 * decision.h
 *	  What the BEFORE trigger of a row decided, until its AFTER trigger records
 *	  it.
 *
 * Decisions live to the end of the transaction at most.  One that was never
 * recorded (its write was undone, or another trigger suppressed it) stays until
 * the next write of the same row version replaces or forgets it.
 */
#ifndef PST_DECISION_H
#define PST_DECISION_H

#include "postgres.h"

#include "event/event.h"
#include "storage/itemptr.h"
#include "transition/engine.h"

typedef struct PstDecision
{
	PstEventType type;
	int64		event_id;		/* of value and deleted; hops have their own */
	int			nhops;
	PstHop	   *hops;
	char	   *state;			/* that the row must be in, as text */
	char	   *reason;			/* of the owner's override, or NULL */
	List	   *void_actions;
	Datum		args;			/* jsonb */
	bool		args_null;
	MemoryContext cxt;			/* that all of this is allocated in, piece by piece */
} PstDecision;

/* A row version that is being replaced or deleted. */
extern PstDecision *pst_decision_keep(Oid relid, ItemPointer tid);
extern PstDecision *pst_decision_take(Oid relid, ItemPointer tid);

/* A row that is being inserted, known by its key. */
extern PstDecision *pst_decision_keep_new(Oid relid, const char *key);
extern PstDecision *pst_decision_take_new(Oid relid, const char *key);

/*
 * A write about which nothing is decided: forget what may be left of one about
 * the same row that was undone or suppressed.
 */
extern void pst_decision_forget(Oid relid, ItemPointer tid);
extern void pst_decision_forget_new(Oid relid, const char *key);

/* Frees it and its pieces; NULL is fine. */
extern void pst_decision_drop(PstDecision *decision);

#endif							/* PST_DECISION_H */
