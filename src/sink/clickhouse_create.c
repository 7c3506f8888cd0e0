/*
 * clickhouse_create.c
 *	  The tables that we make: the events, the latest states, and the view between.
 *
 * A table that is missing is made as the route's options say.  What they hold is
 * SQL of the route's owner, sent as his user of the server.  Nothing that is
 * there is ever altered.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

/* A column of the tables that we make. */
typedef struct OwnColumn
{
	const char *name;
	const char *type;			/* NULL: depends on the server */
	bool		in_latest;
} OwnColumn;

static const OwnColumn own_columns[] = {
	{"position", "UInt64", true},
	{"name", "String", true},
	{"event_id", "UInt64", false},
	{"type", "String", true},
	{"machine", "String", true},
	{"version", "UInt32", true},
	{"fsm", "String", true},
	{"key", "String", true},
	{"event", "String", true},
	{"from_state", "String", false},
	{"to_state", "String", false},
	{"args", NULL, false},
	{"payload", NULL, true},
	{"reason", "String", false},
	{"occurred_at", NULL, true},
	{"occurred_micros", "UInt32", false},	/* only where occurred_at has whole seconds */
	{"xid", "UInt64", false},
	{"actor", "String", false},
	{"headers", NULL, false},
	{"node", "String", false},
	{"timeline", "UInt32", false},
};

StaticAssertDecl(lengthof(own_columns) <= 32, "columns are counted in bits");

int
pst_ch_own_column(const char *name)
{
	for (size_t i = 0; i < lengthof(own_columns); i++)
		if (strcmp(own_columns[i].name, name) == 0)
			return (int) i;
	return -1;
}

/* Blocks whose tokens a table of ours remembers. */
#define DEDUPLICATION_WINDOW 10000

/* ----- making ----- */

static const char *
own_type(const PstChTable *table, const OwnColumn *column, PstChVersion version)
{
	if (column->type != NULL)
		return column->type;
	if (strcmp(column->name, "occurred_at") == 0)
		return pst_ch_has_datetime64(version) ? "DateTime64(6, 'UTC')" : "DateTime('UTC')";
	return table->json && pst_ch_has_json(version) ? "JSON" : "String";
}

static bool
is_wanted(const OwnColumn *column, PstChVersion version)
{
	return strcmp(column->name, "occurred_micros") != 0 || !pst_ch_has_datetime64(version);
}

/* "CREATE TABLE IF NOT EXISTS `name` [ON CLUSTER `c`]" */
static void
begin_statement(StringInfo sql, const PstChTable *table, const char *what, const char *name)
{
	appendStringInfo(sql, "CREATE %s IF NOT EXISTS ", what);
	pst_ch_quote_name(sql, name);
	if (table->ddl.cluster != NULL)
	{
		appendStringInfoString(sql, " ON CLUSTER ");
		pst_ch_quote_name(sql, table->ddl.cluster);
	}
}

/* What a table is kept in, and how it is sorted. */
static void
append_engine(StringInfo sql, const char *engine, const char *order_by,
			  const char *partition_by, const char *ttl, PstChVersion version)
{
	bool		sorts = strstr(engine, "MergeTree") != NULL;
	bool		replicated = strncmp(engine, "Replicated", 10) == 0 || strncmp(engine, "Shared", 6) == 0;

	appendStringInfo(sql, ") ENGINE = %s", engine);
	if (partition_by != NULL)
		appendStringInfo(sql, " PARTITION BY %s", partition_by);
	if (sorts)
		appendStringInfo(sql, " ORDER BY %s", order_by);
	if (ttl != NULL)
		appendStringInfo(sql, " TTL %s", ttl);
	/* replicated tables remember tokens by themselves */
	if (sorts && !replicated && pst_ch_has_tokens(version))
		appendStringInfo(sql, " SETTINGS non_replicated_deduplication_window = %d", DEDUPLICATION_WINDOW);
}

static void
create_events(StringInfo sql, const PstChTable *table, PstChVersion version)
{
	const PstChDdl *ddl = &table->ddl;
	const char *separator = "";

	begin_statement(sql, table, "TABLE", table->name);
	appendStringInfoString(sql, " (");
	for (size_t i = 0; i < lengthof(own_columns); i++)
	{
		const OwnColumn *column = &own_columns[i];

		if (!is_wanted(column, version))
			continue;
		appendStringInfo(sql, "%s`%s` %s", separator, column->name,
						 own_type(table, column, version));
		separator = ", ";
	}
	append_engine(sql, ddl->engine != NULL ? ddl->engine :
				  ddl->cluster != NULL ? "ReplicatedMergeTree" : "MergeTree",
				  ddl->order_by != NULL ? ddl->order_by : "(fsm, key, position)",
				  ddl->partition_by, ddl->ttl, version);
}

/* The latest state of each instance: read it with FINAL, and `WHERE NOT deleted`. */
static void
create_latest(StringInfo sql, const PstChTable *table, PstChVersion version)
{
	const PstChDdl *ddl = &table->ddl;

	begin_statement(sql, table, "TABLE", table->latest);
	appendStringInfoString(sql, " (");
	for (size_t i = 0; i < lengthof(own_columns); i++)
		if (own_columns[i].in_latest)
			appendStringInfo(sql, "`%s` %s, ", own_columns[i].name,
							 own_type(table, &own_columns[i], version));
	appendStringInfoString(sql, "`state` String, `deleted` UInt8");
	append_engine(sql, ddl->latest_engine != NULL ? ddl->latest_engine :
				  ddl->cluster != NULL ? "ReplicatedReplacingMergeTree(position)" : "ReplacingMergeTree(position)",
				  "(fsm, key)", NULL, NULL, version);
}

