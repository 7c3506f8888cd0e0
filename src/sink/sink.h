/*
 * sink.h
 *	  The contract between a worker and a sink.
 *
 * A sink is a destination system.  It knows bytes, sockets and its own
 * protocol; it knows nothing of SPI, transactions, the log or routes' cursors,
 * and it never waits.  A worker drives it:
 *
 *		sink = pst_sink_open(ops, settings);
 *		for each shipment:
 *			pst_sink_send(sink, shipment);			-- borrow it
 *			while (pst_sink_poll(sink) == PST_SINK_BUSY)
 *			{
 *				pst_sink_wants(sink, &wants);
 *				pst_net_wait(&wants, ...);			-- interrupts are served here
 *			}
 *			for each event: pst_sink_verdict(sink, n)	-- give it back
 *		pst_sink_close(sink);
 *
 * Connecting is part of poll(): open() only allocates.  A sink that loses its
 * connection ends the shipment as PST_SINK_DONE with verdicts and a fault; the
 * next send() connects anew.  When send() is called again with a shipment
 * whose in_doubt is set, an earlier attempt at the very same events may have
 * landed: the sink must find out (or know that a repeat is harmless) before it
 * sends again, and reports what had landed as delivered, with duplicate set.
 *
 * Errors: a sink records a fault and returns; it does not ereport.  It may
 * palloc outside of a foreign library's frames, in the context that was current
 * at open(); callbacks given to a library use fixed buffers or malloc only.
 * close() is idempotent, never fails and frees every socket.
 *
 * Secrets (password, token) are never put into a fault, a log line or a URL.
 */
#ifndef PST_SINK_H
#define PST_SINK_H

#include "postgres.h"

#include "event/event.h"
#include "net/net.h"

typedef enum PstSinkProgress
{
	PST_SINK_BUSY,				/* wait for what wants() says, then poll again */
	PST_SINK_DONE				/* every event of the shipment has its verdict */
} PstSinkProgress;

typedef enum PstVerdict
{
	PST_VERDICT_NONE = 0,		/* not known yet; never after DONE */
	PST_DELIVERED,				/* the sink has acknowledged it */
	PST_RETRY,					/* not now: down, busy, full, in doubt */
	PST_REJECTED,				/* the sink refuses this event for its content */
	PST_MISCONFIGURED			/* would refuse any: wrong password, no such table, no queue bound */
} PstVerdict;

/* Of fixed size: nothing is allocated when something fails. */
typedef struct PstFault
{
	PstVerdict	verdict;		/* the class; PST_VERDICT_NONE: no fault */
	int			code;			/* the sink's own code, or 0 */
	bool		in_doubt;		/* may have landed: send again as in doubt */
	int			retry_after;	/* ms: the sink asks for no other try before */
	bool		unseen;			/* nothing was sent: first look what is there */
	bool		fenced;			/* nothing was sent: a newer nonce of this log is there */
	bool		unmarked;		/* no fault: it was sent, but a nonce could not be left there; what and peer_said tell why */
	char		what[192];		/* in our words, without secrets */
	char		peer_said[512]; /* in the sink's words */
} PstFault;

/* Where an option may stand. */
typedef enum PstOptionPlace
{
	PST_OPTION_SERVER,
	PST_OPTION_MAPPING,
	PST_OPTION_ROUTE
} PstOptionPlace;

/* How its text is checked. */
typedef enum PstOptionKind
{
	PST_OPTION_TEXT,
	PST_OPTION_INT,				/* min .. max */
	PST_OPTION_BOOL,
	PST_OPTION_URL,				/* http:// or https:// */
	PST_OPTION_ENUM,			/* one of choices */
	PST_OPTION_TEMPLATE,		/* an address template, see encode.h */
	PST_OPTION_NAME,			/* not empty */
	PST_OPTION_HOSTS			/* "host[:port], ..." */
} PstOptionKind;

typedef struct PstOptionDef
{
	const char *name;			/* NULL ends the list */
	PstOptionPlace place;
	PstOptionKind kind;
	const char *fallback;		/* default as text, or NULL */
	int			min;			/* for PST_OPTION_INT */
	int			max;
	const char *choices;		/* for PST_OPTION_ENUM: "a|b|c" */
} PstOptionDef;

/* A checked option; the strings live as long as what holds them. */
typedef struct PstOption
{
	const char *name;
	const char *value;
} PstOption;

/* What a sink is opened with: server and user mapping options. */
typedef struct PstSinkSettings
{
	const char *server;			/* the server's name, for faults */
	const PstOption *options;	/* ended by a NULL name */
} PstSinkSettings;

/*
 * What one route sends at once.  Owned by the worker, borrowed by the sink from
 * send() until DONE.  Events are in the order of their positions, of which
 * there may be gaps (the route's filter).
 */
