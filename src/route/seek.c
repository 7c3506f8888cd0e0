/*
 * seek.c
 *	  Where a route goes on: its generations.
 *
 * A seek or a replay begins a new generation: what is sent again has names that
 * no sink has seen, and is sent as the route is now.  Both hold the cutters'
 * lock until they commit, so that no slot of the ring is emptied between the
 * decision to go back into it and the row that pins it.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/wake.h"
#include "fmgr.h"
#include "route/edit.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(pst_seek_route);
PG_FUNCTION_INFO_V1(pst_replay);

static PstQuery begin_query = {
	"INSERT INTO persistomata.route_generation (route, generation, from_position, to_position, settings, shift_ms)"
	" SELECT $1, coalesce(pg_catalog.max(generation), 0) OPERATOR(pg_catalog.+) 1, $2, $3, $4, $5"
	" FROM persistomata.route_generation WHERE route OPERATOR(pg_catalog.=) $1",
	5, {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID}, NULL
};

static PstQuery newest_version_query = {
	"SELECT pg_catalog.max(version) FROM persistomata.route_settings WHERE route OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static PstQuery fenced_query = {
	"SELECT 1 FROM persistomata.route WHERE id OPERATOR(pg_catalog.=) $1 AND held OPERATOR(pg_catalog.=) 'fenced'",
	1, {INT4OID}, NULL
};

void
pst_generation_begin(const PstGeneration *generation)
{
	Datum		args[5];
	char		nulls[6] = "     ";

	args[0] = Int32GetDatum(generation->route);
	args[1] = Int64GetDatum(generation->from_position);
	nulls[1] = generation->from_position > 0 ? ' ' : 'n';
	args[2] = Int64GetDatum(generation->to_position);
	nulls[2] = generation->to_position > 0 ? ' ' : 'n';
	args[3] = Int64GetDatum(generation->settings);
	args[4] = Int64GetDatum(generation->shift_ms);
	pst_query_write(&begin_query, args, nulls);
}

int64
pst_newest_settings(int route)
{
	Datum		arg = Int32GetDatum(route);

	pst_query_write(&newest_version_query, &arg, NULL);
	return DatumGetInt64(pst_result(0, 1, NULL));
}

/*
 * How far stream ids must be moved so that what is sent again lies above all
 * that was sent before.
 */
static int64
shift_for(const PstCursor *cursor, const PstRing *ring, int64 position)
{
	PstCut		newest;
	PstCut	   *cuts;
	int64		cut;
	bool		gap;

	pst_cut_newest(ring, &newest);
	cut = pst_cut_at_position(ring, position);
	if (cut == 0 || pst_cut_load(ring, cut, 1, CurrentMemoryContext, &cuts, &gap) == 0)
		return cursor->shift_ms;
	return cursor->shift_ms + newest.stream_ms - cuts[1].stream_ms + 1;
}

static void
check_position(int64 position)
{
	if (position < 1)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("a position is at least 1")));
}

Datum
pst_seek_route(PG_FUNCTION_ARGS)
{
	PstGeneration generation = {.from_position = PG_GETARG_INT64(1)};
	PstOwnerRights rights;
	PstCursor	cursor;
	PstCut		newest;
	PstRing		ring;

	check_position(generation.from_position);
	pst_owner_begin(&rights);
	pst_cut_lock();
	generation.route = pst_find_route(&rights, text_to_cstring(PG_GETARG_TEXT_PP(0)), NULL);
	PushActiveSnapshot(GetLatestSnapshot());
	pst_cursor_read(generation.route, &cursor);
	pst_ring_read(&ring);
	/* what does not exist yet is not skipped */
	pst_cut_newest(&ring, &newest);
	generation.from_position = Min(generation.from_position, Max(newest.first_position + newest.events, 1));
	generation.shift_ms = shift_for(&cursor, &ring, generation.from_position);
	PopActiveSnapshot();
	generation.settings = pst_newest_settings(generation.route);
	pst_generation_begin(&generation);
	pst_owner_end(&rights);
	pst_routes_changed();
	PG_RETURN_VOID();
}

