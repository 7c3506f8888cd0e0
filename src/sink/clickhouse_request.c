/*
 * clickhouse_request.c
 *	  The requests of a shipment: each makes its statement and begins.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

#define SHORT_ANSWER (64 * 1024)	/* of a statement that returns nothing, or an error */
#define LOOK_ANSWER (1024 * 1024)
#define NAME_ANSWER 256			/* of an event's position and name, generously */

/* Send a request whose query string is in sink->query and whose body is given. */
static void
begin(PstChSink *sink, PstChStep step, StringInfo body, size_t max_answer)
{
	char		errbuf[sizeof(sink->fault.what)];
	const char *encoding = body == &sink->packed ? sink->packing : NULL;

	pst_ch_http_param(&sink->query, "database", sink->database);
	if (pst_ch_http_begin(sink->http, &sink->peer, sink->query.data,
						  body, encoding, max_answer, errbuf, sizeof(errbuf)))
		sink->step = step;
	else
		pst_ch_fail(sink, PST_RETRY, errbuf);
}

static void
clear_request(PstChSink *sink)
{
	resetStringInfo(&sink->sql);
	resetStringInfo(&sink->query);
}

void
pst_ch_begin_sql(PstChSink *sink, PstChStep step, size_t max_answer)
{
	resetStringInfo(&sink->query);
	begin(sink, step, &sink->sql, max_answer);
}

void
pst_ch_begin_write(PstChSink *sink, PstChStep step)
{
	resetStringInfo(&sink->query);
	if (pst_ch_has_tokens(sink->version))
		pst_ch_http_param(&sink->query, "async_insert", "0");
	begin(sink, step, &sink->sql, SHORT_ANSWER);
}

void
pst_ch_begin_version(PstChSink *sink)
{
	clear_request(sink);
	appendStringInfoString(&sink->sql, "SELECT version()");
	begin(sink, PST_CH_ASK_VERSION, &sink->sql, SHORT_ANSWER);
}

static PstChTable *
table_under_way(PstChSink *sink)
{
	return sink->groups[sink->group].table;
}

void
pst_ch_begin_look(PstChSink *sink)
{
	clear_request(sink);
	pst_ch_sql_look(&sink->sql, table_under_way(sink), sink->database, sink->version);
	begin(sink, PST_CH_LOOK, &sink->sql, LOOK_ANSWER);
}

void
pst_ch_begin_create(PstChSink *sink)
{
	clear_request(sink);
	pst_ch_sql_create(&sink->sql, table_under_way(sink), sink->work.missing, sink->version);
	begin(sink, PST_CH_CREATE, &sink->sql, SHORT_ANSWER);
}

void
pst_ch_begin_ask_running(PstChSink *sink)
{
	const PstChGroup *group = &sink->groups[sink->group];
	PstChPiece	whole = {.from = group->from, .count = group->count, .whole = true};
	StringInfoData name;

	if (sink->give_up_at == 0)
		sink->give_up_at = pst_ch_now_ms() + sink->peer.request_timeout;
	clear_request(sink);
	initStringInfo(&name);
	pst_ch_piece_name(&name, sink, &whole);
	pst_ch_sql_running(&sink->sql, name.data);
	pfree(name.data);
	begin(sink, PST_CH_ASK_RUNNING, &sink->sql, SHORT_ANSWER);
}

/*
 * Where does the table end?  A worker that finds a long backlog cannot tell
 * whether an earlier one has sent some of it, long ago: one question about all
 * spares one about each shipment.
 */
void
pst_ch_begin_ask_top(PstChSink *sink, int64 from)
{
	char	   *prefix = pst_ch_log_prefix(sink);

	clear_request(sink);
	pst_ch_sql_top(&sink->sql, table_under_way(sink), from, prefix);
	pfree(prefix);
	begin(sink, PST_CH_ASK_TOP, &sink->sql, SHORT_ANSWER);
}

