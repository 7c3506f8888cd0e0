/*
 * lifecycle.c
 *	  attach() and detach(): a table's life as an FSM table, and the baseline of
 *	  its history.
 *
 * Both take ShareRowExclusiveLock, as CREATE TRIGGER does: readers go on,
 * writers wait.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "event/append.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "fsm/fsm.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "transition/timer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Rows of a baseline between two reports of how far it is. */
#define PROGRESS_ROWS 10000

PG_FUNCTION_INFO_V1(pst_attach);
PG_FUNCTION_INFO_V1(pst_detach);

static List *
text_list(FunctionCallInfo fcinfo, int n)
{
	List	   *result = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(n))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column names and types must not be NULL")));
		result = lappend(result, TextDatumGetCString(elements[i]));
	}
	return result;
}

/* One row that was there before: an init in its state, and its timers. */
static void
baseline_row(PstFsm *fsm, HeapTuple tuple, bool log)
{
	char	   *key = pst_row_key(fsm, tuple);
	char	   *state = pst_row_state(fsm, tuple);

	if (log && fsm->logs[PST_INIT])
	{
		PstLogRow	row = {
			.event_id = pst_log_draw_id(),
			.type = PST_INIT,
			.binding = fsm->binding,
			.machine = fsm->version->number,
			.key = key,
			.from_state = "*",
			.to_state = state,
			.args_null = true,
			.payload = pst_row_payload(fsm, tuple),
			.reason = "baseline"
		};

		pst_log_append(&row, 1);
	}
	if (fsm->has_timers && state)
		pst_timers_entered(fsm, key, pst_machine_state(fsm->machine, state), tuple);
}

/* How far a long baseline is, and when it will end, in pg_stat_activity. */
static void
tell_progress(Relation rel, int64 done, TimestampTz began)
{
	double		seconds = (double) (GetCurrentTimestamp() - began) / USECS_PER_SEC;
	double		total = Max(rel->rd_rel->reltuples, (double) done);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "attaching %s: " INT64_FORMAT " rows", RelationGetRelationName(rel), done);
	if (rel->rd_rel->reltuples >= 0)
		appendStringInfo(&text, " of about %.0f, %.0f s to go", total, seconds * (total - done) / done);
	pgstat_report_activity(STATE_RUNNING, text.data);
	pfree(text.data);
}

static void
baseline_table(Relation rel, bool log)
{
	PstFsm	   *fsm = pst_fsm_lookup(rel, false);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata baseline",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	TimestampTz began = GetCurrentTimestamp();
	int64		done = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		should_free;

		CHECK_FOR_INTERRUPTS();
		baseline_row(fsm, ExecFetchSlotHeapTuple(slot, false, &should_free), log);
		MemoryContextReset(cxt);
		if (++done % PROGRESS_ROWS == 0)
			tell_progress(rel, done, began);
	}
	if (done >= PROGRESS_ROWS && debug_query_string)
		pgstat_report_activity(STATE_RUNNING, debug_query_string);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* The table, or each of its partitions that holds rows. */
static void
baseline(Relation rel, bool log)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), NoLock);

		if (part->rd_rel->relkind == RELKIND_RELATION)
			baseline_table(part, log);
		else if (part->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition \"%s\" is not an ordinary table", RelationGetRelationName(part))));
		table_close(part, NoLock);
	}
}

/* attach(fsm, machine, state_column, key_columns, payload_columns, types, enforce, on_final, baseline) */
Datum
pst_attach(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"fsm", "machine", "state_column", NULL, NULL, NULL,
	"enforce", "on_final", "baseline"};
	PstAttachOptions options;
	Relation	rel;

	for (int i = 0; i < (int) lengthof(names); i++)
		if (names[i] && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be NULL", names[i])));
	options.machine = text_to_cstring(PG_GETARG_TEXT_PP(1));
	options.state_column = NameStr(*PG_GETARG_NAME(2));
	options.key_columns = text_list(fcinfo, 3);
	options.payload_columns = text_list(fcinfo, 4);
	options.types = text_list(fcinfo, 5);
	options.enforce = text_to_cstring(PG_GETARG_TEXT_PP(6));
	options.on_final = text_to_cstring(PG_GETARG_TEXT_PP(7));

	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	pst_fsm_bind(rel, &options);
	baseline(rel, PG_GETARG_BOOL(8));
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

Datum
pst_detach(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	PstFsm	   *fsm = pst_fsm_lookup(rel, true);

	if (fsm)
		pst_timers_cancel_all(fsm);
	pst_fsm_unbind(rel);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}
