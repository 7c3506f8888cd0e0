/*
 * edit.h
 *	  Within the room: what create_route and its like share.
 */
#ifndef PST_EDIT_H
#define PST_EDIT_H

#include "postgres.h"

#include "route/route.h"

/* Throws unless the server is a sink that the caller may use. */
extern const PstSinkOps *pst_route_check_server(const char *name);

extern void pst_route_check_start(const char *start);

/* The format as it is kept: an encoder's name gets its schema. */
extern char *pst_route_check_format(const PstSinkOps *ops, const char *format);
extern bool pst_format_is_built_in(const char *format);

/*
 * In SPI, as the extension's owner: throws unless the role may read the tables
 * of a machine that is named as such, not by a glob.
 */
extern void pst_route_check_tables(Oid role, Datum machine);

extern void pst_route_check_list(Datum array);
extern void pst_route_check_types(Datum array, bool snapshot);
extern void pst_route_check_options(const PstSinkOps *ops, Datum options);

/*
 * Go on as the extension's owner, in SPI: our tables are his alone.  What the
 * caller may do has to be checked with the caller's own identity, before.
 */
typedef struct PstOwnerRights
{
	Oid			user;
	int			context;
	Oid			owner;
} PstOwnerRights;

extern void pst_owner_begin(PstOwnerRights *rights);
extern void pst_owner_end(const PstOwnerRights *rights);

/* In between, for what has to be checked as the caller. */
extern void pst_owner_pause(const PstOwnerRights *rights);
extern void pst_owner_resume(const PstOwnerRights *rights);

/* Find a route by name and lock it; throws unless the caller may alter it. */
extern int	pst_find_route(const PstOwnerRights *rights, const char *name, char **server);

/* A run of a route through the log; see seek.c. */
typedef struct PstGeneration
{
	int			route;
	int64		from_position;	/* 0: the first cut that sees the settings */
	int64		to_position;	/* then it goes on where the last one stood; 0: it just goes on */
	int64		settings;
	int64		shift_ms;		/* added to stream_ms */
} PstGeneration;

/* In snapshot.c: what a new route begins with; as the caller. */
extern void pst_route_snapshot(int route, const char *machine);

extern void pst_generation_begin(const PstGeneration *generation);
extern int64 pst_newest_settings(int route);

/* The caller, whom pst_owner_begin has replaced; throws unless he may alter the route. */
extern void pst_route_check_owner(const PstOwnerRights *rights, Oid owner, const char *name);

#endif							/* PST_EDIT_H */
