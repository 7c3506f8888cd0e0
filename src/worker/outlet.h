/*
 * outlet.h
 *	  Within the room: the parts of a sink worker.
 *
 * A sink worker serves one foreign server.  Each of the server's routes is an
 * outlet; what an outlet sends at once is a parcel; the owners' user mappings
 * say over which connections.
 */
#ifndef PST_OUTLET_H
#define PST_OUTLET_H

#include "postgres.h"

#include "event/batch.h"
#include "route/code.h"
#include "route/route.h"
#include "sink/holding.h"
#include "sink/sink.h"
#include "stat/counters.h"
#include "worker/worker.h"

typedef struct PstConnection
{
	Oid			mapping;		/* of the user; InvalidOid: none */
	PstSink    *sink;			/* NULL: not opened yet */
	MemoryContext context;		/* of the sink */
	int			failures;		/* in a row */
	TimestampTz retry_at;		/* 0: at once */
} PstConnection;

typedef struct PstOutlet
{
	PstRoute   *route;
	PstConnection *connection;
	MemoryContext context;		/* of this struct and all it has */
	MemoryContext settings_context;
	PstRouteSettings *settings; /* that the reader is at; NULL: to be found */
	PstReader  *reader;
	PstCursor	cursor;			/* what is settled */
	PstRouteStat *stat;
	int64		doubted;		/* up to this position an earlier worker may have sent */
	TimestampTz doubted_since;
	int64		read_cut;		/* the newest cut when there was nothing left to read */
	int64		acked_position; /* next_position as it stands in the table */
	bool		letters;		/* dead letters are to be sent again, */
	TimestampTz letters_at;		/* not before this; 0: at once */
	int			letters_failures;	/* in a row: the sink would refuse anything */
	bool		keep;			/* while reloading */

	/* of a shipment, as route or server say */
	int			max_rows;
	int			max_bytes;
	int			linger_ms;
	TimestampTz waiting_since;	/* something came to be sent then; 0: nothing has */
	TimestampTz sent_at;		/* the last shipment began */
	bool		full;			/* that was all it could hold, and there is more */
	int			era;			/* of the sink, in which it was seen to lack nothing; -1: none yet */
	int64		resent_to;		/* going back, up to here the sink may hold events yet; 0: no */
	bool		code_works;		/* the route's code has passed an event, under these settings */

	/* see fence.c */
	char		mark[48];		/* of log and route */
	TimestampTz marked_at;		/* the sink was asked who delivers; 0: it is to be asked */
	bool		unmarked;		/* it can keep no nonce, */
	bool		told_unmarked;	/* which was said */

	/* misconfigured: it alone waits */
	int			failures;
	TimestampTz retry_at;
} PstOutlet;

typedef struct PstParcel
{
	PstOutlet  *outlet;			/* NULL: empty */
	PstBatch	batch;
	PstShipment shipment;
	char		name[128];
	uint64		hash;			/* of the contents, for sinks with names per shipment */
	PstRouteSettings *settings;
	TimestampTz in_doubt_since; /* 0: nothing of it was sent before */
	bool		long_ago;		/* or if so, long ago */
	int64	   *letters;		/* these dead letters, not a stretch of the log; or NULL */
	PstEvent   *refused;		/* what the route's own code raised an error for, */
	char	  **reasons;		/* and which; not yet among the dead letters */
	int			nrefused;
	int			coalesced;		/* events left out; not yet counted */
	bool		offered;		/* to the sink, as what follows the shipment under way */
} PstParcel;

typedef struct PstAudit PstAudit;

typedef struct PstSinkWorker
{
	PstWorker  *place;
	PstWorker  *scheduler;
	MemoryContext context;
	char	   *server;
	Oid			server_oid;		/* InvalidOid: there is none of this name */
	const PstSinkOps *ops;		/* NULL: not a sink */
	char		log_id[33];
	char		nonce[64];		/* of this process; see fence.c */
	List	   *outlets;
	List	   *connections;
	int			turn;			/* whose it is to send, among the outlets */
	PstParcel	parcels[2];		/* the one at hand, and the next */
	uint64		readings;		/* of shipments, so far */
	uint32		routes_seen;
	bool		swollen;		/* memory of big parcels is kept for the next */
	TimestampTz unacked_since;	/* 0: all that is settled is acknowledged */
	int			max_rows;		/* of a shipment, unless a route says less */
	int			max_bytes;
	int			linger_ms;
	PstAudit   *audit;			/* the reconciliation under way, or NULL */
	bool		audits_due;		/* others may be asked for */
} PstSinkWorker;

/* in outlet.c */
extern void pst_outlets_reload(PstSinkWorker *worker);
extern void pst_outlet_take_limits(const PstSinkWorker *worker, PstOutlet *outlet);
extern bool pst_outlet_is_ready(const PstSinkWorker *worker, PstOutlet *outlet);
extern bool pst_outlet_promised(const PstOutlet *outlet);
extern void pst_outlet_rewind(PstOutlet *outlet);

