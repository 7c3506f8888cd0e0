/*
 * eventrow.h
 *	  An event as a row of persistomata.event, as SQL sees it.
 */
#ifndef PST_EVENTROW_H
#define PST_EVENTROW_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "event/event.h"

/* Its column args, from 1. */
#define PST_EVENT_ARGS 10

/* The view's row type, and its columns, in the current context. */
extern Oid	pst_event_row_type(void);
extern TupleDesc pst_event_row_desc(void);

/* In the current context; the strings are converted to the server's encoding. */
extern HeapTuple pst_event_row(TupleDesc desc, const PstEvent *event);

#endif							/* PST_EVENTROW_H */
