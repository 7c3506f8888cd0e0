/*
 * catalog.c
 *	  Reading routes, their settings and their cursors.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/cut.h"
#include "event/query.h"
#include "event/utf8.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "route/edit.h"
#include "route/route.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(pst_route_position);

/* An owner that is no more is nobody: what he brought along must not run as somebody else. */
static PstQuery list_query = {
	"SELECT id, name, server, coalesce((SELECT o.oid FROM pg_catalog.pg_roles o"
	" WHERE o.rolname OPERATOR(pg_catalog.=) r.owner), '0'::pg_catalog.oid), enabled,"
	" held, held_reason, accepted_position,"
	" (SELECT s.options OPERATOR(pg_catalog.->>) 'on_loss' FROM persistomata.route_settings s"
	" WHERE s.route OPERATOR(pg_catalog.=) r.id ORDER BY s.version DESC LIMIT 1)"
	" FROM persistomata.route r"
	" WHERE $1 IS NULL OR server OPERATOR(pg_catalog.=) $1 ORDER BY id",
	1, {NAMEOID}, NULL
};

#define SETTINGS_SELECT \
	"SELECT s.version, s.machine, s.types, s.events, s.states, s.format, s.options," \
	" s.filter, s.throttle, s.search_path, s.since," \
	" (SELECT pg_catalog.min(n.version) FROM persistomata.route_settings n" \
	" WHERE n.route OPERATOR(pg_catalog.=) $1 AND n.version OPERATOR(pg_catalog.>) s.version)" \
	" FROM persistomata.route_settings s WHERE s.route OPERATOR(pg_catalog.=) $1"

static PstQuery next_settings_query = {
	SETTINGS_SELECT " AND s.version OPERATOR(pg_catalog.>) $2 ORDER BY s.version LIMIT 1",
	2, {INT4OID, INT8OID}, NULL
};

static PstQuery settings_query = {
	SETTINGS_SELECT " AND s.version OPERATOR(pg_catalog.=) $2",
	2, {INT4OID, INT8OID}, NULL
};

static PstQuery options_query = {
	"SELECT key, value FROM pg_catalog.jsonb_each_text($1) ORDER BY key",
	1, {JSONBOID}, NULL
};

static PstQuery generation_query = {
	"SELECT generation, from_position, settings, shift_ms, to_position FROM persistomata.route_generation"
	" WHERE route OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.<=) $2 ORDER BY generation DESC LIMIT 1",
	2, {INT4OID, INT4OID}, NULL
};

static PstQuery newest_ack_queries[PST_RING_SLOTS] = {{
	"SELECT id, to_position, settings, sent, retried, duplicates, dead, from_position, at, hash, coalesced"
	" FROM persistomata.ack_%d"
	" WHERE route OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $2"
	" AND kind OPERATOR(pg_catalog.=) $3 ORDER BY id DESC LIMIT 1",
	3, {INT4OID, INT4OID, CHAROID}, NULL
}};

static PstQuery cut_position_queries[PST_RING_SLOTS] = {{
	"SELECT first_position FROM persistomata.cut_%d WHERE cut OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
}};

/* What stands in a row of the list of why a route does not send. */
static void
take_held(PstRoute *route, uint64 row)
{
	bool		isnull;
	Datum		value = pst_result(row, 6, &isnull);

	route->held = isnull ? 0 : TextDatumGetCString(value)[0];
	value = pst_result(row, 7, &isnull);
	if (!isnull)
	{
		char	   *reason = TextDatumGetCString(value);

		reason[pg_mbcliplen(reason, strlen(reason), sizeof(route->held_reason) - 1)] = '\0';
		strlcpy(route->held_reason, reason, sizeof(route->held_reason));
	}
	route->accepted_position = DatumGetInt64(pst_result(row, 8, NULL));
	value = pst_result(row, 9, &isnull);
	route->on_loss = isnull ? 'c' : TextDatumGetCString(value)[0];
}

List *
pst_route_list(const char *server, MemoryContext context)
{
	NameData	name;
	Datum		arg = (Datum) 0;
	List	   *list = NIL;
	uint64		rows;
	MemoryContext old;

	if (server)
	{
		namestrcpy(&name, server);
		arg = NameGetDatum(&name);
	}
	rows = pst_query_write(&list_query, &arg, server ? " " : "n");
	old = MemoryContextSwitchTo(context);
	for (uint64 row = 0; row < rows; row++)
	{
		PstRoute   *route = palloc0(sizeof(PstRoute));

		route->id = DatumGetInt32(pst_result(row, 1, NULL));
		route->name = TextDatumGetCString(pst_result(row, 2, NULL));
		route->utf8_name = pst_to_utf8(route->name);
		route->server = pstrdup(NameStr(*DatumGetName(pst_result(row, 3, NULL))));
		route->owner = DatumGetObjectId(pst_result(row, 4, NULL));
		route->enabled = DatumGetBool(pst_result(row, 5, NULL));
		take_held(route, row);
		list = lappend(list, route);
	}
	MemoryContextSwitchTo(old);
	return list;
}

