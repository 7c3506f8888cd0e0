/*
 * idempotency.h
 *	  Events that are sent again: the first outcome is returned again.
 */
#ifndef PST_IDEMPOTENCY_H
#define PST_IDEMPOTENCY_H

#include "postgres.h"

#include "transition/fire.h"

/* In bytes: with a key of PST_KEY_MAX it must fit into an index. */
#define PST_IDEMPOTENCY_KEY_MAX 512

/*
 * Has firing->idempotency_key been used at this instance?  Then the firing's
 * outcome is the first one, or it is refused because that was another event.
 * To be asked under the row's lock.
 */
extern bool pst_idempotency_recall(PstFiring *firing);

/* Keep the outcome, in the transaction that moved the row. */
extern void pst_idempotency_remember(PstFiring *firing);

/*
 * Delete some keys that are older than persistomata.idempotency_retention.
 * To be called by the scheduler, in a transaction.
 */
extern void pst_idempotency_expire(void);

#endif							/* PST_IDEMPOTENCY_H */
