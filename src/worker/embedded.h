/*
 * embedded.h
 *	  Within the room: what an embedded route does with events, in a
 *	  subtransaction.
 */
#ifndef PST_EMBEDDED_H
#define PST_EMBEDDED_H

#include "postgres.h"

#include "sink/sink.h"

/* What a route does; found anew for each parcel. */
typedef struct PstDeed
{
	Oid			owner;			/* of the route */
	const PstShipment *shipment;
	const char *channel;		/* of "notify": a template; NULL: "call" */
	Oid			function;		/* of "call" */
	bool		takes_many;		/* its argument is an array */
	Oid			row_type;		/* that of persistomata.event, if it takes that; else it takes jsonb */
	int			lock_timeout;	/* ms */
	int			timeout;		/* ms, of one subtransaction; 0: none */
} PstDeed;

/*
 * Both throw, and are called in a subtransaction, whose end gives
 * back user and settings.  Find what is to be done: throws if there is no such
 * function, or the owner may not call it.
 */
extern void pst_deed_find(PstDeed *deed, const PstShipment *shipment, Oid owner);

/* Do it for some events, as the owner.  Throws what the function throws. */
extern void pst_deed_do(const PstDeed *deed, int from, int count);

/* Calls that led to an event. */
extern int	pst_event_hops(const PstEvent *event);

#endif							/* PST_EMBEDDED_H */
