/*
 * option.c
 *	  Checks what a route is asked to be.  Every refusal says what is valid.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "compat/compat.h"
#include "event/query.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "route/code.h"
#include "route/edit.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

static const char *const starts[] = {"now", "earliest", "snapshot", NULL};
static const char *const types[] = {"init", "state", "value", "errored", "deleted", NULL};

static void
check_choice(const char *what, const char *value, const char *const *choices)
{
	StringInfoData valid;

	initStringInfo(&valid);
	for (int i = 0; choices[i]; i++)
	{
		if (strcmp(choices[i], value) == 0)
			return;
		appendStringInfo(&valid, "%s\"%s\"", i ? ", " : "", choices[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s of a route: \"%s\"", what, value),
			 errhint("It is one of %s.", valid.data)));
}

const PstSinkOps *
pst_sink_of_wrapper(const char *fdwname)
{
	const char *kind = strrchr(fdwname, '_');

	return kind ? pst_find_sink(kind + 1) : NULL;
}

const PstSinkOps *
pst_route_check_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	ForeignDataWrapper *wrapper;
	const PstSinkOps *ops;

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("Create it with CREATE SERVER ... FOREIGN DATA WRAPPER persistomata_clickhouse, persistomata_http, persistomata_postgres, persistomata_rabbitmq or persistomata_redis.")));
	if (!pst_may_use_server(server->serverid))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
	wrapper = GetForeignDataWrapper(server->fdwid);
	ops = pst_sink_of_wrapper(wrapper->fdwname);
	if (ops == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a sink", name),
				 errdetail("Its foreign data wrapper is \"%s\".", wrapper->fdwname),
				 errhint("Sinks are servers of persistomata_clickhouse, persistomata_http, persistomata_postgres, persistomata_rabbitmq or persistomata_redis.")));
	return ops;
}

void
pst_route_check_start(const char *start)
{
	check_choice("start", start, starts);
}

bool
pst_format_is_built_in(const char *format)
{
	return strcmp(format, "json") == 0 || strcmp(format, "cloudevents") == 0;
}

char *
pst_route_check_format(const PstSinkOps *ops, const char *format)
{
	if (ops->has_columns && strcmp(format, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a route to a %s server has no format", ops->kind),
				 errdetail("An event's fields are columns there.")));
	return pst_format_is_built_in(format) ? pstrdup(format) : pst_encoder_check(format);
}

/* What an array of names must be, of which PostgreSQL's type says nothing. */
void
pst_route_check_list(Datum datum)
{
	ArrayType  *array = DatumGetArrayTypeP(datum);

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("types, events and states of a route must be arrays of one dimension")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("types, events and states of a route must not contain NULL")));
}

void
pst_route_check_types(Datum array, bool snapshot)
{
	Datum	   *elements;
	bool	   *nulls;
	bool		has_init = false;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *type = nulls[i] ? "" : TextDatumGetCString(elements[i]);

		check_choice("type of event", type, types);
		has_init |= strcmp(type, "init") == 0;
	}
	if (snapshot && n > 0 && !has_init)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a route that starts with a snapshot must want events of type \"init\"")));
}

void
pst_route_check_options(const PstSinkOps *ops, Datum options)
{
	Jsonb	   *jsonb = DatumGetJsonbP(options);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	PstOption  *given;
	int			ngiven = 0;
	const char *lack;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a route must be a JSON object")));
	given = palloc0(sizeof(PstOption) * (JB_ROOT_COUNT(jsonb) + 1));
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *text;

		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		switch (value.type)
		{
			case jbvString:
				text = pnstrdup(value.val.string.val, value.val.string.len);
				break;
			case jbvNumeric:
				text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
				break;
			case jbvBool:
				text = value.val.boolean ? "true" : "false";
				break;
			default:
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" of a route must be a string, a number or a boolean", name)));
		}
		pst_check_option(ops, PST_OPTION_ROUTE, name, text);
		given[ngiven].name = name;
		given[ngiven++].value = text;
	}
	lack = ops->check_route ? ops->check_route(given) : NULL;
	if (lack)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", lack)));
}
