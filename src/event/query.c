/*
 * query.c
 *	  Prepared queries of the relay, on our own tables only.
 *
 * Plans are kept for the backend's life; the plan cache replans them when a
 * table changes, also after DROP and CREATE EXTENSION, since they name tables
 * by text.
 */
#include "postgres.h"

#include "event/query.h"

static void
prepare(PstQuery *query, const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	SPIPlanPtr	plan;

	plan = SPI_prepare(sql, query->nargs, query->argtypes);
	MemoryContextSwitchTo(context);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	query->plan = plan;
}

static uint64
run(PstQuery *query, const Datum *args, const char *nulls, bool read_only)
{
	MemoryContext context = CurrentMemoryContext;
	int			rc;

	/* SPI leaves its own context current: what a caller makes of the rows is the caller's */
	rc = SPI_execute_plan(query->plan, (Datum *) args, nulls, read_only, 0);
	MemoryContextSwitchTo(context);
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", query->sql, SPI_result_code_string(rc));
	return SPI_processed;
}

uint64
pst_query_read(PstQuery *query, const Datum *args)
{
	if (query->plan == NULL)
		prepare(query, query->sql);
	return run(query, args, NULL, true);
}

uint64
pst_query_write(PstQuery *query, const Datum *args, const char *nulls)
{
	if (query->plan == NULL)
		prepare(query, query->sql);
	return run(query, args, nulls, false);
}

static PstQuery *
of_slot(PstQuery *queries, int slot)
{
	PstQuery   *query = &queries[slot];

	if (query->plan == NULL)
	{
		char		number[12];
		StringInfoData sql;
		const char *rest = queries[0].sql;
		const char *hole;

		snprintf(number, sizeof(number), "%d", slot);
		initStringInfo(&sql);
		while ((hole = strstr(rest, "%d")) != NULL)
		{
			appendBinaryStringInfo(&sql, rest, hole - rest);
			appendStringInfoString(&sql, number);
			rest = hole + 2;
		}
		appendStringInfoString(&sql, rest);

		query->sql = queries[0].sql;
		query->nargs = queries[0].nargs;
		memcpy(query->argtypes, queries[0].argtypes, sizeof(query->argtypes));
		prepare(query, sql.data);
		pfree(sql.data);
	}
	return query;
}

uint64
pst_query_read_slot(PstQuery *queries, int slot, const Datum *args)
{
	return run(of_slot(queries, slot), args, NULL, true);
}

uint64
pst_query_write_slot(PstQuery *queries, int slot, const Datum *args, const char *nulls)
{
	return run(of_slot(queries, slot), args, nulls, false);
}

Datum
pst_result(uint64 row, int column, bool *isnull)
{
	bool		null;
	Datum		value;

	value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);
	if (isnull)
		*isnull = null;
	else if (null)
		elog(ERROR, "unexpected null in column %d", column);
	return value;
}
