/*
 * counters.c
 *	  What routes are doing right now, in shared memory.
 *
 * The memory is taken when it is first needed, so that it is there without
 * preloading the library too.  A lock in it guards all but the latencies, which
 * only their route's worker writes, and whose reader can do with a torn sum.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "stat/counters.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

/* A rate is measured anew after standing still for so long. */
#define RATE_GAP_S 10

/* Who had nothing to do for so long has caught up. */
#define REST_MS 1000

static PstCounters *counters = NULL;

Size
pst_counters_size(void)
{
	return sizeof(PstCounters);
}

PstCounters *
pst_counters(void)
{
	bool		found;

	if (counters)
		return counters;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	counters = ShmemInitStruct("persistomata counters", sizeof(PstCounters), &found);
	if (!found)
	{
		memset(counters, 0, sizeof(PstCounters));
		counters->tranche = LWLockNewTrancheId();
		LWLockInitialize(&counters->lock, counters->tranche);
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(counters->tranche, "persistomata_counters");
	return counters;
}

PstRouteStat *
pst_route_stat(Oid database, int route)
{
	PstCounters *all = pst_counters();
	PstRouteStat *found = NULL;

	LWLockAcquire(&all->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_ROUTE_STATS; i++)
	{
		PstRouteStat *stat = &all->routes[i];

		if (stat->database == database && stat->route == route)
		{
			found = stat;
			break;
		}
		if (!OidIsValid(stat->database) && found == NULL)
			found = stat;
	}
	if (found && !OidIsValid(found->database))
	{
		memset(found, 0, sizeof(*found));
		found->database = database;
		found->route = route;
	}
	LWLockRelease(&all->lock);
	return found;
}

void
pst_route_stat_free(Oid database, int route)
{
	PstCounters *all = pst_counters();

	LWLockAcquire(&all->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_ROUTE_STATS; i++)
		if (all->routes[i].database == database && (route == 0 || all->routes[i].route == route))
			all->routes[i].database = InvalidOid;
	LWLockRelease(&all->lock);
}

void
pst_route_stat_keep(Oid database, const List *routes)
{
	PstCounters *all = pst_counters();

	LWLockAcquire(&all->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PST_MAX_ROUTE_STATS; i++)
	{
		PstRouteStat *stat = &all->routes[i];

		if (stat->database == database && stat->state == PST_ROUTE_STOPPED && stat->state_since != 0 &&
			!list_member_int(routes, stat->route))
			stat->database = InvalidOid;
	}
	LWLockRelease(&all->lock);
}

/* A route that stood still for a while begins to be measured anew. */
static void
measure_rate(PstRouteStat *stat, int64 position, TimestampTz now)
{
	double		seconds = (double) (now - stat->rate_at) / USECS_PER_SEC;
	double		rate = (double) (position - stat->rate_position) / seconds;

	if (seconds < 0.5 && seconds >= 0 && stat->rate_at != 0)
		return;
	if (stat->rate_at != 0 && seconds < RATE_GAP_S && rate > 0)
		stat->rate = stat->rate > 0 ? (3 * stat->rate + rate) / 4 : rate;
	stat->rate_position = position;
	stat->rate_at = now;
}

/* Before the state changes: a route that is sending, or cannot, does not rest. */
static void
measure_stretch(PstRouteStat *stat, int64 position, TimestampTz now)
{
	if (stat->busy_since == 0 ||
		(stat->state == PST_ROUTE_IDLE && TimestampDifferenceExceeds(stat->told_at, now, REST_MS)))
	{
		stat->busy_since = now;
		stat->busy_from = position;
	}
	stat->told_at = now;
}

static void
enter_state(PstRouteStat *stat, PstRouteState state, TimestampTz now)
{
	/* sending and idle take turns all the time: since when it does either */
	bool		works = state == PST_ROUTE_IDLE || state == PST_ROUTE_SENDING;
	bool		worked = stat->state == PST_ROUTE_IDLE || stat->state == PST_ROUTE_SENDING;

	if (stat->state_since == 0 || (stat->state != state && !(works && worked)))
		stat->state_since = now;
	stat->state = state;
}

void
pst_stat_progress(PstRouteStat *stat, PstRouteState state, int64 position,
				  const PstRouteCounts *counts)
{
	TimestampTz now;

	if (stat == NULL)
		return;
	now = GetCurrentTimestamp();
	LWLockAcquire(&counters->lock, LW_EXCLUSIVE);
	measure_stretch(stat, position, now);
	enter_state(stat, state, now);
	measure_rate(stat, position, now);
	stat->position = position;
	stat->counts = *counts;
	if (state != PST_ROUTE_RETRYING && state != PST_ROUTE_MISCONFIGURED)
		stat->next_attempt_at = 0;
	LWLockRelease(&counters->lock);
}

void
pst_stat_fault(PstRouteStat *stat, PstRouteState state, const char *error,
			   TimestampTz next_attempt_at)
{
	TimestampTz now;

	if (stat == NULL)
		return;
	now = GetCurrentTimestamp();
	LWLockAcquire(&counters->lock, LW_EXCLUSIVE);
	enter_state(stat, state, now);
	strlcpy(stat->last_error, error, pg_mbcliplen(error, strlen(error), sizeof(stat->last_error) - 1) + 1);
	stat->last_error_at = now;
	stat->next_attempt_at = next_attempt_at;
	LWLockRelease(&counters->lock);
}

/* Four buckets an octave, from a quarter of a millisecond on. */
static int
bucket_of(int64 microseconds)
{
	int			bucket;

	if (microseconds <= 250)
		return 0;
	bucket = (int) (4 * log2((double) microseconds / 250.0)) + 1;
	return Min(bucket, PST_LATENCY_BUCKETS - 1);
}

void
pst_stat_latency(PstRouteStat *stat, int64 microseconds)
{
	if (stat == NULL)
		return;
	/* the recent past counts: what is older weighs half */
	if (stat->latencies >= 100000)
	{
		stat->latencies = 0;
		for (int i = 0; i < PST_LATENCY_BUCKETS; i++)
			stat->latencies += (stat->latency[i] /= 2);
	}
	stat->latency[bucket_of(microseconds)]++;
	stat->latencies++;
}

double
pst_stat_percentile(const PstRouteStat *stat, double share)
{
	double		below = 0;

	if (stat->latencies == 0)
		return -1;
	for (int i = 0; i < PST_LATENCY_BUCKETS; i++)
	{
		below += stat->latency[i];
		if (below >= share * stat->latencies)
			return 0.25 * pow(2.0, i / 4.0);
	}
	return 0.25 * pow(2.0, (PST_LATENCY_BUCKETS - 1) / 4.0);
}