/* What all names of a piece begin with: spares us the rows of other logs and timelines. */
static char *
common_prefix(const PstChSink *sink, const PstChPiece *piece)
{
	const PstEvent *events = sink->shipment->events;
	char	   *prefix = pstrdup(events[sink->rows[piece->from]].name);
	size_t		length = strlen(prefix);

	for (int i = 1; i < piece->count; i++)
	{
		const char *name = events[sink->rows[piece->from + i]].name;
		size_t		same = 0;

		while (same < length && name[same] == prefix[same])
			same++;
		length = same;
	}
	prefix[length] = '\0';
	return prefix;
}

void
pst_ch_begin_ask_landed(PstChSink *sink)
{
	const PstChPiece *piece = pst_ch_top_piece(sink);
	const PstEvent *events = sink->shipment->events;
	char	   *prefix = common_prefix(sink, piece);

	clear_request(sink);
	pst_ch_sql_landed(&sink->sql, table_under_way(sink),
					  events[sink->rows[piece->from]].position,
					  events[sink->rows[piece->from + piece->count - 1]].position,
					  prefix);
	pfree(prefix);
	begin(sink, PST_CH_ASK_LANDED, &sink->sql,
		  SHORT_ANSWER + (size_t) NAME_ANSWER * piece->count);
}

/* A server refuses a setting that it does not know, so each is sent by version. */
static void
add_insert_settings(PstChSink *sink, const char *name)
{
	pst_ch_http_param(&sink->query, "query_id", name);
	pst_ch_http_param(&sink->query, "wait_end_of_query", "1");
	if (pst_ch_has_tokens(sink->version))
	{
		pst_ch_http_param(&sink->query, "async_insert", "0");
		pst_ch_http_param(&sink->query, "insert_deduplicate", "1");
		pst_ch_http_param(&sink->query, "insert_deduplication_token", name);
		pst_ch_http_param(&sink->query, "deduplicate_blocks_in_dependent_materialized_views", "1");
	}
}

/* The value of this column cannot be written: its event is refused. */
static void
refuse_misfit(PstChSink *sink, const PstNativeMisfit *misfit)
{
	const PstNativeColumn *column = misfit->column;
	char		what[sizeof(sink->fault.what)];

	snprintf(what, sizeof(what), "table \"%s\": the event's %s cannot stand in a column of type %s",
			 table_under_way(sink)->name, column->name, column->type);
	pst_ch_row_unfit(sink, misfit->row, what);
}

/* Write the top piece, or the part of it that can be sent at once; false if there is none. */
static bool
write_block(PstChSink *sink)
{
	const PstChTable *table = table_under_way(sink);
	PstNativeMisfit misfit;

	if (pst_ch_take_ahead(sink))
		return true;
	resetStringInfo(&sink->body);
	for (;;)
	{
		const PstChPiece *piece = pst_ch_top_piece(sink);

		switch (pst_native_block(&sink->body, table->columns, table->ncolumns, sink->shipment->events,
								 &sink->rows[piece->from], piece->count, &misfit))
		{
			case PST_NATIVE_WRITTEN:
				return true;
			case PST_NATIVE_MISFIT:
				refuse_misfit(sink, &misfit);
				return false;
			case PST_NATIVE_TOO_LARGE:
				break;
		}
		if (!pst_ch_piece_split(sink))
		{
			pst_ch_fail(sink, PST_RETRY, "an event is too large to be sent");
			return false;
		}
	}
}

void
pst_ch_begin_insert(PstChSink *sink)
{
	const PstChTable *table = table_under_way(sink);
	const PstChPiece *piece;
	StringInfoData name;

	if (!write_block(sink))
		return;
	if (sink->packing && !pst_ch_pack(&sink->packed, &sink->body, sink->packing))
	{
		pst_ch_fail(sink, PST_RETRY, "the events could not be compressed");
		return;
	}
	piece = pst_ch_top_piece(sink);
	clear_request(sink);
	pst_ch_sql_insert(&sink->sql, table);
	pst_ch_http_param(&sink->query, "query", sink->sql.data);
	initStringInfo(&name);
	pst_ch_piece_name(&name, sink, piece);
	add_insert_settings(sink, name.data);
	pfree(name.data);
	begin(sink, PST_CH_INSERT, sink->packing ? &sink->packed : &sink->body, SHORT_ANSWER);
}
