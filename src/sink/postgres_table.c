/*
 * postgres_table.c
 *	  Events as rows of a table of another PostgreSQL server.
 *
 * A statement inserts many events: one parameter has them as JSON, which the
 * server takes apart, and ON CONFLICT (name) DO NOTHING drops what is there
 * already.  So a repeat does no harm, and each event is there once, also after a
 * crash on either side.  What is refused for its content is halved until the
 * event to blame is found.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/postgres_shipment.h"
#include "utils/builtins.h"

/* Refusals without a single event taken, after which it is not the events. */
#define MANY_REFUSALS 16

static const struct
{
	const char *name;
	const char *type;
}			columns[] = {
	{"name", "text"}, {"position", "bigint"}, {"event_id", "bigint"}, {"type", "text"},
	{"machine", "text"}, {"version", "integer"}, {"fsm", "text"}, {"key", "text"}, {"event", "text"},
	{"from_state", "text"}, {"to_state", "text"}, {"args", "jsonb"}, {"payload", "jsonb"},
	{"reason", "text"}, {"occurred_at", "timestamptz"}, {"xid", "bigint"}, {"actor", "text"},
	{"headers", "jsonb"}, {"node", "text"}
};

/* ----- statements ----- */

static void
append_quoted(StringInfo sql, const char *name, size_t len)
{
	appendStringInfoChar(sql, '"');
	for (size_t i = 0; i < len; i++)
	{
		if (name[i] == '"')
			appendStringInfoChar(sql, '"');
		appendStringInfoChar(sql, name[i]);
	}
	appendStringInfoChar(sql, '"');
}

/* table, or schema.table */
static void
append_table(StringInfo sql, const char *name)
{
	const char *dot = strchr(name, '.');

	if (dot)
	{
		append_quoted(sql, name, dot - name);
		appendStringInfoChar(sql, '.');
		name = dot + 1;
	}
	append_quoted(sql, name, strlen(name));
}

static void
append_columns(StringInfo sql, bool with_types)
{
	for (int i = 0; i < (int) lengthof(columns); i++)
		appendStringInfo(sql, "%s%s%s%s", i ? ", " : "", columns[i].name,
						 with_types ? " " : "", with_types ? columns[i].type : "");
}

static const char *
table_of(const PstPostgres *sink)
{
	return pst_option_or_default(&pst_postgres_sink, sink->shipment->options, "table");
}

static void
make_insert(PstPostgres *sink, int until)
{
	StringInfo	sql = &sink->sql;

	resetStringInfo(sql);
	appendStringInfoString(sql, "INSERT INTO ");
	append_table(sql, table_of(sink));
	appendStringInfoString(sql, " (");
	append_columns(sql, false);
	appendStringInfoString(sql, ") SELECT ");
	append_columns(sql, false);
	appendStringInfoString(sql, " FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS e (");
	append_columns(sql, true);
	appendStringInfoString(sql, ") ORDER BY position ON CONFLICT (name) DO NOTHING");

	resetStringInfo(&sink->json);
	appendStringInfoChar(&sink->json, '[');
	for (int i = sink->from; i < until; i++)
	{
		if (i > sink->from)
			appendStringInfoChar(&sink->json, ',');
		pst_encode_json(&sink->json, &sink->shipment->events[i]);
	}
	appendStringInfoChar(&sink->json, ']');
}

static void
make_create(PstPostgres *sink)
{
	StringInfo	sql = &sink->sql;

	resetStringInfo(sql);
	appendStringInfoString(sql, "CREATE TABLE IF NOT EXISTS ");
	append_table(sql, table_of(sink));
	appendStringInfoString(sql, " (");
	append_columns(sql, true);
	appendStringInfoString(sql, ", PRIMARY KEY (name))");
}

/* ----- what an error means ----- */

/*
 * Classes 21, 22, 23, 44 and P0 (a trigger of the user's) are about rows; 08,
 * 25, 40, 53, 55, 57 and 58 pass by themselves; the rest is for a human to mend.
 */
static PstVerdict
verdict_of_state(const char *state)
{
	static const char *const of_rows[] = {"21", "22", "23", "44", "P0"};
	static const char *const passing[] = {"08", "25", "40", "53", "55", "57", "58", "XX"};

	for (int i = 0; i < (int) lengthof(of_rows); i++)
		if (strncmp(state, of_rows[i], 2) == 0)
			return PST_REJECTED;
	for (int i = 0; i < (int) lengthof(passing); i++)
		if (strncmp(state, passing[i], 2) == 0)
			return PST_RETRY;
	return PST_MISCONFIGURED;
}

static void
take_error(PstFault *fault, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char	   *said = psprintf("%s: %s", state ? state : "-", message ? message : "no message");

	pst_fault_set(fault, state ? verdict_of_state(state) : PST_RETRY, 0, "the server refuses the insert");
	if (fault->verdict == PST_RETRY)
		strlcpy(fault->what, "the server cannot do the insert now", sizeof(fault->what));
	pst_fault_quote(fault, said, strlen(said));
	pfree(said);
}

/* ----- the course of a shipment ----- */

static void
settle(PstPostgres *sink, PstVerdict verdict)
{
	for (int i = 0; i < sink->shipment->nevents; i++)
		if (sink->verdicts[i] == PST_VERDICT_NONE)
			sink->verdicts[i] = verdict;
	sink->step = PST_PG_IDLE;
}

