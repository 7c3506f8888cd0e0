/*
 * append.c
 *	  Appends to the event log.
 *
 * The slot to write is a sequence's last value.  A writer reads it, takes
 * RowExclusiveLock on the slot's table and reads again until both agree; it
 * keeps the lock to the end of its transaction.  So a slot that has been passed
 * and whose table can be locked in share mode has no writer, and gets none.
 * Rows go in through the table access method, several at a time where a
 * statement makes several (see pending.c), and not through SQL: nobody needs
 * rights on the log to fire an event, and nobody can forge one.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "commands/sequence.h"
#include "config/config.h"
#include "event/append.h"
#include "event/log.h"
#include "event/omit.h"
#include "event/pending.h"
#include "event/space.h"
#include "event/wake.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* Columns of persistomata.log_N, in order. */
enum
{
	COL_EVENT_ID, COL_XID, COL_OCCURRED_AT, COL_BINDING, COL_MACHINE, COL_TIMELINE, COL_TYPE,
	COL_KEY, COL_EVENT, COL_FROM_STATE, COL_TO_STATE, COL_ACTOR, COL_ARGS, COL_PAYLOAD,
	COL_REASON, COL_HEADERS, COL_ONLY_ROUTE, LOG_COLUMNS
};

/* ---- the slot ---- */

/* Opens the slot to write, its lock kept to the end of the transaction. */
static Relation
open_current_slot(void)
{
	for (;;)
	{
		bool		full;
		int			slot = pst_ring_to_write(&full);
		Relation	rel;

		if (full)
			pst_log_refuse();
		rel = table_open(pst_log_table(slot), RowExclusiveLock);
		if (pst_ring_current() == slot)
			return rel;
		table_close(rel, RowExclusiveLock);
	}
}

int64
pst_log_draw_id(void)
{
	return nextval_internal(pst_log_event_id(), false);
}

/* ---- rows ---- */

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

static int	current_hops = 0;

void
pst_log_set_hops(int hops)
{
	current_hops = hops;
}

static Datum
add_hops(Datum headers)
{
	char		text[40];

	snprintf(text, sizeof(text), "{\"hops\": %d}", current_hops);
	return DirectFunctionCall2(jsonb_concat, headers, DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* The headers that the session asked for, as jsonb. */
static Datum
session_headers(bool *isnull)
{
	bool		none = pst_headers == NULL || pst_headers[0] == '\0';
	Datum		headers;

	*isnull = none && current_hops == 0;
	if (*isnull)
		return (Datum) 0;
	headers = DirectFunctionCall1(jsonb_in, CStringGetDatum(none ? "{}" : pst_headers));
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("persistomata.headers must be a jsonb object")));
	headers = pst_omit_large(headers);
	return current_hops > 0 ? add_hops(headers) : headers;
}

