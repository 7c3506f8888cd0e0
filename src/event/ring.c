/*
 * ring.c
 *	  Turning the ring of the log, and emptying what is behind.
 *
 * A turn is two transactions.  The first makes an empty slot live in the table
 * `ring`; the second sets the sequence that writers follow.  Between the two
 * the slot is live and unused, which hurts nobody; so a crash there is mended
 * by doing the second.
 *
 * A past slot goes through: open (a transaction that wrote into it may still
 * commit), closed (by a cut, cut.c), and empty.  It can be emptied when every
 * route has passed its last cut, its retention is over, and no other slot's
 * rows belong to cuts that are stored in it: rows of writers that were late at
 * the turn do.  What must outlive it (the newest cut, the routes' cursors) is
 * copied into the current slot in the same transaction.
 *
 * Cuts that have rows both in a slot that is emptied and in the next are forgotten
 * whole: with half of its rows a cut could not tell their positions.  The oldest
 * slot can be dropped for want of space though routes have not passed it.
 *
 * TRUNCATE is not MVCC-safe.  A reader in an older snapshot would find a hole;
 * pst_log_intact() lets it find an error.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "compat/compat.h"
#include "config/config.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/ring.h"
#include "event/space.h"
#include "event/window.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pst_turn);
PG_FUNCTION_INFO_V1(pst_log_intact);

static PstQuery turn_query = {
	"UPDATE persistomata.ring SET turn = $2, turned_at = pg_catalog.now(), first_cut = $3,"
	" last_cut = NULL, closed_at = NULL WHERE slot OPERATOR(pg_catalog.=) $1",
	3, {INT4OID, INT8OID, INT8OID}, NULL
};

static PstQuery empty_query = {
	"UPDATE persistomata.ring SET turn = 0, last_cut = NULL, emptied_to = closed_at, closed_at = NULL"
	" WHERE slot OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static PstQuery stored_cuts_queries[PST_RING_SLOTS] = {{
	"SELECT pg_catalog.min(cut), pg_catalog.max(cut) FROM persistomata.cut_%d",
	0, {0}, NULL
}};

static PstQuery truncate_queries[PST_RING_SLOTS] = {{
	"TRUNCATE persistomata.log_%d, persistomata.cut_%d, persistomata.ack_%d",
	0, {0}, NULL
}};

static PstQuery forget_cuts_queries[PST_RING_SLOTS] = {{
	"DELETE FROM persistomata.cut_%d WHERE cut OPERATOR(pg_catalog.>=) $1 AND cut OPERATOR(pg_catalog.<) $2",
	2, {INT8OID, INT8OID}, NULL
}};

static PstQuery ring_now_query = {
	"SELECT slot, turn FROM persistomata.ring ORDER BY slot",
	0, {0}, NULL
};

static bool
is_due(const PstRing *ring, bool even_if_small)
{
	const PstSlot *newest = &ring->live[ring->nlive - 1];
	Relation	log = table_open(pst_log_table(ring->current), AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(log);
	int64		bytes = DatumGetInt64(DirectFunctionCall1(pg_table_size, ObjectIdGetDatum(RelationGetRelid(log))));

	table_close(log, NoLock);
	if (blocks == 0)
		return false;
	return even_if_small ||
		bytes >= pst_turn_bytes() ||
		TimestampDifferenceExceeds(newest->turned_at, GetCurrentTimestamp(), pst_turn_interval * 1000);
}

static int
empty_slot(const PstRing *ring)
{
	uint32		live = 0;

	for (int i = 0; i < ring->nlive; i++)
		live |= 1U << ring->live[i].slot;
	for (int i = 1; i < PST_RING_SLOTS; i++)
	{
		int			slot = (ring->current + i) % PST_RING_SLOTS;

		if (!(live & (1U << slot)))
			return slot;
	}
	return -1;
}

bool
pst_ring_turn(bool even_if_small)
{
	PstRing		ring;
	PstHome		home;
	bool		turned = false;

	pst_cut_lock();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_home_read(&home);
	pst_ring_read(&ring);
	if (home.ours && ring.live[ring.nlive - 1].slot == ring.current && is_due(&ring, even_if_small))
	{
		int			slot = empty_slot(&ring);
		PstCut		newest;
		Datum		args[3];

		if (slot >= 0)
		{
			pst_cut_newest(&ring, &newest);
			args[0] = Int32GetDatum(slot);
			args[1] = Int64GetDatum(ring.live[ring.nlive - 1].turn + 1);
			args[2] = Int64GetDatum(newest.cut);
			pst_query_write(&turn_query, args, NULL);
			turned = true;
		}
	}
	PopActiveSnapshot();
	SPI_finish();
	return turned;
}

bool
pst_ring_follow(void)
{
	PstRing		ring;
	PstHome		home;
	int			newest;
	bool		behind,
				full;

	pst_cut_lock();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_home_read(&home);
	pst_ring_read(&ring);
	newest = ring.live[ring.nlive - 1].slot;
	behind = home.ours && newest != pst_ring_to_write(&full);
	if (behind)
		pst_ring_set(newest, full);
	PopActiveSnapshot();
	SPI_finish();
	return behind;
}

static bool
stop_at_once(void *arg, int slot, uint64 xid, int64 event_id, ItemPointer tid)
{
	return false;
}

/* Do rows of another slot belong to cuts that are stored in this one? */
static bool
cuts_needed(const PstRing *ring, const PstSlot *slot)
{
	int64		first,
				last;
	PstCut	   *cuts;
	PstSnapshot *from;
	bool		isnull,
				gap;

	pst_query_read_slot(stored_cuts_queries, slot->slot, NULL);
	first = DatumGetInt64(pst_result(0, 1, &isnull));
	if (isnull)
		return false;
	last = DatumGetInt64(pst_result(0, 2, NULL));
	if (first <= slot->first_cut)
		first = slot->first_cut + 1;	/* the copy of the one before */
	if (first > last)
		return false;
	if (pst_cut_load(ring, first, 1, CurrentMemoryContext, &cuts, &gap) == 0)
		return false;
	from = cuts[0].snapshot;
	if (pst_cut_load(ring, last, 1, CurrentMemoryContext, &cuts, &gap) == 0)
		return false;

	for (int i = 0; i < ring->nlive; i++)
	{
		const PstSlot *other = &ring->live[i];

		if (other->slot == slot->slot || other->first_cut >= last ||
			(other->closed && other->last_cut < first))
			continue;
		if (pst_window_scan(other->slot, from, cuts[1].snapshot, GetActiveSnapshot(), stop_at_once, NULL) > 0)
			return true;
	}
	return false;
}

