/*
 * option.c
 *	  Checks the options of servers, user mappings and routes against what the
 *	  kind of sink says it takes.
 *
 * Each of our foreign data wrappers has a validator function of its own, and so
 * knows its kind.  The wrappers have no handler: they only give sinks a place
 * in the catalog, with the rights and the secrecy that user mappings have.
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "compat/compat.h"
#include "encode/encode.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "net/stream.h"
#include "sink/sink.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pst_clickhouse_options);
PG_FUNCTION_INFO_V1(pst_rabbitmq_options);
PG_FUNCTION_INFO_V1(pst_redis_options);
PG_FUNCTION_INFO_V1(pst_http_options);
PG_FUNCTION_INFO_V1(pst_postgres_options);

/* What every kind takes: the limits of a shipment, which workers hold to. */
static const PstOptionDef shipment_options[] = {
	{"max_rows", PST_OPTION_SERVER, PST_OPTION_INT, NULL, 1, 1000000, NULL},
	{"max_bytes", PST_OPTION_SERVER, PST_OPTION_INT, NULL, 1024, 268435456, NULL},
	{"linger_ms", PST_OPTION_SERVER, PST_OPTION_INT, "0", 0, 3600000, NULL},
	{"max_rows", PST_OPTION_ROUTE, PST_OPTION_INT, NULL, 1, 1000000, NULL},
	{"max_bytes", PST_OPTION_ROUTE, PST_OPTION_INT, NULL, 1024, 268435456, NULL},
	{"linger_ms", PST_OPTION_ROUTE, PST_OPTION_INT, NULL, 0, 3600000, NULL},
	{NULL}
};

static const PstOptionDef *
find_in(const PstOptionDef *defs, PstOptionPlace place, const char *name)
{
	for (const PstOptionDef *def = defs; def->name; def++)
		if (def->place == place && strcmp(def->name, name) == 0)
			return def;
	return NULL;
}

static const PstOptionDef *
find_option(const PstSinkOps *ops, PstOptionPlace place, const char *name)
{
	const PstOptionDef *def = find_in(ops->options, place, name);

	return def ? def : find_in(shipment_options, place, name);
}

PST_NORETURN static void
refuse_name(const PstSinkOps *ops, PstOptionPlace place, const char *name)
{
	StringInfoData valid;

	initStringInfo(&valid);
	for (const PstOptionDef *def = ops->options; def->name; def++)
		if (def->place == place)
			appendStringInfo(&valid, "%s%s", valid.len > 0 ? ", " : "", def->name);
	for (const PstOptionDef *def = shipment_options; def->name; def++)
		if (def->place == place && find_in(ops->options, place, def->name) == NULL)
			appendStringInfo(&valid, "%s%s", valid.len > 0 ? ", " : "", def->name);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 valid.len == 0 ? errhint("There are no valid options here.") :
			 place == PST_OPTION_SERVER ? errhint("Valid options of a %s server are: %s.", ops->kind, valid.data) :
			 place == PST_OPTION_MAPPING ? errhint("Valid options of a user mapping for a %s server are: %s.", ops->kind, valid.data) :
			 errhint("Valid options of a route to a %s server are: %s.", ops->kind, valid.data)));
}

/* The value itself is shown only where it cannot be a secret. */
PST_NORETURN static void
refuse_value(const PstOptionDef *def, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 def->place == PST_OPTION_MAPPING || def->kind == PST_OPTION_URL ?
			 errmsg("invalid value for option \"%s\"", def->name) :
			 errmsg("invalid value for option \"%s\": \"%s\"", def->name, value),
			 errhint("%s", hint)));
}

static void
check_int(const PstOptionDef *def, const char *value)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(value, &end, 10);
	if (*value == '\0' || *end != '\0' || errno != 0 ||
		number < def->min || number > def->max)
		refuse_value(def, value,
					 psprintf("It must be an integer from %d to %d.", def->min, def->max));
}

static void
check_enum(const PstOptionDef *def, const char *value)
{
	size_t		len = strlen(value);
	StringInfoData list;

	for (const char *at = def->choices; len > 0 && at; at = strchr(at, '|'))
	{
		at += (*at == '|');
		if (strncmp(at, value, len) == 0 && (at[len] == '|' || at[len] == '\0'))
			return;
	}
	initStringInfo(&list);
	for (const char *at = def->choices; *at; at++)
	{
		if (*at == '|')
			appendStringInfoString(&list, ", ");
		else
			appendStringInfoChar(&list, *at);
	}
	refuse_value(def, value, psprintf("It must be one of: %s.", list.data));
}

