/*
 * view.c
 *	  What stat_route shows of a route's live state.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "route/edit.h"
#include "stat/counters.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(pst_live_routes);

static void
put_row(ReturnSetInfo *rsinfo, const PstRouteStat *stat)
{
	static const char *const states[] = {"stopped", "idle", "sending", "retrying", "misconfigured", "fenced"};
	Datum		values[17];
	bool		nulls[17] = {false};
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
	values[15] = TimestampTzGetDatum(stat->busy_since);
	values[16] = Int64GetDatum(stat->busy_from);
	nulls[15] = nulls[16] = stat->busy_since == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The routes that are the caller's: a sink's words are not for everybody. */
static List *
own_routes(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *routes;
	List	   *own = NIL;
	PstOwnerRights rights;
	ListCell   *cell;

	pst_owner_begin(&rights);
	routes = pst_route_list(NULL, context);
	pst_owner_end(&rights);
	foreach(cell, routes)
	{
		const PstRoute *route = lfirst(cell);

		if (has_privs_of_role(rights.user, route->owner))
			own = lappend_int(own, route->id);
	}
	return own;
}

/* live_routes(): one row per route of this database that a worker has had and the caller may see */
Datum
pst_live_routes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PstCounters *counters = pst_counters();
	PstRouteStat *copy = palloc(sizeof(PstRouteStat) * PST_MAX_ROUTE_STATS);
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	List	   *own = all ? NIL : own_routes();

	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(&counters->lock, LW_SHARED);
	memcpy(copy, counters->routes, sizeof(PstRouteStat) * PST_MAX_ROUTE_STATS);
	LWLockRelease(&counters->lock);
	for (int i = 0; i < PST_MAX_ROUTE_STATS; i++)
		if (copy[i].database == MyDatabaseId && (all || list_member_int(own, copy[i].route)))
			put_row(rsinfo, &copy[i]);
	return (Datum) 0;
}