/* Lock a slot's tables against everybody; false if that takes too long. */
static bool
lock_slot(int slot)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		(void) set_config_option("lock_timeout", "100", PGC_SUSET, PGC_S_OVERRIDE,
								 GUC_ACTION_LOCAL, true, 0, false);
		LockRelationOid(pst_log_table(slot), AccessExclusiveLock);
		LockRelationOid(pst_cut_table(slot), AccessExclusiveLock);
		LockRelationOid(pst_ack_table(slot), AccessExclusiveLock);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

static void
copy_rows(const char *format, int from, int to)
{
	char	   *sql = psprintf(format, to, from);

	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
}

static void
empty(const PstRing *ring, const PstSlot *emptied)
{
	int			slot = emptied->slot;
	Datum		arg = Int32GetDatum(slot);
	Datum		cuts[2] = {Int64GetDatum(emptied->first_cut), Int64GetDatum(emptied->last_cut)};

	copy_rows("INSERT INTO persistomata.cut_%d SELECT * FROM persistomata.cut_%d"
			  " ORDER BY cut DESC LIMIT 1 ON CONFLICT DO NOTHING", slot, ring->current);
	copy_rows("INSERT INTO persistomata.ack_%d SELECT DISTINCT ON (route, kind) * FROM persistomata.ack_%d"
			  " ORDER BY route, kind, generation DESC, id DESC ON CONFLICT DO NOTHING", slot, ring->current);
	pst_query_write_slot(truncate_queries, slot, NULL, NULL);
	pst_query_write(&empty_query, &arg, NULL);
	/* the last stays, as the predecessor of what follows */
	for (int i = 0; i < ring->nlive; i++)
		if (ring->live[i].slot != slot)
			pst_query_write_slot(forget_cuts_queries, ring->live[i].slot, cuts, NULL);
}

