/*
 * settle.c
 *	  What becomes of a shipment that a sink has answered.
 *
 * What is settled moves the outlet's cursor in memory; the cursors of all
 * outlets are written together, at most ten times a second, or at once when an
 * event was refused and goes to the dead letters.  What is written too late is
 * sent again after a crash, in doubt, and found by the sink.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "event/utf8.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "route/ack.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/backoff.h"
#include "worker/outlet.h"

#define ACKNOWLEDGE_MS 100
#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* How the events of a shipment fared. */
typedef struct Tally
{
	int			delivered;
	int			rejected;
	int			retry;
	int			misconfigured;
} Tally;

static Tally
count_verdicts(const PstSink *sink, const PstParcel *parcel)
{
	Tally		tally = {0};

	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		switch (pst_sink_verdict(sink, i))
		{
			case PST_DELIVERED:
				tally.delivered++;
				break;
			case PST_REJECTED:
				tally.rejected++;
				break;
			case PST_MISCONFIGURED:
				tally.misconfigured++;
				break;
			default:
				tally.retry++;
		}
	}
	return tally;
}

/* ---- acknowledgements ---- */

/* In SPI. */
void
pst_write_cursor(PstOutlet *outlet)
{
	PstAck		ack = {
		.route = outlet->route->id,
		.generation = outlet->cursor.generation,
		.kind = PST_ACK_DONE,
		.from_position = outlet->acked_position,
		.to_position = outlet->cursor.next_position - 1,
		.settings = outlet->cursor.settings,
		.counts = outlet->cursor.counts
	};

	pst_ack_write(&ack);
	outlet->acked_position = outlet->cursor.next_position;
}

/* Write the cursors of all outlets that have moved. */
void
pst_acknowledge(PstSinkWorker *worker)
{
	ListCell   *cell;

	if (worker->unacked_since == 0)
		return;
	pst_work_begin("acknowledging");
	/* what a crash loses is sent again, in doubt: nobody waits for the disk */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);

		/* a promise that stands tells of all before it */
		if (outlet->acked_position != outlet->cursor.next_position && !outlet->cursor.intent)
			pst_write_cursor(outlet);
	}
	PopActiveSnapshot();
	SPI_finish();
	pst_work_end();
	worker->unacked_since = 0;
}

/* Milliseconds until it is time to acknowledge; -1: there is nothing. */
int
pst_acknowledge_in_ms(const PstSinkWorker *worker)
{
	if (worker->unacked_since == 0)
		return -1;
	return pst_ms_until(TimestampTzPlusMilliseconds(worker->unacked_since, ACKNOWLEDGE_MS));
}

/* ---- what went well ---- */

static void
move_cursor(PstSinkWorker *worker, PstParcel *parcel, int64 to_position)
{
	PstOutlet  *outlet = parcel->outlet;

	pst_cursor_move(&outlet->cursor, to_position + 1);
	outlet->cursor.settings = parcel->settings->version;
	outlet->cursor.intent = false;
	outlet->cursor.counts.coalesced += parcel->coalesced;
	parcel->coalesced = 0;
	if (worker->unacked_since == 0)
		worker->unacked_since = GetCurrentTimestamp();
}

/*
 * From commit to acknowledgement.  An event occurs before its commit, perhaps
 * long before; it was committed before its cut, and not before the first commit
 * that the cut was made for.
 */
void
pst_note_latencies(const PstSinkWorker *worker, const PstParcel *parcel, int nevents)
{
	int64		now = GetCurrentTimestamp() + UNIX_EPOCH_US;
	int64		stream_ms = 0;
	int64		earliest = 0;

	for (int i = 0; i < nevents; i++)
	{
		const PstEvent *event = &parcel->batch.events[i];

		if (event->stream_ms != stream_ms)
		{
			int64		cut_ms = event->stream_ms - parcel->outlet->cursor.shift_ms;
			TimestampTz noted = pst_noted_commits(worker->scheduler, cut_ms);

			stream_ms = event->stream_ms;
			earliest = noted != 0 ? noted + UNIX_EPOCH_US : cut_ms * 1000;
		}
		pst_stat_latency(parcel->outlet->stat, now - Max(event->occurred_at, earliest));
	}
}

/* In our words and the sink's. */
char *
pst_reason(const PstSink *sink, int nth)
{
	const PstFault *fault = nth >= 0 ? sink->ops->event_fault(sink, nth) : NULL;

	if (fault == NULL)
		fault = sink->ops->fault(sink);
	if (fault == NULL || fault->what[0] == '\0')
		return pstrdup("the sink gives no reason");
	return pst_from_utf8(psprintf("%s%s%s", fault->what, fault->peer_said[0] ? ": " : "", fault->peer_said));
}

static void
write_letter(const PstParcel *parcel, const PstEvent *event, StringInfo json, const char *reason)
{
	resetStringInfo(json);
	pst_encode_json(json, event);
	pst_dead_letter_write(parcel->outlet->route->id, event, json->data, reason);
}

/*
 * What the sink and what the route's own code refused becomes dead letters; in
 * SPI.  The sink is NULL if it was not asked.
 */
void
pst_write_refused(const PstSink *sink, const PstParcel *parcel)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; sink && i < parcel->shipment.nevents; i++)
		if (pst_sink_verdict(sink, i) == PST_REJECTED)
			write_letter(parcel, &parcel->batch.events[i], &json, pst_reason(sink, i));
	for (int i = 0; i < parcel->nrefused; i++)
		write_letter(parcel, &parcel->refused[i], &json, parcel->reasons[i]);
}

