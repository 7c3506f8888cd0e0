/*
 * parcel.c
 *	  What an outlet sends at once: read from the log, named, and promised.
 *
 * Reading is a short transaction of its own.  So is the promise (the intent)
 * that sinks with names per shipment need: it is on disk before the first byte
 * leaves, so that whoever comes after sends the very same range under the very
 * same name.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "event/log.h"
#include "executor/spi.h"
#include "route/ack.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

/* The most events that one read looks at for those that a route wants. */
#define MAX_SCANNED 200000

/* A parcel from this size on leaves memory behind that is worth giving back. */
#define SWOLLEN_BYTES (1024 * 1024)

/* What is asked of an event before it is read whole. */
typedef struct Question
{
	const PstOutlet *outlet;
	Oid			relid;			/* the last table that was judged, */
	bool		may_read;		/* and how; not yet if there was none */
	bool		judged;
} Question;

static bool
is_wanted(const PstEvent *event, void *arg)
{
	Question   *question = arg;
	const PstRoute *route = question->outlet->route;
	const PstSnapshot *since = question->outlet->settings->since;

	/* what the route began with has it already */
	if (since && event->only_route == 0 && question->outlet->cursor.generation == 1 &&
		pst_snapshot_sees(since, event->xid))
		return false;
	if ((event->only_route != 0 && event->only_route != route->id) ||
		!pst_route_wants(question->outlet->settings, event))
		return false;
	if (!question->judged || question->relid != event->relid)
	{
		question->relid = event->relid;
		question->may_read = pst_route_may_read(route->owner, event->relid);
		question->judged = true;
	}
	return question->may_read;
}

/* The settings in force where the reader stands; in SPI. */
static void
find_settings(const PstSinkWorker *worker, PstOutlet *outlet)
{
	int			route = outlet->route->id;

	if (outlet->cursor.settings > 0)
		outlet->settings = pst_route_settings_of(route, outlet->cursor.settings, outlet->settings_context);
	if (outlet->settings == NULL)
		outlet->settings = pst_route_settings(route, 0, outlet->settings_context);
	if (outlet->settings)
		pst_outlet_take_limits(worker, outlet);
}

static void
next_settings(const PstSinkWorker *worker, PstOutlet *outlet)
{
	int64		version = outlet->settings->version;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* a parcel under way still uses those before: their memory stays until a rewind */
	outlet->settings = NULL;
	outlet->settings = pst_route_settings(outlet->route->id, version, outlet->settings_context);
	if (outlet->settings)
		pst_outlet_take_limits(worker, outlet);
	PopActiveSnapshot();
	SPI_finish();
}

/* Where does it stand?  False: no cut has seen the route yet. */
static bool
find_place(const PstSinkWorker *worker, PstOutlet *outlet)
{
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!outlet->cursor.begun)
	{
		pst_cursor_read(outlet->route->id, &outlet->cursor);
		outlet->acked_position = outlet->cursor.next_position;
		if (outlet->cursor.begun)
			pst_outlet_rewind(outlet);
	}
	if (outlet->cursor.begun && outlet->settings == NULL)
		find_settings(worker, outlet);
	PopActiveSnapshot();
	SPI_finish();
	return outlet->cursor.begun && outlet->settings != NULL;
}

/* Does the reader stand in the range of a replay? */
static bool
replays(const PstOutlet *outlet)
{
	return outlet->cursor.replay_to > 0 &&
		pst_reader_position(outlet->reader) <= outlet->cursor.replay_to;
}

/* A replay that has been read to its end goes on where the route stood. */
static void
leave_replay(PstOutlet *outlet)
{
	int64		position = pst_reader_position(outlet->reader);

	if (outlet->cursor.replay_to > 0 && position > outlet->cursor.replay_to &&
		position < outlet->cursor.resume_position)
		pst_reader_seek(outlet->reader, outlet->cursor.resume_position);
}

