/*
 * redis_shipment.h
 *	  The Redis sink itself: a connection, and how far the shipment has come.
 */
#ifndef PST_REDIS_SHIPMENT_H
#define PST_REDIS_SHIPMENT_H

#include "postgres.h"

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
	PST_REDIS_THROUGH			/* the chunk is settled; fault says how */
} PstRedisStep;

typedef struct PstRedisChunk
{
	StringInfoData bytes;
	int			first;			/* its first event in the shipment */
	int			nevents;		/* 0: empty */
	int			nqueued;		/* commands before EXEC */
} PstRedisChunk;

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
	StringInfoData claimed;		/* streams that are ours by this connection, each ended by NUL */
	StringInfoData claiming;	/* those that are asked for */
	int			claim_at;		/* the one whose answer is next */
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

	uint8	   *verdicts;		/* PstVerdict of each event */
	int			nverdicts;		/* room for so many */
	int			duplicates;
	PstFault	fault;
} PstRedis;

/* in redis_claim.c: false if there is nothing to ask */
extern bool pst_redis_begin_claims(PstRedis *redis);
extern void pst_redis_take_claim(PstRedis *redis, const redisReply *reply);

/* in redis_answer.c */
extern void pst_redis_begin_answers(PstRedis *redis);
extern void pst_redis_take_answer(PstRedis *redis, const redisReply *reply);
extern void pst_redis_take_finding(PstRedis *redis, const redisReply *reply);

#endif							/* PST_REDIS_SHIPMENT_H */
