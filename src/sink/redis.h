/*
 * redis.h
 *	  What the files of the Redis sink share.
 *
 * hiredis is used for its parser of replies only.  Sockets are read and written
 * here, without waiting, and commands are formatted straight into the buffer
 * that is written: so no call of the library can block or fail half-way, and
 * the same code fits every version of it.
 */
#ifndef PST_REDIS_H
#define PST_REDIS_H

#include "postgres.h"

#include <hiredis/hiredis.h>

#include "lib/stringinfo.h"
#include "net/stream.h"
#include "sink/sink.h"

typedef enum PstRedisStage
{
	PST_REDIS_CLOSED,
	PST_REDIS_CONNECTING,
	PST_REDIS_GREETING,			/* AUTH, SELECT and the like: waiting for their replies */
	PST_REDIS_READY
} PstRedisStage;

typedef struct PstRedisConnection
{
	const char *hosts;			/* tried in turn */
	int			port;			/* of those that do not say */
	const char *sentinels;		/* NULL: none; else they know where the master is */
	const char *master;			/* its name among the sentinels */
	const char *sentinel_user;
	const char *sentinel_password;
	int			database;
	const char *user;
	const char *password;
	PstTls		tls;
	int			connect_timeout;	/* ms, for socket and greeting together */
	int			reply_timeout;	/* ms without any progress */

	PstRedisStage stage;
	PstStream	stream;
	int			serial;			/* connections made so far */
	int			turn;			/* whose it is, among hosts or sentinels */
	bool		asking;			/* a sentinel */
	char		master_host[PST_HOST_SIZE]; /* what it said; "": ask */
	int			master_port;
	redisReader *reader;
	StringInfoData greeting;
	int			greetings_due;	/* replies still to come */
	const char *out;			/* borrowed from the caller: what to write */
	size_t		out_len;
	size_t		out_done;
	int64		deadline;
	PstFault	fault;			/* why it broke or did not come up */
} PstRedisConnection;

/* in redis_connection.c; each returns false when the connection has broken */
extern void pst_redis_close(PstRedisConnection *conn);
extern void pst_redis_turn(PstRedisConnection *conn);	/* the next time, another host */
extern bool pst_redis_connect(PstRedisConnection *conn);	/* one step; see stage */
extern void pst_redis_write(PstRedisConnection *conn, const char *bytes, size_t len);
extern bool pst_redis_pump(PstRedisConnection *conn);	/* write and read what can be */
extern bool pst_redis_next(PstRedisConnection *conn, redisReply **reply);	/* NULL: none yet */
/* connect if need be, then pump, then next; send is called once connected, unless it is NULL */
extern bool pst_redis_answer(PstRedisConnection *conn, void (*send) (void *arg), void *arg, redisReply **reply);
extern bool pst_redis_is_stale(PstRedisConnection *conn);	/* closed by the peer meanwhile? */
extern void pst_redis_wants(const PstRedisConnection *conn, PstWants *wants);
extern void pst_redis_fault_of_error(PstFault *fault, const char *said, size_t len);

/* in redis_format.c: commands in the wire format, appended */
typedef enum PstRedisMode
{
	PST_REDIS_STREAM,			/* XADD, with the event's own id */
	PST_REDIS_PUBSUB,			/* PUBLISH */
	PST_REDIS_LIST,				/* RPUSH */
	PST_REDIS_HASH				/* the latest state of each instance */
} PstRedisMode;

typedef struct PstRedisAddress
{
	PstRedisMode mode;
	const char *key;			/* template of the key or channel */
	const char *maxlen;			/* NULL: the stream is never trimmed */
	const char *format;			/* of the data field */
} PstRedisAddress;

extern void pst_redis_format_command(StringInfo out, int argc, const char *const *argv);
extern void pst_redis_format_event(StringInfo out, StringInfo scratch,
								   const PstRedisAddress *address, const PstEvent *event);
extern void pst_redis_format_find(StringInfo out, StringInfo scratch,
								  const PstRedisAddress *address, const PstEvent *event);
extern void pst_redis_format_first(StringInfo out, StringInfo scratch,
								   const PstRedisAddress *address, const PstEvent *event);

#endif							/* PST_REDIS_H */
