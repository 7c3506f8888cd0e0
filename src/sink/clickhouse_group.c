/*
 * clickhouse_group.c
 *	  A shipment's events by destination table.
 *
 * A route's `table` option is a template; mostly a route has one machine and so
 * one table.  One block goes to one table, so the events are sorted by table
 * here, those of a table staying in the order of their positions.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/clickhouse.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Which fields of an event a template looks at. */
typedef struct Uses
{
	bool		machine;
	bool		type;
	bool		event;
	bool		fsm;
	bool		other;			/* key or states: hardly two events are alike */
} Uses;

static Uses
template_uses(const char *template)
{
	Uses		uses = {
		.machine = strstr(template, "{machine}") != NULL,
		.type = strstr(template, "{type}") != NULL,
		.event = strstr(template, "{event}") != NULL,
		.fsm = strstr(template, "{fsm}") != NULL,
		.other = strstr(template, "{key}") != NULL ||
		strstr(template, "{from}") != NULL || strstr(template, "{to}") != NULL,
	};

	return uses;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Do two events surely have the same address?  Spares the template per event. */
static bool
same_address(const Uses *uses, const PstEvent *a, const PstEvent *b)
{
	return !uses->other &&
		(!uses->machine || same_text(a->machine, b->machine)) &&
		(!uses->type || a->type == b->type) &&
		(!uses->event || same_text(a->event, b->event)) &&
		(!uses->fsm || same_text(a->fsm, b->fsm));
}

/* The name of a table of latest states: `{table}` in the option is the table's name. */
static char *
latest_name(const char *option, const char *table)
{
	static const char mark[] = "{table}";
	const char *at;
	StringInfoData name;

	if (option[0] == '\0')
		return NULL;
	initStringInfo(&name);
	while ((at = strstr(option, mark)) != NULL)
	{
		appendBinaryStringInfo(&name, option, (int) (at - option));
		appendStringInfoString(&name, table);
		option = at + sizeof(mark) - 1;
	}
	appendStringInfoString(&name, option);
	return name.data;
}

static bool
is_on(const char *value)
{
	bool		on;

	return value != NULL && parse_bool(value, &on) && on;
}

static PstChDdl
read_ddl(const PstOption *options)
{
	return (PstChDdl) {
		.engine = pst_option(options, "engine"),
		.latest_engine = pst_option(options, "latest_engine"),
		.order_by = pst_option(options, "order_by"),
		.partition_by = pst_option(options, "partition_by"),
		.ttl = pst_option(options, "ttl"),
		.cluster = pst_option(options, "cluster"),
	};
}

static bool
same_ddl(const PstChDdl *a, const PstChDdl *b)
{
	return same_text(a->engine, b->engine) && same_text(a->latest_engine, b->latest_engine) &&
		same_text(a->order_by, b->order_by) && same_text(a->partition_by, b->partition_by) &&
		same_text(a->ttl, b->ttl) && same_text(a->cluster, b->cluster);
}

/* A copy that lives as long as the sink; NULL stays NULL. */
static char *
keep_text(PstChSink *sink, const char *text)
{
	return text != NULL ? MemoryContextStrdup(sink->context, text) : NULL;
}

static PstChTable *
make_table(PstChSink *sink, const char *name, const char *latest, const PstChDdl *ddl)
{
	PstChTable *table = MemoryContextAllocZero(sink->context, sizeof(PstChTable));

	table->name = keep_text(sink, name);
	table->latest = keep_text(sink, latest);
	table->ddl.engine = keep_text(sink, ddl->engine);
	table->ddl.latest_engine = keep_text(sink, ddl->latest_engine);
	table->ddl.order_by = keep_text(sink, ddl->order_by);
	table->ddl.partition_by = keep_text(sink, ddl->partition_by);
	table->ddl.ttl = keep_text(sink, ddl->ttl);
	table->ddl.cluster = keep_text(sink, ddl->cluster);
	table->looked = AllocSetContextCreate(sink->context, "ClickHouse columns", ALLOCSET_SMALL_SIZES);
	table->next = sink->tables;
	sink->tables = table;
	return table;
}

/* The table with this name and this route's options; what is known of it outlives the shipment. */
static PstChTable *
find_table(PstChSink *sink, const PstOption *options, const char *name)
{
	const PstSinkOps *ops = sink->base.ops;
	char	   *latest = latest_name(pst_option_or_default(ops, options, "latest"), name);
	bool		create = is_on(pst_option_or_default(ops, options, "create_tables"));
	bool		json = is_on(pst_option_or_default(ops, options, "json"));
	PstChDdl	ddl = read_ddl(options);
	PstChTable *table;

	for (table = sink->tables; table != NULL; table = table->next)
		if (strcmp(table->name, name) == 0 && same_text(table->latest, latest) &&
			table->create == create && table->json == json && same_ddl(&table->ddl, &ddl))
			return table;

	table = make_table(sink, name, latest, &ddl);
	table->create = create;
	table->json = json;
	return table;
}

/* The group of a table, made when there is none yet. */
static int
find_group(PstChSink *sink, PstChTable *table, int *room)
{
	for (int i = 0; i < sink->ngroups; i++)
		if (sink->groups[i].table == table)
			return i;
	if (sink->ngroups == *room)
	{
		*room *= 2;
		sink->groups = repalloc(sink->groups, sizeof(PstChGroup) * *room);
	}
	memset(&sink->groups[sink->ngroups], 0, sizeof(PstChGroup));
	sink->groups[sink->ngroups].table = table;
	return sink->ngroups++;
}

/* Which group each event belongs to; counts them, too. */
static int *
assign_groups(PstChSink *sink)
{
	const PstShipment *shipment = sink->shipment;
	const char *template = pst_option_or_default(sink->base.ops, shipment->options, "table");
	Uses		uses = template_uses(template);
	int		   *of = palloc(sizeof(int) * shipment->nevents);
	int			room = 8;
	StringInfoData name;

	initStringInfo(&name);
	sink->ngroups = 0;
	sink->groups = palloc(sizeof(PstChGroup) * room);
	for (int i = 0; i < shipment->nevents; i++)
	{
		if (i > 0 && same_address(&uses, &shipment->events[i - 1], &shipment->events[i]))
			of[i] = of[i - 1];
		else
		{
			resetStringInfo(&name);
			pst_encode_address(&name, template, &shipment->events[i]);
			of[i] = find_group(sink, find_table(sink, shipment->options, name.data), &room);
		}
		sink->groups[of[i]].count++;
	}
	return of;
}

void
pst_ch_group(PstChSink *sink)
{
	int			nevents = sink->shipment->nevents;
	int		   *of = assign_groups(sink);
	int			from = 0;

	for (int i = 0; i < sink->ngroups; i++)
	{
		sink->groups[i].from = from;
		from += sink->groups[i].count;
		sink->groups[i].count = 0;
	}
	sink->rows = palloc(sizeof(int) * nevents);
	for (int i = 0; i < nevents; i++)
	{
		PstChGroup *group = &sink->groups[of[i]];

		sink->rows[group->from + group->count++] = i;
	}
	pfree(of);
}

PstChTable *
pst_ch_only_table(PstChSink *sink, const PstShipment *shipment)
{
	const char *template = pst_option_or_default(sink->base.ops, shipment->options, "table");
	Uses		uses = template_uses(template);
	StringInfoData name;
	PstChTable *table;

	for (int i = 1; i < shipment->nevents; i++)
		if (!same_address(&uses, &shipment->events[i - 1], &shipment->events[i]))
			return NULL;
	initStringInfo(&name);
	pst_encode_address(&name, template, &shipment->events[0]);
	table = find_table(sink, shipment->options, name.data);
	pfree(name.data);
	return table;
}
