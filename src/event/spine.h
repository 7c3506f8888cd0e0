/*
 * spine.h
 *	  Which rows come next in the log, and where they are.
 */
#ifndef PST_SPINE_H
#define PST_SPINE_H

#include "postgres.h"

#include "event/cut.h"
#include "storage/itemptr.h"

/* One row: 16 bytes, so that a million of them is no burden. */
typedef struct PstVertebra
{
	int64		event_id;
	ItemPointerData tid;
	uint16		where;			/* slot of the ring, and which cut of the spine */
} PstVertebra;

#define PST_SPINE_SLOT(v)	((v)->where & 7)
#define PST_SPINE_CUT(v)	((v)->where >> 3)
#define PST_SPINE_MAX_CUTS	4096
#define PST_SPINE_MAX_ROWS	(512 * 1024)

typedef struct PstSpine
{
	MemoryContext context;		/* of all that is below */
	PstCut	   *cuts;			/* cuts[0] is the predecessor of the first */
	int			ncuts;			/* without it */
	PstVertebra *rows;			/* in the order of positions */
	int			nrows;
	int			next;			/* the first that has not been read */
	int		   *firsts;			/* index of each cut's first row; its own place for cuts[1] */
	int64		ordinal;		/* of rows[0] in its cut: > 0 in the middle of a big one */
	bool		partial;		/* its only cut goes on */
} PstSpine;

extern PstSpine *pst_spine_create(MemoryContext parent);

/*
 * Load the rows of cut number `cut` and of those after it up to `newest` and
 * before settings_before, as many as fit; of a cut too big for that, those
 * after event_id `after`, which is at `ordinal`.  False, with *gap set or not,
 * if there is none.  Active snapshot and SPI needed.
 */
extern bool pst_spine_load(PstSpine *spine, int64 cut, int64 after, int64 ordinal,
						   int64 newest, int64 settings_before, bool *gap);

/* Place of the nth row. */
extern int64 pst_spine_ordinal(const PstSpine *spine, int nth);
extern int64 pst_spine_position(const PstSpine *spine, int nth);

extern void pst_spine_reset(PstSpine *spine);

#endif							/* PST_SPINE_H */
