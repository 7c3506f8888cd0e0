/*
 * window.c
 *	  The rows of the log between two snapshots.
 *
 * A row belongs to the window if the later snapshot sees its top-level
 * transaction and the earlier one does not; that is asked of the stored xid,
 * since xmin may be a subtransaction's.  Whether the row itself lives (a
 * savepoint may have been rolled back) is asked of MVCC.
 *
 * Two kinds of index probes find all of them: xids that did not exist for the
 * earlier snapshot, as one range; and each that was open then and is no more.
 * So a transaction that stays open for hours costs nothing: it is in both
 * snapshots, and is not even looked up.
 *
 * The log table is locked in AccessShare until the transaction ends.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "event/log.h"
#include "event/window.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

typedef struct Window
{
	int			slot;
	Relation	log;
	Relation	index;
	const PstSnapshot *to;
	Snapshot	mvcc;
	PstWindowRow row;
	void	   *arg;
	int64		visited;
	bool		ended;
} Window;

static void
scan_keys(Window *window, ScanKey keys, int nkeys)
{
	TupleDesc	desc = RelationGetDescr(window->log);
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan_ordered(window->log, window->index, window->mvcc, nkeys, keys);
	while (!window->ended &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		uint64		xid;
		int64		event_id;

		CHECK_FOR_INTERRUPTS();
		xid = DatumGetUInt64(heap_getattr(tuple, PST_LOG_XID, desc, &isnull));
		if (window->to && !pst_snapshot_sees(window->to, xid))
			continue;
		event_id = DatumGetInt64(heap_getattr(tuple, PST_LOG_EVENT_ID, desc, &isnull));
		window->visited++;
		if (window->row && !window->row(window->arg, window->slot, xid, event_id, &tuple->t_self))
			window->ended = true;
	}
	systable_endscan_ordered(scan);
}

int64
pst_window_scan(int slot, const PstSnapshot *from, const PstSnapshot *to,
				Snapshot mvcc, PstWindowRow row, void *arg)
{
	Window		window = {0};
	ScanKeyData keys[2];
	int			nkeys = 0;

	window.slot = slot;
	window.to = to;
	window.mvcc = mvcc;
	window.row = row;
	window.arg = arg;
	window.log = table_open(pst_log_table(slot), AccessShareLock);
	window.index = index_open(pst_log_index(slot), AccessShareLock);

	ScanKeyInit(&keys[nkeys++], PST_LOG_XID, BTGreaterEqualStrategyNumber, F_XID8GE,
				UInt64GetDatum(from->xmax));
	if (to)
		ScanKeyInit(&keys[nkeys++], PST_LOG_XID, BTLessStrategyNumber, F_XID8LT,
					UInt64GetDatum(to->xmax));
	scan_keys(&window, keys, nkeys);

	for (int i = 0; i < from->nxip && !window.ended; i++)
	{
		if (to && !pst_snapshot_sees(to, from->xip[i]))
			continue;
		ScanKeyInit(&keys[0], PST_LOG_XID, BTEqualStrategyNumber, F_XID8EQ,
					UInt64GetDatum(from->xip[i]));
		scan_keys(&window, keys, 1);
	}

	index_close(window.index, NoLock);
	table_close(window.log, NoLock);
	return window.visited;
}
