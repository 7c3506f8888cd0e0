/*
 * parcel.c
 *	  Reading what an outlet sends next.
 *
 * One short transaction; afterwards the events are in the parcel's memory, and
 * nothing in the database is held.
 */
#include "postgres.h"

#include "access/xact.h"
#include "event/log.h"
#include "event/query.h"
#include "miscadmin.h"
#include "route/ack.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

/* Events looked at in one transaction, wanted or not. */
#define MAX_SCANNED 100000

static bool
wanted(const PstEvent *event, void *arg)
{
	return pst_route_wants(arg, event);
}

bool
pst_parcel_in_hand(const PstSinkWorker *worker, const PstOutlet *outlet)
{
	return worker->parcels[0].outlet == outlet || worker->parcels[1].outlet == outlet;
}

/* What was sent and not settled is in doubt when it is read again. */
void
pst_parcel_drop(PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	if (outlet == NULL)
		return;
	if (parcel->sent && !parcel->letters && parcel->shipment.to_position > outlet->doubted)
	{
		outlet->doubted = parcel->shipment.to_position;
		outlet->doubted_since = GetCurrentTimestamp();
	}
	parcel->outlet = NULL;
	MemoryContextReset(parcel->batch.context);
}

/* The settings at the cursor, or those that follow the ones in force. */
static void
take_settings(PstOutlet *outlet, bool next)
{
	int64		version = next ? outlet->settings->version : 0;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!next && outlet->cursor.settings > 0)
		outlet->settings = pst_route_settings_of(outlet->route->id, outlet->cursor.settings,
												 outlet->settings_context);
	else
		outlet->settings = pst_route_settings(outlet->route->id, version, outlet->settings_context);
	PopActiveSnapshot();
	SPI_finish();
	if (outlet->settings == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("settings of route \"%s\" are gone", outlet->route->name)));
}

/* Has a cut seen the route by now? */
static bool
has_begun(PstOutlet *outlet)
{
	if (outlet->cursor.begun)
		return true;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_cursor_read(outlet->route->id, &outlet->cursor);
	PopActiveSnapshot();
	SPI_finish();
	if (!outlet->cursor.begun)
		return false;
	outlet->acked_position = 0;
	pst_outlet_rewind(outlet);
	return true;
}

static void
read_log_id(PstSinkWorker *worker)
{
	PstHome		home;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_home_read(&home);
	PopActiveSnapshot();
	SPI_finish();
	if (!home.ours)
		pst_worker_quit();
	strlcpy(worker->log_id, home.log_id, sizeof(worker->log_id));
}

static void
read_batch(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel, int64 newest)
{
	PstReadLimits limits;
	int64		from = pst_reader_position(outlet->reader);

	limits.newest_cut = newest;
	limits.to_position = outlet->cursor.intent ? outlet->cursor.intent_to : PG_INT64_MAX;
	limits.max_rows = outlet->cursor.intent ? INT_MAX : worker->ops->max_rows;
	limits.max_bytes = outlet->cursor.intent ? MaxAllocHugeSize : (Size) worker->ops->max_bytes;
	limits.max_scanned = outlet->cursor.intent ? INT_MAX : MAX_SCANNED;
	for (;;)
	{
		limits.settings_before = outlet->settings->until;
		pst_reader_read(outlet->reader, &parcel->batch, &limits, wanted, outlet->settings);
		if (!parcel->batch.new_settings || parcel->batch.nevents > 0 || outlet->cursor.intent)
			break;
		take_settings(outlet, true);
	}
	parcel->batch.from_position = from;
}

