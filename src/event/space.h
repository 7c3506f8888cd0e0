/*
 * space.h
 *	  How much disk space the log takes, and what becomes of that.
 */
#ifndef PST_SPACE_H
#define PST_SPACE_H

#include "postgres.h"

/* Bytes of all tables of the ring, with what belongs to them.  Opens them. */
extern int64 pst_log_bytes(void);

/* The ring turns when its current slot has so many bytes. */
extern int64 pst_turn_bytes(void);

/*
 * Make the ring's slot the one to write, full or not; both hold at once, whatever
 * becomes of the transaction.  Needs an active snapshot and the cutters' lock.
 */
extern void pst_ring_set(int slot, bool full);

/* Have writers refused, or not any more.  Needs a transaction. */
extern void pst_log_set_full(bool full);

/* The log is marked as full: an error, unless the settings have changed since. */
extern void pst_log_refuse(void);

#endif							/* PST_SPACE_H */
