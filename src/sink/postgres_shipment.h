/*
 * postgres_shipment.h
 *	  What the files of the PostgreSQL sink share.
 *
 *	postgres.c				options, and what a worker calls
 *	postgres_connection.c	a connection over libpq, and one statement at a time
 *	postgres_table.c		the statements, and what a shipment comes to
 *	postgres_mark.c			the nonces of workers, in a table of ours
 */
#ifndef PST_POSTGRES_SHIPMENT_H
#define PST_POSTGRES_SHIPMENT_H

#include "postgres.h"

#include <libpq-fe.h>

#include "lib/stringinfo.h"
#include "sink/pieces.h"

typedef enum PstPgStage
{
	PST_PG_CLOSED,
	PST_PG_CONNECTING,
	PST_PG_READY,				/* nothing under way */
	PST_PG_RUNNING				/* a statement, whose result is to come */
} PstPgStage;

typedef struct PstPgConnection
{
	PGconn	   *conn;			/* malloc'd by libpq */
	PstPgStage	stage;
	bool		write_next;		/* connecting: what it waits for */
	bool		unsent;			/* running: libpq still has bytes to write */
	int64		deadline;		/* monotonic ms, of what is under way */
	int			connect_timeout;	/* ms */
	int			request_timeout;
	const char **keywords;		/* of libpq, NULL at the end */
	const char **values;
} PstPgConnection;

typedef enum PstPgStep
{
	PST_PG_IDLE,				/* no shipment, or it has come to its end */
	PST_PG_CONNECT,
	PST_PG_CREATE,				/* the table */
	PST_PG_INSERT,
	PST_PG_COMPARE,				/* what is there already: is it ours? */
	PST_PG_MARK_ASK,
	PST_PG_MARK_CREATE,
	PST_PG_MARK_LEAVE
} PstPgStep;

typedef struct PstPostgres
{
	PstSink		base;
	MemoryContext context;		/* of the sink; NULL once closed */
	MemoryContext scratch;		/* of a shipment */
	PstPgConnection link;
	StringInfoData sql;
	StringInfoData json;

	/* the shipment under way */
	const PstShipment *shipment;
	PstPgStep	step;
	bool		created;		/* or found: it was tried once */
	int			duplicates;
	PstPieces	pieces;

	/* whose it is */
	bool		marking;		/* not a shipment, but its nonce */
	bool		leaving;		/* which is to be written yet */
	char		marked[64];		/* what is there; empty: nothing */
} PstPostgres;

/*
 * In postgres_connection.c.  Nothing waits; each of those that return a bool
 * gives false, with a fault, when the connection has broken, and has closed it.
 */
extern void pst_pg_close(PstPgConnection *link);
extern bool pst_pg_connect(PstPgConnection *link, PstFault *fault); /* one step; see stage */
extern bool pst_pg_run(PstPgConnection *link, const char *sql, const char *param, PstFault *fault);
/* *result is NULL while there is none yet; then the caller's, for PQclear() */
extern bool pst_pg_result(PstPgConnection *link, PGresult **result, PstFault *fault);
extern bool pst_pg_is_stale(PstPgConnection *link);
extern void pst_pg_wants(const PstPgConnection *link, PstWants *wants);

/* In postgres_table.c. */
extern void pst_pg_ship_begin(PstPostgres *sink, const PstShipment *shipment);
extern PstSinkProgress pst_pg_ship_step(PstPostgres *sink);
extern void pst_pg_append_table(StringInfo sql, const char *name);	/* table, or schema.table */
extern void pst_pg_fault_of(PstFault *fault, const PGresult *result);	/* of a statement that failed */

/* In postgres_mark.c. */
extern void pst_pg_mark_begin(PstPostgres *sink, const PstShipment *shipment, bool leave);
extern PstSinkProgress pst_pg_mark_step(PstPostgres *sink);
extern const char *pst_pg_marked(const PstSink *base);

#endif							/* PST_POSTGRES_SHIPMENT_H */
