/*
 * holding.h
 *	  What a sink holds of a run of events: how often each, and whether as it was sent.
 */
#ifndef PST_HOLDING_H
#define PST_HOLDING_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "sink/sink.h"

/* For events that the sink cannot know of any more: it trims what is old. */
#define PST_HOLDING_UNKNOWN (-1)

#define PST_MAX_STRAYS 10000

struct PstHolding
{
	MemoryContext context;
	int			nevents;
	int		   *counts;			/* how often each event is held, or PST_HOLDING_UNKNOWN */
	bool	   *altered;		/* is one of these not as we sent it? */
	StringInfoData fields;		/* which fields are not, each once, ended by \0 */
	int			nfields;
	StringInfoData strays;		/* names of our log, each ended by \0, held where other events belong */
	int			nstrays;
	int			timeline;		/* of who asks */
	StringInfoData others;		/* likewise, names of earlier timelines that may be other routes' as well */
	int			nothers;
	int			refilled;		/* instances whose latest state was behind, and was mended */

	/* names to events */
	const PstEvent *events;
	int		   *slots;			/* a hash table of event numbers + 1; 0: free */
	uint32		nslots;
};

/* All counts 0.  The memory is a child of the given context, and freed by the next begin. */
extern void pst_holding_begin(PstHolding *holding, MemoryContext context, const PstShipment *shipment);

/* The sink holds this name so many times; of another log, it is nobody's business. */
extern void pst_holding_add(PstHolding *holding, const char *name, size_t length, int count);

/* What the sink holds of an event has another content in this field, or lacks it. */
extern void pst_holding_alter(PstHolding *holding, int nth, const char *field);

/* Held where the route has nothing; kept if it is of our log and an earlier timeline: whose it is remains to be seen. */
extern void pst_holding_add_other(PstHolding *holding, const char *name, size_t length);

/* The event of this name, or -1. */
extern int	pst_holding_find(const PstHolding *holding, const char *name, size_t length);

#endif							/* PST_HOLDING_H */
