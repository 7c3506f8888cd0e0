/*
 * limit.c
 *	  Keeping the log within persistomata.max_log_size; in the scheduler.
 *
 * What is to be done for want of space, the mildest first: slots that all routes
 * have passed go before their retention is over; then, as persistomata.log_full
 * says, the oldest goes though routes have not passed it, or writers are refused.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "commands/dbcommands.h"
#include "config/config.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/ring.h"
#include "event/space.h"
#include "event/wake.h"
#include "miscadmin.h"
#include "route/route.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

#define MB (INT64CONST(1024) * 1024)

/* A route and where it stood. */
typedef struct Place
{
	PstRoute   *route;
	PstCursor	cursor;
} Place;

static PstQuery skip_query = {
	"INSERT INTO persistomata.route_skip (route, from_position, to_position) VALUES ($1, $2, $3)",
	3, {INT4OID, INT8OID, INT8OID}, NULL
};

/*
 * Without a limit, tell when the log is as large as all slots of the ring are
 * meant to be, and again whenever it has doubled.
 */
static void
warn_of_growth(int64 bytes)
{
	static int64 told = 0;
	int64		ring = (int64) pst_turn_size * MB * PST_RING_SLOTS;

	if (bytes < told / 2)
		told = 0;
	if (bytes < ring || bytes < told * 2)
		return;
	told = bytes;
	ereport(WARNING,
			(errmsg("the event log of database \"%s\" takes " INT64_FORMAT " MB",
					get_database_name(MyDatabaseId), bytes / MB),
			 errdetail("That is more than %d times persistomata.turn_size, and there is no limit.", PST_RING_SLOTS),
			 errhint("See persistomata.stat_ring for what keeps it; persistomata.max_log_size sets a limit.")));
}

bool
pst_log_over_limit(void)
{
	int64		bytes;

	pst_work_begin("measuring the event log");
	bytes = pst_log_bytes();
	if (pst_max_log_size == 0)
		warn_of_growth(bytes);
	pst_work_end();
	return pst_max_log_size > 0 && bytes >= pst_max_log_size * MB;
}

/* Where each route stands; in the transaction's context. */
static List *
find_places(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *places = NIL;
	List	   *routes;
	ListCell   *cell;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	routes = pst_route_list(NULL, context);
	foreach(cell, routes)
	{
		Place	   *place = MemoryContextAlloc(context, sizeof(Place));
		MemoryContext old;

		place->route = lfirst(cell);
		pst_cursor_read(place->route->id, &place->cursor);
		old = MemoryContextSwitchTo(context);
		places = lappend(places, place);
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	SPI_finish();
	return places;
}

/* Move a route past what is gone, if it had not passed it. */
static void
skip(const Place *place, int64 from, int64 end)
{
	Datum		args[3];

	if (!place->cursor.begun || place->cursor.next_position >= end)
		return;
	from = Max(from, place->cursor.next_position);
	args[0] = Int32GetDatum(place->route->id);
	args[1] = Int64GetDatum(from);
	args[2] = Int64GetDatum(end - 1);
	pst_query_write(&skip_query, args, NULL);
	ereport(WARNING,
			(errmsg("route \"%s\" loses " INT64_FORMAT " positions of the event log", place->route->name, end - from),
			 errdetail("The log has reached persistomata.max_log_size, and persistomata.log_full is \"drop_oldest\"; positions "
					   INT64_FORMAT " to " INT64_FORMAT " are dropped.", from, end - 1)));
}

bool
pst_drop_oldest(void)
{
	List	   *places;
	ListCell   *cell;
	int64		from,
				end;
	bool		dropped;

	pst_work_begin("dropping the oldest slot of the event log");
	/* where routes stand must not change until they are moved */
	pst_cut_lock();
	places = find_places();
	dropped = pst_ring_drop_oldest(&from, &end);
	if (dropped)
	{
		SPI_connect();
		PushActiveSnapshot(GetLatestSnapshot());
		foreach(cell, places)
			skip(lfirst(cell), from, end);
		PopActiveSnapshot();
		SPI_finish();
		pst_routes_changed();
	}
	pst_work_end();
	return dropped;
}

void
pst_refuse_writers(bool refuse)
{
	pst_work_begin("marking the event log");
	pst_log_set_full(refuse);
	pst_work_end();
}
