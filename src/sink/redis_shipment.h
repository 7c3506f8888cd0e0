/*
 * redis_shipment.h
 *	  The Redis sink itself: a connection, and how far the shipment has come.
 */
#ifndef PST_REDIS_SHIPMENT_H
#define PST_REDIS_SHIPMENT_H

#include "postgres.h"

#include "sink/holding.h"
#include "sink/redis.h"

#define PST_REDIS_CHUNK 1000	/* the most events of one MULTI/EXEC */

typedef enum PstRedisStep
{
	PST_REDIS_IDLE,				/* no shipment */
	PST_REDIS_CONNECT,
	PST_REDIS_CLAIMING,			/* are the streams ours? */
	PST_REDIS_NEXT,				/* begin a chunk, or end */
	PST_REDIS_ANSWERS,			/* to MULTI, each XADD and EXEC */
	PST_REDIS_REFUSED,			/* some ids were: begin to find out why */
	PST_REDIS_CHECK,			/* what stands at those ids? */
	PST_REDIS_THROUGH,			/* the chunk is settled; fault says how */
	PST_REDIS_ASK,				/* what the streams hold: see redis_ask.c */
	PST_REDIS_LOOK				/* where they end: see redis_look.c */
} PstRedisStep;

typedef struct PstRedisChunk
{
	StringInfoData bytes;
	int			first;			/* its first event in the shipment */
	int			nevents;		/* 0: empty */
	int			nqueued;		/* commands before EXEC */
	int			nanswers;		/* in all */
} PstRedisChunk;

/* A stream that is read, and from where to where. */
typedef struct PstRedisStream
{
	struct PstRedisStream *next;
	char	   *key;
	int64		from_ms;		/* 0: not known yet */
	int64		from_ordinal;
	int64		to_ms;
	int64		to_ordinal;
	bool		wanted;
} PstRedisStream;

typedef struct PstRedisAsking
{
	MemoryContext context;		/* of the streams */
	PstRedisStream *streams;	/* all since the first run */
	PstRedisStream *stream;		/* the one that is read */
	PstRedisStream **of;		/* each event's */
	bool		trims;			/* streams are trimmed */
	bool		last;			/* read on to the ends */
	bool		sent;			/* an answer is due */
	bool		first_known;	/* of the stream that is read */
	PstHolding	holding;
} PstRedisAsking;

/* Where a stream ends. */
typedef struct PstRedisTop
{
	struct PstRedisTop *next;
	char	   *key;
	int64		ms;				/* its last entry's id; 0-0: there is none */
	int64		ordinal;
	int64		position;		/* and, if that is an event of our log, its position, or 0 */
} PstRedisTop;

typedef struct PstRedisLooking
{
	MemoryContext context;		/* of all this */
	PstRedisTop *tops;
	PstRedisTop *top;			/* the one whose answer is next */
	PstRedisTop **of;			/* each event's */
	bool		sent;
} PstRedisLooking;

typedef struct PstRedis
{
	PstSink		base;
	MemoryContext context;
	MemoryContextCallback on_reset;
	PstRedisConnection conn;

	const PstShipment *shipment;
	PstRedisAddress address;
	PstRedisStep step;
	int			turns;			/* hosts to be tried yet */
	PstRedisStep after;			/* EXEC, when WAIT has answered */
	int			wait_replicas;	/* so many are to have the events, or 0 */
	int			wait_timeout;	/* ms */
	StringInfoData owner;		/* what a claim of ours says */
	StringInfoData claimed;		/* keys of the claims that are ours by this connection, each ended by NUL */
	StringInfoData claimants;	/* what each of their claims says, likewise */
	StringInfoData claiming;	/* those that are asked for */
	int			claim_at;		/* the one whose answer is next */
	int			claimed_by;		/* the connection's serial number */
	bool		superseded;		/* an older worker's claim stands there, */
	bool		supersede;		/* and is overwritten */
	bool		moved;			/* a claim has changed: this connection is to be closed */
	bool		may_not_claim;	/* a route: the user lacks the right */
	PstFault	unmarked;		/* why this shipment goes without a claim, if it does */
	PstRedisChunk chunks[2];
	int			current;		/* the chunk that is in flight */
	int			formatted;		/* events of the shipment formatted so far */
	int			answers;		/* taken so far, of this chunk or check */
	bool		not_queued;		/* a command was refused before EXEC: fault says why */
	bool		may_be_trimmed; /* of this shipment, what had landed may be gone */
	bool		found;			/* the entry at the id being checked was ours */
	bool		empty;			/* there was none */
	int			refused[PST_REDIS_CHUNK];	/* events whose id was too small */
	int			nrefused;
	StringInfoData scratch;
	PstRedisAsking asking;
	PstRedisLooking looking;

	uint8	   *verdicts;		/* PstVerdict of each event */
	int			nverdicts;		/* room for so many */
	int			duplicates;
	PstFault	fault;
} PstRedis;

/* in redis.c: where a shipment's events go */
extern void pst_redis_read_address(PstRedis *redis, const PstShipment *shipment);

/* in redis_claim.c: false if there is nothing to ask */
extern bool pst_redis_begin_claims(PstRedis *redis);
extern void pst_redis_take_claim(PstRedis *redis, const redisReply *reply);
extern bool pst_redis_format_guard(PstRedis *redis, StringInfo out);
extern void pst_redis_take_guard(PstRedis *redis, const redisReply *reply);

/* in redis_answer.c */
extern void pst_redis_begin_answers(PstRedis *redis);
extern void pst_redis_take_answer(PstRedis *redis, const redisReply *reply);
extern void pst_redis_take_finding(PstRedis *redis, const redisReply *reply);
extern const char *pst_redis_entry_field(const redisReply *entry, const char *name);

/* in redis_ask.c */
extern void pst_redis_ask(PstSink *sink, const PstShipment *shipment, bool first, bool last);
extern PstSinkProgress pst_redis_ask_step(PstRedis *redis);
extern const PstHolding *pst_redis_held(const PstSink *sink);

/* in redis_compare.c: an entry of this event; what is not as we send it is noted in what is held */
extern void pst_redis_compare(PstRedis *redis, int nth, const redisReply *fields);

/* in redis_look.c */
extern void pst_redis_look(PstSink *sink, const PstShipment *shipment);
extern PstSinkProgress pst_redis_look_step(PstRedis *redis);
extern bool pst_redis_lacks(const PstSink *sink, int nth, int64 *top);
extern int	pst_redis_era(const PstSink *sink);

#endif							/* PST_REDIS_SHIPMENT_H */
