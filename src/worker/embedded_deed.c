/*
 * embedded_deed.c
 *	  What an embedded route does: a function is called, or a channel notified.
 *
 * It is somebody's own code that runs here, in a worker that is a superuser's:
 * so as the route's owner, in a security-restricted operation (no SET ROLE, no
 * temporary tables), with settings that are given back.  The transaction was
 * begun with SET CONSTRAINTS ALL IMMEDIATE, and in such an operation PostgreSQL
 * refuses what is deferred all the same: nothing of theirs is left to run at
 * commit, as somebody else.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "commands/async.h"
#include "compat/compat.h"
#include "encode/encode.h"
#include "event/append.h"
#include "event/utf8.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "route/eventrow.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "worker/embedded.h"

/* What NOTIFY carries at most (async.c keeps its own limit to itself). */
#define MAX_PAYLOAD 7999

/* What a worker sets for itself and a user's code would stumble over. */
static const char *const users_settings[][2] = {
	{"enable_seqscan", "on"},
	{"enable_bitmapscan", "on"},
	{"row_security", "on"},
};

/* ----- finding it ----- */

/* Of several functions of that name, one that takes many is called. */
static void
find_function(PstDeed *deed, const char *name)
{
	List	   *parts = pst_qualified_name(name);
	Oid			row = pst_event_row_type();
	Oid			types[] = {JSONBARRAYOID, get_array_type(row), JSONBOID, row};

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		deed->takes_many = i < 2;
		deed->row_type = i % 2 == 1 ? row : InvalidOid;
		deed->function = LookupFuncName(parts, 1, &types[i], true);
		if (OidIsValid(deed->function))
			return;
	}
}

static bool
is_plain_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		plain = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		plain = form->prokind == PROKIND_FUNCTION && !form->proretset && form->prorettype != TRIGGEROID;
		ReleaseSysCache(tuple);
	}
	return plain;
}

static void
check_function(const PstDeed *deed, const char *name)
{
	if (!OidIsValid(deed->function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb) or %s(persistomata.event) does not exist", name, name),
				 errhint("It may take an array of either, too.")));
	if (pst_may_call(deed->function) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the route's owner may not call function %s", name)));
	if (!is_plain_function(deed->function))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function, or returns a set", name)));
	if (OidIsValid(deed->row_type) &&
		(strcmp(deed->shipment->format, "json") != 0 || deed->shipment->events[0].body != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s takes persistomata.event, but the route has a format", name),
				 errhint("Let it take jsonb, or set the route's format to json.")));
}

void
pst_deed_find(PstDeed *deed, const PstShipment *shipment, Oid owner)
{
	const PstSinkOps *ops = &pst_postgres_sink;
	const char *name = pst_option(shipment->options, "function");
	Oid			user;
	int			context;

	memset(deed, 0, sizeof(*deed));
	deed->shipment = shipment;
	deed->owner = owner;
	deed->timeout = pst_option_int(ops, shipment->options, "timeout");
	deed->lock_timeout = pst_option_int(ops, shipment->options, "lock_timeout");
	if (strcmp(pst_option_or_default(ops, shipment->options, "mode"), "notify") == 0)
	{
		deed->channel = pst_option_or_default(ops, shipment->options, "channel");
		return;
	}
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the route has no function to call")));
	name = pst_from_utf8(name);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	find_function(deed, name);
	check_function(deed, name);
	SetUserIdAndSecContext(user, context);
}

/* ----- events ----- */

int
pst_event_hops(const PstEvent *event)
{
	Jsonb	   *headers;
	JsonbValue	found;
	int			hops = 0;

	if (event->headers == NULL || strstr(event->headers, "\"hops\"") == NULL)
		return 0;
	headers = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(
									pst_from_utf8(event->headers))));
	if (JB_ROOT_IS_OBJECT(headers) &&
		getKeyJsonValueFromContainer(&headers->root, "hops", 4, &found) != NULL &&
		found.type == jbvNumeric)
	{
		double		value = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
															   NumericGetDatum(found.val.numeric)));

		/* NaN is what somebody wrote there */
		hops = value > 0 ? (int) Min(value, 1000000000) : 0;
	}
	return hops;
}

static char *
encode(const PstEvent *event, const char *format)
{
	StringInfoData out;

	initStringInfo(&out);
	pst_encode_event(&out, event, format);
	return pst_from_utf8(out.data);
}

/* As the function takes it; desc is that of persistomata.event. */
static Datum
argument(const PstDeed *deed, TupleDesc desc, const PstEvent *event)
{
	if (OidIsValid(deed->row_type))
		return heap_copy_tuple_as_datum(pst_event_row(desc, event), desc);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(encode(event, deed->shipment->format)));
}

/* ----- doing it ----- */

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* What the function finds set.  Its events go on with the headers of the one that it is called for. */
static void
set_stage(const PstDeed *deed, int from, int count)
{
	const PstEvent *events = deed->shipment->events;
	char		timeout[16];
	int			hops = 0;

	for (int i = from; i < from + count; i++)
		hops = Max(hops, pst_event_hops(&events[i]));
	pst_log_set_hops(hops + 1);
	for (int i = 0; i < (int) lengthof(users_settings); i++)
		set(users_settings[i][0], users_settings[i][1]);
	snprintf(timeout, sizeof(timeout), "%d", deed->lock_timeout);
	set("lock_timeout", timeout);
	if (count == 1 && events[from].headers)
		set("persistomata.headers", pst_from_utf8(events[from].headers));
}

static void
call(const PstDeed *deed, Datum arg)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;

	fmgr_info(deed->function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = arg;
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
}

static void
call_with_many(const PstDeed *deed, TupleDesc desc, int from, int count)
{
	Datum	   *elements = palloc(sizeof(Datum) * count);
	bool		typed = OidIsValid(deed->row_type);

	for (int i = 0; i < count; i++)
		elements[i] = argument(deed, desc, &deed->shipment->events[from + i]);
	call(deed, PointerGetDatum(construct_array(elements, count, typed ? deed->row_type : JSONBOID, -1, false,
											   typed ? TYPALIGN_DOUBLE : TYPALIGN_INT)));
}

/* What is too long for a notification is named instead. */
static void
notify(const PstDeed *deed, const PstEvent *event)
{
	StringInfoData channel;
	char	   *payload = encode(event, deed->shipment->format);

	initStringInfo(&channel);
	pst_encode_address(&channel, deed->channel, event);
	if (strlen(payload) > MAX_PAYLOAD)
		payload = psprintf("{\"name\":\"%s\",\"position\":" INT64_FORMAT ",\"event_id\":" INT64_FORMAT ",\"$omitted\":%zu}",
						   event->name, event->position, event->event_id, strlen(payload));
	Async_Notify(pst_from_utf8(channel.data), payload);
}

void
pst_deed_do(const PstDeed *deed, int from, int count)
{
	int			settings = NewGUCNestLevel();
	TupleDesc	desc = OidIsValid(deed->row_type) ? pst_event_row_desc() : NULL;
	Oid			user;
	int			context;

	set_stage(deed, from, count);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(deed->owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (OidIsValid(deed->function) && deed->takes_many)
		call_with_many(deed, desc, from, count);
	for (int i = from; !deed->takes_many && i < from + count; i++)
	{
		const PstEvent *event = &deed->shipment->events[i];

		CHECK_FOR_INTERRUPTS();
		if (deed->channel)
			notify(deed, event);
		else
			call(deed, argument(deed, desc, event));
	}
	SetUserIdAndSecContext(user, context);
	AtEOXact_GUC(false, settings);
	pst_log_set_hops(0);
}
