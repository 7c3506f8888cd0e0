/*
 * prepare.c
 *	  What is done with a parcel between reading and sending: the route's own
 *	  code looks at it, and what a later event replaces is left out.
 *
 * User code runs in a transaction of its own, which ends here.  An event that
 * it raises an error for is kept for the dead letters, which are written when
 * the rest is settled.  As with sinks, the route is misconfigured if the code
 * cannot run at all, or if it has yet to pass an event and raises an error for
 * all there are: it then waits for events that it does pass.
 */
#include "postgres.h"

#include "route/code.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/outlet.h"

/* When so many fail together it is the code, whatever it has passed before. */
#define MANY_FAILED 100

/* Keep those wanted, in order, and put aside those that failed. */
static void
sort_out(PstParcel *parcel, const PstCodeRun *run)
{
	PstEvent   *events = parcel->batch.events;
	int			kept = 0;

	parcel->refused = palloc(sizeof(PstEvent) * Max(run->failed, 1));
	parcel->reasons = palloc(sizeof(char *) * Max(run->failed, 1));
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		if (run->verdicts[i] == PST_CODE_WANTED)
			events[kept++] = events[i];
		else if (run->verdicts[i] == PST_CODE_FAILED)
		{
			parcel->refused[parcel->nrefused] = events[i];
			parcel->reasons[parcel->nrefused++] = run->reasons[i];
		}
	}
	parcel->batch.nevents = parcel->shipment.nevents = kept;
}

static bool
run_code(PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	int			nevents = parcel->shipment.nevents;
	MemoryContext old;
	PstCodeResult result;
	PstCodeRun	run;

	pst_work_begin("running a route's own code");
	old = MemoryContextSwitchTo(parcel->batch.context);
	result = pst_code_run(parcel->settings, outlet->route->owner, parcel->batch.events, nevents, &run);
	MemoryContextSwitchTo(old);
	pst_work_end();

	if (result == PST_CODE_DONE && run.failed == nevents && (!outlet->code_works || nevents >= MANY_FAILED))
	{
		result = PST_CODE_WRONG;
		run.trouble = run.reasons[0];
	}
	if (result != PST_CODE_DONE)
	{
		pst_hold(outlet, result == PST_CODE_WAIT ? PST_ROUTE_RETRYING : PST_ROUTE_MISCONFIGURED, run.trouble);
		return false;
	}
	outlet->code_works = true;
	old = MemoryContextSwitchTo(parcel->batch.context);
	if (parcel->letters)
		pst_letters_sort_out(parcel, &run);
	else
		sort_out(parcel, &run);
	MemoryContextSwitchTo(old);
	return true;
}

bool
pst_parcel_prepare(PstParcel *parcel)
{
	if (parcel->shipment.nevents > 0 && pst_route_has_code(parcel->settings) && !run_code(parcel))
		return false;
	if (parcel->settings->throttle.last && !parcel->letters)
	{
		parcel->coalesced = pst_coalesce(parcel->batch.events, &parcel->shipment.nevents);
		parcel->batch.nevents = parcel->shipment.nevents;
	}
	return true;
}
