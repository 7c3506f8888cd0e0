/*
 * log.h
 *	  The tables of the event log, by slot of the ring.
 */
#ifndef PST_LOG_H
#define PST_LOG_H

#include "postgres.h"

#define PST_RING_SLOTS 8

/* Columns of log_N, as src/schema/event.sql has them. */
enum
{
	PST_LOG_EVENT_ID = 1,
	PST_LOG_XID,
	PST_LOG_OCCURRED_AT,
	PST_LOG_BINDING,
	PST_LOG_MACHINE,
	PST_LOG_TIMELINE,
	PST_LOG_TYPE,
	PST_LOG_KEY,
	PST_LOG_EVENT,
	PST_LOG_FROM_STATE,
	PST_LOG_TO_STATE,
	PST_LOG_ACTOR,
	PST_LOG_ARGS,
	PST_LOG_PAYLOAD,
	PST_LOG_REASON,
	PST_LOG_HEADERS,
	PST_LOG_ONLY_ROUTE
};

/* Their OIDs; each throws undefined_table if the extension is not there. */
extern Oid	pst_log_table(int slot);
extern Oid	pst_log_index(int slot);	/* on (xid, event_id) */
extern Oid	pst_log_event_id(void); /* the sequence */
extern Oid	pst_cut_table(int slot);
extern Oid	pst_ack_table(int slot);
extern Oid	pst_log_relation(const char *name);

/* The extension's OID; InvalidOid if it is not there. */
extern Oid	pst_extension_oid(void);

/*
 * The same, locked: DROP EXTENSION waits until the transaction ends, and one that
 * is under way is waited for.  Workers take it first, so that the two never wait
 * for each other.
 */
extern Oid	pst_extension_lock(void);

/* A live slot of the ring. */
typedef struct PstSlot
{
	int			slot;
	int64		turn;
	int64		turned_at;		/* TimestampTz */
	int64		first_cut;		/* its rows belong to later cuts than this, */
	int64		last_cut;		/* and, once closed, to none later than this */
	bool		closed;			/* no writer of it is left */
	int64		closed_at;
} PstSlot;

typedef struct PstRing
{
	int			current;
	int			nlive;
	PstSlot		live[PST_RING_SLOTS];	/* by turn */
} PstRing;

/* Under the active snapshot; between SPI_connect and SPI_finish. */
extern void pst_ring_read(PstRing *ring);

/* The current slot, read outside of MVCC: what writers follow. */
extern int	pst_ring_current(void);

/* Likewise; and do the keepers of the log say that it is full? */
extern int	pst_ring_to_write(bool *full);

/* What log_home says. */
typedef struct PstHome
{
	char		log_id[33];
	bool		ours;			/* of this system and database */
} PstHome;

extern void pst_home_read(PstHome *home);

#endif							/* PST_LOG_H */
