/*
 * attempt.h
 *	  Running what may fail, and going on.
 */
#ifndef PST_ATTEMPT_H
#define PST_ATTEMPT_H

#include "postgres.h"

typedef void (*PstWork) (void *arg);

/*
 * Run work(arg) in a subtransaction, which stays only if keep is set and
 * nothing was thrown.  Returns the error, in the current memory context, or
 * NULL.  Errors that a retry or an operator cures (serialization, resources,
 * cancellation, the system's, internal ones) are thrown again: whoever swallows
 * them commits what must not be.
 */
extern ErrorData *pst_attempt(PstWork work, void *arg, bool keep);

/* The same for whoever answers for all errors: none is thrown again. */
extern ErrorData *pst_attempt_any(PstWork work, void *arg, bool keep);

/*
 * SET CONSTRAINTS ALL IMMEDIATE, so that nothing of whoever's code runs next is
 * left for the commit.
 */
extern void pst_constraints_immediate(void);

#endif							/* PST_ATTEMPT_H */