/* What the latest states take from the events; an errored event changes no state, so it does not pass. */
static void
append_feed(StringInfo sql, const PstChTable *table)
{
	appendStringInfoString(sql, "SELECT ");
	for (size_t i = 0; i < lengthof(own_columns); i++)
		if (own_columns[i].in_latest)
			appendStringInfo(sql, "`%s`, ", own_columns[i].name);
	appendStringInfoString(sql, "to_state AS `state`, toUInt8(type = 'deleted') AS `deleted` FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfoString(sql, " WHERE type != 'errored'");
}

static void
create_feed(StringInfo sql, const PstChTable *table)
{
	char	   *feed = pst_ch_feed_name(table);

	begin_statement(sql, table, "MATERIALIZED VIEW", feed);
	appendStringInfoString(sql, " TO ");
	pst_ch_quote_name(sql, table->latest);
	appendStringInfoString(sql, " AS ");
	append_feed(sql, table);
	pfree(feed);
}

void
pst_ch_sql_create(StringInfo sql, const PstChTable *table, PstChMissing missing,
				  PstChVersion version)
{
	switch (missing)
	{
		case PST_CH_NO_EVENTS:
			create_events(sql, table, version);
			break;
		case PST_CH_NO_LATEST:
			create_latest(sql, table, version);
			break;
		case PST_CH_NO_FEED:
			create_feed(sql, table);
			break;
		case PST_CH_ALL_THERE:
			break;
	}
}

/* ----- mending ----- */

/* Each instance's last event, and what the table of latest states has of it.  Newer servers want the names. */
static void
append_behind(StringInfo sql, const PstChTable *table)
{
	appendStringInfoString(sql, "(SELECT fsm, key, max(position) AS p FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfoString(sql, " WHERE type != 'errored' GROUP BY fsm, key) AS e ANY LEFT JOIN"
						   " (SELECT fsm, key, max(position) AS q FROM ");
	pst_ch_quote_name(sql, table->latest);
	appendStringInfoString(sql, " GROUP BY fsm, key) AS l USING (fsm, key) WHERE q < p");
}

/* "INSERT INTO latest (…) SELECT … FROM events WHERE type != 'errored'" */
static void
append_mending(StringInfo sql, const PstChTable *table)
{
	appendStringInfoString(sql, "INSERT INTO ");
	pst_ch_quote_name(sql, table->latest);
	appendStringInfoString(sql, " (");
	for (size_t i = 0; i < lengthof(own_columns); i++)
		if (own_columns[i].in_latest)
			appendStringInfo(sql, "`%s`, ", own_columns[i].name);
	appendStringInfoString(sql, "`state`, `deleted`) ");
	append_feed(sql, table);
}

void
pst_ch_sql_behind(StringInfo sql, const PstChTable *table, bool mend)
{
	if (!mend)
	{
		appendStringInfoString(sql, "SELECT count() FROM ");
		append_behind(sql, table);
		return;
	}
	append_mending(sql, table);
	appendStringInfoString(sql, " AND (fsm, key, position) IN (SELECT fsm, key, p FROM ");
	append_behind(sql, table);
	appendStringInfoChar(sql, ')');
}

/* A hash of what both tables have of an instance's last event, over a row of either. */
static void
append_latest_hash(StringInfo sql, const PstChTable *table, bool of_events)
{
	appendStringInfoString(sql, "sipHash64(concat(");
	for (size_t i = 0; i < lengthof(own_columns); i++)
		if (own_columns[i].in_latest && (table->same_types >> i) & 1)
			appendStringInfo(sql, "toString(sipHash64(ifNull(toString(`%s`), ''))), ',', ", own_columns[i].name);
	appendStringInfoString(sql, of_events ?
						   "toString(sipHash64(toString(to_state))), toString(toUInt8(type = 'deleted'))" :
						   "toString(sipHash64(toString(state))), toString(toUInt8(deleted))");
	appendStringInfoString(sql, "))");
}

/*
 * A latest state with its event's position, but not what that event says.  FINAL
 * shows what readers see.  That an event in between is gone from the events does
 * not matter; one that is not there to be compared with is left alone.
 */
static void
append_differing(StringInfo sql, const PstChTable *table, const char *where)
{
	appendStringInfoString(sql, "(SELECT fsm, key, max(position) AS p, argMax(");
	append_latest_hash(sql, table, true);
	appendStringInfoString(sql, ", position) AS h FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfo(sql, " WHERE type != 'errored' AND %s GROUP BY fsm, key) AS e ANY INNER JOIN"
					 " (SELECT fsm, key, max(position) AS q, argMax(", where);
	append_latest_hash(sql, table, false);
	appendStringInfoString(sql, ", position) AS g FROM ");
	pst_ch_quote_name(sql, table->latest);
	appendStringInfoString(sql, " FINAL GROUP BY fsm, key) AS l USING (fsm, key) WHERE p = q AND h != g");
}

void
pst_ch_sql_differ(StringInfo sql, const PstChTable *table, int64 from, int64 to,
				  const char *prefix, bool mend)
{
	StringInfoData where;

	initStringInfo(&where);
	appendStringInfo(&where, "position >= " UINT64_FORMAT " AND position <= " UINT64_FORMAT
					 " AND startsWith(toString(name), ", (uint64) from, (uint64) to);
	pst_ch_quote_text(&where, prefix);
	appendStringInfoChar(&where, ')');
	if (mend)
	{
		append_mending(sql, table);
		appendStringInfo(sql, " AND %s AND (fsm, key, position) IN (SELECT fsm, key, p FROM ", where.data);
	}
	else
		appendStringInfoString(sql, "SELECT count() FROM ");
	append_differing(sql, table, where.data);
	if (mend)
		appendStringInfoChar(sql, ')');
	pfree(where.data);
}
