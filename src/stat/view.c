/*
 * view.c
 *	  What stat_route shows of a route's live state.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "stat/counters.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(pst_live_routes);

static void
put_row(ReturnSetInfo *rsinfo, const PstRouteStat *stat)
{
	static const char *const states[] = {"stopped", "idle", "sending", "retrying", "misconfigured", "fenced"};
	Datum		values[15];
	bool		nulls[15] = {false};
	double		p50 = pst_stat_percentile(stat, 0.5);
	double		p99 = pst_stat_percentile(stat, 0.99);

	values[0] = Int32GetDatum(stat->route);
	values[1] = CStringGetTextDatum(states[stat->state]);
	values[2] = Int64GetDatum(stat->position);
	values[3] = Int64GetDatum(stat->counts.sent);
	values[4] = Int64GetDatum(stat->counts.retried);
	values[5] = Int64GetDatum(stat->counts.duplicates);
	values[6] = Int64GetDatum(stat->counts.dead);
	values[7] = CStringGetTextDatum(stat->last_error);
	values[8] = TimestampTzGetDatum(stat->last_error_at);
	nulls[7] = nulls[8] = stat->last_error_at == 0;
	values[9] = TimestampTzGetDatum(stat->next_attempt_at);
	nulls[9] = stat->next_attempt_at == 0;
	values[10] = Float8GetDatum(p50);
	nulls[10] = p50 < 0;
	values[11] = Float8GetDatum(p99);
	nulls[11] = p99 < 0;
	values[12] = TimestampTzGetDatum(stat->state_since);
	nulls[12] = stat->state_since == 0;
	values[13] = Float8GetDatum(stat->rate);
	nulls[13] = stat->rate <= 0;
	values[14] = Int64GetDatum(stat->counts.coalesced);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* live_routes(): one row per route of this database that a worker has had */
Datum
pst_live_routes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PstCounters *counters = pst_counters();
	PstRouteStat *copy = palloc(sizeof(PstRouteStat) * PST_MAX_ROUTE_STATS);

	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(&counters->lock, LW_SHARED);
	memcpy(copy, counters->routes, sizeof(PstRouteStat) * PST_MAX_ROUTE_STATS);
	LWLockRelease(&counters->lock);
	for (int i = 0; i < PST_MAX_ROUTE_STATS; i++)
		if (copy[i].database == MyDatabaseId)
			put_row(rsinfo, &copy[i]);
	return (Datum) 0;
}