/* When an outlet may look for something to send; 0: at once. */
extern TimestampTz pst_outlet_due_at(const PstSinkWorker *worker, PstOutlet *outlet);
extern void pst_outlet_drop_settings(PstOutlet *outlet);

/* in connection.c */
extern PstConnection *pst_connection_for(PstSinkWorker *worker, Oid owner);
extern void pst_connection_open(PstSinkWorker *worker, PstConnection *connection);
extern void pst_connection_close(PstConnection *connection);
extern void pst_connections_reset(PstSinkWorker *worker);

/* in parcel.c */
extern bool pst_parcel_read(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel);
extern void pst_parcel_drop(PstParcel *parcel);
extern void pst_parcel_doubt(PstParcel *parcel);
extern void pst_parcel_intend(PstSinkWorker *worker, PstParcel *parcel);
extern void pst_parcel_advance(PstSinkWorker *worker);

/* in prepare.c: has the route's own code look at a parcel; false: it cannot be sent now */
extern bool pst_parcel_prepare(PstParcel *parcel);

/* in letters.c */
extern bool pst_letters_wait(int route);
extern bool pst_letters_due(const PstOutlet *outlet);
extern bool pst_letters_read(PstSinkWorker *worker, PstOutlet *outlet, PstParcel *parcel);
extern void pst_letters_sort_out(PstParcel *parcel, const PstCodeRun *run);
extern void pst_letters_write(const PstSink *sink, const PstParcel *parcel);
extern void pst_letters_settle(PstSinkWorker *worker, PstParcel *parcel);

/* in reconcile.c */
extern bool pst_audit_step(PstSinkWorker *worker);
extern void pst_audit_drop(PstSinkWorker *worker);

/* in fence.c */
extern void pst_nonce_draw(PstSinkWorker *worker);	/* in SPI */
/* Is the sink to be asked before the outlet's next shipment? */
extern bool pst_fence_due(const PstSinkWorker *worker, const PstOutlet *outlet);
/* May the parcel be sent, for all that other copies of the cluster do?  The connection is open; if not, all is done. */
extern bool pst_fence_pass(PstSinkWorker *worker, PstParcel *parcel);
/* Nothing waits to be sent: is it time to ask who delivers?  True if that was done. */
extern bool pst_fence_step(PstSinkWorker *worker);
/* It was sent: did the sink leave a nonce? */
extern void pst_fence_note(PstParcel *parcel);
extern void pst_outlet_drop_parcels(PstSinkWorker *worker, PstOutlet *outlet);
/* Its worker stops the route ("lost" or "fenced") until somebody enables it. */
extern void pst_outlet_hold(PstSinkWorker *worker, PstOutlet *outlet, const char *kind, const char *reason);

/*
 * In diverged.c, in SPI: names of events that only an earlier primary had, taken
 * from what a sink holds beside what was asked for; what is left of strays is ours.
 */
extern List *pst_diverged_take(const PstHolding *holding, List **strays);
extern void pst_diverged_write(int64 run, int64 from_position, Datum names);	/* of a range that is written */
extern void pst_diverged_tell(const PstOutlet *outlet, int64 run, int64 diverged);
/* not in SPI: a parcel was sent; if the route crosses a promotion with it, have the sink looked at */
extern void pst_diverged_suspect(PstSinkWorker *worker, const PstParcel *parcel);

/* in loss.c */
extern int	pst_loss_era(const PstSinkWorker *worker, const PstParcel *parcel);
/* Was the parcel not sent because what the sink holds had to be seen first?  Then it is looked at. */
extern bool pst_loss_look(PstSinkWorker *worker, PstParcel *parcel);

/* in sink.c: until the sink is done; false if it is to be broken off */
extern bool pst_await_sink(PstSinkWorker *worker, PstSink *sink, bool read_on);

/* in settle.c */
extern char *pst_reason(const PstSink *sink, int nth);	/* -1: of the shipment */
extern void pst_write_refused(const PstSink *sink, const PstParcel *parcel);
extern void pst_write_cursor(PstOutlet *outlet);
extern void pst_note_latencies(const PstSinkWorker *worker, const PstParcel *parcel, int nevents);
extern TimestampTz pst_fault_route(PstOutlet *outlet, PstRouteState state, int *failures, const PstSink *sink);
extern void pst_settle(PstSinkWorker *worker, PstParcel *parcel);
extern void pst_settle_empty(PstSinkWorker *worker, PstParcel *parcel);

/* Before anything was sent: the outlet waits, and reads again. */
extern void pst_hold(PstOutlet *outlet, PstRouteState state, const char *why);
extern void pst_acknowledge(PstSinkWorker *worker);
extern int	pst_acknowledge_in_ms(const PstSinkWorker *worker);

/* in embedded.c */
extern bool pst_is_embedded(const PstSinkWorker *worker, const PstParcel *parcel);
extern void pst_embedded_run(PstSinkWorker *worker, PstParcel *parcel);

#endif							/* PST_OUTLET_H */
