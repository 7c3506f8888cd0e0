/*
 * clickhouse_table.c
 *	  The SQL of destination tables, and which columns a block has.
 *
 * A table that is there is taken as it is: the columns that it shares with an
 * event are filled in the types that they have, the others are left to their
 * defaults.  So a user can make the table in advance with types, codecs and
 * partitions of his own.
 */
#include "postgres.h"

#include "sink/clickhouse.h"
#include "utils/memutils.h"

PstChVersion
pst_ch_parse_version(const char *text)
{
	int			major;
	int			minor;

	if (sscanf(text, "%d.%d", &major, &minor) != 2 || major < 1 || minor < 0 || minor > 99)
		return PST_CH_UNKNOWN;
	return major * 100 + minor;
}

/* ----- quoting ----- */

static void
quote(StringInfo sql, const char *text, char mark)
{
	appendStringInfoChar(sql, mark);
	for (; *text != '\0'; text++)
	{
		if (*text == mark || *text == '\\')
			appendStringInfoChar(sql, '\\');
		appendStringInfoChar(sql, *text);
	}
	appendStringInfoChar(sql, mark);
}

void
pst_ch_quote_name(StringInfo sql, const char *name)
{
	quote(sql, name, '`');
}

void
pst_ch_quote_text(StringInfo sql, const char *text)
{
	quote(sql, text, '\'');
}

char *
pst_ch_feed_name(const PstChTable *table)
{
	return psprintf("%s_feed", table->latest);
}

/* ----- looking ----- */

/*
 * The columns of all three tables, and how the first one deduplicates; a few
 * rows of text.  An old server has neither settings of tables nor windows.
 */
void
pst_ch_sql_look(StringInfo sql, const PstChTable *table, const char *database,
				PstChVersion version)
{
	appendStringInfoString(sql, "SELECT 'column', table, name, type FROM system.columns WHERE database = ");
	pst_ch_quote_text(sql, database);
	/* what the server computes is not ours to fill; a column of that name would be refused */
	appendStringInfoString(sql, " AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')");
	appendStringInfoString(sql, " AND table IN (");
	pst_ch_quote_text(sql, table->name);
	if (table->latest != NULL)
	{
		char	   *feed = pst_ch_feed_name(table);

		appendStringInfoString(sql, ", ");
		pst_ch_quote_text(sql, table->latest);
		appendStringInfoString(sql, ", ");
		pst_ch_quote_text(sql, feed);
		pfree(feed);
	}
	appendStringInfoChar(sql, ')');
	if (pst_ch_has_tokens(version))
	{
		appendStringInfoString(sql,
							   " UNION ALL SELECT 'engine', engine, engine_full, '' FROM system.tables WHERE database = ");
		pst_ch_quote_text(sql, database);
		appendStringInfoString(sql, " AND name = ");
		pst_ch_quote_text(sql, table->name);
		appendStringInfoString(sql,
							   " UNION ALL SELECT 'setting', name, toString(value), '' FROM system.merge_tree_settings"
							   " WHERE name LIKE '%deduplication_window%'");
	}
	appendStringInfoString(sql, " FORMAT RowBinary");
}

