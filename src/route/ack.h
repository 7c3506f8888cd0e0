/*
 * ack.h
 *	  Acknowledgements: how far routes have come, kept in the log's ring.
 */
#ifndef PST_ACK_H
#define PST_ACK_H

#include "postgres.h"

#include "route/route.h"

/*
 * 'a': everything up to to_position is settled.
 * 'i': this range is about to be sent, under these settings and with this
 *      content; it must be on disk before the first byte leaves.
 */
typedef enum PstAckKind
{
	PST_ACK_DONE = 'a',
	PST_ACK_INTENT = 'i'
} PstAckKind;

typedef struct PstAck
{
	int			route;
	int			generation;
	PstAckKind	kind;
	int64		from_position;
	int64		to_position;
	int64		settings;
	uint64		hash;			/* of an intent */
	PstRouteCounts counts;
} PstAck;

/* In a transaction, in SPI. */
extern void pst_ack_write(const PstAck *ack);

/* A refused event, with why; in the transaction that acknowledges its shipment. */
extern void pst_dead_letter_write(int route, const PstEvent *event, const char *json, const char *reason);

/* A hash of events' content, to be chained from 0. */
extern uint64 pst_event_hash(const PstEvent *event, uint64 seed);

#endif							/* PST_ACK_H */
