/*
 * batch.c
 *	  Reading the log in the order of positions.
 *
 * A reader is a position and a spine: the places of the next rows.  A read
 * fetches the rows that the next part of the spine names.  Nothing is locked
 * or pinned between reads; that the rows are still there is the ring's promise
 * to routes that have not passed them.  Should a table have been rewritten
 * (CLUSTER, VACUUM FULL), a place no longer has the row that is expected there,
 * and the spine is made anew.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "event/batch.h"
#include "event/decode.h"
#include "event/query.h"
#include "event/spine.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

struct PstReader
{
	int64		position;		/* the next to read */
	int64		cut;			/* of the spine; 0: to be found by position */
	PstSpine   *spine;
};

/* The tables of one read, opened as they are needed. */
typedef struct OpenTables
{
	Relation	log[PST_RING_SLOTS];
	TupleTableSlot *row[PST_RING_SLOTS];
	BlockNumber blocks[PST_RING_SLOTS];
} OpenTables;

PstReader *
pst_reader_create(MemoryContext parent)
{
	PstReader  *reader = MemoryContextAllocZero(parent, sizeof(PstReader));

	reader->position = 1;
	reader->spine = pst_spine_create(parent);
	return reader;
}

void
pst_reader_free(PstReader *reader)
{
	MemoryContextDelete(reader->spine->context);
	pfree(reader->spine);
	pfree(reader);
}

void
pst_reader_seek(PstReader *reader, int64 position)
{
	reader->position = position;
	reader->cut = 0;
	pst_spine_reset(reader->spine);
}

int64
pst_reader_position(const PstReader *reader)
{
	return reader->position;
}

Size
pst_reader_memory(const PstReader *reader)
{
	return MemoryContextMemAllocated(reader->spine->context, true);
}

static void
find_cut(PstReader *reader, int64 newest)
{
	PstRing		ring;

	pst_ring_read(&ring);
	reader->cut = pst_cut_at_position(&ring, reader->position);
	if (reader->cut == 0)
		reader->cut = newest + 1;
}

/* Load the spine of `cut`, or of the first one after it that can be read. */
static bool
load_from(PstReader *reader, int64 cut, int64 after, int64 ordinal,
		  const PstReadLimits *limits, PstBatch *batch)
{
	bool		gap;

	while (!pst_spine_load(reader->spine, cut, after, ordinal,
						   limits->newest_cut, limits->settings_before, &gap))
	{
		if (!gap)
		{
			batch->new_settings = cut <= limits->newest_cut;
			reader->cut = cut;
			return false;
		}
		/* what is not kept any more cannot be read */
		find_cut(reader, limits->newest_cut);
		cut = reader->cut > cut ? reader->cut : cut + 1;
		after = ordinal = 0;
	}
	reader->cut = cut;
	return true;
}

/* Have a row to read next; false if there is none yet. */
static bool
have_spine(PstReader *reader, const PstReadLimits *limits, PstBatch *batch)
{
	PstSpine   *spine = reader->spine;

	while (spine->next >= spine->nrows)
	{
		int64		cut,
					after = 0,
					ordinal = 0;

		if (spine->nrows > 0 && spine->partial)
		{
			cut = reader->cut;
			after = spine->rows[spine->nrows - 1].event_id;
			ordinal = spine->ordinal + spine->nrows;
		}
		else if (spine->ncuts > 0)
			cut = reader->cut + spine->ncuts;
		else
		{
			if (reader->cut == 0)
				find_cut(reader, limits->newest_cut);
			cut = reader->cut;
		}
		if (!load_from(reader, cut, after, ordinal, limits, batch))
		{
			pst_spine_reset(spine);
			return false;
		}
		while (spine->next < spine->nrows &&
			   pst_spine_position(spine, spine->next) < reader->position)
			spine->next++;
	}
	return true;
}