/*
 * The end of the shipment, with the fault that is set.  What would hold up the
 * whole route is told only when nothing was taken: what was is settled first.
 */
static void
give_up(PstPostgres *sink)
{
	if (sink->fault.verdict == PST_MISCONFIGURED && sink->ndelivered + sink->nrefusals > 0)
		sink->fault.verdict = PST_RETRY;
	settle(sink, sink->fault.verdict);
}

static void
begin_insert(PstPostgres *sink)
{
	if (sink->from == sink->shipment->nevents)
	{
		sink->step = PST_PG_IDLE;
		return;
	}
	if (sink->nends == 0)
		sink->ends[sink->nends++] = sink->shipment->nevents;
	make_insert(sink, sink->ends[sink->nends - 1]);
	sink->step = PST_PG_INSERT;
	if (!pst_pg_run(&sink->link, sink->sql.data, sink->json.data, &sink->fault))
		give_up(sink);
}

static void
begin_create(PstPostgres *sink)
{
	make_create(sink);
	sink->created = true;
	sink->step = PST_PG_CREATE;
	if (!pst_pg_run(&sink->link, sink->sql.data, NULL, &sink->fault))
		give_up(sink);
}

void
pst_pg_ship_begin(PstPostgres *sink, const PstShipment *shipment)
{
	sink->shipment = shipment;
	sink->step = PST_PG_CONNECT;
	sink->created = false;
	sink->verdicts = palloc0(sizeof(PstVerdict) * shipment->nevents);
	sink->refusals = NULL;
	sink->nrefusals = sink->ndelivered = sink->duplicates = 0;
	sink->from = sink->nends = 0;
	memset(&sink->fault, 0, sizeof(sink->fault));
	/* the server may have closed an idle connection: no reason for a doubt */
	if (pst_pg_is_stale(&sink->link))
		pst_pg_close(&sink->link);
}

static void
finish_piece(PstPostgres *sink, PstVerdict verdict)
{
	int			until = sink->ends[--sink->nends];

	while (sink->from < until)
		sink->verdicts[sink->from++] = verdict;
}

/* This one event is to blame; false if it turns out that it is not the events. */
static bool
refuse(PstPostgres *sink)
{
	Size		size = sizeof(PstPgRefusal) * (sink->nrefusals + 1);

	if (sink->ndelivered == 0 && sink->nrefusals + 1 >= MANY_REFUSALS)
	{
		memset(sink->verdicts, 0, sizeof(PstVerdict) * sink->shipment->nevents);
		sink->nrefusals = 0;
		sink->fault.verdict = PST_MISCONFIGURED;
		settle(sink, PST_MISCONFIGURED);
		return false;
	}
	sink->refusals = sink->refusals ? repalloc(sink->refusals, size) : palloc(size);
	sink->refusals[sink->nrefusals].event = sink->from;
	sink->refusals[sink->nrefusals++].fault = sink->fault;
	memset(&sink->fault, 0, sizeof(sink->fault));
	finish_piece(sink, PST_REJECTED);
	return true;
}

static void
after_success(PstPostgres *sink, PGresult *result)
{
	int			count = sink->ends[sink->nends - 1] - sink->from;

	sink->duplicates += count - atoi(PQcmdTuples(result));
	sink->ndelivered += count;
	finish_piece(sink, PST_DELIVERED);
	begin_insert(sink);
}

static bool
may_create(const PstPostgres *sink, const char *state)
{
	bool		wanted = true;

	(void) parse_bool(pst_option_or_default(&pst_postgres_sink, sink->shipment->options, "create_table"), &wanted);
	return wanted && !sink->created && state && strcmp(state, "42P01") == 0;
}

static void
after_error(PstPostgres *sink, PGresult *result)
{
	int			count;

	if (sink->step == PST_PG_INSERT && may_create(sink, PQresultErrorField(result, PG_DIAG_SQLSTATE)))
	{
		begin_create(sink);
		return;
	}
	take_error(&sink->fault, result);
	if (sink->step != PST_PG_INSERT || sink->fault.verdict != PST_REJECTED)
	{
		give_up(sink);
		return;
	}
	count = sink->ends[sink->nends - 1] - sink->from;
	if (count > 1)
	{
		sink->ends[sink->nends] = sink->from + count / 2;
		sink->nends++;
	}
	else if (!refuse(sink))
		return;
	begin_insert(sink);
}

static void
on_result(PstPostgres *sink, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		after_error(sink, result);
	else if (sink->step == PST_PG_CREATE)
		begin_insert(sink);
	else
		after_success(sink, result);
	PQclear(result);
}

PstSinkProgress
pst_pg_ship_step(PstPostgres *sink)
{
	PGresult   *result;

	if (sink->step == PST_PG_CONNECT)
	{
		if (sink->link.stage != PST_PG_READY && !pst_pg_connect(&sink->link, &sink->fault))
			give_up(sink);
		else if (sink->link.stage == PST_PG_READY)
			begin_insert(sink);
	}
	else if (sink->step != PST_PG_IDLE)
	{
		if (!pst_pg_result(&sink->link, &result, &sink->fault))
			give_up(sink);
		else if (result != NULL)
			on_result(sink, result);
	}
	return sink->step == PST_PG_IDLE ? PST_SINK_DONE : PST_SINK_BUSY;
}