/* A String of RowBinary as a C string; NULL at the end of the bytes. */
static char *
read_string(const char **at, const char *end)
{
	size_t		length = 0;
	int			shift = 0;
	char	   *text;

	for (;;)
	{
		unsigned char byte;

		if (*at >= end || shift > 28)
			return NULL;
		byte = (unsigned char) *(*at)++;
		length |= (size_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
			break;
		shift += 7;
	}
	if (length > (size_t) (end - *at))
		return NULL;
	text = pnstrdup(*at, length);
	*at += length;
	return text;
}

/* What a look found, while it is read. */
typedef struct Look
{
	bool		has_events;
	bool		has_latest;
	bool		has_feed;
	char	   *engine;
	char	   *engine_full;
	int			window;			/* server's defaults: of plain tables, */
	int			replicated_window;	/* of replicated ones, */
	int			replicated_seconds; /* and their age */
	char	   *unfit;			/* the first column whose type we cannot write */
	const char *types[2][PST_NATIVE_MAX_COLUMNS];	/* of our columns, in the events and the latest states */
} Look;

static void
note_type(Look *look, bool latest, const char *name, const char *type)
{
	int			own = pst_ch_own_column(name);

	if (own >= 0)
		look->types[latest][own] = type;
}

/* Only what has one type in both tables can be compared between them. */
static uint32
same_types(const Look *look)
{
	uint32		same = 0;

	for (int i = 0; i < PST_NATIVE_MAX_COLUMNS; i++)
		if (look->types[0][i] && look->types[1][i] && strcmp(look->types[0][i], look->types[1][i]) == 0)
			same |= (uint32) 1 << i;
	return same;
}

static void
take_column(PstChTable *table, Look *look, PstChVersion version,
			const char *of, const char *name, const char *type)
{
	MemoryContext old;
	PstNativeFit fit;

	if (table->latest != NULL)
	{
		char	   *feed = pst_ch_feed_name(table);

		look->has_latest |= strcmp(of, table->latest) == 0;
		look->has_feed |= strcmp(of, feed) == 0;
		if (strcmp(of, table->latest) == 0)
			note_type(look, true, name, type);
		pfree(feed);
	}
	if (strcmp(of, table->name) != 0)
		return;
	look->has_events = true;
	note_type(look, false, name, type);
	if (table->ncolumns == PST_NATIVE_MAX_COLUMNS)
		return;
	old = MemoryContextSwitchTo(table->looked);
	fit = pst_native_column(&table->columns[table->ncolumns], name, type, pst_ch_casts(version));
	MemoryContextSwitchTo(old);
	if (fit == PST_NATIVE_FITS)
		table->ncolumns++;
	else if (fit == PST_NATIVE_UNFIT && look->unfit == NULL)
		look->unfit = psprintf("\"%s\" of type %s", name, type);
}

static void
take_setting(Look *look, const char *name, const char *value)
{
	if (strcmp(name, "non_replicated_deduplication_window") == 0)
		look->window = atoi(value);
	else if (strcmp(name, "replicated_deduplication_window") == 0)
		look->replicated_window = atoi(value);
	else if (strcmp(name, "replicated_deduplication_window_seconds") == 0)
		look->replicated_seconds = atoi(value);
}

/* A setting of the table itself, from its "… SETTINGS name = value", or the server's default. */
static int
own_setting(const char *engine_full, const char *name, int fallback)
{
	size_t		length = strlen(name);

	for (const char *at = strstr(engine_full, name); at != NULL; at = strstr(at + 1, name))
		if (at > engine_full && (at[-1] == ' ' || at[-1] == ',') &&
			strncmp(at + length, " = ", 3) == 0)
			return atoi(at + length + 3);
	return fallback;
}

/* In how many blocks, and for how long, does this table remember a token? */
static void
read_window(PstChTable *table, const Look *look)
{
	table->window = 0;
	table->window_seconds = 0;
	if (look->engine == NULL || strstr(look->engine, "MergeTree") == NULL)
		return;					/* a Distributed, a Buffer, …: we cannot know */
	if (strncmp(look->engine, "Replicated", 10) == 0 || strncmp(look->engine, "Shared", 6) == 0)
	{
		table->window = own_setting(look->engine_full, "replicated_deduplication_window",
									look->replicated_window);
		table->window_seconds = own_setting(look->engine_full, "replicated_deduplication_window_seconds",
											look->replicated_seconds);
	}
	else
		table->window = own_setting(look->engine_full, "non_replicated_deduplication_window",
									look->window);
}

/* What an insert cannot do without: it is what a doubt is settled by. */
static bool
has_needed_columns(const PstChTable *table, const Look *look, char *errbuf, size_t errlen)
{
	bool		position = false;
	bool		name = false;

	for (int i = 0; i < table->ncolumns; i++)
	{
		position |= strcmp(table->columns[i].name, "position") == 0;
		name |= strcmp(table->columns[i].name, "name") == 0;
	}
	if (look->unfit != NULL)
		snprintf(errbuf, errlen, "table \"%s\": column %s does not fit the event's field of that name",
				 table->name, look->unfit);
	else if (!position || !name)
		snprintf(errbuf, errlen, "table \"%s\" lacks the column %s", table->name,
				 position ? "name" : "position");
	else
		return true;
	return false;
}

bool
pst_ch_read_look(PstChTable *table, const PstChAnswer *answer, PstChVersion version,
				 PstChMissing *missing, char *errbuf, size_t errlen)
{
	const char *at = answer->text;
	const char *end = at + answer->length;
	Look		look = {0};

	table->ready = false;
	table->looks++;
	table->top_doubt = 0;
	table->ncolumns = 0;
	MemoryContextReset(table->looked);
	while (at < end)
	{
		char	   *kind = read_string(&at, end);
		char	   *first = kind ? read_string(&at, end) : NULL;
		char	   *second = first ? read_string(&at, end) : NULL;
		char	   *third = second ? read_string(&at, end) : NULL;

		if (third == NULL || answer->overflow)
		{
			strlcpy(errbuf, "the list of columns cannot be read", errlen);
			return false;
		}
		if (strcmp(kind, "column") == 0)
			take_column(table, &look, version, first, second, third);
		else if (strcmp(kind, "engine") == 0)
		{
			look.engine = first;
			look.engine_full = second;
		}
		else
			take_setting(&look, first, second);
	}

	*missing = PST_CH_ALL_THERE;
	if (!look.has_events)
		*missing = PST_CH_NO_EVENTS;
	else if (table->latest != NULL && !look.has_latest)
		*missing = PST_CH_NO_LATEST;
	else if (table->latest != NULL && !look.has_feed)
		*missing = PST_CH_NO_FEED;
	if (look.has_events && !has_needed_columns(table, &look, errbuf, errlen))
		return false;
	read_window(table, &look);
	table->same_types = same_types(&look);
	table->ready = *missing == PST_CH_ALL_THERE;
	return true;
}

/* ----- sending and asking ----- */

void
pst_ch_sql_insert(StringInfo sql, const PstChTable *table)
{
	appendStringInfoString(sql, "INSERT INTO ");
	pst_ch_quote_name(sql, table->name);
	for (int i = 0; i < table->ncolumns; i++)
		appendStringInfo(sql, "%s`%s`", i == 0 ? " (" : ", ", table->columns[i].name);
	appendStringInfoString(sql, ") FORMAT Native");
}

/* Which of our events in this run of positions are there?  prefix begins all their names. */
void
pst_ch_sql_landed(StringInfo sql, const PstChTable *table, int64 from, int64 to,
				  const char *prefix)
{
	appendStringInfoString(sql, "SELECT DISTINCT toUInt64(position), toString(name) FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfo(sql, " WHERE position >= " UINT64_FORMAT " AND position <= " UINT64_FORMAT
					 " AND startsWith(toString(name), ", (uint64) from, (uint64) to);
	pst_ch_quote_text(sql, prefix);
	appendStringInfoString(sql, ") FORMAT RowBinary");
}

/* Each column's hash, as pst_1, pst_2, …, or only these names. */
static void
append_hashes(StringInfo sql, const PstChTable *table, bool only_names)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (pst_ch_is_compared(&table->columns[i]))
		{
			appendStringInfoString(sql, ", ");
			if (!only_names)
			{
				pst_ch_sql_column_hash(sql, &table->columns[i]);
				appendStringInfoString(sql, " AS ");
			}
			appendStringInfo(sql, "pst_%d", i);
		}
}

