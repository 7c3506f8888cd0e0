/*
 * edit.c
 *	  create_route and its like: SQL functions that change routes.
 *
 * Each checks the caller's rights as the caller, then works as the extension's
 * owner.  Versions of settings are drawn under a lock that is kept until the
 * transaction ends: they become visible in their own order, so a cut that has
 * seen one has seen all smaller ones.
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type_d.h"
#include "catalog/namespace.h"
#include "compat/compat.h"
#include "event/cut.h"
#include "event/log.h"
#include "event/query.h"
#include "event/wake.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "fsm/fsm.h"
#include "miscadmin.h"
#include "route/code.h"
#include "route/edit.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(pst_create_route);
PG_FUNCTION_INFO_V1(pst_alter_route);
PG_FUNCTION_INFO_V1(pst_drop_route);
PG_FUNCTION_INFO_V1(pst_enable_route);
PG_FUNCTION_INFO_V1(pst_disable_route);
PG_FUNCTION_INFO_V1(pst_retry_dead_letter);
PG_FUNCTION_INFO_V1(pst_discard_dead_letter);

static PstQuery create_query = {
	"INSERT INTO persistomata.route (name, server, owner) VALUES ($1, $2, pg_catalog.pg_get_userbyid($3)) RETURNING id",
	3, {TEXTOID, NAMEOID, OIDOID}, NULL
};

static PstQuery exists_query = {
	"SELECT 1 FROM persistomata.route WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}, NULL
};

static PstQuery version_query = {
	"SELECT pg_catalog.nextval('persistomata.settings_version')",
	0, {0}, NULL
};

static PstQuery settings_query = {
	"INSERT INTO persistomata.route_settings (route, version, machine, types, events, states, format, start, options,"
	" filter, throttle, search_path, since)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
	13, {INT4OID, INT8OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, JSONBOID,
	TEXTOID, TEXTOID, TEXTOID, PG_SNAPSHOTOID}, NULL
};

static PstQuery find_query = {
	"SELECT id, persistomata.role_of(owner), server FROM persistomata.route"
	" WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
	1, {TEXTOID}, NULL
};

static PstQuery newest_settings_query = {
	"SELECT machine, types, events, states, format, start, options, filter, throttle, search_path, since, version"
	" FROM persistomata.route_settings"
	" WHERE route OPERATOR(pg_catalog.=) $1 ORDER BY version DESC LIMIT 1",
	1, {INT4OID}, NULL
};

static PstQuery drop_query = {
	"DELETE FROM persistomata.route WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static PstQuery enable_query = {
	"UPDATE persistomata.route SET enabled = $2,"
	" accepted_position = CASE WHEN $2 AND held OPERATOR(pg_catalog.=) 'lost' THEN held_position ELSE accepted_position END,"
	" held = CASE WHEN $2 THEN NULL ELSE held END"
	" WHERE id OPERATOR(pg_catalog.=) $1 AND (enabled OPERATOR(pg_catalog.<>) $2 OR (held IS NOT NULL AND $2))",
	2, {INT4OID, BOOLOID}, NULL
};

/* The loss is not accepted: the route as it is now says what is done about it. */
static PstQuery release_query = {
	"UPDATE persistomata.route SET held = NULL WHERE id OPERATOR(pg_catalog.=) $1 AND held OPERATOR(pg_catalog.=) 'lost'",
	1, {INT4OID}, NULL
};

static PstQuery letter_query = {
	"SELECT persistomata.role_of(r.owner), r.name FROM persistomata.dead_letter_entry d"
	" JOIN persistomata.route r ON r.id OPERATOR(pg_catalog.=) d.route"
	" WHERE d.id OPERATOR(pg_catalog.=) $1 FOR UPDATE OF d",
	1, {INT8OID}, NULL
};

static PstQuery retry_query = {
	"UPDATE persistomata.dead_letter_entry SET retry = pg_catalog.nextval('persistomata.dead_letter_retry')"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

static PstQuery discard_query = {
	"WITH gone AS (DELETE FROM persistomata.dead_letter_entry WHERE id OPERATOR(pg_catalog.=) $1"
	" RETURNING route, position, name)"
	" INSERT INTO persistomata.discarded_letter SELECT route, position, name FROM gone ON CONFLICT DO NOTHING",
	1, {INT8OID}, NULL
};

void
pst_owner_begin(PstOwnerRights *rights)
{
	Oid			schema = get_namespace_oid("persistomata", false);
	Oid			owner = InvalidOid;
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));

	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		owner = DatumGetObjectId(SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspowner, &isnull));
		ReleaseSysCache(tuple);
	}
	GetUserIdAndSecContext(&rights->user, &rights->context);
	rights->owner = owner;
	pst_owner_resume(rights);
	SPI_connect();
}

