/*
 * route.h
 *	  Routes: which events go to which sink, from where on.
 */
#ifndef PST_ROUTE_H
#define PST_ROUTE_H

#include "postgres.h"

#include "event/event.h"
#include "nodes/pg_list.h"
#include "sink/sink.h"

/* One version of what a route is. */
typedef struct PstRouteSettings
{
	int64		version;
	int64		until;			/* the next version; PG_INT64_MAX: there is none yet */
	char	   *machine;		/* a glob */
	List	   *types;			/* of char *; NIL: all */
	List	   *events;
	List	   *states;
	char	   *format;
	PstOption  *options;		/* ended by a NULL name */
} PstRouteSettings;

typedef struct PstRouteCounts
{
	int64		sent;
	int64		retried;
	int64		duplicates;
	int64		dead;
} PstRouteCounts;

/* Where a route stands. */
typedef struct PstCursor
{
	int			generation;
	int64		shift_ms;		/* added to stream_ms */
	bool		begun;			/* false: no cut has seen the route yet */
	int64		next_position;
	int64		settings;		/* version in force there; 0: to be found */
	PstRouteCounts counts;

	/* an intent without an acknowledgement: this very shipment comes first */
	bool		intent;
	int64		intent_to;
	int64		intent_at;		/* TimestampTz */
	uint64		intent_hash;
} PstCursor;

typedef struct PstRoute
{
	int			id;
	char	   *name;
	char	   *server;
	Oid			owner;
	bool		enabled;
} PstRoute;

/*
 * All need a transaction and SPI, with an active snapshot; results are made in
 * the given context.
 */

/* The routes of a server, or of all servers if it is NULL, by id. */
extern List *pst_route_list(const char *server, MemoryContext context);

/* The version that follows `after`, or the first if that is 0; NULL if none. */
extern PstRouteSettings *pst_route_settings(int route, int64 after, MemoryContext context);

/* The version itself. */
extern PstRouteSettings *pst_route_settings_of(int route, int64 version, MemoryContext context);

extern void pst_cursor_read(int route, PstCursor *cursor);

/* in match.c: pure */
extern bool pst_route_wants(const PstRouteSettings *settings, const PstEvent *event);
extern bool pst_glob_match(const char *glob, const char *text);

/* The kind of sink behind a foreign data wrapper, or NULL if it is none. */
extern const PstSinkOps *pst_sink_of_wrapper(const char *fdwname);

#endif							/* PST_ROUTE_H */
