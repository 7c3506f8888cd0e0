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

/* Either may be NULL. */
extern void pst_route_check_texts(const char *format, const char *start);
extern void pst_route_check_types(Datum array);
extern void pst_route_check_options(const PstSinkOps *ops, Datum options);

/*
 * Go on as the extension's owner, in SPI: our tables are his alone.  What the
 * caller may do has to be checked with the caller's own identity, before.
 */
typedef struct PstOwnerRights
{
	Oid			user;
	int			context;
} PstOwnerRights;

extern void pst_owner_begin(PstOwnerRights *rights);
extern void pst_owner_end(const PstOwnerRights *rights);

/* The caller, whom pst_owner_begin has replaced; throws unless he may alter the route. */
extern void pst_route_check_owner(const PstOwnerRights *rights, Oid owner, const char *name);

#endif							/* PST_EDIT_H */
