/*
 * registry.c
 *	  The kinds of sinks by name, and the look-up of options.
 *
 * Another extension adds a kind by calling pst_register_sink() from its own
 * _PG_init(): its table of functions must live as long as the process.  A
 * worker finds such a kind if the extension's library is loaded there too
 * (shared_preload_libraries).
 */
#include "postgres.h"

#include "sink/sink.h"
#include "utils/builtins.h"

#define MAX_KINDS 16

static const PstSinkOps *kinds[MAX_KINDS];
static int	nkinds = 0;

void
pst_register_sink(const PstSinkOps *ops)
{
	const PstSinkOps *known = pst_find_sink(ops->kind);

	if (known == ops)
		return;
	if (known != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("sink kind \"%s\" is registered already", ops->kind)));
	if (nkinds >= MAX_KINDS)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many kinds of sinks"),
				 errdetail("At most %d kinds can be registered.", MAX_KINDS)));
	kinds[nkinds++] = ops;
}

const PstSinkOps *
pst_find_sink(const char *kind)
{
	for (int i = 0; i < nkinds; i++)
		if (strcmp(kinds[i]->kind, kind) == 0)
			return kinds[i];
	return NULL;
}

const char *
pst_option(const PstOption *options, const char *name)
{
	for (; options && options->name; options++)
		if (strcmp(options->name, name) == 0)
			return options->value;
	return NULL;
}

const char *
pst_option_or_default(const PstSinkOps *ops, const PstOption *options, const char *name)
{
	const char *value = pst_option(options, name);

	for (const PstOptionDef *def = ops->options; value == NULL && def->name; def++)
		if (strcmp(def->name, name) == 0)
			value = def->fallback;
	return value;
}

char *
pst_option_copy(const PstSinkOps *ops, const PstOption *options, const char *name)
{
	const char *value = pst_option_or_default(ops, options, name);

	return value != NULL ? pstrdup(value) : NULL;
}

int
pst_option_int(const PstSinkOps *ops, const PstOption *options, const char *name)
{
	return atoi(pst_option_or_default(ops, options, name));
}

bool
pst_option_bool(const PstSinkOps *ops, const PstOption *options, const char *name)
{
	bool		on = true;

	(void) parse_bool(pst_option_or_default(ops, options, name), &on);
	return on;
}

void
pst_sink_init(void)
{
	const PstSinkOps *const built_in[] = {
		&pst_clickhouse_sink, &pst_rabbitmq_sink, &pst_redis_sink,
		&pst_http_sink, &pst_postgres_sink
	};

	for (int i = 0; i < (int) lengthof(built_in); i++)
		if (built_in[i] != NULL)
			pst_register_sink(built_in[i]);
}