/* What all rows of one call share. */
static void
fill_common(Datum *values, bool *nulls)
{
	memset(nulls, false, sizeof(bool) * LOG_COLUMNS);
	values[COL_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[COL_OCCURRED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COL_TIMELINE] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	values[COL_ACTOR] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[COL_HEADERS] = session_headers(&nulls[COL_HEADERS]);
}

static void
fill_row(Datum *values, bool *nulls, const PstLogRow *row)
{
	values[COL_EVENT_ID] = Int64GetDatum(row->event_id);
	values[COL_BINDING] = Int32GetDatum(row->binding);
	values[COL_MACHINE] = Int32GetDatum(row->machine);
	values[COL_TYPE] = CharGetDatum((char) row->type);
	values[COL_KEY] = CStringGetTextDatum(row->key);
	set_text(values, nulls, COL_EVENT, row->event);
	set_text(values, nulls, COL_FROM_STATE, row->from_state);
	set_text(values, nulls, COL_TO_STATE, row->to_state);
	set_text(values, nulls, COL_REASON, row->reason ? pst_clip_text(row->reason) : NULL);
	values[COL_ARGS] = row->args_null ? (Datum) 0 : pst_omit_large(row->args);
	/* what is out of line may be gone by the time that it is written */
	if (!row->args_null && VARATT_IS_EXTERNAL(DatumGetPointer(values[COL_ARGS])))
		values[COL_ARGS] = PointerGetDatum(detoast_external_attr((struct varlena *) DatumGetPointer(values[COL_ARGS])));
	nulls[COL_ARGS] = row->args_null;
	values[COL_PAYLOAD] = row->payload;
	nulls[COL_PAYLOAD] = row->payload_null;
	values[COL_ONLY_ROUTE] = Int32GetDatum(row->only_route);
	nulls[COL_ONLY_ROUTE] = row->only_route == 0;
}

/* The log's columns, the same in each slot. */
static TupleDesc
log_columns(void)
{
	static TupleDesc desc = NULL;

	if (desc == NULL)
	{
		Relation	slot = table_open(pst_log_table(0), AccessShareLock);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (RelationGetNumberOfAttributes(slot) != LOG_COLUMNS)
			elog(ERROR, "the event log has %d columns", RelationGetNumberOfAttributes(slot));
		desc = CreateTupleDescCopy(RelationGetDescr(slot));
		MemoryContextSwitchTo(old);
		table_close(slot, AccessShareLock);
	}
	return desc;
}

void
pst_log_append(const PstLogRow *rows, int nrows)
{
	Datum		values[LOG_COLUMNS] = {0};
	bool		nulls[LOG_COLUMNS];

	fill_common(values, nulls);
	for (int i = 0; i < nrows; i++)
	{
		fill_row(values, nulls, &rows[i]);
		pst_pending_add(log_columns(), values, nulls);
	}
	pst_event_logged();
}

/* ---- writing ---- */

/* As many rows go into the table at once, and then into each index. */
#define ROWS_AT_ONCE 64

static TupleTableSlot **
row_slots(void)
{
	static TupleTableSlot *slots[ROWS_AT_ONCE] = {NULL};
	MemoryContext old;

	if (slots[ROWS_AT_ONCE - 1] == NULL)
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		for (int i = 0; i < ROWS_AT_ONCE; i++)
			slots[i] = MakeSingleTupleTableSlot(log_columns(), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	return slots;
}

static void
insert_into_index(Oid index_oid, Relation slot, TupleTableSlot **tuples, int ntuples)
{
	Relation	index = index_open(index_oid, RowExclusiveLock);
	IndexInfo  *info = BuildIndexInfo(index);

	for (int i = 0; i < ntuples; i++)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		FormIndexDatum(info, tuples[i], NULL, values, nulls);
		index_insert(index, values, nulls, &tuples[i]->tts_tid, slot, UNIQUE_CHECK_NO, false, info);
	}
	pfree(info);
	index_close(index, NoLock);
}

static void
insert_rows(Relation slot, List *indexes, TupleTableSlot **tuples, int ntuples, CommandId cid)
{
	ListCell   *lc;

	if (ntuples == 1)
		table_tuple_insert(slot, tuples[0], cid, 0, NULL);
	else
		table_multi_insert(slot, tuples, ntuples, cid, 0, NULL);
	foreach(lc, indexes)
		insert_into_index(lfirst_oid(lc), slot, tuples, ntuples);
}

/* Rows that were gathered before. */
static void
write_rows(HeapTuple *rows, int nrows, CommandId cid)
{
	Relation	slot = open_current_slot();
	List	   *indexes = RelationGetIndexList(slot);
	TupleTableSlot **tuples = row_slots();

	for (int done = 0; done < nrows; done += ROWS_AT_ONCE)
	{
		int			n = Min(ROWS_AT_ONCE, nrows - done);

		for (int i = 0; i < n; i++)
			ExecStoreHeapTuple(rows[done + i], tuples[i], false);
		insert_rows(slot, indexes, tuples, n, cid);
		for (int i = 0; i < n; i++)
			ExecClearTuple(tuples[i]);
	}
	list_free(indexes);
	table_close(slot, NoLock);
}

void
pst_append_init(void)
{
	pst_pending_init(write_rows);
}
