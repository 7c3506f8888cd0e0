/*
 * settle.c
 *	  After a shipment: what the sink said, and acknowledging it.
 *
 * What is delivered or refused for its content is settled.  What remains is
 * kept in hand while the sink is down; it is put back while the sink is
 * misconfigured, so that other routes to the same server go on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "encode/encode.h"
#include "event/query.h"
#include "miscadmin.h"
#include "route/ack.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "worker/backoff.h"
#include "worker/outlet.h"

typedef struct Outcome
{
	int			delivered;
	int			rejected;
	int			remaining;
	bool		misconfigured;
	int			first_remaining;
} Outcome;

/* Append a cursor row for each outlet that has moved; in a transaction, in SPI. */
void
pst_write_acks(PstSinkWorker *worker)
{
	ListCell   *cell;

	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		PstAck		ack = {0};

		if (!outlet->cursor.begun || outlet->cursor.next_position == outlet->acked_position)
			continue;
		ack.route = outlet->route->id;
		ack.generation = outlet->cursor.generation;
		ack.kind = PST_ACK_DONE;
		ack.from_position = outlet->acked_position;
		ack.to_position = outlet->cursor.next_position - 1;
		ack.settings = outlet->cursor.settings;
		ack.counts = outlet->cursor.counts;
		pst_ack_write(&ack);
		outlet->acked_position = outlet->cursor.next_position;
	}
	worker->unacked_since = 0;
}

/*
 * Acknowledge what is settled.  Losing this to a crash costs a repeat that the
 * sink is asked about, so nobody waits for the disk.
 */
void
pst_acknowledge(PstSinkWorker *worker)
{
	if (worker->unacked_since == 0)
		return;
	pst_work_begin("acknowledging");
	SPI_connect();
	pst_write_acks(worker);
	SPI_finish();
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE,
							 GUC_ACTION_LOCAL, true, 0, false);
	pst_work_end();
}

char *
pst_reason(const PstSink *sink, int nth)
{
	const PstFault *fault = nth >= 0 ? sink->ops->event_fault(sink, nth) : sink->ops->fault(sink);

	if (fault == NULL || (fault->what[0] == '\0' && fault->peer_said[0] == '\0'))
		return pstrdup("the sink gave no reason");
	if (fault->peer_said[0] == '\0')
		return pstrdup(fault->what);
	return psprintf("%s: %s", fault->what, fault->peer_said);
}

static Outcome
weigh(const PstSink *sink, const PstShipment *shipment)
{
	Outcome		outcome = {0};

	outcome.first_remaining = -1;
	for (int i = 0; i < shipment->nevents; i++)
	{
		switch (pst_sink_verdict(sink, i))
		{
			case PST_DELIVERED:
				outcome.delivered++;
				continue;
			case PST_REJECTED:
				outcome.rejected++;
				continue;
			case PST_MISCONFIGURED:
				outcome.misconfigured = true;
				break;
			case PST_RETRY:
			case PST_VERDICT_NONE:
				break;
		}
		outcome.remaining++;
		if (outcome.first_remaining < 0)
			outcome.first_remaining = i;
	}
	return outcome;
}

static void
write_dead_letters(const PstSink *sink, const PstParcel *parcel)
{
	const PstShipment *shipment = &parcel->shipment;

	for (int i = 0; i < shipment->nevents; i++)
	{
		StringInfoData json;

		if (pst_sink_verdict(sink, i) != PST_REJECTED)
			continue;
		initStringInfo(&json);
		pst_encode_json(&json, &shipment->events[i]);
		pst_dead_letter_write(parcel->outlet->route->id, &shipment->events[i], json.data,
							  pst_reason(sink, i));
		pfree(json.data);
	}
}

static void
count_delivered(const PstSink *sink, PstParcel *parcel)
{
	int64		now = GetCurrentTimestamp() +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	PstOutlet  *outlet = parcel->outlet;

	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		if (pst_sink_verdict(sink, i) != PST_DELIVERED)
			continue;
		outlet->cursor.counts.sent++;
		pst_stat_latency(outlet->stat, now - parcel->shipment.events[i].occurred_at);
	}
	outlet->cursor.counts.duplicates += sink->ops->duplicates(sink);
}

/* Keep only the events that remain. */
static void
compact(const PstSink *sink, PstParcel *parcel)
{
	int			kept = 0;

	for (int i = 0; i < parcel->shipment.nevents; i++)
	{
		PstVerdict	verdict = pst_sink_verdict(sink, i);

		if (verdict != PST_DELIVERED && verdict != PST_REJECTED)
			parcel->batch.events[kept++] = parcel->batch.events[i];
	}
	parcel->batch.nevents = parcel->shipment.nevents = kept;
}