/* Where the log begins that is kept; 0: nowhere. */
static int64
oldest_position(const PstRing *ring)
{
	int64		cut = pst_cut_at_position(ring, 1);
	PstCut	   *cuts;
	bool		gap;

	for (; cut > 0; cut++)
	{
		if (pst_cut_load(ring, cut, 1, CurrentMemoryContext, &cuts, &gap) > 0)
			return cuts[1].first_position;
		if (!gap)
			break;
	}
	return 0;
}

int64
pst_route_go_back(int route, int64 position)
{
	PstGeneration generation = {.route = route};
	PstCursor	cursor;
	PstRing		ring;

	pst_cut_lock();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_cursor_read(route, &cursor);
	pst_ring_read(&ring);
	generation.from_position = Max(position, oldest_position(&ring));
	generation.shift_ms = shift_for(&cursor, &ring, generation.from_position);
	PopActiveSnapshot();
	generation.settings = pst_newest_settings(route);
	pst_generation_begin(&generation);
	pst_routes_changed();
	return generation.from_position;
}

/*
 * Another copy of the cluster may have sent under the very names and numbers that
 * a fenced route would go on with: what waits gets new ones.
 */
void
pst_route_part(int route)
{
	Datum		arg = Int32GetDatum(route);
	PstCursor	cursor;

	if (pst_query_write(&fenced_query, &arg, NULL) == 0)
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	pst_cursor_read(route, &cursor);
	PopActiveSnapshot();
	if (cursor.begun && cursor.replay_to == 0)
		(void) pst_route_go_back(route, cursor.next_position);
}

/*
 * Throws if nothing is there of the range.  Where it reaches beyond what the
 * route has sent, that is sent for the first time, once.
 */
static void
check_range(const PstCursor *cursor, const PstRing *ring, const char *route, PstGeneration *generation)
{
	int64		oldest = oldest_position(ring);
	PstCut		newest;
	int64		end;

	pst_cut_newest(ring, &newest);
	end = newest.first_position + newest.events;
	if (cursor->replay_to > 0 && cursor->next_position <= cursor->replay_to)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("route \"%s\" is being replayed already", route),
				 errhint("See persistomata.stat_replay.")));
	if (!cursor->begun || generation->from_position >= end)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("route \"%s\" has not come to position " INT64_FORMAT " yet", route, generation->from_position)));
	if (oldest == 0 || generation->from_position < oldest)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("position " INT64_FORMAT " is not kept any more", generation->from_position),
				 errdetail("The oldest that is kept is " INT64_FORMAT ".", oldest)));
	generation->to_position = Min(generation->to_position, end - 1);
}

/* replay(name, from_position, to_position): how many positions will be sent again */
Datum
pst_replay(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PstGeneration generation = {.from_position = PG_GETARG_INT64(1), .to_position = PG_GETARG_INT64(2)};
	PstOwnerRights rights;
	PstCursor	cursor;
	PstRing		ring;

	check_position(generation.from_position);
	if (generation.to_position < generation.from_position)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the end of a replay must not lie before its beginning")));
	pst_owner_begin(&rights);
	pst_cut_lock();
	generation.route = pst_find_route(&rights, name, NULL);
	PushActiveSnapshot(GetLatestSnapshot());
	pst_cursor_read(generation.route, &cursor);
	pst_ring_read(&ring);
	check_range(&cursor, &ring, name, &generation);
	generation.shift_ms = shift_for(&cursor, &ring, generation.from_position);
	PopActiveSnapshot();
	generation.settings = pst_newest_settings(generation.route);
	pst_generation_begin(&generation);
	pst_owner_end(&rights);
	pst_routes_changed();
	PG_RETURN_INT64(generation.to_position - generation.from_position + 1);
}
