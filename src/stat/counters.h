/*
 * counters.h
 *	  What routes are doing right now, in shared memory.
 */
#ifndef PST_COUNTERS_H
#define PST_COUNTERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "route/route.h"
#include "storage/lwlock.h"

#define PST_MAX_ROUTE_STATS 48
#define PST_LATENCY_BUCKETS 64

typedef enum PstRouteState
{
	PST_ROUTE_STOPPED,			/* no worker has it */
	PST_ROUTE_IDLE,
	PST_ROUTE_SENDING,
	PST_ROUTE_RETRYING,			/* the sink is down or busy */
	PST_ROUTE_MISCONFIGURED,	/* the sink would refuse anything */
	PST_ROUTE_FENCED			/* another copy of this cluster delivers */
} PstRouteState;

/*
 * One route.  Written by the worker that has it and read by anyone, under the
 * counters' lock; the latencies are counted without.
 */
typedef struct PstRouteStat
{
	Oid			database;		/* InvalidOid: free */
	int			route;
	PstRouteState state;
	TimestampTz state_since;
	int64		position;
	PstRouteCounts counts;
	TimestampTz last_error_at;	/* 0: none */
	TimestampTz next_attempt_at;	/* 0: at once */
	char		last_error[256];
	uint32		latency[PST_LATENCY_BUCKETS];	/* commit to acknowledgement */
	uint32		latencies;

	/* how fast it passes events, averaged over some seconds of work */
	TimestampTz busy_since;		/* when it rested last, for a second or more; 0: never begun */
	int64		busy_from;		/* and where */
	TimestampTz told_at;		/* the last progress */
	double		rate;			/* positions per second; 0: not known */
	int64		rate_position;	/* where it stood */
	TimestampTz rate_at;		/* then */
} PstRouteStat;

typedef struct PstCounters
{
	LWLock		lock;
	int			tranche;
	PstRouteStat routes[PST_MAX_ROUTE_STATS];
} PstCounters;

extern Size pst_counters_size(void);

/* The counters, attached; NULL if shared memory has no room for them. */
extern PstCounters *pst_counters(void);

/* The place of a route, taken if it has none; NULL if all are taken. */
extern PstRouteStat *pst_route_stat(Oid database, int route);

extern void pst_route_stat_free(Oid database, int route);	/* 0: all of the database */

/* Free those of the database that a worker has given up, and that are not of these routes (integers). */
extern void pst_route_stat_keep(Oid database, const List *routes);

/* Each does nothing if stat is NULL. */
extern void pst_stat_progress(PstRouteStat *stat, PstRouteState state, int64 position,
							  const PstRouteCounts *counts);
extern void pst_stat_fault(PstRouteStat *stat, PstRouteState state, const char *error,
						   TimestampTz next_attempt_at);
extern void pst_stat_latency(PstRouteStat *stat, int64 microseconds);

/* The latency in ms that this share (0..1) of events stayed below; -1: none counted. */
extern double pst_stat_percentile(const PstRouteStat *stat, double share);

#endif							/* PST_COUNTERS_H */
