/*
 * snapshot.h
 *	  Snapshots as the cuts keep them: which top-level transactions were over.
 */
#ifndef PST_SNAPSHOT_H
#define PST_SNAPSHOT_H

#include "postgres.h"

typedef struct PstSnapshot
{
	uint64		xmin;			/* every older transaction is visible */
	uint64		xmax;			/* this one and every newer are not */
	int			nxip;
	uint64		xip[FLEXIBLE_ARRAY_MEMBER]; /* those in between that are not, rising */
} PstSnapshot;

/* From a value of the type pg_snapshot, in the current memory context. */
extern PstSnapshot *pst_snapshot_from_datum(Datum snapshot);

/* The snapshot that sees nothing: the predecessor of the first cut. */
extern PstSnapshot *pst_snapshot_empty(void);

extern bool pst_snapshot_sees(const PstSnapshot *snapshot, uint64 xid);

#endif							/* PST_SNAPSHOT_H */