/* All of it is settled: the cursor moves behind it. */
static void
finish(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	outlet->cursor.next_position = parcel->shipment.to_position + 1;
	outlet->cursor.settings = parcel->settings->version;
	outlet->cursor.intent = false;
	outlet->failures = 0;
	outlet->retry_at = 0;
	outlet->connection->failures = 0;
	outlet->connection->retry_at = 0;
	if (worker->unacked_since == 0)
		worker->unacked_since = GetCurrentTimestamp();
	pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, parcel->shipment.to_position, &outlet->cursor.counts);
	parcel->sent = false;
	pst_parcel_drop(parcel);
}

/* Some of it is not settled: wait, and say why. */
static void
hold(PstSinkWorker *worker, PstParcel *parcel, const PstSink *sink, const Outcome *outcome)
{
	PstOutlet  *outlet = parcel->outlet;
	PstConnection *connection = outlet->connection;
	const PstFault *fault = sink->ops->fault(sink);
	bool		progress = outcome->delivered > 0;
	TimestampTz now = GetCurrentTimestamp();
	int		   *failures = outcome->misconfigured ? &outlet->failures : &connection->failures;
	TimestampTz retry_at;

	*failures = progress ? 1 : *failures + 1;
	retry_at = TimestampTzPlusMilliseconds(now, pst_backoff_ms(*failures));
	outlet->cursor.counts.retried += outcome->remaining;
	if ((fault && fault->in_doubt) || (worker->ops->names_shipments && progress))
	{
		if (!parcel->shipment.in_doubt)
			parcel->in_doubt_since = now;
		parcel->shipment.in_doubt = true;
	}
	pst_stat_progress(outlet->stat, outcome->misconfigured ? PST_ROUTE_MISCONFIGURED : PST_ROUTE_RETRYING,
					  outlet->cursor.next_position - 1, &outlet->cursor.counts);
	pst_stat_fault(outlet->stat, outcome->misconfigured ? PST_ROUTE_MISCONFIGURED : PST_ROUTE_RETRYING,
				   pst_reason(sink, -1), retry_at);
	if (*failures == 1)
		ereport(LOG,
				(errmsg("route \"%s\" to server \"%s\" waits: %s", outlet->route->name, worker->server,
						pst_reason(sink, -1))));
	if (!outcome->misconfigured)
	{
		connection->retry_at = retry_at;
		return;
	}
	outlet->retry_at = retry_at;
	if (worker->parcels[1].outlet == outlet && parcel != &worker->parcels[1])
		pst_parcel_drop(&worker->parcels[1]);
	pst_parcel_drop(parcel);
	pst_outlet_rewind(outlet);
}

/*
 * The third step of the cycle: take the sink's verdicts, acknowledge.
 */
void
pst_settle(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstSink    *sink = outlet->connection->sink;
	Outcome		outcome = {0};

	if (parcel->letters)
	{
		pst_letters_settle(worker, parcel);
		return;
	}
	if (parcel->shipment.nevents > 0)
		outcome = weigh(sink, &parcel->shipment);

	/* of a shipment with a name, nothing is settled before all of it is */
	if (outcome.remaining > 0 && worker->ops->names_shipments)
	{
		hold(worker, parcel, sink, &outcome);
		return;
	}
	if (outcome.delivered > 0)
		count_delivered(sink, parcel);
	outlet->cursor.counts.dead += outcome.rejected;
	if (outcome.remaining > 0)
	{
		outlet->cursor.next_position = parcel->shipment.events[outcome.first_remaining].position;
		outlet->cursor.settings = parcel->settings->version;
		if (worker->unacked_since == 0)
			worker->unacked_since = GetCurrentTimestamp();
	}
	if (outcome.rejected > 0)
	{
		pst_work_begin("keeping dead letters");
		SPI_connect();
		write_dead_letters(sink, parcel);
		if (outcome.remaining == 0)
			finish(worker, parcel);
		pst_write_acks(worker);
		SPI_finish();
		pst_work_end();
		if (outcome.remaining == 0)
			return;
	}
	if (outcome.remaining == 0)
	{
		finish(worker, parcel);
		return;
	}
	compact(sink, parcel);
	/* compact() has moved the events, the verdicts are the sink's own */
	hold(worker, parcel, sink, &outcome);
}
