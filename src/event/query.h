/*
 * query.h
 *	  Prepared queries of the relay, on our own tables only.
 */
#ifndef PST_QUERY_H
#define PST_QUERY_H

#include "postgres.h"

#include "executor/spi.h"

#define PST_QUERY_MAX_ARGS 16

/*
 * A query that is planned once per backend.  Everything in its text is schema
 * qualified.  A %d in it is replaced by the number of the ring's slot: such a
 * query is an array with one member per slot.
 */
typedef struct PstQuery
{
	const char *sql;
	int			nargs;
	Oid			argtypes[PST_QUERY_MAX_ARGS];
	SPIPlanPtr	plan;
} PstQuery;

/*
 * Run a query between SPI_connect and SPI_finish, under the active snapshot if
 * it only reads.  Throws unless SPI's result is a success; returns the number
 * of rows, which are in SPI_tuptable.
 */
extern uint64 pst_query_read(PstQuery *query, const Datum *args);
extern uint64 pst_query_write(PstQuery *query, const Datum *args, const char *nulls);

/* Likewise for slot n of an array of queries that all begin as queries[0]. */
extern uint64 pst_query_read_slot(PstQuery *queries, int slot, const Datum *args);
extern uint64 pst_query_write_slot(PstQuery *queries, int slot, const Datum *args, const char *nulls);

/* A column of a result's row; missing values are an error unless isnull is given. */
extern Datum pst_result(uint64 row, int column, bool *isnull);

#endif							/* PST_QUERY_H */