/* Fill the batch; goes on with newer settings where older ones end. */
static void
read_batch(const PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel, int64 newest)
{
	do
	{
		/* what was promised is sent whole, and nothing with it */
		bool		promised = pst_outlet_promised(outlet);
		bool		replay = replays(outlet);
		Question	question = {.outlet = outlet};
		PstReadLimits limits = {
			.newest_cut = newest,
			.settings_before = outlet->settings->until,
			.to_position = promised ? outlet->cursor.intent_to :
			replay ? outlet->cursor.replay_to : PG_INT64_MAX,
			.max_rows = outlet->max_rows,
			.max_bytes = outlet->max_bytes,
			.max_scanned = MAX_SCANNED
		};

		if (promised)
		{
			limits.max_rows = limits.max_scanned = INT_MAX;
			limits.max_bytes = MaxAllocHugeSize;
		}
		leave_replay(outlet);
		MemoryContextReset(parcel->batch.context);
		pst_reader_read(outlet->reader, &parcel->batch, &limits, is_wanted, &question);
		parcel->settings = outlet->settings;
		if (replay && parcel->batch.to_position < parcel->batch.from_position && parcel->batch.more)
		{
			/* nothing is left of the range */
			pst_reader_seek(outlet->reader, outlet->cursor.resume_position);
			continue;
		}
		/* a parcel under way keeps the settings that it was read under */
		if (parcel->batch.to_position >= parcel->batch.from_position || !parcel->batch.new_settings ||
			(parcel != worker->parcels && worker->parcels[0].outlet == outlet))
			return;
		next_settings(worker, outlet);
	} while (outlet->settings);
}

static void
name_shipment(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	PstShipment *shipment = &parcel->shipment;

	memset(shipment, 0, sizeof(*shipment));
	snprintf(parcel->name, sizeof(parcel->name), "%s-%d-%d-" INT64_FORMAT "-" INT64_FORMAT,
			 worker->log_id, outlet->route->id, outlet->cursor.generation,
			 parcel->batch.from_position, parcel->batch.to_position);
	shipment->serial = ++worker->readings;
	shipment->route = outlet->route->utf8_name;
	shipment->name = parcel->name;
	shipment->from_position = parcel->batch.from_position;
	shipment->to_position = parcel->batch.to_position;
	shipment->format = parcel->settings->format;
	shipment->options = parcel->settings->options;
	shipment->events = parcel->batch.events;
	shipment->nevents = parcel->batch.nevents;
	for (int i = 0; i < parcel->batch.nevents; i++)
		parcel->batch.events[i].stream_ms += outlet->cursor.shift_ms;
}

/*
 * Would a promise stand if any of it had been sent lately?  It was durable here
 * before the first byte left.  Not so on a primary whose promises we may not
 * have: that one knew only events of older timelines.
 */
static bool
would_be_promised(const PstSinkWorker *worker, const PstParcel *parcel)
{
	int			timeline = (int) GetWALInsertionTimeLine();

	if (!worker->ops->names_shipments)
		return false;
	for (int i = 0; i < parcel->batch.nevents; i++)
		if (parcel->batch.events[i].timeline != timeline)
			return false;
	return true;
}

/* Was any of it perhaps sent before, by us or by an earlier worker? */
static void
find_doubt(const PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel)
{
	parcel->in_doubt_since = 0;
	parcel->long_ago = false;
	if (outlet->cursor.intent && parcel->batch.from_position == outlet->cursor.next_position)
		parcel->in_doubt_since = outlet->cursor.intent_at;
	else if (parcel->batch.from_position <= outlet->doubted)
	{
		/* what may be there is looked for, but nothing is still on its way */
		parcel->long_ago = would_be_promised(worker, parcel);
		parcel->in_doubt_since = outlet->doubted_since - (parcel->long_ago ? USECS_PER_DAY : 0);
	}
}

/* It was sent just now, and may have landed. */
void
pst_parcel_doubt(PstParcel *parcel)
{
	if (parcel->in_doubt_since == 0 || parcel->long_ago)
		parcel->in_doubt_since = GetCurrentTimestamp();
	parcel->long_ago = false;
}

static uint64
content_hash(const PstParcel *parcel)
{
	uint64		hash = 0;

	for (int i = 0; i < parcel->batch.nevents; i++)
		hash = pst_event_hash(&parcel->batch.events[i], hash);
	return hash;
}