void
pst_owner_resume(const PstOwnerRights *rights)
{
	SetUserIdAndSecContext(rights->owner, rights->context | SECURITY_LOCAL_USERID_CHANGE);
}

void
pst_owner_pause(const PstOwnerRights *rights)
{
	SetUserIdAndSecContext(rights->user, rights->context);
}

void
pst_owner_end(const PstOwnerRights *rights)
{
	SPI_finish();
	pst_owner_pause(rights);
}

void
pst_route_check_owner(const PstOwnerRights *rights, Oid owner, const char *name)
{
	if (!has_privs_of_role(rights->user, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of route \"%s\"", name)));
}

int
pst_find_route(const PstOwnerRights *rights, const char *name, char **server)
{
	Datum		arg = CStringGetTextDatum(name);
	int			id;

	if (pst_query_write(&find_query, &arg, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("route \"%s\" does not exist", name)));
	id = DatumGetInt32(pst_result(0, 1, NULL));
	if (server)
		*server = pstrdup(NameStr(*DatumGetName(pst_result(0, 3, NULL))));
	pst_route_check_owner(rights, DatumGetObjectId(pst_result(0, 2, NULL)), name);
	return id;
}

static int64
draw_version(void)
{
	LockRelationOid(pst_log_relation("route_settings"), ShareRowExclusiveLock);
	pst_query_write(&version_query, NULL, NULL);
	return DatumGetInt64(pst_result(0, 1, NULL));
}

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
needed_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *text = text_arg(fcinfo, n);

	if (text == NULL || text[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be given", name)));
	return text;
}

/* An array that is given; an empty one stands for NULL: all. */
static void
array_arg(FunctionCallInfo fcinfo, int n, Datum *value, char *null)
{
	if (PG_ARGISNULL(n))
		return;
	*value = PG_GETARG_DATUM(n);
	pst_route_check_list(*value);
	*null = ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(*value)),
						   ARR_DIMS(DatumGetArrayTypeP(*value))) == 0 ? 'n' : ' ';
}

/* The columns of route_settings, as the queries above have them. */
enum
{
	SET_ROUTE, SET_VERSION, SET_MACHINE, SET_TYPES, SET_EVENTS, SET_STATES, SET_FORMAT, SET_START,
	SET_OPTIONS, SET_FILTER, SET_THROTTLE, SET_PATH, SET_SINCE, SETTINGS_COLUMNS
};

typedef struct NewSettings
{
	Datum		values[SETTINGS_COLUMNS];
	char		nulls[SETTINGS_COLUMNS + 1];
} NewSettings;

static void
set_text(NewSettings *settings, int column, const char *text)
{
	settings->nulls[column] = text == NULL ? 'n' : ' ';
	if (text)
		settings->values[column] = CStringGetTextDatum(text);
}

/*
 * A filter or throttle that is given; the empty string takes it away.  What is
 * asked for is checked as the caller.
 */
static void
set_conditions(NewSettings *settings, const char *filter, const char *throttle)
{
	if (throttle && *throttle)
		(void) pst_throttle_parse(throttle);
	if (throttle)
		set_text(settings, SET_THROTTLE, *throttle ? throttle : NULL);
	if (filter && *filter)
		filter = pst_filter_check(filter);
	if (filter)
		set_text(settings, SET_FILTER, *filter ? filter : NULL);
	/* the path goes with the filter; without one it is the encoder's */
	if ((filter && *filter) || settings->nulls[SET_FILTER] == 'n')
		set_text(settings, SET_PATH, pst_current_path());
}

