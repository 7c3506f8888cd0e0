/*
 * spine.c
 *	  Which rows come next in the log, and where they are.
 *
 * To ask for a batch's rows slice by slice would scan its window once per
 * slice.  Instead the window is scanned once, for 16 bytes of each row; the
 * rows themselves are then fetched by their place.  Small cuts share a scan:
 * the window from the first's predecessor to the last, each row being given to
 * the first cut whose snapshot sees it.
 */
#include "postgres.h"

#include "event/spine.h"
#include "event/window.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct Filling
{
	PstSpine   *spine;
	int			allocated;
	int64		after;
	uint64		last_xid;		/* rows of a transaction come together */
	int			last_cut;
	bool		dropped;		/* rows that did not fit */
} Filling;

PstSpine *
pst_spine_create(MemoryContext parent)
{
	PstSpine   *spine = MemoryContextAllocZero(parent, sizeof(PstSpine));

	spine->context = AllocSetContextCreate(parent, "persistomata spine", ALLOCSET_DEFAULT_SIZES);
	return spine;
}

void
pst_spine_reset(PstSpine *spine)
{
	MemoryContext context = spine->context;

	MemoryContextReset(context);
	memset(spine, 0, sizeof(*spine));
	spine->context = context;
}

static int
compare(const void *a, const void *b)
{
	const PstVertebra *one = a;
	const PstVertebra *two = b;

	if (PST_SPINE_CUT(one) != PST_SPINE_CUT(two))
		return PST_SPINE_CUT(one) < PST_SPINE_CUT(two) ? -1 : 1;
	if (one->event_id != two->event_id)
		return one->event_id < two->event_id ? -1 : 1;
	return 0;
}

/* Keep the first rows of a cut that is too big to hold whole. */
static void
make_room(Filling *filling)
{
	PstSpine   *spine = filling->spine;

	if (filling->allocated < 2 * PST_SPINE_MAX_ROWS)
	{
		filling->allocated *= 2;
		spine->rows = repalloc_huge(spine->rows, sizeof(PstVertebra) * filling->allocated);
		return;
	}
	qsort(spine->rows, spine->nrows, sizeof(PstVertebra), compare);
	spine->nrows = PST_SPINE_MAX_ROWS;
	filling->dropped = true;
}

/* The first cut that sees an xid: seen by one, seen by all that follow. */
static int
cut_of(Filling *filling, uint64 xid)
{
	PstSpine   *spine = filling->spine;
	int			low = 0,
				high = spine->ncuts - 1;

	if (xid == filling->last_xid)
		return filling->last_cut;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (pst_snapshot_sees(spine->cuts[middle + 1].snapshot, xid))
			high = middle;
		else
			low = middle + 1;
	}
	filling->last_xid = xid;
	filling->last_cut = low;
	return low;
}

static bool
add_row(void *arg, int slot, uint64 xid, int64 event_id, ItemPointer tid)
{
	Filling    *filling = arg;
	PstSpine   *spine = filling->spine;
	PstVertebra *row;

	if (event_id <= filling->after)
		return true;
	if (spine->nrows == filling->allocated)
		make_room(filling);
	row = &spine->rows[spine->nrows++];
	row->event_id = event_id;
	row->tid = *tid;
	row->where = (uint16) (cut_of(filling, xid) << 3 | slot);
	return true;
}

/* How many of the loaded cuts go into one spine: at least one. */
static int
cuts_that_fit(const PstCut *cuts, int ncuts, int64 settings_before)
{
	int64		events = 0;
	int			fit = 0;

	while (fit < ncuts && cuts[fit + 1].settings < settings_before)
	{
		events += cuts[fit + 1].events;
		if (fit > 0 && events > PST_SPINE_MAX_ROWS / 2)
			break;
		fit++;
	}
	return fit;
}

static void
fill(Filling *filling, const PstRing *ring)
{
	PstSpine   *spine = filling->spine;
	int64		first = spine->cuts[1].cut;
	int64		last = spine->cuts[spine->ncuts].cut;

	for (int i = 0; i < ring->nlive; i++)
	{
		const PstSlot *slot = &ring->live[i];

		if (slot->first_cut >= last || (slot->closed && slot->last_cut < first))
			continue;
		pst_window_scan(slot->slot, spine->cuts[0].snapshot, spine->cuts[spine->ncuts].snapshot,
						GetActiveSnapshot(), add_row, filling);
	}
	qsort(spine->rows, spine->nrows, sizeof(PstVertebra), compare);
	if (spine->nrows > PST_SPINE_MAX_ROWS && spine->ncuts == 1)
	{
		spine->nrows = PST_SPINE_MAX_ROWS;
		filling->dropped = true;
	}
	spine->partial = filling->dropped;
}

/* Find each cut's first row, and check that none is missing or too many. */
static void
index_cuts(PstSpine *spine)
{
	int			row = 0;

	spine->firsts = MemoryContextAlloc(spine->context, sizeof(int) * spine->ncuts);
	for (int cut = 0; cut < spine->ncuts; cut++)
	{
		int64		found;

		spine->firsts[cut] = row;
		while (row < spine->nrows && PST_SPINE_CUT(&spine->rows[row]) == cut)
			row++;
		found = row - spine->firsts[cut] + (cut == 0 ? spine->ordinal : 0);
		if (!spine->partial && found != spine->cuts[cut + 1].events)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("cut " INT64_FORMAT " of the event log has " INT64_FORMAT
							" events, but " INT64_FORMAT " are in the log",
							spine->cuts[cut + 1].cut, spine->cuts[cut + 1].events, found)));
	}
}

bool
pst_spine_load(PstSpine *spine, int64 cut, int64 after, int64 ordinal,
			   int64 newest, int64 settings_before, bool *gap)
{
	Filling		filling = {0};
	PstRing		ring;
	PstCut	   *cuts;
	int			ncuts;

	pst_spine_reset(spine);
	pst_ring_read(&ring);
	*gap = false;
	if (cut > newest)
		return false;
	ncuts = pst_cut_load(&ring, cut, (int) Min(newest - cut + 1, PST_SPINE_MAX_CUTS),
						 spine->context, &cuts, gap);
	if (ncuts == 0)
	{
		/* newest is there, so this one was */
		*gap = true;
		return false;
	}
	ncuts = cuts_that_fit(cuts, ncuts, settings_before);
	if (ncuts == 0)
		return false;

	spine->cuts = cuts;
	spine->ncuts = ncuts;
	spine->ordinal = ordinal;
	filling.spine = spine;
	filling.after = after;
	filling.last_xid = 0;
	filling.last_cut = 0;
	filling.allocated = 1024;
	spine->rows = MemoryContextAlloc(spine->context, sizeof(PstVertebra) * filling.allocated);
	fill(&filling, &ring);
	index_cuts(spine);
	return true;
}

int64
pst_spine_ordinal(const PstSpine *spine, int nth)
{
	int			cut = PST_SPINE_CUT(&spine->rows[nth]);

	return nth - spine->firsts[cut] + (cut == 0 ? spine->ordinal : 0);
}

int64
pst_spine_position(const PstSpine *spine, int nth)
{
	int			cut = PST_SPINE_CUT(&spine->rows[nth]);

	return spine->cuts[cut + 1].first_position + pst_spine_ordinal(spine, nth);
}