bool
pst_ring_empty_one(int64 next_position, bool for_space, int64 *wait_ms)
{
	PstRing		ring;
	PstHome		home;
	int64		needed_cut;
	bool		emptied = false;

	*wait_ms = -1;
	pst_cut_lock();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_home_read(&home);
	pst_ring_read(&ring);
	needed_cut = pst_cut_at_position(&ring, next_position);
	for (int i = 0; home.ours && i < ring.nlive && !emptied; i++)
	{
		const PstSlot *slot = &ring.live[i];
		int64		age;

		if (slot->slot == ring.current || i == ring.nlive - 1)
			continue;
		age = TimestampDifferenceMilliseconds(slot->closed_at, GetCurrentTimestamp());
		if (slot->closed && !for_space && age < (int64) pst_retention * 1000)
		{
			int64		left = (int64) pst_retention * 1000 - age + 1;

			*wait_ms = *wait_ms < 0 ? left : Min(*wait_ms, left);
			continue;
		}
		if (!slot->closed || (needed_cut > 0 && slot->last_cut >= needed_cut) ||
			cuts_needed(&ring, slot) || !lock_slot(slot->slot))
		{
			*wait_ms = *wait_ms < 0 ? 5000 : Min(*wait_ms, 5000);
			continue;
		}
		PushActiveSnapshot(GetLatestSnapshot());
		empty(&ring, slot);
		PopActiveSnapshot();
		emptied = true;
	}
	PopActiveSnapshot();
	SPI_finish();
	return emptied;
}

/* The end of the positions of a cut that is kept. */
static int64
end_of_cut(const PstRing *ring, int64 cut)
{
	PstCut	   *cuts;
	bool		gap;

	/* it is loaded as the predecessor of the next, whether that is there or not */
	(void) pst_cut_load(ring, cut + 1, 1, CurrentMemoryContext, &cuts, &gap);
	return Max(1, cuts[0].first_position + cuts[0].events);
}

bool
pst_ring_drop_oldest(int64 *from, int64 *end)
{
	PstRing		ring;
	PstHome		home;
	const PstSlot *slot = &ring.live[0];
	bool		dropped = false;

	pst_cut_lock();
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_home_read(&home);
	pst_ring_read(&ring);
	if (home.ours && ring.nlive > 1 && slot->closed && slot->slot != ring.current && lock_slot(slot->slot))
	{
		*from = end_of_cut(&ring, slot->first_cut);
		*end = end_of_cut(&ring, slot->last_cut);
		PushActiveSnapshot(GetLatestSnapshot());
		empty(&ring, slot);
		PopActiveSnapshot();
		dropped = true;
	}
	PopActiveSnapshot();
	SPI_finish();
	return dropped;
}

/*
 * turn() returns bool: for tests; the first half of a turn.  The second half is
 * a call of its own, follow(), in a later transaction.
 */
Datum
pst_turn(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_BOOL(0) ? pst_ring_follow() : pst_ring_turn(true));
}

/*
 * log_intact() returns bool: true, or an error if a slot that the caller's
 * snapshot should see has been emptied since.  The slots are locked first, so
 * that none can be emptied between this and the caller's reading.
 */
Datum
pst_log_intact(PG_FUNCTION_ARGS)
{
	int64		turns[PST_RING_SLOTS];
	uint64		rows;

	for (int slot = 0; slot < PST_RING_SLOTS; slot++)
		LockRelationOid(pst_log_table(slot), AccessShareLock);
	SPI_connect();
	rows = pst_query_read(&ring_now_query, NULL);
	for (uint64 i = 0; i < rows && i < PST_RING_SLOTS; i++)
		turns[i] = DatumGetInt64(pst_result(i, 2, NULL));
	PushActiveSnapshot(GetLatestSnapshot());
	rows = pst_query_read(&ring_now_query, NULL);
	for (uint64 i = 0; i < rows && i < PST_RING_SLOTS; i++)
		if (turns[i] > 0 && turns[i] != DatumGetInt64(pst_result(i, 2, NULL)))
			ereport(ERROR,
					(errcode(PST_SNAPSHOT_TOO_OLD),
					 errmsg("a part of the event log that this snapshot sees has been emptied"),
					 errhint("Read it in a new transaction.")));
	PopActiveSnapshot();
	SPI_finish();
	PG_RETURN_BOOL(true);
}
