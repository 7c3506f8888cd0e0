/*
 * clickhouse_ahead.c
 *	  The block of the next shipment, written while the server digests this one.
 *
 * Written in a buffer of its own, for a table that is known already.  Whether it
 * is the block that is wanted when that shipment comes is asked then: the same
 * shipment, whole, for the same columns.  If not, it is written anew.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

/* Rows in the order of the shipment, as a group has them that is alone in it. */
static int *
all_rows(int nevents)
{
	int		   *rows = palloc(sizeof(int) * nevents);

	for (int i = 0; i < nevents; i++)
		rows[i] = i;
	return rows;
}

void
pst_ch_prepare(PstSink *base, const PstShipment *next)
{
	PstChSink  *sink = (PstChSink *) base;
	PstChAhead *ahead = &sink->ahead;
	MemoryContext before = MemoryContextSwitchTo(sink->scratch);
	PstChTable *table = next != NULL ? pst_ch_only_table(sink, next) : NULL;
	PstNativeMisfit misfit;
	int		   *rows;

	ahead->serial = 0;
	if (table != NULL && table->ready)
	{
		rows = all_rows(next->nevents);
		resetStringInfo(&ahead->body);
		if (pst_native_block(&ahead->body, table->columns, table->ncolumns, next->events,
							 rows, next->nevents, &misfit) == PST_NATIVE_WRITTEN)
		{
			ahead->serial = next->serial;
			ahead->table = table;
			ahead->looks = table->looks;
		}
		pfree(rows);
	}
	MemoryContextSwitchTo(before);
}

bool
pst_ch_take_ahead(PstChSink *sink)
{
	PstChAhead *ahead = &sink->ahead;
	const PstChTable *table = sink->groups[sink->group].table;
	const PstChPiece *piece = pst_ch_top_piece(sink);
	StringInfoData body = sink->body;

	if (ahead->serial == 0 || ahead->serial != sink->shipment->serial ||
		ahead->table != table || ahead->looks != table->looks ||
		!piece->whole || piece->count != sink->shipment->nevents)
		return false;
	sink->body = ahead->body;
	ahead->body = body;
	ahead->serial = 0;
	return true;
}
