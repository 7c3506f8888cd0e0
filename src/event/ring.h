/*
 * ring.h
 *	  Turning the ring of the log, and emptying what is behind.
 */
#ifndef PST_RING_H
#define PST_RING_H

#include "postgres.h"

#include "event/log.h"

/*
 * If the current slot is big or old enough and another one is empty, make that
 * one live.  Writers follow once pst_ring_follow() has been called in a later
 * transaction.  Both need a transaction without an active snapshot.
 */
extern bool pst_ring_turn(bool even_if_small);
extern bool pst_ring_follow(void);

/*
 * Empty one past slot, if there is one that nothing pins; for want of space the
 * retention is no reason.  Routes have yet to read next_position and what
 * follows.  Returns true if it did; else *wait_ms is when to ask again (-1:
 * after the next turn).
 */
extern bool pst_ring_empty_one(int64 next_position, bool for_space, int64 *wait_ms);

/*
 * Empty the oldest slot, whoever has yet to read it.  False if it cannot be
 * now: somebody writes or reads it, or it is the only one.  Else what is gone are
 * the positions from *from to before *end.
 */
extern bool pst_ring_drop_oldest(int64 *from, int64 *end);

#endif							/* PST_RING_H */
