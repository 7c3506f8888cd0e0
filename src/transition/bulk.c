/*
 * bulk.c
 *	  Events about all rows of a table at once.
 *
 * The table is read under the latest snapshot: whoever calls has waited for
 * writers to end, perhaps longer than its own snapshot knows of.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "event/append.h"
#include "event/progress.h"
#include "executor/tuptable.h"
#include "fsm/fsm.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "tcop/tcopprot.h"
#include "transition/bulk.h"
#include "transition/timer.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Log rows that are appended together. */
#define ROWS_AT_ONCE 256

/* Rows between two reports of how far it is, as numbers and as a text. */
#define COUNTED_ROWS 256
#define PROGRESS_ROWS 10000

/* How far a scan is.  A table that was never analyzed is known by its blocks, too. */
typedef struct Scanned
{
	Relation	rel;
	PstEventType type;
	TimestampTz began;
	int64		rows;
	BlockNumber block;			/* the one that is read */
	int64		blocks;			/* read before it, */
	int64		all_blocks;		/* of so many, */
	int64		block_rows;		/* and the rows in them */
} Scanned;

typedef struct Bulk
{
	PstFsm	   *fsm;
	PstEventType type;
	const char *reason;
	bool		log;
	int			only_route;		/* the one that it is for; 0: all, and timers too */
	PstLogRow	rows[ROWS_AT_ONCE];
	int			n;
	MemoryContext cxt;			/* of the rows */
} Bulk;

static void
flush(Bulk *bulk)
{
	if (bulk->n > 0)
		pst_log_append(bulk->rows, bulk->n);
	bulk->n = 0;
	MemoryContextReset(bulk->cxt);
}

static void
add_log_row(Bulk *bulk, const char *key, const char *state, HeapTuple tuple)
{
	bool		begins = bulk->type == PST_INIT;
	PstLogRow  *row = &bulk->rows[bulk->n++];

	*row = (PstLogRow)
	{
		.event_id = pst_log_draw_id(),
		.type = bulk->type,
		.binding = bulk->fsm->binding,
		.machine = bulk->fsm->version->number,
		.key = key,
		.from_state = begins ? "*" : state,
		.to_state = begins ? state : NULL,
		.args_null = true,
		.payload = pst_row_payload(bulk->fsm, tuple),
		.reason = bulk->reason,
		.only_route = bulk->only_route
	};
}

static void
add_row(Bulk *bulk, HeapTuple tuple)
{
	PstFsm	   *fsm = bulk->fsm;
	char	   *key = pst_row_key(fsm, tuple);
	char	   *state = pst_row_state(fsm, tuple);

	if (bulk->log && (fsm->logs[bulk->type] || bulk->only_route != 0))
		add_log_row(bulk, key, state, tuple);
	if (bulk->only_route != 0)
		return;
	if (bulk->type == PST_DELETED)
		pst_timers_cancel(fsm, key);
	else if (fsm->has_timers && state)
		pst_timers_entered(fsm, key, pst_machine_state(fsm->machine, state), tuple);
}

/* How far a long baseline is, and when it will end, in pg_stat_activity. */
static void
tell_progress(const Scanned *scanned, int64 total)
{
	double		seconds = (double) (GetCurrentTimestamp() - scanned->began) / USECS_PER_SEC;
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "reading all of %s: " INT64_FORMAT " rows of about " INT64_FORMAT ", %.0f s to go",
					 RelationGetRelationName(scanned->rel), scanned->rows, total,
					 seconds * (total - scanned->rows) / scanned->rows);
	pgstat_report_activity(STATE_RUNNING, text.data);
	pfree(text.data);
}

static void
count_row(Scanned *scanned, TupleTableSlot *slot)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&slot->tts_tid);
	int64		total = -1;

	if (block != scanned->block)
	{
		scanned->blocks += scanned->block != InvalidBlockNumber;
		scanned->block_rows = scanned->rows;
		scanned->block = block;
	}
	if (++scanned->rows % COUNTED_ROWS != 0)
		return;
	if (scanned->blocks > 0)
		total = Max((int64) ((double) scanned->block_rows / scanned->blocks * scanned->all_blocks), scanned->rows);
	pst_progress(scanned->rows, total);
	if (total > 0 && scanned->rows % PROGRESS_ROWS < COUNTED_ROWS && scanned->type == PST_INIT)
		tell_progress(scanned, total);
}

static void
log_all_rows(Relation rel, PstLongWork work, PstEventType type, const char *reason, bool log, int only_route)
{
	Bulk	   *bulk = palloc0(sizeof(Bulk));
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext old;
	Scanned		scanned = {.rel = rel, .type = type, .began = GetCurrentTimestamp(), .block = InvalidBlockNumber,
	.all_blocks = RelationGetNumberOfBlocks(rel)};

	pst_progress_begin(work, RelationGetRelid(rel));
	bulk->fsm = pst_fsm_lookup(rel, false);
	bulk->type = type;
	bulk->reason = reason;
	bulk->log = log;
	bulk->only_route = only_route;
	bulk->cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata bulk", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(bulk->cxt);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		should_free;

		CHECK_FOR_INTERRUPTS();
		add_row(bulk, ExecFetchSlotHeapTuple(slot, false, &should_free));
		if (bulk->n == ROWS_AT_ONCE || (bulk->n == 0 && bulk->fsm->has_timers))
			flush(bulk);
		count_row(&scanned, slot);
	}
	flush(bulk);
	pst_progress_end();
	if (scanned.rows >= PROGRESS_ROWS && debug_query_string)
		pgstat_report_activity(STATE_RUNNING, debug_query_string);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(bulk->cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	pfree(bulk);
}

void
pst_log_all_rows(Relation rel, PstEventType type, const char *reason, bool log)
{
	log_all_rows(rel, type == PST_DELETED ? PST_WORK_TRUNCATE : PST_WORK_BASELINE, type, reason, log, 0);
}

void
pst_log_rows_for(Relation rel, int route)
{
	log_all_rows(rel, PST_WORK_SNAPSHOT, PST_INIT, "snapshot", true, route);
}

void
pst_baseline(Relation rel, bool log)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), NoLock);

		if (part->rd_rel->relkind == RELKIND_RELATION)
			pst_log_all_rows(part, PST_INIT, "baseline", log);
		table_close(part, NoLock);
	}
}
