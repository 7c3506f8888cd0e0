/*
 * embedded.c
 *	  Routes that end in this very database: what they do is done here, in the
 *	  transaction that acknowledges it, and so exactly once.
 *
 * The events of a parcel are tried together, in a subtransaction; when that
 * fails, half of them, and so on until the one to blame is alone: it becomes a
 * dead letter, with the others done.  A failure that passes by itself (a
 * deadlock, a lock not had in time, a serialization failure) ends the parcel:
 * what was done before is committed, the rest tried again later, so the order
 * is kept.  If many events fail and none succeeds, it is the function.
 *
 * No network is waited for here, so the rule that no transaction is held across
 * a wait stands.
 */
#include "postgres.h"

#include "config/config.h"
#include "event/append.h"
#include "event/utf8.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "net/net.h"
#include "sink/fault.h"
#include "transition/attempt.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "worker/embedded.h"
#include "worker/outlet.h"

/* Failures without a single success, after which it is not the events. */
#define MANY_REFUSALS 16

/* How a parcel fares; a sink in the eyes of those who settle it. */
typedef struct Run
{
	PstSink		base;
	PstDeed		deed;
	int			nevents;
	int			done;			/* the first so many have their final verdict */
	int			ndelivered;
	int			nrefused;
	PstVerdict *verdicts;
	PstFault  **refusals;		/* per event, or NULL */
	PstFault	fault;			/* why it did not come to its end */
} Run;

static PstVerdict
run_verdict(const PstSink *base, int nth)
{
	return ((const Run *) base)->verdicts[nth];
}

static const PstFault *
run_event_fault(const PstSink *base, int nth)
{
	return ((const Run *) base)->refusals[nth];
}

static const PstFault *
run_fault(const PstSink *base)
{
	return &((const Run *) base)->fault;
}

static const PstSinkOps run_ops = {
	.kind = "embedded",
	.verdict = run_verdict,
	.event_fault = run_event_fault,
	.fault = run_fault
};

bool
pst_is_embedded(const PstSinkWorker *worker, const PstParcel *parcel)
{
	return worker->ops != NULL && worker->ops->embedded != NULL && worker->ops->embedded(parcel->shipment.options);
}

/* ----- trying ----- */

/* Does such an error pass by itself? */
static bool
passes(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return true;
	}
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_OBJECT_IN_USE;
}

/* Some work in a subtransaction. */
typedef struct Trial
{
	Run		   *run;
	const PstParcel *parcel;	/* NULL: do it for the next events, so many */
	int			count;
} Trial;

static void
work(void *arg)
{
	Trial	   *trial = (Trial *) arg;
	Run		   *run = trial->run;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (trial->parcel)
		pst_deed_find(&run->deed, &trial->parcel->shipment, trial->parcel->outlet->route->owner);
	else
		pst_deed_do(&run->deed, run->done, trial->count);
	PopActiveSnapshot();
}

/* An owner's code must come to an end; one that does not is no trouble of ours. */
static ErrorData *
work_in_time(Trial *trial, bool *late)
{
	int			timeout = trial->run->deed.timeout;
	int64		begun = pst_net_now();
	ErrorData  *error;

	if (timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout);
	error = pst_attempt_any(work, trial, true);
	if (timeout > 0)
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
	}
	*late = timeout > 0 && pst_net_now() >= begun + timeout;
	return error;
}