static List *
text_list(int column)
{
	bool		isnull;
	Datum		array = pst_result(0, column, &isnull);
	List	   *list = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			list = lappend(list, pst_to_utf8(TextDatumGetCString(elements[i])));
	return list;
}

static char *
text_or_null(int column)
{
	bool		isnull;
	Datum		value = pst_result(0, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static PstOption *
option_array(Datum jsonb, MemoryContext context)
{
	uint64		rows = pst_query_read(&options_query, &jsonb);
	MemoryContext old = MemoryContextSwitchTo(context);
	PstOption  *options = palloc0(sizeof(PstOption) * (rows + 1));

	for (uint64 row = 0; row < rows; row++)
	{
		bool		isnull;
		Datum		value = pst_result(row, 2, &isnull);

		options[row].name = TextDatumGetCString(pst_result(row, 1, NULL));
		options[row].value = isnull ? "" : pst_to_utf8(TextDatumGetCString(value));
	}
	MemoryContextSwitchTo(old);
	return options;
}

static PstRouteSettings *
settings_row(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	PstRouteSettings *settings = palloc0(sizeof(PstRouteSettings));
	char	   *format;
	Datum		options;
	Datum		since;
	bool		whole;
	bool		last;

	settings->version = DatumGetInt64(pst_result(0, 1, NULL));
	settings->machine = pst_to_utf8(TextDatumGetCString(pst_result(0, 2, NULL)));
	settings->types = text_list(3);
	settings->events = text_list(4);
	settings->states = text_list(5);
	format = TextDatumGetCString(pst_result(0, 6, NULL));
	settings->format = pst_format_is_built_in(format) ? format : "json";
	if (settings->format != format)
		settings->encoder = format;
	options = pst_result(0, 7, NULL);
	settings->filter = text_or_null(8);
	settings->throttle = pst_throttle_parse(text_or_null(9));
	since = pst_result(0, 11, &whole);
	if (!whole)
		settings->since = pst_snapshot_from_datum(since);
	settings->search_path = TextDatumGetCString(pst_result(0, 10, NULL));
	settings->until = DatumGetInt64(pst_result(0, 12, &last));
	if (last)
		settings->until = PG_INT64_MAX;
	MemoryContextSwitchTo(old);
	settings->options = option_array(options, context);
	return settings;
}

PstRouteSettings *
pst_route_settings(int route, int64 after, MemoryContext context)
{
	Datum		args[2] = {Int32GetDatum(route), Int64GetDatum(after)};

	return pst_query_read(&next_settings_query, args) ? settings_row(context) : NULL;
}

PstRouteSettings *
pst_route_settings_of(int route, int64 version, MemoryContext context)
{
	Datum		args[2] = {Int32GetDatum(route), Int64GetDatum(version)};

	return pst_query_read(&settings_query, args) ? settings_row(context) : NULL;
}

/* The newest row of a kind in any slot: its id, or 0. */
static int64
newest_ack(const PstRing *ring, int route, char kind, PstCursor *cursor)
{
	Datum		args[3] = {Int32GetDatum(route), Int32GetDatum(cursor->generation), CharGetDatum(kind)};
	int64		newest = 0;

	for (int i = 0; i < ring->nlive; i++)
	{
		bool		isnull;
		Datum		hash;

		if (pst_query_read_slot(newest_ack_queries, ring->live[i].slot, args) == 0 ||
			DatumGetInt64(pst_result(0, 1, NULL)) <= newest)
			continue;
		newest = DatumGetInt64(pst_result(0, 1, NULL));
		cursor->settings = DatumGetInt64(pst_result(0, 3, NULL));
		cursor->counts.sent = DatumGetInt64(pst_result(0, 4, NULL));
		cursor->counts.retried = DatumGetInt64(pst_result(0, 5, NULL));
		cursor->counts.duplicates = DatumGetInt64(pst_result(0, 6, NULL));
		cursor->counts.dead = DatumGetInt64(pst_result(0, 7, NULL));
		cursor->counts.coalesced = DatumGetInt64(pst_result(0, 11, NULL));
		if (kind == 'a')
		{
			cursor->next_position = DatumGetInt64(pst_result(0, 2, NULL)) + 1;
			continue;
		}
		cursor->next_position = DatumGetInt64(pst_result(0, 8, NULL));
		cursor->intent_to = DatumGetInt64(pst_result(0, 2, NULL));
		cursor->intent_at = DatumGetInt64(pst_result(0, 9, NULL));
		hash = pst_result(0, 10, &isnull);
		if (!isnull)
			memcpy(&cursor->intent_hash, VARDATA_ANY(DatumGetByteaPP(hash)), sizeof(uint64));
	}
	return newest;
}

static int64
position_of_cut(const PstRing *ring, int64 cut)
{
	Datum		arg = Int64GetDatum(cut);

	for (int i = 0; i < ring->nlive; i++)
		if (pst_query_read_slot(cut_position_queries, ring->live[i].slot, &arg) > 0)
			return DatumGetInt64(pst_result(0, 1, NULL));
	elog(ERROR, "cut " INT64_FORMAT " is not there", cut);
	return 0;
}

/* Where a generation without acknowledgements begins. */
static void
find_beginning(const PstRing *ring, PstCursor *cursor, bool from_start, int64 position, int64 settings)
{
	int64		cut;

	cursor->begun = true;
	if (from_start)
	{
		cursor->next_position = position;
		return;
	}
	cut = pst_cut_at_settings(ring, settings);
	if (cut == 0)
		cursor->begun = false;
	else
		cursor->next_position = position_of_cut(ring, cut);
}

static PstQuery skip_query = {
	"SELECT pg_catalog.max(to_position) FROM persistomata.route_skip WHERE route OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

/* What was dropped before the route came to it is passed, and not promised any more. */
static void
pass_dropped(int route, PstCursor *cursor)
{
	Datum		arg = Int32GetDatum(route);
	int64		to_position;
	bool		none;

	pst_query_read(&skip_query, &arg);
	to_position = DatumGetInt64(pst_result(0, 1, &none));
	if (none || !cursor->begun || cursor->next_position > to_position)
		return;
	cursor->next_position = to_position + 1;
	cursor->intent = false;
}

/*
 * The newest generation up to this one; where it stands, but for a replay's end.
 * True if something of it is acknowledged or promised.
 */
static bool
read_generation(const PstRing *ring, int route, int generation, PstCursor *cursor)
{
	Datum		args[2] = {Int32GetDatum(route), Int32GetDatum(generation)};
	PstCursor	intent;
	int64		acked,
				intended,
				from_position,
				settings;
	bool		from_settings,
				endless;

	memset(cursor, 0, sizeof(*cursor));
	if (pst_query_read(&generation_query, args) == 0)
		return false;
	cursor->generation = DatumGetInt32(pst_result(0, 1, NULL));
	from_position = DatumGetInt64(pst_result(0, 2, &from_settings));
	settings = DatumGetInt64(pst_result(0, 3, NULL));
	cursor->shift_ms = DatumGetInt64(pst_result(0, 4, NULL));
	cursor->replay_to = DatumGetInt64(pst_result(0, 5, &endless));
	if (endless)
		cursor->replay_to = 0;

	intent = *cursor;
	acked = newest_ack(ring, route, 'a', cursor);
	intended = newest_ack(ring, route, 'i', &intent);
	if (intended > acked)
	{
		*cursor = intent;
		cursor->intent = true;
	}
	if (acked > 0 || intended > 0)
	{
		cursor->begun = true;
		pass_dropped(route, cursor);
		return true;
	}
	/* what is sent again is sent as the route is now */
	if (cursor->generation > 1)
		cursor->settings = settings;
	find_beginning(ring, cursor, !from_settings, from_position, settings);
	pass_dropped(route, cursor);
	return false;
}

/* As read_generation(), with what it has of those before. */
static void
read_place(const PstRing *ring, int route, int generation, PstCursor *cursor)
{
	bool		moved = read_generation(ring, route, generation, cursor);
	PstCursor	before;

	/* counts go on through a seek, and after a replay the route itself */
	if (cursor->generation <= 1 || (moved && cursor->replay_to == 0))
		return;
	check_stack_depth();
	read_place(ring, route, cursor->generation - 1, &before);
	if (!moved)
		cursor->counts = before.counts;
	if (cursor->replay_to > 0)
	{
		/* one replay after another: the first may have moved nothing but its own range */
		cursor->resume_position = Max(before.next_position, before.resume_position);
		/* what has not been sent yet is not skipped */
		if (!moved)
			cursor->next_position = Min(cursor->next_position, cursor->resume_position);
	}
}

void
pst_cursor_read(int route, PstCursor *cursor)
{
	PstRing		ring;

	pst_ring_read(&ring);
	read_place(&ring, route, PG_INT32_MAX, cursor);
}

void
pst_cursor_move(PstCursor *cursor, int64 next_position)
{
	if (cursor->replay_to > 0 && next_position > cursor->replay_to)
		next_position = Max(next_position, cursor->resume_position);
	cursor->next_position = next_position;
}

/* route_position(route_id): with the extension's own rights */
Datum
pst_route_position(PG_FUNCTION_ARGS)
{
	PstCursor	cursor;
	PstOwnerRights rights;

	pst_owner_begin(&rights);
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_cursor_read(PG_GETARG_INT32(0), &cursor);
	PopActiveSnapshot();
	pst_owner_end(&rights);
	if (!cursor.begun)
		PG_RETURN_NULL();
	PG_RETURN_INT64(cursor.next_position - 1);
}
