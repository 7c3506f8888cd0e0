/*
 * postgres_mark.c
 *	  The nonces that tell copies of a cluster apart, in a table of ours beside the
 *	  one that events go to.
 *
 * There is a row for each log and route; a newer nonce takes the place of an
 * older one, and never the other way round.
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/postgres_shipment.h"

#define TABLE "persistomata_claim"
/* the parameter is "<mark> <nonce>" */
#define MARK "pg_catalog.split_part($1, ' ', 1)"
#define NONCE "pg_catalog.split_part($1, ' ', 2)"

/* Beside the table of events, in its schema if that is given. */
static void
append_claim_table(PstPostgres *sink)
{
	const char *table = pst_option_or_default(&pst_postgres_sink, sink->shipment->options, "table");
	const char *dot = strchr(table, '.');
	char	   *claim = psprintf("%.*s" TABLE, dot ? (int) (dot - table) + 1 : 0, table);

	pst_pg_append_table(&sink->sql, claim);
	pfree(claim);
}

static void
end(PstPostgres *sink)
{
	sink->step = PST_PG_IDLE;
}

static void
run(PstPostgres *sink, PstPgStep step, const char *param)
{
	sink->step = step;
	if (!pst_pg_run(&sink->link, sink->sql.data, param, &sink->pieces.fault))
		end(sink);
}

static void
ask_nonce(PstPostgres *sink)
{
	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "SELECT nonce FROM ");
	append_claim_table(sink);
	appendStringInfoString(&sink->sql, " WHERE mark = " MARK);
	run(sink, PST_PG_MARK_ASK, sink->json.data);
}

static void
leave_nonce(PstPostgres *sink)
{
	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "INSERT INTO ");
	append_claim_table(sink);
	appendStringInfoString(&sink->sql, " AS c (mark, timeline, number, nonce) VALUES (" MARK
						   ", pg_catalog.split_part(" NONCE ", '-', 1)::pg_catalog.int4"
						   ", pg_catalog.split_part(" NONCE ", '-', 2)::pg_catalog.int8, " NONCE ")"
						   " ON CONFLICT (mark) DO UPDATE SET timeline = EXCLUDED.timeline, number = EXCLUDED.number,"
						   " nonce = EXCLUDED.nonce, left_at = DEFAULT"
						   " WHERE (c.timeline, c.number, c.nonce) < (EXCLUDED.timeline, EXCLUDED.number, EXCLUDED.nonce)");
	run(sink, PST_PG_MARK_LEAVE, sink->json.data);
}

static void
create_table(PstPostgres *sink)
{
	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "CREATE TABLE IF NOT EXISTS ");
	append_claim_table(sink);
	appendStringInfoString(&sink->sql, " (mark text PRIMARY KEY, timeline integer NOT NULL, number bigint NOT NULL,"
						   " nonce text COLLATE \"C\" NOT NULL, left_at timestamptz NOT NULL DEFAULT pg_catalog.now())");
	run(sink, PST_PG_MARK_CREATE, NULL);
}

static void
next(PstPostgres *sink)
{
	if (sink->leaving)
		leave_nonce(sink);
	else
		ask_nonce(sink);
}

/* Whatever is wrong with the table: events may go to theirs all the same. */
static void
take_error(PstPostgres *sink, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool		missing = state && strcmp(state, "42P01") == 0;

	if (missing && sink->step == PST_PG_MARK_ASK)
		end(sink);				/* nothing was left there yet */
	else if (missing && sink->step == PST_PG_MARK_LEAVE && !sink->created &&
			 pst_option_bool(&pst_postgres_sink, sink->shipment->options, "create_table"))
	{
		sink->created = true;
		create_table(sink);
	}
	else if (sink->step == PST_PG_MARK_CREATE && state && strncmp(state, "23", 2) == 0)
		next(sink);				/* somebody else made it at the same time */
	else
	{
		pst_pg_fault_of(&sink->pieces.fault, result);
		if (sink->pieces.fault.verdict != PST_RETRY)
		{
			sink->pieces.fault.verdict = PST_REJECTED;
			strlcpy(sink->pieces.fault.what, "the table \"" TABLE "\" cannot be used", sizeof(sink->pieces.fault.what));
		}
		end(sink);
	}
}

static void
take_result(PstPostgres *sink, PGresult *result)
{
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		if (PQntuples(result) > 0)
			strlcpy(sink->marked, PQgetvalue(result, 0, 0), sizeof(sink->marked));
		end(sink);
	}
	else if (PQresultStatus(result) != PGRES_COMMAND_OK)
		take_error(sink, result);
	else
	{
		sink->leaving &= sink->step != PST_PG_MARK_LEAVE;
		next(sink);
	}
	PQclear(result);
}

void
pst_pg_mark_begin(PstPostgres *sink, const PstShipment *shipment, bool leave)
{
	sink->shipment = shipment;
	sink->marking = true;
	sink->leaving = leave;
	sink->created = false;
	sink->marked[0] = '\0';
	memset(&sink->pieces.fault, 0, sizeof(sink->pieces.fault));
	appendStringInfo(&sink->json, "%s %s", shipment->mark, shipment->nonce);
	sink->step = PST_PG_CONNECT;
	if (pst_pg_is_stale(&sink->link))
		pst_pg_close(&sink->link);
}

PstSinkProgress
pst_pg_mark_step(PstPostgres *sink)
{
	PGresult   *result;

	if (sink->step == PST_PG_CONNECT)
	{
		if (sink->link.stage == PST_PG_READY)
			next(sink);
		else if (!pst_pg_connect(&sink->link, &sink->pieces.fault))
			end(sink);
		else if (sink->link.stage == PST_PG_READY)
			next(sink);
	}
	else if (sink->step != PST_PG_IDLE)
	{
		if (!pst_pg_result(&sink->link, &result, &sink->pieces.fault))
			end(sink);
		else if (result != NULL)
			take_result(sink, result);
	}
	return sink->step == PST_PG_IDLE ? PST_SINK_DONE : PST_SINK_BUSY;
}

const char *
pst_pg_marked(const PstSink *base)
{
	const PstPostgres *sink = (const PstPostgres *) base;

	return sink->marked[0] != '\0' ? sink->marked : NULL;
}