typedef struct PstShipment
{
	const char *route;			/* the route's name */
	const char *name;			/* unique, the same at each try; for query_id and tokens */
	bool		in_doubt;		/* an earlier try may have landed, whole or in part */
	int			in_doubt_ms;	/* age of that doubt, ms */
	int64		at_rest;		/* if in doubt, but no such try can be on its way any more: which doubt; else 0 */
	int64		from_position;	/* the run of positions that it covers, */
	int64		to_position;	/* both included */
	const char *format;			/* "json" or "cloudevents" */
	const PstOption *options;	/* the route's own, ended by a NULL name */
	const PstEvent *events;
	int			nevents;		/* > 0 */
	uint64		serial;			/* of this reading of it, in this process; 0: of none */
	const char *nonce;			/* "<timeline>-<number>-<random>" of who sends, newer ones greater; or NULL */
	const char *mark;			/* what the nonce is kept under: of this log and route, hex digits and '-'; or NULL */
	bool		open_end;		/* of a run that is asked for: there the route stands */
	int			era;			/* of the sink, in which the worker has seen what it holds; 0: it need not */
} PstShipment;

typedef struct PstSink PstSink;
typedef struct PstHolding PstHolding;	/* see holding.h */

typedef struct PstSinkOps
{
	const char *kind;			/* "clickhouse": the FDW is persistomata_clickhouse */
	const PstOptionDef *options;
	bool		names_shipments;	/* its names are per shipment: range and hash are made
									 * durable before the first byte */
	bool		has_columns;	/* it takes events field by field: a route has no format */
	/*
	 * What a route with these options does is done by the worker itself, in the
	 * transaction that acknowledges it (see worker/embedded.c): nothing is
	 * opened or sent.  NULL: never.
	 */
	bool		(*embedded) (const PstOption *route);
	/* what a route lacks or has too much of, as an error's primary message, or NULL; may be NULL */
	const char *(*check_route) (const PstOption *route);
	int			max_rows;		/* the most events of a shipment */
	int			max_bytes;		/* about the most bytes of a shipment */

	PstSink    *(*open) (const PstSinkSettings *settings);
	void		(*send) (PstSink *sink, const PstShipment *shipment);
	/*
	 * While a shipment is under way: the one that will follow, if nothing comes
	 * between.  Time to encode it or, with begins_early, to send of it what may
	 * land twice.  If it follows, the same serial is sent; if not, prepare() is
	 * told NULL, perhaps when nothing is under way, and what its events point to
	 * is not looked at any more.  The struct itself is the worker's: copy it.
	 * NULL: there is nothing to prepare.
	 */
	void		(*prepare) (PstSink *sink, const PstShipment *next);
	bool		begins_early;
	PstSinkProgress (*poll) (PstSink *sink);
	void		(*wants) (const PstSink *sink, PstWants *wants);
	PstVerdict	(*verdict) (const PstSink *sink, int nth);
	const PstFault *(*event_fault) (const PstSink *sink, int nth);	/* why nth was refused, or NULL */
	const PstFault *(*fault) (const PstSink *sink); /* of the shipment */
	int			(*duplicates) (const PstSink *sink);	/* events found to have landed before */
	/* keep an idle connection alive; called when wants()' timeout passes with nothing to send */
	void		(*idle) (PstSink *sink);
	void		(*close) (PstSink *sink);

	/*
	 * Both or neither: how often does the sink hold each of these events?  Begun
	 * like send(), and driven by poll() and wants(); then held() tells, unless
	 * fault() does.  Asked for runs of events one after another: first begins,
	 * last ends a sequence.  The answer is the sink's until it is asked or sent
	 * something again.
	 */
	void		(*ask) (PstSink *sink, const PstShipment *shipment, bool first, bool last);
	const PstHolding *(*held) (const PstSink *sink);

	/*
	 * All or none, for the route option on_loss: does what the sink holds at each
	 * event's address end before that event?  Begun and driven like ask(); then
	 * lacks() tells, and the position of the last event of this log that is there
	 * (0: none).  An era is a time in which the sink cannot have lost anything
	 * unseen: at least one connection.  A shipment that knows an older one is not
	 * sent, and ends as PST_RETRY with unseen set.
	 */
	void		(*look) (PstSink *sink, const PstShipment *shipment);
	bool		(*lacks) (const PstSink *sink, int nth, int64 *top);
	int			(*era) (const PstSink *sink);	/* >= 0 */

	/*
	 * Both or neither, to tell copies of a cluster apart: keeps a nonce under the
	 * shipment's mark, out of the way of the events.  mark() is begun and driven
	 * like ask(), but there are no events; if leave, it puts the shipment's nonce there, but never in
	 * place of a newer one.  Then marked() gives the newest that is there, or NULL
	 * if none is, valid until the sink is asked or sent something again; unless
	 * fault() tells why not, as PST_REJECTED if it can keep none here.  What to
	 * make of it is the worker's (fence.c), which asks now and then.  A sink that
	 * holds nonces against each other with every shipment has neither: it sets
	 * fenced, or unmarked, in its fault.
	 */
	void		(*mark) (PstSink *sink, const PstShipment *shipment, bool leave);
	const char *(*marked) (const PstSink *sink);
} PstSinkOps;

