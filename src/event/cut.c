/*
 * cut.c
 *	  Making cuts: the log divided into batches, once and for all.
 *
 * A cut stores a snapshot.  Its events are the rows that this snapshot sees and
 * the one of its predecessor does not; so a transaction that commits late is in
 * a later cut, whatever its ids, and none is skipped or waited for.
 *
 * Cutters exclude each other by a lock on the extension (a sub-object of our
 * own that no SQL command takes), gained before the snapshot is taken: the
 * snapshot sees all earlier cuts.  The cut is committed synchronously.  That
 * flush covers every commit that the snapshot saw, so whoever writes events
 * with synchronous_commit off has them on disk before anyone reads the cut.
 *
 * Each slot's cut table begins with a copy of the cut before, so that a slot
 * can be read when the ones before it are empty.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type_d.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/window.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define CUT_COLUMNS "cut, predecessor, snapshot, first_position, events, settings, timeline, stream_ms, made_at"

/* A row of cut_N as it is stored. */
typedef struct StoredCut
{
	PstCut		cut;
	int			slot;
	Datum		row[9];
} StoredCut;

static PstQuery newest_queries[PST_RING_SLOTS] = {{
	"SELECT " CUT_COLUMNS " FROM persistomata.cut_%d ORDER BY cut DESC LIMIT 1",
	0, {0}, NULL
}};

static PstQuery insert_queries[PST_RING_SLOTS] = {{
	"INSERT INTO persistomata.cut_%d (" CUT_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	9, {INT8OID, INT8OID, PG_SNAPSHOTOID, INT8OID, INT8OID, INT8OID, INT4OID, INT8OID, TIMESTAMPTZOID}, NULL
}};

static PstQuery settings_query = {
	"SELECT pg_catalog.max(version) FROM persistomata.route_settings",
	0, {0}, NULL
};

static PstQuery close_query = {
	"UPDATE persistomata.ring SET last_cut = $2, closed_at = pg_catalog.now()"
	" WHERE slot OPERATOR(pg_catalog.=) $1",
	2, {INT4OID, INT8OID}, NULL
};

static PstQuery node_query = {
	"INSERT INTO persistomata.node (timeline, name) VALUES ($1, $2)"
	" ON CONFLICT (timeline) DO NOTHING",
	2, {INT4OID, TEXTOID}, NULL
};

PG_FUNCTION_INFO_V1(pst_cut);
PG_FUNCTION_INFO_V1(pst_lock_cuts);

void
pst_cut_lock(void)
{
	Oid			extension = pst_extension_oid();

	if (!OidIsValid(extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"persistomata\" does not exist")));
	LockDatabaseObject(ExtensionRelationId, extension, 1, ExclusiveLock);
}

static void
newest_stored(const PstRing *ring, StoredCut *newest)
{
	memset(newest, 0, sizeof(*newest));
	newest->slot = -1;
	for (int i = ring->nlive - 1; i >= 0; i--)
	{
		int			slot = ring->live[i].slot;
		PstCut	   *cut = &newest->cut;

		if (pst_query_read_slot(newest_queries, slot, NULL) == 0 ||
			DatumGetInt64(pst_result(0, 1, NULL)) <= cut->cut)
			continue;
		for (int column = 0; column < 9; column++)
			newest->row[column] = pst_result(0, column + 1, NULL);
		newest->slot = slot;
		cut->cut = DatumGetInt64(newest->row[0]);
		cut->first_position = DatumGetInt64(newest->row[3]);
		cut->events = DatumGetInt64(newest->row[4]);
		cut->settings = DatumGetInt64(newest->row[5]);
		cut->timeline = DatumGetInt32(newest->row[6]);
		cut->stream_ms = DatumGetInt64(newest->row[7]);
	}
}

void
pst_cut_newest(const PstRing *ring, PstCut *newest)
{
	StoredCut	stored;

	newest_stored(ring, &stored);
	*newest = stored.cut;
}

/*
 * Past slots that no transaction writes any more: their last rows are visible
 * to a snapshot taken after the lock was ours for an instant, since a writer
 * keeps its lock until its commit is visible.
 */
static uint32
find_written_out(const PstRing *ring)
{
	uint32		found = 0;

	for (int i = 0; i < ring->nlive; i++)
	{
		const PstSlot *slot = &ring->live[i];
		Oid			table;

		/* the newest by turn is about to be current, if it is not yet */
		if (slot->closed || slot->slot == ring->current || i == ring->nlive - 1)
			continue;
		table = pst_log_table(slot->slot);
		if (ConditionalLockRelationOid(table, ShareLock))
		{
			UnlockRelationOid(table, ShareLock);
			found |= 1U << slot->slot;
		}
	}
	return found;
}