static void
wrap(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel)
{
	PstShipment *shipment = &parcel->shipment;
	PstBatch   *batch = &parcel->batch;
	bool		again = outlet->cursor.intent && batch->from_position == outlet->cursor.next_position;

	for (int i = 0; i < batch->nevents; i++)
		batch->events[i].stream_ms += outlet->cursor.shift_ms;
	parcel->outlet = outlet;
	parcel->settings = outlet->settings;
	parcel->letters = parcel->sent = false;
	parcel->intended = !worker->ops->names_shipments || again;
	snprintf(parcel->name, sizeof(parcel->name), "%s-%d-%d-" INT64_FORMAT "-" INT64_FORMAT,
			 worker->log_id, outlet->route->id, outlet->cursor.generation,
			 batch->from_position, batch->to_position);
	memset(shipment, 0, sizeof(*shipment));
	shipment->route = outlet->route->name;
	shipment->from_position = batch->from_position;
	shipment->to_position = batch->to_position;
	shipment->format = outlet->settings->format;
	shipment->options = outlet->settings->options;
	shipment->events = batch->events;
	shipment->nevents = batch->nevents;
	if (worker->ops->names_shipments)
	{
		shipment->in_doubt = again;
		parcel->in_doubt_since = outlet->cursor.intent_at;
	}
	else
	{
		shipment->in_doubt = batch->from_position <= outlet->doubted;
		parcel->in_doubt_since = outlet->doubted_since;
	}
}

static uint64
hash_of(const PstParcel *parcel)
{
	uint64		hash = 0;

	for (int i = 0; i < parcel->batch.nevents; i++)
		hash = pst_event_hash(&parcel->batch.events[i], hash);
	return hash;
}

/* Read the outlet's next parcel; false if there is nothing to send or to skip. */
bool
pst_parcel_read(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel)
{
	int64		newest = (int64) pg_atomic_read_u64(&worker->scheduler->newest_cut);
	bool		got = false;

	MemoryContextReset(parcel->batch.context);
	pst_work_begin("reading events");
	if (worker->log_id[0] == '\0')
		read_log_id(worker);
	pst_connection_open(worker, outlet->connection);
	if (!has_begun(outlet))
		outlet->read_cut = newest;
	else if (outlet->letters && !pst_parcel_in_hand(worker, outlet) && outlet->read_cut == newest)
		got = pst_letters_read(worker, outlet, parcel);
	else
	{
		if (outlet->settings == NULL)
			take_settings(outlet, false);
		read_batch(worker, outlet, parcel, newest);
		if (!parcel->batch.more && !parcel->batch.new_settings)
			outlet->read_cut = newest;
		got = parcel->batch.to_position >= parcel->batch.from_position;
		if (got)
			wrap(worker, outlet, parcel);
	}
	pst_work_end();

	if (got && parcel->shipment.in_doubt && worker->ops->names_shipments && !parcel->letters &&
		hash_of(parcel) != outlet->cursor.intent_hash)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("events of shipment %s are not what they were when it was first sent", parcel->name)));
	return got;
}

/*
 * Put on disk that this very shipment is about to be sent, together with what
 * is acknowledged so far.
 */
void
pst_parcel_intend(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstAck		ack = {0};

	if (parcel->intended || parcel->shipment.nevents == 0)
		return;
	ack.route = outlet->route->id;
	ack.generation = outlet->cursor.generation;
	ack.kind = PST_ACK_INTENT;
	ack.from_position = parcel->shipment.from_position;
	ack.to_position = parcel->shipment.to_position;
	ack.settings = parcel->settings->version;
	ack.hash = hash_of(parcel);
	ack.counts = outlet->cursor.counts;

	pst_work_begin("announcing a shipment");
	SPI_connect();
	pst_write_acks(worker);
	pst_ack_write(&ack);
	SPI_finish();
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_OVERRIDE,
								 GUC_ACTION_LOCAL, true, 0, false);
	pst_work_end();
	/* a wait for a standby that was broken off is no promise */
	CHECK_FOR_INTERRUPTS();

	parcel->intended = true;
	outlet->cursor.intent = true;
	outlet->cursor.settings = ack.settings;
	outlet->cursor.intent_to = ack.to_position;
	outlet->cursor.intent_at = GetCurrentTimestamp();
	outlet->cursor.intent_hash = ack.hash;
}
