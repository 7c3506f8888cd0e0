/*
 * event.h
 *	  The Event: one occurrence in the life of an instance, as every part of
 *	  the way from the log to a sink sees it.
 *
 * Plain data.  All strings are NUL-terminated UTF-8 and belong to whoever made
 * the Event (in a worker: the batch's memory context); NULL means SQL NULL.
 * This header is included by encoders and sinks, so it knows nothing of SPI,
 * transactions or relations.
 */
#ifndef PST_EVENT_H
#define PST_EVENT_H

#include "postgres.h"

typedef enum PstEventType
{
	PST_INIT = 'i',
	PST_STATE = 's',
	PST_VALUE = 'v',
	PST_ERRORED = 'e',
	PST_DELETED = 'd'
} PstEventType;

typedef struct PstEvent
{
	int64		event_id;
	int64		position;		/* its place in the unfiltered log */
	char	   *name;			/* <log id>-<timeline>-<event_id>: its name everywhere */
	int64		stream_ms;		/* the cut's own strictly increasing time, ms since 1970 */
	int64		ordinal;		/* place in the cut, from 0; (stream_ms, ordinal) rises with position */
	PstEventType type;
	char	   *machine;
	int			version;
	char	   *fsm;			/* schema.table */
	char	   *key;
	char	   *event;			/* NULL for init and the like */
	char	   *from_state;
	char	   *to_state;
	char	   *args;			/* JSON text */
	char	   *payload;		/* JSON text: the row after */
	char	   *reason;
	int64		occurred_at;	/* microseconds since 1970 UTC */
	uint64		xid;
	char	   *actor;
	char	   *headers;		/* JSON text */
	char	   *node;
	int			timeline;
	Oid			relid;			/* the FSM table; InvalidOid: it was dropped or detached */
	int			only_route;		/* the one route that it is for; 0: all */
	char	   *body;			/* JSON text that goes out in its place, or NULL: see the format */
} PstEvent;

/* "init", "state", "value", "errored", "deleted"; a constant string */
extern const char *pst_event_type_name(PstEventType type);

/* Take an event's name apart: "<log id>-<timeline>-<event_id>".  False if it is none. */
extern bool pst_event_name_read(const char *name, int *timeline, int64 *event_id);

#endif							/* PST_EVENT_H */
