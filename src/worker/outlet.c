/*
 * outlet.c
 *	  The routes of a sink worker: which there are, and where each stands.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

static const char *
server_option(const ForeignServer *server, const char *name)
{
	ListCell   *cell;

	foreach(cell, server->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return strVal(option->arg);
	}
	return NULL;
}

/* A server may ask for smaller shipments than its kind takes, a route for still smaller ones. */
static int
limit_of(const char *option, int most)
{
	return option ? Max(1, Min(atoi(option), most)) : most;
}

static void
find_server(PstSinkWorker *worker)
{
	ForeignServer *server = GetForeignServerByName(worker->server, true);
	const char *linger;

	worker->server_oid = server ? server->serverid : InvalidOid;
	worker->ops = server ? pst_sink_of_wrapper(GetForeignDataWrapper(server->fdwid)->fdwname) : NULL;
	if (worker->ops == NULL)
		return;
	worker->max_rows = limit_of(server_option(server, "max_rows"), worker->ops->max_rows);
	worker->max_bytes = limit_of(server_option(server, "max_bytes"), worker->ops->max_bytes);
	linger = server_option(server, "linger_ms");
	worker->linger_ms = linger ? atoi(linger) : 0;
}

static PstOutlet *
make_outlet(PstSinkWorker *worker, const PstRoute *route)
{
	MemoryContext context = AllocSetContextCreate(worker->context, "persistomata outlet", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	PstOutlet  *outlet = palloc0(sizeof(PstOutlet));

	outlet->context = context;
	outlet->settings_context = AllocSetContextCreate(context, "persistomata settings", ALLOCSET_SMALL_SIZES);
	outlet->route = palloc(sizeof(PstRoute));
	*outlet->route = *route;
	outlet->route->name = pstrdup(route->name);
	outlet->route->utf8_name = pstrdup(route->utf8_name);
	outlet->route->server = worker->server;
	outlet->reader = pst_reader_create(context);
	outlet->stat = pst_route_stat(MyDatabaseId, route->id);
	outlet->era = -1;
	MemoryContextSwitchTo(worker->context);
	worker->outlets = lappend(worker->outlets, outlet);
	MemoryContextSwitchTo(old);
	return outlet;
}

static void
free_outlet(PstSinkWorker *worker, PstOutlet *outlet, bool dropped)
{
	for (int i = 0; i < 2; i++)
		if (worker->parcels[i].outlet == outlet)
			pst_parcel_drop(&worker->parcels[i]);
	if (dropped)
		pst_route_stat_free(MyDatabaseId, outlet->route->id);
	else
		pst_stat_progress(outlet->stat, PST_ROUTE_STOPPED, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	worker->outlets = list_delete_ptr(worker->outlets, outlet);
	MemoryContextDelete(outlet->context);
}

/* Settings have been found: what they say of shipments. */
void
pst_outlet_take_limits(const PstSinkWorker *worker, PstOutlet *outlet)
{
	const PstOption *options = outlet->settings->options;
	const char *linger = pst_option(options, "linger_ms");

	outlet->max_rows = limit_of(pst_option(options, "max_rows"), worker->max_rows);
	outlet->max_bytes = limit_of(pst_option(options, "max_bytes"), worker->max_bytes);
	outlet->linger_ms = linger ? atoi(linger) : worker->linger_ms;
}

/* Forget which settings the reader is at: they are found from its position. */
void
pst_outlet_drop_settings(PstOutlet *outlet)
{
	outlet->settings = NULL;
	outlet->code_works = false;
	MemoryContextReset(outlet->settings_context);
}

/* Read again from the cursor on. */
void
pst_outlet_rewind(PstOutlet *outlet)
{
	pst_reader_seek(outlet->reader, outlet->cursor.next_position);
	pst_outlet_drop_settings(outlet);
	outlet->read_cut = 0;
}

/*
 * Take a route's place in the log from its table; in SPI.  What an earlier
 * worker may have sent is in doubt, and that had been cut before now.  But no
 * one has sent anything of a generation that came while we were here, and of a
 * replay a sink with promises has what was promised: else it would find there
 * what it is to get once more.
 */
static void
take_place(PstSinkWorker *worker, PstOutlet *outlet, bool fresh)
{
	outlet->doubted = fresh ? (int64) pg_atomic_read_u64(&worker->scheduler->end_position) - 1 : 0;
	for (int i = 0; i < 2; i++)
		if (worker->parcels[i].outlet == outlet)
			pst_parcel_drop(&worker->parcels[i]);
	pst_cursor_read(outlet->route->id, &outlet->cursor);
	outlet->acked_position = outlet->cursor.next_position;
	pst_outlet_rewind(outlet);
	if (fresh && outlet->cursor.replay_to > 0 && worker->ops && worker->ops->names_shipments)
		outlet->doubted = outlet->cursor.intent ? outlet->cursor.intent_to : 0;
	outlet->doubted_since = GetCurrentTimestamp();
	if (outlet->resent_to > 0 && worker->ops && worker->ops->names_shipments)
	{
		/* what is left there is found by asking; no token of this generation says anything */
		outlet->doubted = outlet->resent_to;
		outlet->doubted_since -= USECS_PER_DAY;
	}
	outlet->resent_to = 0;
}

/* Its worker has stopped it, perhaps an earlier one. */
static void
tell_held(PstSinkWorker *worker, PstOutlet *outlet, const PstRoute *route)
{
	/* whoever enables it means this copy: now it is the later one */
	if (outlet->route->held == 'f' && !route->held)
		pst_nonce_draw(worker);
	outlet->route->on_loss = route->on_loss;
	outlet->route->accepted_position = route->accepted_position;
	outlet->route->held = route->held;
	outlet->era = -1;
	outlet->marked_at = 0;
	if (route->held)
		pst_stat_fault(outlet->stat, route->held == 'f' ? PST_ROUTE_FENCED : PST_ROUTE_MISCONFIGURED, route->held_reason, 0);
}

static PstOutlet *
find_outlet(PstSinkWorker *worker, int route)
{
	ListCell   *cell;

	foreach(cell, worker->outlets)
		if (((PstOutlet *) lfirst(cell))->route->id == route)
			return lfirst(cell);
	return NULL;
}

static void
refresh(PstSinkWorker *worker, const PstRoute *route)
{
	PstOutlet  *outlet = find_outlet(worker, route->id);
	PstCursor	cursor;
	bool		fresh = outlet == NULL;

	if (fresh)
		outlet = make_outlet(worker, route);
	outlet->keep = true;
	outlet->route->owner = route->owner;
	outlet->failures = 0;
	outlet->retry_at = 0;
	pst_cursor_read(route->id, &cursor);
	if (fresh || !outlet->cursor.begun || cursor.generation != outlet->cursor.generation)
		take_place(worker, outlet, fresh);
	else if (cursor.next_position > outlet->cursor.next_position)
		take_place(worker, outlet, true);	/* of what was dropped, some may have been sent with the rest */
	else if (outlet->settings)
	{
		/* newer ones may have come, which end those in force */
		PstRouteSettings *now = pst_route_settings_of(route->id, outlet->settings->version, CurrentMemoryContext);

		if (now)
			outlet->settings->until = now->until;
		pst_outlet_take_limits(worker, outlet);
		outlet->read_cut = 0;
	}
	outlet->letters = pst_letters_wait(route->id);
	outlet->letters_at = 0;
	outlet->letters_failures = 0;
	outlet->connection = NULL;
	if (OidIsValid(worker->server_oid) && OidIsValid(route->owner))
		outlet->connection = pst_connection_for(worker, route->owner);
	pst_stat_progress(outlet->stat, PST_ROUTE_IDLE, outlet->cursor.next_position - 1, &outlet->cursor.counts);
	tell_held(worker, outlet, route);
}

/* Without a server or an owner nothing is kept to be sent: it is read again when there is one. */
static void
put_back(PstSinkWorker *worker)
{
	for (int i = 0; i < 2; i++)
	{
		PstOutlet  *outlet = worker->parcels[i].outlet;

		if (outlet == NULL || outlet->connection != NULL)
			continue;
		pst_parcel_drop(&worker->parcels[i]);
		pst_outlet_rewind(outlet);
	}
}

/*
 * Routes wait until there is a server again; to end would be to be started again.
 * One whose owner was dropped or renamed may read nothing: it does not pass by
 * what he may have read.
 */
static void
tell_what_lacks(PstSinkWorker *worker)
{
	ListCell   *cell;

	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		const char *what = NULL;

		if (!OidIsValid(worker->server_oid))
			what = "the server does not exist";
		else if (worker->ops == NULL)
			what = "the server is not of a kind of sink that is loaded in workers";
		else if (!OidIsValid(outlet->route->owner))
			what = "the route's owner does not exist";
		if (what)
			pst_stat_fault(outlet->stat, PST_ROUTE_MISCONFIGURED, what, 0);
	}
}

/*
 * Settle on the routes as they are now.  What waits after a failure tries again
 * at once.  Ends the process if none is left.
 */
void
pst_outlets_reload(PstSinkWorker *worker)
{
	MemoryContext scratch;
	List	   *routes;
	ListCell   *cell;

	worker->routes_seen = pg_atomic_read_u32(&worker->scheduler->routes);
	pst_acknowledge(worker);
	pst_audit_drop(worker);
	worker->audits_due = true;
	/* the next parcel was read under what held before */
	if (worker->parcels[1].outlet)
	{
		PstOutlet  *outlet = worker->parcels[1].outlet;

		pst_parcel_drop(&worker->parcels[1]);
		if (worker->parcels[0].outlet == outlet)
			pst_parcel_drop(&worker->parcels[0]);
		pst_outlet_rewind(outlet);
	}

	pst_work_begin("reading routes");
	scratch = CurrentMemoryContext;
	find_server(worker);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	routes = pst_route_list(worker->server, scratch);
	foreach(cell, worker->outlets)
		((PstOutlet *) lfirst(cell))->keep = false;
	foreach(cell, routes)
	{
		PstRoute   *route = lfirst(cell);

		if (route->enabled)
			refresh(worker, route);
	}
	for (int i = list_length(worker->outlets) - 1; i >= 0; i--)
	{
		PstOutlet  *outlet = list_nth(worker->outlets, i);
		bool		there = false;

		foreach(cell, routes)
			if (((PstRoute *) lfirst(cell))->id == outlet->route->id)
				there = true;
		if (!outlet->keep)
			free_outlet(worker, outlet, !there);
	}
	foreach(cell, worker->connections)
	{
		PstConnection *connection = lfirst(cell);

		connection->failures = 0;
		connection->retry_at = 0;
	}
	put_back(worker);
	tell_what_lacks(worker);
	PopActiveSnapshot();
	SPI_finish();
	pst_work_end();
	if (worker->outlets == NIL)
		pst_worker_quit();
}

/* Does the reader stand before a shipment that was promised and is not settled? */
bool
pst_outlet_promised(const PstOutlet *outlet)
{
	return outlet->cursor.intent && pst_reader_position(outlet->reader) <= outlet->cursor.intent_to;
}

/* Has something come since the outlet looked last? */
static bool
has_work(const PstSinkWorker *worker, const PstOutlet *outlet)
{
	return pst_letters_due(outlet) || pst_outlet_promised(outlet) ||
		outlet->read_cut != (int64) pg_atomic_read_u64(&worker->scheduler->newest_cut);
}

/* What waits for more to come, or for its time: see throttle and linger_ms. */
static TimestampTz
patience(PstOutlet *outlet)
{
	TimestampTz until = 0;

	if (outlet->waiting_since == 0)
		outlet->waiting_since = GetCurrentTimestamp();
	if (outlet->linger_ms > 0)
		until = TimestampTzPlusMilliseconds(outlet->waiting_since, outlet->linger_ms);
	if (outlet->settings->throttle.every_ms > 0)
		until = Max(until, TimestampTzPlusMilliseconds(outlet->sent_at, outlet->settings->throttle.every_ms));
	return until;
}

TimestampTz
pst_outlet_due_at(const PstSinkWorker *worker, PstOutlet *outlet)
{
	TimestampTz at = Max(outlet->retry_at, outlet->connection->retry_at);

	if (outlet->route->held)
		return 0;
	if (outlet->settings && !outlet->full && !pst_outlet_promised(outlet) && has_work(worker, outlet))
		at = Max(at, patience(outlet));
	if (outlet->letters && !has_work(worker, outlet))
		at = Max(at, outlet->letters_at);
	return at;
}

/* Is there something that an outlet could send now? */
bool
pst_outlet_is_ready(const PstSinkWorker *worker, PstOutlet *outlet)
{
	TimestampTz at;

	if (outlet->connection == NULL || outlet->route->held || !has_work(worker, outlet))
		return false;
	at = pst_outlet_due_at(worker, outlet);
	return at == 0 || at <= GetCurrentTimestamp();
}
