/*
 * route.h
 *	  Routes: which events go to which sink, from where on.
 */
#ifndef PST_ROUTE_H
#define PST_ROUTE_H

#include "postgres.h"

#include "event/event.h"
#include "event/snapshot.h"
#include "nodes/pg_list.h"
#include "sink/sink.h"

/* How often, and how much, a route sends. */
typedef struct PstThrottle
{
	bool		last;			/* of each instance only the last event of a shipment */
	int			every_ms;		/* from the begin of a shipment to that of the next; 0: at once */
} PstThrottle;

/* One version of what a route is.  What is held against events or told to sinks is UTF-8, as they are. */
typedef struct PstRouteSettings
{
	int64		version;
	int64		until;			/* the next version; PG_INT64_MAX: there is none yet */
	char	   *machine;		/* a glob */
	List	   *types;			/* of char *; NIL: all */
	List	   *events;
	List	   *states;
	char	   *filter;			/* SQL, or NULL */
	const char *format;			/* what sinks are told: "json" or "cloudevents" */
	char	   *encoder;		/* its qualified name, or NULL */
	char	   *search_path;	/* that filter and encoder run under */
	PstThrottle throttle;
	PstSnapshot *since;			/* what it sees is in the route's own snapshot; or NULL */
	PstOption  *options;		/* ended by a NULL name */
	struct PstRouteCode *code;	/* code.c's */
} PstRouteSettings;

typedef struct PstRouteCounts
{
	int64		sent;
	int64		retried;
	int64		duplicates;
	int64		dead;
	int64		coalesced;		/* left out by throttle => 'last' */
} PstRouteCounts;

/* Where a route stands. */
typedef struct PstCursor
{
	int			generation;
	int64		shift_ms;		/* added to stream_ms */
	bool		begun;			/* false: no cut has seen the route yet */
	int64		next_position;
	int64		settings;		/* version in force there; 0: to be found */
	int64		replay_to;		/* up to here it sends again, */
	int64		resume_position;	/* and then goes on there; both 0: it is no replay */
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
	char	   *utf8_name;		/* as sinks are told it */
	char	   *server;
	Oid			owner;
	bool		enabled;
	char		on_loss;		/* 'c'ontinue, 'h'old, 'r'esend: as the route is now */
	char		held;			/* its worker has stopped it: 'l'ost, 'f'enced; or 0 */
	char		held_reason[256];
	int64		accepted_position;	/* what the sink lost up to here is not minded */
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

/* All before a position is settled.  At the end of a replay that is all that was settled before it. */
extern void pst_cursor_move(PstCursor *cursor, int64 next_position);

/*
 * In seek.c: have a route send again from a position on, or from the oldest that
 * is kept, whichever is later, in a new generation.  Returns that position.
 */
extern int64 pst_route_go_back(int route, int64 position);
/* likewise, with the cuts locked: a route that is held as fenced is to go on where it stands, under new names */
extern void pst_route_part(int route);

/* in match.c: pure */
extern bool pst_route_wants(const PstRouteSettings *settings, const PstEvent *event);
extern bool pst_glob_match(const char *glob, const char *text);

/* in throttle.c: throws if the text, which may be NULL, is none */
extern PstThrottle pst_throttle_parse(const char *text);

/* in throttle.c: keeps the last event of each instance, in order; returns how many went */
extern int	pst_coalesce(PstEvent *events, int *nevents);

/* in rights.c: may this role read the events of an FSM table?  In a transaction. */
extern bool pst_route_may_read(Oid role, Oid relid);

/* The kind of sink behind a foreign data wrapper, or NULL if it is none. */
extern const PstSinkOps *pst_sink_of_wrapper(const char *fdwname);

#endif							/* PST_ROUTE_H */