static TupleTableSlot *
fetch(OpenTables *tables, PstVertebra *place)
{
	int			slot = PST_SPINE_SLOT(place);
	TupleTableSlot *row;

	if (tables->log[slot] == NULL)
	{
		tables->log[slot] = table_open(pst_log_table(slot), AccessShareLock);
		tables->row[slot] = table_slot_create(tables->log[slot], NULL);
		tables->blocks[slot] = RelationGetNumberOfBlocks(tables->log[slot]);
	}
	/* the slot was emptied since the spine was read */
	if (ItemPointerGetBlockNumber(&place->tid) >= tables->blocks[slot])
		return NULL;
	row = tables->row[slot];
	if (!table_tuple_fetch_row_version(tables->log[slot], &place->tid, GetActiveSnapshot(), row))
		return NULL;
	slot_getallattrs(row);
	if (DatumGetInt64(row->tts_values[PST_LOG_EVENT_ID - 1]) != place->event_id)
		return NULL;
	return row;
}

static void
close_tables(OpenTables *tables)
{
	for (int slot = 0; slot < PST_RING_SLOTS; slot++)
	{
		if (tables->log[slot] == NULL)
			continue;
		ExecDropSingleTupleTableSlot(tables->row[slot]);
		table_close(tables->log[slot], NoLock);
	}
}

static PstEvent *
next_event(PstBatch *batch)
{
	if (batch->nevents == batch->allocated)
	{
		Size		size;

		/* the batch before tells how many there may be: growing copies, and takes new pages */
		batch->allocated = batch->allocated ? batch->allocated * 2 : Max(batch->expected, 64);
		size = sizeof(PstEvent) * batch->allocated;
		batch->events = batch->events ? repalloc_huge(batch->events, size) :
			MemoryContextAllocHuge(batch->context, size);
	}
	return &batch->events[batch->nevents];
}

/* Read the row at the spine's next place; false if it is not there. */
static bool
read_row(PstReader *reader, PstBatch *batch, OpenTables *tables, const char *log_id,
		 PstWanted wanted, void *arg)
{
	PstSpine   *spine = reader->spine;
	PstVertebra *place = &spine->rows[spine->next];
	TupleTableSlot *row = fetch(tables, place);
	PstEvent   *event;
	PstTexts	before;

	if (row == NULL)
		return false;
	event = next_event(batch);
	before = batch->texts;
	pst_decode_head(row, event, &batch->texts);
	event->position = pst_spine_position(spine, spine->next);
	event->ordinal = pst_spine_ordinal(spine, spine->next);
	event->stream_ms = spine->cuts[PST_SPINE_CUT(place) + 1].stream_ms;
	if (wanted == NULL || wanted(event, arg))
	{
		pst_decode_body(row, log_id, event, &batch->texts);
		batch->bytes += sizeof(PstEvent) + (batch->texts.bytes - before.bytes);
		batch->nevents++;
	}
	else
		pst_texts_take_back(&batch->texts, &before);
	batch->to_position = event->position;
	reader->position = event->position + 1;
	spine->next++;
	return true;
}

void
pst_reader_read(PstReader *reader, PstBatch *batch, const PstReadLimits *limits,
				PstWanted wanted, void *arg)
{
	PstSpine   *spine = reader->spine;
	OpenTables	tables = {0};
	MemoryContext old;
	PstHome		home;
	int			scanned = 0;

	batch->expected = batch->nevents + batch->nevents / 16;
	batch->events = NULL;
	batch->nevents = batch->allocated = 0;
	batch->bytes = 0;
	pst_texts_begin(&batch->texts, batch->context);
	batch->from_position = reader->position;
	batch->to_position = reader->position - 1;
	batch->more = batch->new_settings = false;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_home_read(&home);
	old = MemoryContextSwitchTo(batch->context);
	while (have_spine(reader, limits, batch))
	{
		CHECK_FOR_INTERRUPTS();
		batch->more = true;
		if (pst_spine_position(spine, spine->next) > limits->to_position ||
			batch->nevents >= limits->max_rows ||
			batch->bytes >= limits->max_bytes ||
			scanned++ >= limits->max_scanned)
			break;
		if (!read_row(reader, batch, &tables, home.log_id, wanted, arg))
		{
			pst_reader_seek(reader, reader->position);
			break;
		}
		batch->more = false;
	}
	MemoryContextSwitchTo(old);
	close_tables(&tables);
	PopActiveSnapshot();
	SPI_finish();
}
