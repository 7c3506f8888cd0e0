/*
 * cut.h
 *	  Cuts: the log divided into batches, once and for all.
 */
#ifndef PST_CUT_H
#define PST_CUT_H

#include "postgres.h"

#include "event/log.h"
#include "event/snapshot.h"

typedef struct PstCut
{
	int64		cut;			/* from 1, without gaps; 0: there is none yet */
	int64		first_position;
	int64		events;
	int64		settings;		/* the newest settings of routes that it sees */
	int			timeline;
	int64		stream_ms;		/* strictly increasing */
	PstSnapshot *snapshot;		/* NULL where it was not asked for */
} PstCut;

typedef enum PstCutResult
{
	PST_CUT_NOTHING,			/* nothing new; nothing was written */
	PST_CUT_MADE,
	PST_CUT_FOREIGN				/* another system's or database's log: hands off */
} PstCutResult;

/*
 * Make a cut in the current transaction, which must not have written yet, and
 * tell of the newest one.  Holds the cutters' lock until the transaction ends.
 */
extern PstCutResult pst_cut_make(PstCut *newest);

/* Serialises cutters and what turns the ring, until the transaction ends. */
extern void pst_cut_lock(void);

/* The newest cut, under the active snapshot, in SPI. */
extern void pst_cut_newest(const PstRing *ring, PstCut *newest);

/*
 * Load the cuts from number `from` on, at most `limit`, and with them the one
 * before: cuts[0] is the predecessor (with an empty snapshot before the first
 * cut of all).  Returns how many cuts follow it; 0 with *gap set if `from` or
 * its predecessor is not kept any more.  Active snapshot and SPI needed; the
 * result is in the caller's context.
 */
extern int	pst_cut_load(const PstRing *ring, int64 from, int limit, MemoryContext context,
						 PstCut **cuts, bool *gap);

/* The number of the first kept cut that ends after a position; 0 if none does. */
extern int64 pst_cut_at_position(const PstRing *ring, int64 position);

/* The first kept cut that has seen a version of routes' settings; 0 if none has. */
extern int64 pst_cut_at_settings(const PstRing *ring, int64 version);

/* The first kept cut that sees a transaction; 0 if none does. */
extern int64 pst_cut_at_xid(const PstRing *ring, uint64 xid);

#endif							/* PST_CUT_H */
