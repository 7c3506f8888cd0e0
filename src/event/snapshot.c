/*
 * snapshot.c
 *	  Snapshots as the cuts keep them: which top-level transactions were over.
 *
 * The layout of pg_snapshot on disk is private to the server; its binary
 * output is not, so that is what is read here.
 */
#include "postgres.h"

#include "compat/compat.h"
#include "event/snapshot.h"
#include "fmgr.h"
#include "libpq/pqformat.h"
#include "utils/fmgrprotos.h"

PstSnapshot *
pst_snapshot_from_datum(Datum value)
{
	bytea	   *sent = DatumGetByteaPP(DirectFunctionCall1(pg_snapshot_send, value));
	StringInfoData buf;
	PstSnapshot *snapshot;
	int			nxip;

	buf.data = VARDATA_ANY(sent);
	buf.len = buf.maxlen = VARSIZE_ANY_EXHDR(sent);
	buf.cursor = 0;

	nxip = pq_getmsgint(&buf, 4);
	snapshot = palloc(offsetof(PstSnapshot, xip) + nxip * sizeof(uint64));
	snapshot->nxip = nxip;
	snapshot->xmin = (uint64) pq_getmsgint64(&buf);
	snapshot->xmax = (uint64) pq_getmsgint64(&buf);
	for (int i = 0; i < nxip; i++)
		snapshot->xip[i] = (uint64) pq_getmsgint64(&buf);
	pfree(sent);
	return snapshot;
}

PstSnapshot *
pst_snapshot_empty(void)
{
	PstSnapshot *snapshot = palloc0(offsetof(PstSnapshot, xip));

	return snapshot;
}

bool
pst_snapshot_sees(const PstSnapshot *snapshot, uint64 xid)
{
	int			low = 0,
				high = snapshot->nxip;

	if (xid < snapshot->xmin)
		return true;
	if (xid >= snapshot->xmax)
		return false;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (snapshot->xip[middle] == xid)
			return false;
		if (snapshot->xip[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return true;
}