/* The settings that create_route's arguments make; checked as the caller. */
static void
settings_of_arguments(FunctionCallInfo fcinfo, const PstSinkOps *ops, NewSettings *settings)
{
	const char *start = needed_arg(fcinfo, 9, "the start");

	memset(settings->nulls, ' ', SETTINGS_COLUMNS);
	settings->nulls[SETTINGS_COLUMNS] = '\0';
	set_text(settings, SET_MACHINE, needed_arg(fcinfo, 2, "the machine"));
	set_text(settings, SET_FORMAT, pst_route_check_format(ops, needed_arg(fcinfo, 7, "the format")));
	pst_route_check_start(start);
	set_text(settings, SET_START, start);
	if (!PG_ARGISNULL(3))
		pst_route_check_types(PG_GETARG_DATUM(3), strcmp(start, "snapshot") == 0);
	for (int i = 0; i < 3; i++)
	{
		settings->nulls[SET_TYPES + i] = 'n';
		array_arg(fcinfo, 3 + i, &settings->values[SET_TYPES + i], &settings->nulls[SET_TYPES + i]);
	}
	settings->nulls[SET_SINCE] = settings->nulls[SET_FILTER] = settings->nulls[SET_THROTTLE] = 'n';
	set_conditions(settings, text_arg(fcinfo, 6), text_arg(fcinfo, 8));
	if (PG_ARGISNULL(10))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("options must not be null")));
	pst_route_check_options(ops, PG_GETARG_DATUM(10));
	settings->values[SET_OPTIONS] = PG_GETARG_DATUM(10);
}

/* As the extension's owner. */
static int
insert_route(const PstOwnerRights *rights, const char *name, const char *server)
{
	Datum		args[3];
	NameData	server_name;

	args[0] = CStringGetTextDatum(name);
	if (pst_query_write(&exists_query, args, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("route \"%s\" exists already", name)));
	namestrcpy(&server_name, server);
	args[1] = NameGetDatum(&server_name);
	args[2] = ObjectIdGetDatum(rights->user);
	pst_query_write(&create_query, args, NULL);
	return DatumGetInt32(pst_result(0, 1, NULL));
}

/* A machine that is named as such, whose tables are known. */
static void
check_tables(const PstOwnerRights *rights, Datum machine)
{
	if (strchr(TextDatumGetCString(machine), '*') == NULL)
		pst_route_check_tables(rights->user, machine);
}

Datum
pst_create_route(PG_FUNCTION_ARGS)
{
	char	   *name = needed_arg(fcinfo, 0, "the route's name");
	char	   *server = needed_arg(fcinfo, 1, "the server");
	const PstSinkOps *ops = pst_route_check_server(server);
	PstOwnerRights rights;
	NewSettings settings;
	const char *start;
	int			id;

	settings_of_arguments(fcinfo, ops, &settings);
	start = text_arg(fcinfo, 9);
	pst_owner_begin(&rights);
	check_tables(&rights, settings.values[SET_MACHINE]);
	id = insert_route(&rights, name, server);
	settings.values[SET_ROUTE] = Int32GetDatum(id);
	settings.values[SET_VERSION] = Int64GetDatum(draw_version());
	pst_query_write(&settings_query, settings.values, settings.nulls);

	pst_generation_begin(&(PstGeneration) {
		.route = id,
		.from_position = strcmp(start, "earliest") == 0 ? 1 : 0,
		.settings = DatumGetInt64(settings.values[SET_VERSION])
	});
	pst_owner_end(&rights);
	if (strcmp(start, "snapshot") == 0)
		pst_route_snapshot(id, text_arg(fcinfo, 2));
	pst_routes_changed();
	PG_RETURN_INT32(id);
}

static const PstSinkOps *
sink_of_route(const char *name, const char *server)
{
	ForeignServer *sink = GetForeignServerByName(server, true);
	const PstSinkOps *ops = sink ? pst_sink_of_wrapper(GetForeignDataWrapper(sink->fdwid)->fdwname) : NULL;

	if (ops == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" of route \"%s\" does not exist", server, name)));
	return ops;
}

/* The newest settings of a route; as the extension's owner. */
static void
read_settings(int route, NewSettings *settings)
{
	Datum		arg = Int32GetDatum(route);

	pst_query_write(&newest_settings_query, &arg, NULL);
	settings->nulls[SET_ROUTE] = settings->nulls[SET_VERSION] = ' ';
	settings->nulls[SETTINGS_COLUMNS] = '\0';
	settings->values[SET_ROUTE] = arg;
	for (int column = SET_MACHINE; column < SETTINGS_COLUMNS; column++)
	{
		bool		isnull;

		settings->values[column] = pst_result(0, column - SET_MACHINE + 1, &isnull);
		settings->nulls[column] = isnull ? 'n' : ' ';
	}
}