static void
take_error(PstFault *fault, const ErrorData *error, bool late)
{
	char	   *said = pst_to_utf8(psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
	bool		retry = passes(error->sqlerrcode) && !(late && error->sqlerrcode == ERRCODE_QUERY_CANCELED);

	pst_fault_set(fault, retry ? PST_RETRY : PST_REJECTED, error->sqlerrcode, "the call failed");
	pst_fault_quote(fault, said, strlen(said));
	pfree(said);
}

/*
 * The next events in a subtransaction: all of them or, with a fault, none.  If a
 * parcel is given, only what is to be done is found.
 */
static bool
attempt(Run *run, const PstParcel *parcel, int count, PstFault *fault)
{
	Trial		trial = {.run = run, .parcel = parcel, .count = count};
	MemoryContext before = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(before, "persistomata call", ALLOCSET_DEFAULT_SIZES);
	ErrorData  *error;
	bool		late;

	MemoryContextSwitchTo(scratch);
	error = work_in_time(&trial, &late);
	pst_log_set_hops(0);
	if (error)
		take_error(fault, error, late);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(scratch);
	return error == NULL;
}

static void
refuse(Run *run, const PstFault *fault)
{
	run->refusals[run->done] = palloc(sizeof(PstFault));
	*run->refusals[run->done] = *fault;
	run->verdicts[run->done++] = PST_REJECTED;
	run->nrefused++;
}

/* An event that has come through too many calls is part of a loop. */
static bool
is_looping(Run *run)
{
	int			hops = pst_event_hops(&run->deed.shipment->events[run->done]);
	PstFault	fault;

	if (hops < pst_max_hops)
		return false;
	pst_fault_set(&fault, PST_REJECTED, 0,
				  "the event comes after %d calls that followed from each other: persistomata.max_hops is %d",
				  hops, pst_max_hops);
	refuse(run, &fault);
	/* not a failure of the function */
	run->nrefused--;
	return true;
}

/* How many events from the next one on can be tried together: those before one that loops. */
static int
count_together(const Run *run, int most)
{
	int			count = 1;

	while (count < most && pst_event_hops(&run->deed.shipment->events[run->done + count]) < pst_max_hops)
		count++;
	return count;
}

static void
try_all(Run *run)
{
	int			most = run->nevents;

	while (run->done < run->nevents)
	{
		PstFault	fault;
		int			count;

		if (run->deed.channel == NULL && is_looping(run))
			continue;
		count = Min(most, run->nevents - run->done);
		if (run->deed.channel == NULL)
			count = count_together(run, count);
		if (attempt(run, NULL, count, &fault))
		{
			while (count-- > 0)
				run->verdicts[run->done++] = PST_DELIVERED;
			run->ndelivered = run->done - run->nrefused;
			most = run->nevents;
		}
		else if (fault.verdict == PST_RETRY && (run->done > 0 || count == 1))
		{
			/* what is done is committed first, and its locks with it */
			run->fault = fault;
			return;
		}
		else if (count > 1)
			most = count / 2;
		else
		{
			refuse(run, &fault);
			most = run->nevents;
			if (run->nrefused >= MANY_REFUSALS && run->ndelivered == 0)
			{
				run->fault = fault;
				run->fault.verdict = PST_MISCONFIGURED;
				run->done = 0;
				return;
			}
		}
	}
}

/* ----- the transaction ----- */

/* What is missing is for a human to bring. */
static bool
find(Run *run, const PstParcel *parcel)
{
	if (attempt(run, parcel, 0, &run->fault))
		return true;
	if (run->fault.verdict != PST_RETRY)
		run->fault.verdict = PST_MISCONFIGURED;
	strlcpy(run->fault.what, "the call cannot be made", sizeof(run->fault.what));
	return false;
}

/* What is done becomes the route's place in the log; in SPI. */
static void
write_down(Run *run, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstRouteCounts *counts = &outlet->cursor.counts;
	bool		all = run->done == run->nevents;

	for (int i = run->done; i < run->nevents; i++)
		run->verdicts[i] = PST_RETRY;
	for (int i = 0; i < run->done; i++)
	{
		counts->sent += run->verdicts[i] == PST_DELIVERED;
		counts->dead += run->verdicts[i] == PST_REJECTED && parcel->letters == NULL;
	}
	if (parcel->letters)
	{
		pst_letters_write(&run->base, parcel);
		return;
	}
	pst_write_refused(&run->base, parcel);
	if (all)
	{
		counts->dead += parcel->nrefused;
		counts->coalesced += parcel->coalesced;
	}
	pst_cursor_move(&outlet->cursor, all ? parcel->shipment.to_position + 1 : parcel->batch.events[run->done].position);
	outlet->cursor.settings = parcel->settings->version;
	outlet->cursor.intent = false;
	pst_write_cursor(outlet);
}

static void
begin(Run *run, PstParcel *parcel)
{
	memset(run, 0, sizeof(*run));
	run->base.ops = &run_ops;
	run->nevents = parcel->shipment.nevents;
	run->verdicts = palloc0(sizeof(PstVerdict) * run->nevents);
	run->refusals = palloc0(sizeof(PstFault *) * run->nevents);
}

/* After the commit: on to the next, or wait. */
static void
conclude(PstSinkWorker *worker, const Run *run, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	bool		all = run->done == run->nevents;

	outlet->retry_at = 0;
	if (all || run->done > 0)
	{
		outlet->failures = 0;
		if (parcel->letters == NULL)
			pst_note_latencies(worker, parcel, run->done);
		pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	}
	else
	{
		outlet->cursor.counts.retried += run->nevents;
		outlet->retry_at = pst_fault_route(outlet, run->fault.verdict == PST_RETRY ? PST_ROUTE_RETRYING : PST_ROUTE_MISCONFIGURED,
										   &outlet->failures, &run->base);
	}
	if (parcel->letters)
		outlet->letters = true; /* there may be more: the next look tells */
	parcel->in_doubt_since = 0;
	pst_parcel_drop(parcel);
	if (!all)
		pst_outlet_rewind(outlet);
}

void
pst_embedded_run(PstSinkWorker *worker, PstParcel *parcel)
{
	Run			run;

	begin(&run, parcel);
	pst_stat_progress(parcel->outlet->stat, PST_ROUTE_SENDING,
					  parcel->outlet->cursor.next_position - 1, &parcel->outlet->cursor.counts);
	pst_work_begin("calling for a route");
	pst_constraints_immediate();
	if (find(&run, parcel))
		try_all(&run);
	if (run.done > 0)
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		write_down(&run, parcel);
		PopActiveSnapshot();
		SPI_finish();
	}
	pst_work_end();
	conclude(worker, &run, parcel);
}
