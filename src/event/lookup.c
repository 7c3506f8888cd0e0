/*
 * lookup.c
 *	  position(event_id) and events(from, to): the log by position, for people.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/batch.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/utf8.h"
#include "event/spine.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define EVENT_COLUMNS 19
#define READ_AT_ONCE 1000

PG_FUNCTION_INFO_V1(pst_position);
PG_FUNCTION_INFO_V1(pst_events);

/* No index leads with the id; (xid, event_id) at least is smaller than the log. */
static PstQuery find_queries[PST_RING_SLOTS] = {{
	"SELECT xid FROM persistomata.log_%d WHERE event_id OPERATOR(pg_catalog.=) $1 LIMIT 1",
	1, {INT8OID}, NULL
}};

static bool
find_xid(const PstRing *ring, int64 event_id, uint64 *xid)
{
	Datum		arg = Int64GetDatum(event_id);

	for (int i = ring->nlive - 1; i >= 0; i--)
		if (pst_query_read_slot(find_queries, ring->live[i].slot, &arg) > 0)
		{
			*xid = DatumGetUInt64(pst_result(0, 1, NULL));
			return true;
		}
	return false;
}

/* The place of an event in its cut; 0 if the cut cannot be read any more. */
static int64
position_in_cut(int64 cut, int64 event_id)
{
	PstSpine   *spine = pst_spine_create(CurrentMemoryContext);
	int64		after = 0,
				ordinal = 0;
	bool		gap;

	while (pst_spine_load(spine, cut, after, ordinal, cut, PG_INT64_MAX, &gap))
	{
		for (int i = 0; i < spine->nrows; i++)
			if (spine->rows[i].event_id == event_id)
				return pst_spine_position(spine, i);
		if (!spine->partial)
			break;
		after = spine->rows[spine->nrows - 1].event_id;
		ordinal = spine->ordinal + spine->nrows;
	}
	return 0;
}

/* position(event_id): NULL if it is not in the log, or not cut yet */
Datum
pst_position(PG_FUNCTION_ARGS)
{
	int64		event_id = PG_GETARG_INT64(0);
	int64		position = 0;
	PstRing		ring;
	uint64		xid;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_ring_read(&ring);
	if (find_xid(&ring, event_id, &xid))
	{
		int64		cut = pst_cut_at_xid(&ring, xid);

		if (cut > 0)
			position = position_in_cut(cut, event_id);
	}
	PopActiveSnapshot();
	SPI_finish();
	if (position == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(position);
}

static void
put_event(ReturnSetInfo *rsinfo, AttInMetadata *metadata, const PstEvent *event)
{
	TimestampTz at = event->occurred_at - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	char	   *values[EVENT_COLUMNS];
	HeapTuple	tuple;

	values[0] = psprintf(INT64_FORMAT, event->position);
	values[1] = event->name;
	values[2] = psprintf(INT64_FORMAT, event->event_id);
	values[3] = (char *) pst_event_type_name(event->type);
	values[4] = event->machine;
	values[5] = psprintf("%d", event->version);
	values[6] = event->fsm;
	values[7] = event->key;
	values[8] = event->event;
	values[9] = event->from_state;
	values[10] = event->to_state;
	values[11] = event->args;
	values[12] = event->payload;
	values[13] = event->reason;
	values[14] = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
	values[15] = psprintf(UINT64_FORMAT, event->xid);
	values[16] = event->actor;
	values[17] = event->headers;
	values[18] = event->node;
	for (int i = 0; i < EVENT_COLUMNS; i++)
		if (values[i])
			values[i] = pst_from_utf8(values[i]);
	tuple = BuildTupleFromCStrings(metadata, values);
	tuplestore_puttuple(rsinfo->setResult, tuple);
	heap_freetuple(tuple);
}

static int64
newest_cut(void)
{
	PstRing		ring;
	PstCut		newest;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_ring_read(&ring);
	pst_cut_newest(&ring, &newest);
	PopActiveSnapshot();
	SPI_finish();
	return newest.cut;
}

/* events(from, to): those that have been cut and are kept, in order */
Datum
pst_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PstReadLimits limits = {
		.settings_before = PG_INT64_MAX,
		.to_position = PG_GETARG_INT64(1),
		.max_rows = READ_AT_ONCE,
		.max_bytes = 16 * 1024 * 1024,
		.max_scanned = READ_AT_ONCE
	};
	PstReader  *reader = pst_reader_create(CurrentMemoryContext);
	PstBatch	batch = {0};
	AttInMetadata *metadata;

	InitMaterializedSRF(fcinfo, 0);
	metadata = TupleDescGetAttInMetadata(rsinfo->setDesc);
	limits.newest_cut = newest_cut();
	batch.context = AllocSetContextCreate(CurrentMemoryContext, "persistomata events", ALLOCSET_DEFAULT_SIZES);
	pst_reader_seek(reader, Max(1, PG_GETARG_INT64(0)));
	do
	{
		MemoryContext old;

		MemoryContextReset(batch.context);
		pst_reader_read(reader, &batch, &limits, NULL, NULL);
		old = MemoryContextSwitchTo(batch.context);
		for (int i = 0; i < batch.nevents; i++)
			put_event(rsinfo, metadata, &batch.events[i]);
		MemoryContextSwitchTo(old);
	} while (batch.nevents > 0);
	return (Datum) 0;
}