/* One transaction: the refused events, and that the shipment is settled. */
static void
write_dead_letters(const PstSink *sink, PstParcel *parcel)
{
	parcel->outlet->cursor.counts.dead += parcel->nrefused;
	pst_work_begin("keeping dead letters");
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_write_refused(sink, parcel);
	parcel->nrefused = 0;
	pst_write_cursor(parcel->outlet);
	PopActiveSnapshot();
	SPI_finish();
	pst_work_end();
}

static void
settle_done(PstSinkWorker *worker, PstSink *sink, PstParcel *parcel, const Tally *tally)
{
	PstOutlet  *outlet = parcel->outlet;
	PstRouteCounts *counts = &outlet->cursor.counts;

	counts->sent += tally->delivered;
	counts->dead += tally->rejected;
	counts->duplicates += sink->ops->duplicates(sink);
	outlet->failures = 0;
	outlet->retry_at = 0;
	outlet->connection->failures = 0;
	outlet->connection->retry_at = 0;
	move_cursor(worker, parcel, parcel->shipment.to_position);
	if (tally->rejected > 0 || parcel->nrefused > 0)
		write_dead_letters(sink, parcel);
	pst_note_latencies(worker, parcel, parcel->shipment.nevents);
	pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, outlet->cursor.next_position - 1, counts);
	parcel->in_doubt_since = 0;
	pst_parcel_drop(parcel);
}

/* Nothing in this stretch of the log was for this route. */
void
pst_settle_empty(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	move_cursor(worker, parcel, parcel->shipment.to_position);
	if (parcel->nrefused > 0)
		write_dead_letters(NULL, parcel);
	pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	pst_parcel_drop(parcel);
}

/* ---- trouble ---- */

static TimestampTz
tell_fault(PstOutlet *outlet, PstRouteState state, int *failures, const char *why, int least_ms)
{
	int			backoff_ms = pst_backoff_ms(++*failures);	/* Max would count twice */
	TimestampTz at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(backoff_ms, least_ms));

	pst_stat_fault(outlet->stat, state, why, at);
	if (*failures == 1)
		ereport(LOG,
				(errmsg("route \"%s\" to server \"%s\" waits", outlet->route->name, outlet->route->server),
				 errdetail_internal("%s", why)));
	return at;
}

TimestampTz
pst_fault_route(PstOutlet *outlet, PstRouteState state, int *failures, const PstSink *sink)
{
	const PstFault *fault = sink->ops->fault(sink);
	char	   *why = pst_reason(sink, -1);
	TimestampTz at = tell_fault(outlet, state, failures, why, fault ? fault->retry_after : 0);

	pfree(why);
	return at;
}

void
pst_hold(PstOutlet *outlet, PstRouteState state, const char *why)
{
	outlet->retry_at = tell_fault(outlet, state, &outlet->failures, why, 0);
}

/* The route would have anything refused: it holds and probes, the others go on. */
static void
settle_misconfigured(PstSinkWorker *worker, PstSink *sink, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	/* a promise stands until it is kept, and so does what may have landed */
	outlet->doubted = Max(outlet->doubted, parcel->shipment.to_position);
	outlet->doubted_since = GetCurrentTimestamp();
	outlet->retry_at = pst_fault_route(outlet, PST_ROUTE_MISCONFIGURED, &outlet->failures, sink);
	if (worker->parcels[1].outlet == outlet)
		pst_parcel_drop(&worker->parcels[1]);
	pst_parcel_drop(parcel);
	pst_outlet_rewind(outlet);
}

/* Drop from the parcel what has its final verdict, and keep the order of the rest. */
static void
keep_undone(PstSinkWorker *worker, PstSink *sink, PstParcel *parcel, Tally *tally)
{
	PstOutlet  *outlet = parcel->outlet;
	int			kept = 0;

	outlet->cursor.counts.sent += tally->delivered;
	outlet->cursor.counts.dead += tally->rejected;
	if (tally->rejected > 0 || parcel->nrefused > 0)
		write_dead_letters(sink, parcel);
	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		PstVerdict	verdict = pst_sink_verdict(sink, i);

		if (verdict != PST_DELIVERED && verdict != PST_REJECTED)
			parcel->batch.events[kept++] = parcel->batch.events[i];
	}
	parcel->batch.nevents = parcel->shipment.nevents = kept;
	/* all before the first that is left is settled */
	if (parcel->batch.events[0].position > outlet->cursor.next_position)
		move_cursor(worker, parcel, parcel->batch.events[0].position - 1);
}

/* The sink is down, busy or in doubt: the parcel is kept and tried again. */
static void
settle_retry(PstSinkWorker *worker, PstSink *sink, PstParcel *parcel, Tally *tally)
{
	PstOutlet  *outlet = parcel->outlet;
	const PstFault *fault = sink->ops->fault(sink);

	outlet->cursor.counts.retried += tally->retry;
	if (!worker->ops->names_shipments)
		keep_undone(worker, sink, parcel, tally);
	if ((parcel->in_doubt_since == 0 || parcel->long_ago) && ((fault && fault->in_doubt) || tally->delivered > 0))
		pst_parcel_doubt(parcel);
	outlet->connection->retry_at = pst_fault_route(outlet, PST_ROUTE_RETRYING, &outlet->connection->failures, sink);
	pst_stat_progress(outlet->stat, PST_ROUTE_RETRYING, outlet->cursor.next_position - 1, &outlet->cursor.counts);
}

void
pst_settle(PstSinkWorker *worker, PstParcel *parcel)
{
	PstSink    *sink = parcel->outlet->connection->sink;
	Tally		tally = count_verdicts(sink, parcel);

	if (parcel->letters)
	{
		pst_letters_settle(worker, parcel);
		return;
	}
	if (tally.misconfigured > 0)
		settle_misconfigured(worker, sink, parcel);
	else if (tally.retry > 0)
		settle_retry(worker, sink, parcel, &tally);
	else
		settle_done(worker, sink, parcel, &tally);
}
