/*
 * append.h
 *	  Writing to the event log.
 */
#ifndef PST_APPEND_H
#define PST_APPEND_H

#include "postgres.h"

#include "event/event.h"

/* A row of the log, as its writer gives it; the rest is filled in here. */
typedef struct PstLogRow
{
	int64		event_id;
	PstEventType type;
	int			binding;
	int			machine;		/* machine_version.id */
	const char *key;
	const char *event;			/* or NULL, as the following */
	const char *from_state;
	const char *to_state;
	Datum		args;			/* jsonb */
	bool		args_null;
	Datum		payload;		/* jsonb */
	bool		payload_null;
	const char *reason;
	int			only_route;		/* the one route that it is for; 0: all */
} PstLogRow;

/*
 * Draw an event's id.  To be called while the instance's row is locked (or its
 * key is surely ours), so that ids of one instance rise in commit order.
 */
extern int64 pst_log_draw_id(void);

/*
 * Through how many calls of functions by workers what happens now has come; 0:
 * through none.  Rows of the log get it as the header "hops", whatever else
 * their headers are.
 */
extern void pst_log_set_hops(int hops);

/* Once, when the library is loaded. */
extern void pst_append_init(void);

/*
 * Append rows to the log, in the current (sub)transaction and command, with the
 * extension's own rights.  They are gathered, and written before anybody can
 * look: at the end of the statement at the latest.  Wakes the relay at commit.
 */
extern void pst_log_append(const PstLogRow *rows, int nrows);

#endif							/* PST_APPEND_H */