bool
pst_parcel_read(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel)
{
	int64		newest = (int64) pg_atomic_read_u64(&worker->scheduler->newest_cut);
	bool		found = false;

	if (parcel->batch.context == NULL)
		parcel->batch.context = AllocSetContextCreate(worker->context, "persistomata batch",
													  ALLOCSET_DEFAULT_SIZES);
	parcel->letters = NULL;
	parcel->nrefused = parcel->coalesced = 0;
	pst_work_begin("reading the event log");
	if (!find_place(worker, outlet))
		outlet->read_cut = newest;
	else if (outlet->read_cut != newest || pst_outlet_promised(outlet))
	{
		read_batch(worker, outlet, parcel, newest);
		found = parcel->batch.to_position >= parcel->batch.from_position;
		if (!parcel->batch.more && !parcel->batch.new_settings)
			outlet->read_cut = newest;
	}
	/* dead letters go behind all that is cut */
	if (!found && outlet->letters && outlet->read_cut == newest && worker->parcels[0].outlet != outlet)
		found = pst_letters_read(worker, outlet, parcel);
	pst_work_end();
	if (!found)
		return false;
	parcel->outlet = outlet;
	if (!parcel->letters)
	{
		name_shipment(worker, parcel);
		find_doubt(worker, outlet, parcel);
	}
	if (!pst_parcel_prepare(parcel))
	{
		/* what is under way of this outlet is not touched */
		if (!parcel->letters)
			pst_reader_seek(outlet->reader, parcel->batch.from_position);
		outlet->read_cut = 0;
		pst_parcel_drop(parcel);
		return false;
	}
	if (parcel->letters && parcel->shipment.nevents == 0)
	{
		/* there may be more */
		outlet->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100);
		pst_parcel_drop(parcel);
		return false;
	}
	/* here, since the sink may be busy with another now */
	if (worker->ops->names_shipments && !parcel->letters)
		parcel->hash = content_hash(parcel);
	worker->swollen |= parcel->batch.bytes > SWOLLEN_BYTES;
	outlet->waiting_since = 0;
	outlet->full = parcel->batch.more && !parcel->letters;
	if (parcel->shipment.nevents > 0)
		outlet->sent_at = GetCurrentTimestamp();
	return true;
}

void
pst_parcel_drop(PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;

	/* what may have landed is remembered */
	if (outlet && !parcel->letters && parcel->in_doubt_since != 0 && outlet->doubted < parcel->shipment.to_position)
	{
		outlet->doubted = parcel->shipment.to_position;
		outlet->doubted_since = parcel->in_doubt_since;
	}
	if (outlet && parcel->offered && outlet->connection && outlet->connection->sink)
		pst_sink_prepare(outlet->connection->sink, NULL);
	parcel->offered = false;
	parcel->in_doubt_since = 0;
	parcel->outlet = NULL;
	parcel->settings = NULL;
	if (parcel->batch.context)
		MemoryContextReset(parcel->batch.context);
}

/* The next parcel becomes the one at hand. */
void
pst_parcel_advance(PstSinkWorker *worker)
{
	PstParcel	done = worker->parcels[0];

	worker->parcels[0] = worker->parcels[1];
	worker->parcels[0].shipment.name = worker->parcels[0].name;
	worker->parcels[1] = done;
	worker->parcels[1].outlet = NULL;
}

/* Promise to send this range, if the sink's names need that. */
void
pst_parcel_intend(PstSinkWorker *worker, PstParcel *parcel)
{
	PstOutlet  *outlet = parcel->outlet;
	uint64		hash = parcel->hash;
	PstAck		ack;

	if (!worker->ops->names_shipments || parcel->letters)
		return;
	if (outlet->cursor.intent && parcel->batch.from_position == outlet->cursor.next_position)
	{
		if (hash != outlet->cursor.intent_hash)
			ereport(LOG,
					(errmsg("shipment \"%s\" of route \"%s\" reads differently than when it was promised",
							parcel->name, outlet->route->name)));
		return;
	}
	ack = (PstAck)
	{
		.route = outlet->route->id,
		.generation = outlet->cursor.generation,
		.kind = PST_ACK_INTENT,
		.from_position = parcel->batch.from_position,
		.to_position = parcel->batch.to_position,
		.settings = parcel->settings->version,
		.hash = hash,
		.counts = outlet->cursor.counts
	};
	pst_work_begin("promising a shipment");
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_ack_write(&ack);
	PopActiveSnapshot();
	SPI_finish();
	pst_work_end();

	/* the promise tells of all before it, too */
	outlet->cursor.intent = true;
	outlet->cursor.intent_to = ack.to_position;
	outlet->cursor.intent_at = GetCurrentTimestamp();
	outlet->cursor.intent_hash = hash;
	outlet->cursor.settings = ack.settings;
}
