/*
 * eventrow.c
 *	  An event as a row of persistomata.event, as SQL sees it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "event/log.h"
#include "event/utf8.h"
#include "route/eventrow.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/xid8.h"

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Columns of the view persistomata.event, in order. */
enum
{
	COL_EVENT_ID, COL_TYPE, COL_MACHINE, COL_VERSION, COL_FSM, COL_KEY, COL_EVENT, COL_FROM_STATE,
	COL_TO_STATE, COL_ARGS, COL_PAYLOAD, COL_REASON, COL_OCCURRED_AT, COL_XID, COL_ACTOR,
	COL_HEADERS, COL_NODE, EVENT_COLUMNS
};

Oid
pst_event_row_type(void)
{
	return get_rel_type_id(pst_log_relation("event"));
}

TupleDesc
pst_event_row_desc(void)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(pst_event_row_type(), -1);

	if (desc->natts != EVENT_COLUMNS)
		elog(ERROR, "persistomata.event has %d columns", desc->natts);
	return desc;
}

static void
set_text(Datum *values, bool *nulls, int column, const char *utf8)
{
	nulls[column] = utf8 == NULL;
	if (utf8)
		values[column] = CStringGetTextDatum(pst_from_utf8(utf8));
}

static void
set_jsonb(Datum *values, bool *nulls, int column, const char *utf8)
{
	nulls[column] = utf8 == NULL;
	if (utf8)
		values[column] = DirectFunctionCall1(jsonb_in,
											 CStringGetDatum(pst_from_utf8(utf8)));
}

HeapTuple
pst_event_row(TupleDesc desc, const PstEvent *event)
{
	Datum		values[EVENT_COLUMNS] = {0};
	bool		nulls[EVENT_COLUMNS] = {0};

	values[COL_EVENT_ID] = Int64GetDatum(event->event_id);
	set_text(values, nulls, COL_TYPE, pst_event_type_name(event->type));
	set_text(values, nulls, COL_MACHINE, event->machine);
	values[COL_VERSION] = Int32GetDatum(event->version);
	set_text(values, nulls, COL_FSM, event->fsm);
	set_text(values, nulls, COL_KEY, event->key);
	set_text(values, nulls, COL_EVENT, event->event);
	set_text(values, nulls, COL_FROM_STATE, event->from_state);
	set_text(values, nulls, COL_TO_STATE, event->to_state);
	StaticAssertStmt(COL_ARGS == PST_EVENT_ARGS - 1, "args is where the header says");
	set_jsonb(values, nulls, COL_ARGS, event->args);
	set_jsonb(values, nulls, COL_PAYLOAD, event->payload);
	set_text(values, nulls, COL_REASON, event->reason);
	values[COL_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at - UNIX_EPOCH_US);
	values[COL_XID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(event->xid));
	set_text(values, nulls, COL_ACTOR, event->actor);
	set_jsonb(values, nulls, COL_HEADERS, event->headers);
	set_text(values, nulls, COL_NODE, event->node);
	return heap_form_tuple(desc, values, nulls);
}