/* The first member of every sink's own struct. */
struct PstSink
{
	const PstSinkOps *ops;
	bool		sending;		/* between send and DONE; kept by the wrappers */
};

static inline PstSink *
pst_sink_open(const PstSinkOps *ops, const PstSinkSettings *settings)
{
	PstSink    *sink = ops->open(settings);

	Assert(sink->ops == ops);
	sink->sending = false;
	return sink;
}

static inline void
pst_sink_send(PstSink *sink, const PstShipment *shipment)
{
	Assert(!sink->sending);
	Assert(shipment->nevents > 0);
	sink->sending = true;
	sink->ops->send(sink, shipment);
}

static inline void
pst_sink_prepare(PstSink *sink, const PstShipment *next)
{
	Assert(next == NULL || (sink->sending && next->nevents > 0 && next->serial > 0));
	if (sink->ops->prepare)
		sink->ops->prepare(sink, next);
}

static inline void
pst_sink_ask(PstSink *sink, const PstShipment *shipment, bool first, bool last)
{
	Assert(!sink->sending);
	Assert(shipment->nevents > 0);
	sink->sending = true;
	sink->ops->ask(sink, shipment, first, last);
}

static inline void
pst_sink_look(PstSink *sink, const PstShipment *shipment)
{
	Assert(!sink->sending);
	Assert(shipment->nevents > 0);
	sink->sending = true;
	sink->ops->look(sink, shipment);
}

static inline void
pst_sink_mark(PstSink *sink, const PstShipment *shipment, bool leave)
{
	Assert(!sink->sending);
	Assert(shipment->mark && shipment->nonce);
	sink->sending = true;
	sink->ops->mark(sink, shipment, leave);
}

static inline PstSinkProgress
pst_sink_poll(PstSink *sink)
{
	PstSinkProgress progress;

	Assert(sink->sending);
	progress = sink->ops->poll(sink);
	if (progress == PST_SINK_DONE)
		sink->sending = false;
	return progress;
}

static inline void
pst_sink_wants(const PstSink *sink, PstWants *wants)
{
	memset(wants, 0, sizeof(*wants));
	wants->timeout_ms = -1;
	sink->ops->wants(sink, wants);
	Assert(wants->nfds <= PST_MAX_FDS);
}

static inline PstVerdict
pst_sink_verdict(const PstSink *sink, int nth)
{
	PstVerdict	verdict;

	Assert(!sink->sending);
	verdict = sink->ops->verdict(sink, nth);
	Assert(verdict != PST_VERDICT_NONE);
	return verdict;
}

static inline void
pst_sink_close(PstSink *sink)
{
	sink->ops->close(sink);
}

/* in registry.c: kinds by name; another extension may add its own */
extern PGDLLEXPORT void pst_register_sink(const PstSinkOps *ops);
extern PGDLLEXPORT const PstSinkOps *pst_find_sink(const char *kind);
extern PGDLLEXPORT const char *pst_option(const PstOption *options, const char *name);	/* NULL if absent */
extern PGDLLEXPORT const char *pst_option_or_default(const PstSinkOps *ops, const PstOption *options, const char *name);
/* the same in the current memory context (NULL stays NULL), or read; checked before, and with a default if not text */
extern PGDLLEXPORT char *pst_option_copy(const PstSinkOps *ops, const PstOption *options, const char *name);
extern PGDLLEXPORT int pst_option_int(const PstSinkOps *ops, const PstOption *options, const char *name);
extern PGDLLEXPORT bool pst_option_bool(const PstSinkOps *ops, const PstOption *options, const char *name);
extern void pst_sink_init(void);	/* registers the kinds built in */

/* in nonce.c: less than, equal to or greater than 0 as a is older than b, the same, or newer */
extern PGDLLEXPORT int pst_nonce_compare(const char *a, const char *b);
/* false if it is none */
extern PGDLLEXPORT bool pst_nonce_read(const char *nonce, int *timeline, int64 *number);

/* in option.c: checks one option, throws with a hint that names the valid ones */
extern PGDLLEXPORT void pst_check_option(const PstSinkOps *ops, PstOptionPlace place,
										const char *name, const char *value);

/*
 * in option.c: the body of a foreign data wrapper's validator function; options
 * and catalog are that function's arguments
 */
extern PGDLLEXPORT void pst_check_options(const char *kind, Datum options, Oid catalog);

/* in clickhouse.c, rabbitmq.c, redis.c, webhook.c, postgres.c */
extern const PstSinkOps pst_clickhouse_sink;
extern const PstSinkOps pst_rabbitmq_sink;
extern const PstSinkOps pst_redis_sink;
extern const PstSinkOps pst_http_sink;
extern const PstSinkOps pst_postgres_sink;

#endif							/* PST_SINK_H */