/* What follows the colon of a host, unless that is an IPv6 address without brackets. */
static void
check_port(const PstOptionDef *def, const char *value, const char *host, const char *end)
{
	const char *bracket = *host == '[' ? memchr(host, ']', end - host) : NULL;
	const char *colon = memchr(bracket ? bracket : host, ':', end - (bracket ? bracket : host));
	int			port = 0;

	if (colon == NULL || memchr(colon + 1, ':', end - colon - 1) != NULL)
		return;
	for (const char *at = colon + 1; at < end; at++)
		port = isdigit((unsigned char) *at) && port <= 65535 ? port * 10 + (*at - '0') : 65536;
	if (port < 1 || port > 65535)
		refuse_value(def, value, "A port is a number from 1 to 65535.");
}

static void
check_url(const PstOptionDef *def, const char *value)
{
	const char *host = strstr(value, "://");
	const char *slash;
	const char *at;

	if (strncmp(value, "http://", 7) != 0 && strncmp(value, "https://", 8) != 0)
		refuse_value(def, value, "It must begin with http:// or https://.");
	host += 3;
	for (const char *c = value; *c; c++)
		if ((unsigned char) *c <= ' ' || *c == 0x7f)
			refuse_value(def, value, "It must not contain spaces.");
	slash = strpbrk(host, "/?#");
	at = strchr(host, '@');
	if (at != NULL && (slash == NULL || at < slash))
		refuse_value(def, value, "User and password belong into the user mapping, not into the URL.");
	if (*host == '\0' || *host == ':' || host == slash)
		refuse_value(def, value, "It must name a host.");
	check_port(def, value, host, slash ? slash : host + strlen(host));
}

static void
check_hosts(const PstOptionDef *def, const char *value)
{
	for (const char *at = value;; at++)
	{
		const char *end = at + strcspn(at, ",");
		const char *last = end;
		char		host[PST_HOST_SIZE];
		int			port;

		at += strspn(at, " ");
		while (last > at && last[-1] == ' ')
			last--;
		if (memchr(at, ' ', last - at) != NULL || !pst_net_host(pnstrdup(at, last - at), 0, 1, host, &port))
			refuse_value(def, value, "It must be a host or a list of them, each with a port or without, as in \"a, b:1234\".");
		check_port(def, value, at, last);
		at = end;
		if (*at == '\0')
			break;
	}
}

static void
check_value(const PstOptionDef *def, const char *value)
{
	bool		ignored;
	char	   *unknown;

	switch (def->kind)
	{
		case PST_OPTION_TEXT:
			break;
		case PST_OPTION_INT:
			check_int(def, value);
			break;
		case PST_OPTION_BOOL:
			if (!parse_bool(value, &ignored))
				refuse_value(def, value, "It must be true or false.");
			break;
		case PST_OPTION_URL:
			check_url(def, value);
			break;
		case PST_OPTION_ENUM:
			check_enum(def, value);
			break;
		case PST_OPTION_HOSTS:
			check_hosts(def, value);
			break;
		case PST_OPTION_NAME:
			if (*value == '\0')
				refuse_value(def, value, "It must not be empty.");
			break;
		case PST_OPTION_TEMPLATE:
			if (*value == '\0')
				refuse_value(def, value, "It must not be empty.");
			if (!pst_check_template(value, &unknown))
				refuse_value(def, value,
							 psprintf("There is no field \"%s\": use {machine}, {type}, {event}, {key}, {from}, {to} or {fsm}, and \"{{\" for a brace.",
									  unknown));
			break;
	}
}

void
pst_check_option(const PstSinkOps *ops, PstOptionPlace place,
				 const char *name, const char *value)
{
	const PstOptionDef *def = find_option(ops, place, name);

	if (def == NULL)
		refuse_name(ops, place, name);
	check_value(def, value);
}

void
pst_check_options(const char *kind, Datum options, Oid catalog)
{
	const PstSinkOps *ops = pst_find_sink(kind);
	List	   *list = untransformRelOptions(options);
	ListCell   *cell;
	PstOptionPlace place;

	if (catalog == ForeignTableRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a sink has no foreign tables"),
				 errhint("Use create_route to send events to the server.")));
	if (list == NIL)
		return;
	if (catalog != ForeignServerRelationId && catalog != UserMappingRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("invalid option \"%s\"", ((DefElem *) linitial(list))->defname),
				 errhint("Options belong to servers and user mappings.")));
	if (ops == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sink kind \"%s\" does not exist", kind)));
	place = catalog == ForeignServerRelationId ? PST_OPTION_SERVER : PST_OPTION_MAPPING;
	foreach(cell, list)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		pst_check_option(ops, place, option->defname, defGetString(option));
	}
}

Datum
pst_clickhouse_options(PG_FUNCTION_ARGS)
{
	pst_check_options("clickhouse", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
pst_rabbitmq_options(PG_FUNCTION_ARGS)
{
	pst_check_options("rabbitmq", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
pst_redis_options(PG_FUNCTION_ARGS)
{
	pst_check_options("redis", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
pst_http_options(PG_FUNCTION_ARGS)
{
	pst_check_options("http", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
pst_postgres_options(PG_FUNCTION_ARGS)
{
	pst_check_options("postgres", PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}
