/*
 * append.c
 *	  Appends to the event log.
 *
 * The slot to write is a sequence's last value.  A writer reads it, takes
 * RowExclusiveLock on the slot's table and reads again until both agree; it
 * keeps the lock to the end of its transaction.  So a slot that has been passed
 * and whose table can be locked in share mode has no writer, and gets none.
 * Rows go in through the table access method, not through SQL: nobody needs
 * rights on the log to fire an event, and nobody can forge one.
 */
#include "postgres.h"

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
#include "event/wake.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* Columns of persistomata.log_N, in order. */
enum
{
	COL_EVENT_ID, COL_XID, COL_OCCURRED_AT, COL_BINDING, COL_MACHINE, COL_TIMELINE, COL_TYPE,
	COL_KEY, COL_EVENT, COL_FROM_STATE, COL_TO_STATE, COL_ACTOR, COL_ARGS, COL_PAYLOAD,
	COL_REASON, COL_HEADERS, LOG_COLUMNS
};

/* ---- the slot ---- */

/* Opens the slot to write, its lock kept to the end of the transaction. */
static Relation
open_current_slot(void)
{
	for (;;)
	{
		int			slot = pst_ring_current();
		Relation	rel = table_open(pst_log_table(slot), RowExclusiveLock);

		if (pst_ring_current() == slot)
			return rel;
		table_close(rel, RowExclusiveLock);
	}
}

int64
pst_log_draw_id(void)
{
	return nextval_internal(pst_log_relation("event_id"), false);
}

/* ---- rows ---- */

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

/* The headers that the session asked for, as jsonb. */
static Datum
session_headers(bool *isnull)
{
	Datum		headers;

	*isnull = pst_headers == NULL || pst_headers[0] == '\0';
	if (*isnull)
		return (Datum) 0;
	headers = DirectFunctionCall1(jsonb_in, CStringGetDatum(pst_headers));
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("persistomata.headers must be a jsonb object")));
	return headers;
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
	set_text(values, nulls, COL_REASON, row->reason);
	values[COL_ARGS] = row->args;
	nulls[COL_ARGS] = row->args_null;
	values[COL_PAYLOAD] = row->payload;
	nulls[COL_PAYLOAD] = row->payload_null;
}

/* The slot's indexes, opened for a few insertions. */
typedef struct SlotIndexes
{
	int			n;
	Relation	rels[4];
	IndexInfo  *infos[4];
} SlotIndexes;

static void
open_indexes(SlotIndexes *indexes, Relation slot)
{
	ListCell   *lc;

	indexes->n = 0;
	foreach(lc, RelationGetIndexList(slot))
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

		if (indexes->n == lengthof(indexes->rels))
			elog(ERROR, "too many indexes on \"%s\"", RelationGetRelationName(slot));
		indexes->rels[indexes->n] = index;
		indexes->infos[indexes->n++] = BuildIndexInfo(index);
	}
}

static void
insert_into_indexes(SlotIndexes *indexes, Relation slot, TupleTableSlot *tuple)
{
	for (int i = 0; i < indexes->n; i++)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		FormIndexDatum(indexes->infos[i], tuple, NULL, values, nulls);
		index_insert(indexes->rels[i], values, nulls, &tuple->tts_tid, slot,
					 UNIQUE_CHECK_NO, false, indexes->infos[i]);
	}
}

static void
close_indexes(SlotIndexes *indexes)
{
	for (int i = 0; i < indexes->n; i++)
		index_close(indexes->rels[i], NoLock);
}

void
pst_log_append(const PstLogRow *rows, int nrows)
{
	Relation	slot = open_current_slot();
	TupleTableSlot *tuple = table_slot_create(slot, NULL);
	SlotIndexes indexes;
	Datum		values[LOG_COLUMNS] = {0};
	bool		nulls[LOG_COLUMNS];

	fill_common(values, nulls);
	open_indexes(&indexes, slot);
	for (int i = 0; i < nrows; i++)
	{
		ExecClearTuple(tuple);
		fill_row(values, nulls, &rows[i]);
		memcpy(tuple->tts_values, values, sizeof(values));
		memcpy(tuple->tts_isnull, nulls, sizeof(nulls));
		ExecStoreVirtualTuple(tuple);
		table_tuple_insert(slot, tuple, GetCurrentCommandId(true), 0, NULL);
		insert_into_indexes(&indexes, slot, tuple);
	}
	close_indexes(&indexes);
	ExecDropSingleTupleTableSlot(tuple);
	table_close(slot, NoLock);
	pst_event_logged();
}
