/*
 * cutfind.c
 *	  Finding cuts: by number, by position, by what they have seen.
 *
 * Numbers and positions rise together within a slot's cut table, so a position
 * is found by halving over the primary key; no other index is kept, since every
 * cut would pay for it.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/cut.h"
#include "event/query.h"
#include "utils/memutils.h"

static PstQuery range_queries[PST_RING_SLOTS] = {{
	"SELECT pg_catalog.min(cut), pg_catalog.max(cut) FROM persistomata.cut_%d",
	0, {0}, NULL
}};

static PstQuery probe_queries[PST_RING_SLOTS] = {{
	"SELECT cut, first_position, events, settings, snapshot FROM persistomata.cut_%d"
	" WHERE cut OPERATOR(pg_catalog.>=) $1 ORDER BY cut LIMIT 1",
	1, {INT8OID}, NULL
}};

static PstQuery load_queries[PST_RING_SLOTS] = {{
	"SELECT cut, snapshot, first_position, events, settings, timeline, stream_ms"
	" FROM persistomata.cut_%d"
	" WHERE cut OPERATOR(pg_catalog.>=) $1 AND cut OPERATOR(pg_catalog.<) $2 ORDER BY cut",
	2, {INT8OID, INT8OID}, NULL
}};

typedef bool (*ReachedFn) (int64 goal);

/* Both look at the row that probe_queries has just found. */
static bool
ends_after(int64 position)
{
	return DatumGetInt64(pst_result(0, 2, NULL)) + DatumGetInt64(pst_result(0, 3, NULL)) > position;
}

static bool
has_seen(int64 version)
{
	return DatumGetInt64(pst_result(0, 4, NULL)) >= version;
}

static bool
sees(int64 xid)
{
	PstSnapshot *snapshot = pst_snapshot_from_datum(pst_result(0, 5, NULL));
	bool		seen = pst_snapshot_sees(snapshot, (uint64) xid);

	pfree(snapshot);
	return seen;
}

/* The first cut of a slot for which reached() is true, and is for all later. */
static int64
first_in_slot(int slot, ReachedFn reached, int64 goal)
{
	int64		low,
				high,
				found = 0;
	bool		isnull;

	pst_query_read_slot(range_queries, slot, NULL);
	low = DatumGetInt64(pst_result(0, 1, &isnull));
	if (isnull)
		return 0;
	high = DatumGetInt64(pst_result(0, 2, NULL));

	while (low <= high)
	{
		int64		middle = low + (high - low) / 2;
		Datum		arg = Int64GetDatum(middle);
		int64		cut;

		pst_query_read_slot(probe_queries, slot, &arg);
		cut = DatumGetInt64(pst_result(0, 1, NULL));
		if (reached(goal))
		{
			found = cut;
			high = middle - 1;
		}
		else
			low = cut + 1;
	}
	return found;
}

static int64
first_in_ring(const PstRing *ring, ReachedFn reached, int64 goal)
{
	int64		found = 0;

	for (int i = 0; i < ring->nlive; i++)
	{
		int64		here = first_in_slot(ring->live[i].slot, reached, goal);

		if (here > 0 && (found == 0 || here < found))
			found = here;
	}
	return found;
}

int64
pst_cut_at_position(const PstRing *ring, int64 position)
{
	return first_in_ring(ring, ends_after, position);
}

int64
pst_cut_at_settings(const PstRing *ring, int64 version)
{
	return first_in_ring(ring, has_seen, version);
}

int64
pst_cut_at_xid(const PstRing *ring, uint64 xid)
{
	return first_in_ring(ring, sees, (int64) xid);
}

static void
copy_cut(PstCut *cut, uint64 row, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	cut->cut = DatumGetInt64(pst_result(row, 1, NULL));
	cut->snapshot = pst_snapshot_from_datum(pst_result(row, 2, NULL));
	cut->first_position = DatumGetInt64(pst_result(row, 3, NULL));
	cut->events = DatumGetInt64(pst_result(row, 4, NULL));
	cut->settings = DatumGetInt64(pst_result(row, 5, NULL));
	cut->timeline = DatumGetInt32(pst_result(row, 6, NULL));
	cut->stream_ms = DatumGetInt64(pst_result(row, 7, NULL));
	MemoryContextSwitchTo(old);
}

int
pst_cut_load(const PstRing *ring, int64 from, int limit, MemoryContext context,
			 PstCut **result, bool *gap)
{
	PstCut	   *cuts = MemoryContextAllocZero(context, sizeof(PstCut) * (limit + 1));
	Datum		args[2] = {Int64GetDatum(from - 1), Int64GetDatum(from + limit)};
	int			loaded = 0;
	bool		later = false;

	/* a cut may stand in two slots; its place in the array is its number's */
	for (int i = 0; i < ring->nlive; i++)
	{
		uint64		rows = pst_query_read_slot(load_queries, ring->live[i].slot, args);

		for (uint64 row = 0; row < rows; row++)
		{
			int64		cut = DatumGetInt64(pst_result(row, 1, NULL));

			if (cuts[cut - from + 1].cut == 0)
				copy_cut(&cuts[cut - from + 1], row, context);
			later = later || cut >= from;
		}
		SPI_freetuptable(SPI_tuptable);
	}
	if (from == 1)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		cuts[0].snapshot = pst_snapshot_empty();
		MemoryContextSwitchTo(old);
	}

	*gap = later && (cuts[0].snapshot == NULL || cuts[1].snapshot == NULL);
	if (!*gap && cuts[0].snapshot)
		while (loaded < limit && cuts[loaded + 1].snapshot)
			loaded++;
	*result = cuts;
	return loaded;
}