/*
 * What the table holds of this log in a run of positions.  A repeat shows in the
 * number, an exchange or another content in the sum.  Tables are seldom sorted by
 * position: so that is read first, and the rest only where it fits.
 */
void
pst_ch_sql_holds(StringInfo sql, const PstChTable *table, int64 from, int64 to,
				 const char *prefix, bool names)
{
	appendStringInfoString(sql, "SELECT ");
	if (names)
	{
		appendStringInfoString(sql, "toString(name) AS pst_name");
		append_hashes(sql, table, false);
		appendStringInfoString(sql, ", count() FROM ");
	}
	else
	{
		appendStringInfoString(sql, "count(), sum(");
		pst_ch_sql_row_hash(sql, table);
		appendStringInfoString(sql, ") FROM ");
	}
	pst_ch_quote_name(sql, table->name);
	appendStringInfo(sql, " %s position >= " UINT64_FORMAT " AND position <= " UINT64_FORMAT
					 " %s startsWith(toString(name), ", table->plain ? "WHERE" : "PREWHERE",
					 (uint64) from, (uint64) to, table->plain ? "AND" : "WHERE");
	pst_ch_quote_text(sql, prefix);
	appendStringInfoChar(sql, ')');
	if (names)
	{
		appendStringInfoString(sql, " GROUP BY pst_name");
		append_hashes(sql, table, true);
	}
	appendStringInfoString(sql, " FORMAT RowBinary");
}

/*
 * Names of this log where the run has no events: from its beginning to the
 * first, and behind the last.  Those of our own timeline are other routes'.
 */
void
pst_ch_sql_others(StringInfo sql, const PstChTable *table, const PstShipment *shipment,
				  int64 first, int64 last, const char *prefix)
{
	char	   *own = psprintf("%s%d-", prefix, shipment->nonce ? atoi(shipment->nonce) : 0);

	appendStringInfoString(sql, "SELECT DISTINCT toString(name) FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfo(sql, " WHERE ((position >= " UINT64_FORMAT " AND position < " UINT64_FORMAT ") OR position > " UINT64_FORMAT,
					 (uint64) shipment->from_position, (uint64) first, (uint64) last);
	if (!shipment->open_end)
		appendStringInfo(sql, " AND position <= " UINT64_FORMAT, (uint64) shipment->to_position);
	appendStringInfoString(sql, ") AND startsWith(toString(name), ");
	pst_ch_quote_text(sql, prefix);
	appendStringInfoString(sql, ") AND NOT startsWith(toString(name), ");
	pst_ch_quote_text(sql, own);
	appendStringInfo(sql, ") LIMIT %d FORMAT RowBinary", PST_MAX_STRAYS);
	pfree(own);
}

void
pst_ch_sql_top(StringInfo sql, const PstChTable *table, int64 from, const char *prefix)
{
	appendStringInfoString(sql, "SELECT max(position) FROM ");
	pst_ch_quote_name(sql, table->name);
	appendStringInfo(sql, " WHERE position >= " UINT64_FORMAT " AND startsWith(toString(name), ", (uint64) from);
	pst_ch_quote_text(sql, prefix);
	appendStringInfoChar(sql, ')');
}

/* An insert goes on, whole or in pieces, as long as this is not 0. */
void
pst_ch_sql_running(StringInfo sql, const char *name)
{
	char	   *pieces = psprintf("%s/", name);

	appendStringInfoString(sql, "SELECT count() FROM system.processes WHERE query_id = ");
	pst_ch_quote_text(sql, name);
	appendStringInfoString(sql, " OR startsWith(query_id, ");
	pst_ch_quote_text(sql, pieces);
	appendStringInfoChar(sql, ')');
	pfree(pieces);
}