/* What alter_route gives besides arrays; checked as the caller. */
static void
change_settings(FunctionCallInfo fcinfo, const char *name, const char *server, NewSettings *settings)
{
	char	   *format = text_arg(fcinfo, 6);

	if (format)
		set_text(settings, SET_FORMAT, pst_route_check_format(sink_of_route(name, server), format));
	set_conditions(settings, text_arg(fcinfo, 5), text_arg(fcinfo, 7));
	if (PG_ARGISNULL(8))
		return;
	pst_route_check_options(sink_of_route(name, server), PG_GETARG_DATUM(8));
	settings->values[SET_OPTIONS] = PG_GETARG_DATUM(8);
}

Datum
pst_alter_route(PG_FUNCTION_ARGS)
{
	char	   *name = needed_arg(fcinfo, 0, "the route's name");
	char	   *server;
	PstOwnerRights rights;
	NewSettings settings;
	Datum		release;
	int			id;

	if (!PG_ARGISNULL(1))
		(void) needed_arg(fcinfo, 1, "the machine");
	if (!PG_ARGISNULL(2))
		pst_route_check_types(PG_GETARG_DATUM(2), false);
	pst_owner_begin(&rights);
	id = pst_find_route(&rights, name, &server);
	if (!PG_ARGISNULL(1))
		check_tables(&rights, PG_GETARG_DATUM(1));
	settings.values[SET_VERSION] = Int64GetDatum(draw_version());
	read_settings(id, &settings);
	pst_owner_pause(&rights);
	change_settings(fcinfo, name, server, &settings);
	pst_owner_resume(&rights);
	if (!PG_ARGISNULL(1))
		settings.values[SET_MACHINE] = PG_GETARG_DATUM(1);
	for (int i = 0; i < 3; i++)
		array_arg(fcinfo, 2 + i, &settings.values[SET_TYPES + i], &settings.nulls[SET_TYPES + i]);
	pst_query_write(&settings_query, settings.values, settings.nulls);
	release = Int32GetDatum(id);
	pst_query_write(&release_query, &release, NULL);
	pst_owner_end(&rights);
	pst_routes_changed();
	PG_RETURN_VOID();
}

Datum
pst_drop_route(PG_FUNCTION_ARGS)
{
	PstOwnerRights rights;
	Datum		arg;

	pst_owner_begin(&rights);
	arg = Int32GetDatum(pst_find_route(&rights, text_to_cstring(PG_GETARG_TEXT_PP(0)), NULL));
	pst_query_write(&drop_query, &arg, NULL);
	pst_owner_end(&rights);
	pst_routes_changed();
	PG_RETURN_VOID();
}

static void
set_enabled(text *name, bool enabled)
{
	PstOwnerRights rights;
	Datum		args[2];

	pst_owner_begin(&rights);
	if (enabled)
		pst_cut_lock();			/* before the route's row, as a seek does */
	args[0] = Int32GetDatum(pst_find_route(&rights, text_to_cstring(name), NULL));
	args[1] = BoolGetDatum(enabled);
	if (enabled)
		pst_route_part(DatumGetInt32(args[0]));
	pst_query_write(&enable_query, args, NULL);
	pst_owner_end(&rights);
	pst_routes_changed();
}

Datum
pst_enable_route(PG_FUNCTION_ARGS)
{
	set_enabled(PG_GETARG_TEXT_PP(0), true);
	PG_RETURN_VOID();
}

Datum
pst_disable_route(PG_FUNCTION_ARGS)
{
	set_enabled(PG_GETARG_TEXT_PP(0), false);
	PG_RETURN_VOID();
}

static void
edit_letter(int64 id, PstQuery *query)
{
	PstOwnerRights rights;
	Datum		arg = Int64GetDatum(id);

	pst_owner_begin(&rights);
	if (pst_query_write(&letter_query, &arg, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("dead letter " INT64_FORMAT " does not exist", id)));
	pst_route_check_owner(&rights, DatumGetObjectId(pst_result(0, 1, NULL)),
						  TextDatumGetCString(pst_result(0, 2, NULL)));
	pst_query_write(query, &arg, NULL);
	pst_owner_end(&rights);
	pst_routes_changed();
}

Datum
pst_retry_dead_letter(PG_FUNCTION_ARGS)
{
	edit_letter(PG_GETARG_INT64(0), &retry_query);
	PG_RETURN_VOID();
}

Datum
pst_discard_dead_letter(PG_FUNCTION_ARGS)
{
	edit_letter(PG_GETARG_INT64(0), &discard_query);
	PG_RETURN_VOID();
}