static int64
count_new(const PstRing *ring, const StoredCut *last)
{
	PstSnapshot *from;
	int64		events = 0;

	from = last->cut.cut > 0 ? pst_snapshot_from_datum(last->row[2]) : pst_snapshot_empty();
	for (int i = 0; i < ring->nlive; i++)
	{
		if (!ring->live[i].closed)
			events += pst_window_scan(ring->live[i].slot, from, NULL, GetActiveSnapshot(), NULL, NULL);
	}
	return events;
}

/* The first cut on a timeline says who was the primary. */
static void
name_node(int timeline)
{
	char		system[32];
	const char *name = GetConfigOption("cluster_name", true, false);
	Datum		args[2];

	snprintf(system, sizeof(system), UINT64_FORMAT, GetSystemIdentifier());
	args[0] = Int32GetDatum(timeline);
	args[1] = CStringGetTextDatum(name && name[0] ? name : system);
	pst_query_write(&node_query, args, NULL);
}

/*
 * Where a cut's positions begin.  A standby that is promoted may not have seen
 * the last cuts of its primary, whose positions must not be used again for
 * other events: it leaves a wide gap.
 */
static int64
first_position_after(const PstCut *last, int timeline)
{
	int64		next = last->first_position + last->events;

	if (last->cut == 0)
		return 1;
	if (last->timeline == timeline)
		return next;
	return ((next >> 32) + 1) << 32;
}

static void
store(const PstRing *ring, const StoredCut *last, Datum snapshot, int64 events, PstCut *made)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		now_ms = now / 1000 + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
	bool		no_settings;
	Datum		row[9];

	memset(made, 0, sizeof(*made));
	made->cut = last->cut.cut + 1;
	made->events = events;
	made->timeline = (int) GetWALInsertionTimeLine();
	made->first_position = first_position_after(&last->cut, made->timeline);
	made->stream_ms = Max(now_ms, last->cut.stream_ms + 1);
	pst_query_read(&settings_query, NULL);
	made->settings = DatumGetInt64(pst_result(0, 1, &no_settings));

	row[0] = Int64GetDatum(made->cut);
	row[1] = Int64GetDatum(last->cut.cut);
	row[2] = snapshot;
	row[3] = Int64GetDatum(made->first_position);
	row[4] = Int64GetDatum(made->events);
	row[5] = Int64GetDatum(made->settings);
	row[6] = Int32GetDatum(made->timeline);
	row[7] = Int64GetDatum(made->stream_ms);
	row[8] = TimestampTzGetDatum(now);

	if (last->slot >= 0 && last->slot != ring->current)
		pst_query_write_slot(insert_queries, ring->current, last->row, NULL);
	pst_query_write_slot(insert_queries, ring->current, row, NULL);
	if (last->cut.timeline != made->timeline)
		name_node(made->timeline);
}

static void
close_slots(uint32 slots, int64 last_cut)
{
	for (int slot = 0; slot < PST_RING_SLOTS; slot++)
	{
		Datum		args[2] = {Int32GetDatum(slot), Int64GetDatum(last_cut)};

		if (slots & (1U << slot))
			pst_query_write(&close_query, args, NULL);
	}
}

PstCutResult
pst_cut_make(PstCut *newest)
{
	PstHome		home;
	PstRing		ring;
	StoredCut	last;
	uint32		written_out;
	int64		events;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a cut cannot be made by a transaction that has written")));
	pst_cut_lock();

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	memset(newest, 0, sizeof(*newest));
	pst_home_read(&home);
	if (!home.ours)
	{
		PopActiveSnapshot();
		SPI_finish();
		return PST_CUT_FOREIGN;
	}
	pst_ring_read(&ring);
	written_out = find_written_out(&ring);
	if (written_out)
	{
		PopActiveSnapshot();
		PushActiveSnapshot(GetLatestSnapshot());
	}
	newest_stored(&ring, &last);
	*newest = last.cut;
	events = count_new(&ring, &last);
	if (events > 0)
	{
		Datum		snapshot = DirectFunctionCall1(pg_current_snapshot, (Datum) 0);

		store(&ring, &last, snapshot, events, newest);
		if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
			(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_LOCAL, true, 0, false);
	}
	close_slots(written_out, newest->cut);
	PopActiveSnapshot();
	SPI_finish();
	return events > 0 ? PST_CUT_MADE : PST_CUT_NOTHING;
}

/* cut() returns bigint: for tests; NULL if nothing is new */
Datum
pst_cut(PG_FUNCTION_ARGS)
{
	PstCut		newest;

	switch (pst_cut_make(&newest))
	{
		case PST_CUT_MADE:
			PG_RETURN_INT64(newest.cut);
		case PST_CUT_NOTHING:
			PG_RETURN_NULL();
		case PST_CUT_FOREIGN:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("this event log belongs to another system or database"),
			 errhint("Call persistomata.takeover() to make it this database's own.")));
	PG_RETURN_NULL();
}

Datum
pst_lock_cuts(PG_FUNCTION_ARGS)
{
	pst_cut_lock();
	PG_RETURN_VOID();
}
