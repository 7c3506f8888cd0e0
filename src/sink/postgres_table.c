/*
 * postgres_table.c
 *	  Events as rows of a table of another PostgreSQL server.
 *
 * A statement inserts many events: one parameter has them as JSON, which the
 * server takes apart, and ON CONFLICT (name) DO NOTHING drops what is there
 * already.  So a repeat does no harm, and each event is there once, also after a
 * crash on either side.  What was dropped is looked at: another copy of the
 * cluster gives its events the same names, and then it was not ours.  What is
 * refused for its content is halved until the event to blame is found.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/postgres_shipment.h"
#include "utils/builtins.h"

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

void
pst_pg_append_table(StringInfo sql, const char *name)
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
	pst_pg_append_table(sql, table_of(sink));
	appendStringInfoString(sql, " (");
	append_columns(sql, false);
	appendStringInfoString(sql, ") SELECT ");
	append_columns(sql, false);
	appendStringInfoString(sql, " FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS e (");
	append_columns(sql, true);
	appendStringInfoString(sql, ") ORDER BY position ON CONFLICT (name) DO NOTHING");

	resetStringInfo(&sink->json);
	appendStringInfoChar(&sink->json, '[');
	for (int i = sink->pieces.from; i < until; i++)
	{
		if (i > sink->pieces.from)
			appendStringInfoChar(&sink->json, ',');
		pst_encode_json(&sink->json, &sink->shipment->events[i]);
	}
	appendStringInfoChar(&sink->json, ']');
}

/* Of the events that the insert was given: how many names belong to others there?  No two copies write in one microsecond. */
static void
make_compare(PstPostgres *sink)
{
	StringInfo	sql = &sink->sql;

	resetStringInfo(sql);
	appendStringInfoString(sql, "SELECT pg_catalog.count(*) FROM ");
	pst_pg_append_table(sql, table_of(sink));
	appendStringInfoString(sql, " t JOIN pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS e (name text, occurred_at timestamptz)"
						   " USING (name) WHERE t.occurred_at <> e.occurred_at");
}

static void
make_create(PstPostgres *sink)
{
	StringInfo	sql = &sink->sql;

	resetStringInfo(sql);
	appendStringInfoString(sql, "CREATE TABLE IF NOT EXISTS ");
	pst_pg_append_table(sql, table_of(sink));
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

void
pst_pg_fault_of(PstFault *fault, const PGresult *result)
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
give_up(PstPostgres *sink, const PstFault *fault)
{
	pst_pieces_give_up(&sink->pieces, fault);
	sink->step = PST_PG_IDLE;
}

/* Send the statement; json is its parameter, or NULL. */
static void
run(PstPostgres *sink, PstPgStep step, const char *json)
{
	PstFault	fault;

	sink->step = step;
	if (!pst_pg_run(&sink->link, sink->sql.data, json, &fault))
		give_up(sink, &fault);
}

/* The next piece, or the end. */
static void
begin_insert(PstPostgres *sink)
{
	int			until = pst_pieces_next(&sink->pieces);

	if (sink->pieces.done)
	{
		sink->step = PST_PG_IDLE;
		return;
	}
	make_insert(sink, until);
	run(sink, PST_PG_INSERT, sink->json.data);
}

void
pst_pg_ship_begin(PstPostgres *sink, const PstShipment *shipment)
{
	sink->shipment = shipment;
	sink->marking = false;
	sink->step = PST_PG_CONNECT;
	sink->created = false;
	sink->duplicates = 0;
	pst_pieces_begin(&sink->pieces, shipment->nevents, shipment->nevents);
	/* the server may have closed an idle connection: no reason for a doubt */
	if (pst_pg_is_stale(&sink->link))
		pst_pg_close(&sink->link);
}

static bool
may_create(const PstPostgres *sink, const char *state)
{
	return !sink->created && state && strcmp(state, "42P01") == 0 &&
		pst_option_bool(&pst_postgres_sink, sink->shipment->options, "create_table");
}

static void
after_error(PstPostgres *sink, const PGresult *result)
{
	PstFault	fault;

	if (sink->step == PST_PG_INSERT && may_create(sink, PQresultErrorField(result, PG_DIAG_SQLSTATE)))
	{
		make_create(sink);
		sink->created = true;
		run(sink, PST_PG_CREATE, NULL);
		return;
	}
	pst_pg_fault_of(&fault, result);
	if (sink->step != PST_PG_INSERT || fault.verdict != PST_REJECTED)
		give_up(sink, &fault);
	else
	{
		pst_pieces_refused(&sink->pieces, &fault);
		begin_insert(sink);
	}
}

static void
after_insert(PstPostgres *sink, int inserted)
{
	int			there = pst_pieces_count(&sink->pieces) - inserted;

	sink->duplicates += there;
	if (there > 0)
	{
		make_compare(sink);
		run(sink, PST_PG_COMPARE, sink->json.data);
		return;
	}
	pst_pieces_passed(&sink->pieces);
	begin_insert(sink);
}

static void
after_compare(PstPostgres *sink, int others)
{
	PstFault	fault;

	if (others == 0)
		pst_pieces_passed(&sink->pieces);
	else
	{
		pst_fault_set(&fault, PST_REJECTED, 0,
					  "the table has another event under this name: another copy of this cluster wrote it");
		pst_pieces_refused(&sink->pieces, &fault);
	}
	begin_insert(sink);
}

static void
on_result(PstPostgres *sink, PGresult *result)
{
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		after_compare(sink, atoi(PQgetvalue(result, 0, 0)));
	else if (PQresultStatus(result) != PGRES_COMMAND_OK)
		after_error(sink, result);
	else if (sink->step == PST_PG_INSERT)
		after_insert(sink, atoi(PQcmdTuples(result)));
	else
		begin_insert(sink);
	PQclear(result);
}

PstSinkProgress
pst_pg_ship_step(PstPostgres *sink)
{
	PGresult   *result;
	PstFault	fault;

	if (sink->step == PST_PG_CONNECT)
	{
		if (sink->link.stage != PST_PG_READY && !pst_pg_connect(&sink->link, &fault))
			give_up(sink, &fault);
		else if (sink->link.stage == PST_PG_READY)
			begin_insert(sink);
	}
	else if (sink->step != PST_PG_IDLE)
	{
		if (!pst_pg_result(&sink->link, &result, &fault))
			give_up(sink, &fault);
		else if (result != NULL)
			on_result(sink, result);
	}
	return sink->step == PST_PG_IDLE ? PST_SINK_DONE : PST_SINK_BUSY;
}
