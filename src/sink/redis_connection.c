/*
 * redis_connection.c
 *	  A connection to Redis that never waits.
 *
 * After any failure the connection is closed and conn->fault says why; the
 * next pst_redis_connect() begins anew, with the next host.
 *
 * With sentinels, each connection begins with a question to one of them: where is
 * the master?  What they say may be old, so whoever is found there is asked for
 * his role.
 */
#include "postgres.h"

#include "net/net.h"
#include "sink/fault.h"
#include "sink/redis.h"

#define READ_SIZE 65536
#define READS_PER_PUMP 16		/* then the caller gets its turn */

void
pst_redis_close(PstRedisConnection *conn)
{
	pst_stream_close(&conn->stream);
	if (conn->reader)
		redisReaderFree(conn->reader);
	conn->reader = NULL;
	conn->stage = PST_REDIS_CLOSED;
	conn->out = NULL;
	conn->out_len = conn->out_done = 0;
}

/* Close it, with a fault that is already set or is set here. */
static bool
broken(PstRedisConnection *conn, const char *why)
{
	if (why)
		pst_fault_set(&conn->fault, PST_RETRY, 0, "%s", why);
	pst_redis_close(conn);
	pst_redis_turn(conn);
	return false;
}

/* The host or sentinel whose turn it is has failed: the next time it is another's. */
void
pst_redis_turn(PstRedisConnection *conn)
{
	conn->turn++;
	conn->asking = false;
	conn->master_host[0] = '\0';
}

static bool
is_late(const PstRedisConnection *conn)
{
	return pst_net_now() >= conn->deadline;
}

/* Does the error begin with this word? */
static bool
begins_with(const char *said, size_t len, const char *word)
{
	size_t		n = strlen(word);

	return len >= n && memcmp(said, word, n) == 0 && (len == n || said[n] == ' ');
}

/*
 * The class of an error reply.  What passes by itself is to be tried again;
 * what someone has to mend is misconfigured: nothing is lost either way.
 */
void
pst_redis_fault_of_error(PstFault *fault, const char *said, size_t len)
{
	static const char *const passing[] = {
		"OOM", "LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN",
		"NOREPLICAS", "MISCONF", "READONLY", "UNBLOCKED", "EXECABORT",
		"ERR max number of clients"
	};
	static const char *const to_mend[] = {
		"NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "MOVED", "ASK", "CROSSSLOT",
		"DENIED", "NOPROTO", "ERR"
	};
	PstVerdict	verdict = PST_RETRY;
	bool		known = false;

	for (int i = 0; i < (int) lengthof(passing) && !known; i++)
		known = begins_with(said, len, passing[i]);
	for (int i = 0; i < (int) lengthof(to_mend) && !known; i++)
		if (begins_with(said, len, to_mend[i]))
			verdict = PST_MISCONFIGURED;
	pst_fault_set(fault, verdict, 0, verdict == PST_RETRY ?
				  "Redis cannot take the events now" : "Redis refuses the events");
	pst_fault_quote(fault, said, len);
}

/* Format AUTH, if there is a password; the number of replies to come. */
static int
format_auth(PstRedisConnection *conn, const char *user, const char *password)
{
	const char *auth[] = {"AUTH", user ? user : password, password};

	if (password == NULL)
		return 0;
	pst_redis_format_command(&conn->greeting, user ? 3 : 2, auth);
	return 1;
}

/* What a connection begins with; passwords are wiped as soon as they are through. */
static void
greet(PstRedisConnection *conn)
{
	static const char *const role[] = {"ROLE"};
	char		database[16];
	const char *select[] = {"SELECT", database};
	const char *where[] = {"SENTINEL", "get-master-addr-by-name", conn->master};

	resetStringInfo(&conn->greeting);
	if (conn->asking)
	{
		conn->greetings_due = 1 + format_auth(conn, conn->sentinel_user, conn->sentinel_password);
		pst_redis_format_command(&conn->greeting, 3, where);
	}
	else
	{
		conn->greetings_due = format_auth(conn, conn->user, conn->password);
		if (conn->database != 0)
		{
			snprintf(database, sizeof(database), "%d", conn->database);
			pst_redis_format_command(&conn->greeting, 2, select);
			conn->greetings_due++;
		}
		if (conn->sentinels)
		{
			pst_redis_format_command(&conn->greeting, 1, role);
			conn->greetings_due++;
		}
	}
	pst_redis_write(conn, conn->greeting.data, conn->greeting.len);
	conn->stage = PST_REDIS_GREETING;
}

static bool
refused(PstRedisConnection *conn, const redisReply *reply)
{
	pst_redis_fault_of_error(&conn->fault, reply->str, reply->len);
	snprintf(conn->fault.what, sizeof(conn->fault.what), "%s",
			 conn->fault.verdict == PST_RETRY ? "Redis does not let us in now" :
			 conn->asking ? "the sentinel refuses to answer" : "Redis refuses the log-in");
	return broken(conn, NULL);
}

/* A sentinel's answer: host and port, or nothing if it does not know the name. */
static bool
take_master(PstRedisConnection *conn, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
		reply->element[0]->type != REDIS_REPLY_STRING || reply->element[1]->type != REDIS_REPLY_STRING ||
		reply->element[0]->len >= sizeof(conn->master_host))
	{
		pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0,
					  "the sentinel \"%s\", port %d, knows no master \"%s\"",
					  conn->stream.host, conn->stream.port, conn->master);
		return broken(conn, NULL);
	}
	strlcpy(conn->master_host, reply->element[0]->str, sizeof(conn->master_host));
	conn->master_port = atoi(reply->element[1]->str);
	return true;
}

/* The answer to ROLE begins with "master" or "slave". */
static bool
take_role(PstRedisConnection *conn, const redisReply *reply)
{
	if (reply->elements > 0 && reply->element[0]->type == REDIS_REPLY_STRING &&
		strcmp(reply->element[0]->str, "master") == 0)
		return true;
	pst_fault_set(&conn->fault, PST_RETRY, 0, "\"%s\", port %d, is not the master now",
				  conn->stream.host, conn->stream.port);
	return broken(conn, NULL);
}

static bool
take_greeting(PstRedisConnection *conn, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		return refused(conn, reply);
	conn->greetings_due--;
	if (conn->asking && conn->greetings_due == 0)
		return take_master(conn, reply);
	if (reply->type == REDIS_REPLY_ARRAY)
		return take_role(conn, reply);
	return true;
}

static bool
take_greetings(PstRedisConnection *conn)
{
	redisReply *reply;
	bool		good;

	while (conn->greetings_due > 0)
	{
		if (!pst_redis_next(conn, &reply))
			return false;
		if (reply == NULL)
			return true;
		good = take_greeting(conn, reply);
		freeReplyObject(reply);
		if (!good)
			return false;
	}
	memset(conn->greeting.data, 0, conn->greeting.maxlen);
	if (conn->asking)
	{
		/* go where it said */
		pst_redis_close(conn);
		conn->asking = false;
	}
	else
		conn->stage = PST_REDIS_READY;
	return true;
}

static bool
begin_connecting(PstRedisConnection *conn)
{
	char		why[160];
	char		host[PST_HOST_SIZE];
	int			port = conn->master_port;

	conn->asking = conn->sentinels && conn->master_host[0] == '\0';
	if (conn->master_host[0] != '\0')
		strlcpy(host, conn->master_host, sizeof(host));
	else if (!pst_net_host(conn->asking ? conn->sentinels : conn->hosts, conn->turn,
						   conn->asking ? 26379 : conn->port, host, &port))
	{
		pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0, "the list of hosts cannot be read");
		return broken(conn, NULL);
	}
	if (!pst_stream_begin(&conn->stream, host, port, why, sizeof(why)))
		return broken(conn, why);
	conn->reader = redisReaderCreate();
	if (conn->reader == NULL)
		return broken(conn, "out of memory");
	conn->stage = PST_REDIS_CONNECTING;
	conn->serial++;
	conn->deadline = pst_net_now() + conn->connect_timeout;
	return true;
}

static bool
finish_connecting(PstRedisConnection *conn)
{
	char		why[192];
	PstStreamState state = pst_stream_step(&conn->stream, &conn->tls, why, sizeof(why));

	if (state == PST_STREAM_OPEN)
		greet(conn);
	else if (state != PST_STREAM_BUSY)
	{
		pst_fault_set(&conn->fault, state == PST_STREAM_REFUSED ? PST_MISCONFIGURED : PST_RETRY, 0,
					  "%s", why);
		return broken(conn, NULL);
	}
	return true;
}

bool
pst_redis_connect(PstRedisConnection *conn)
{
	if (conn->stage == PST_REDIS_CLOSED && !begin_connecting(conn))
		return false;
	if (conn->stage == PST_REDIS_CONNECTING && !finish_connecting(conn))
		return false;
	if (conn->stage == PST_REDIS_GREETING)
	{
		/* pumping sets the deadline of replies: the connection's own is kept */
		int64		deadline = conn->deadline;

		if (!pst_redis_pump(conn))
			return false;
		conn->deadline = deadline;
		if (!take_greetings(conn))
			return false;
		/* a sentinel has answered */
		if (conn->stage == PST_REDIS_CLOSED)
			return pst_redis_connect(conn);
	}
	if (conn->stage != PST_REDIS_READY && is_late(conn))
		return broken(conn, "could not connect in time");
	return true;
}

/* The bytes must stay where they are until they are written or it has broken. */
void
pst_redis_write(PstRedisConnection *conn, const char *bytes, size_t len)
{
	Assert(conn->out_done == conn->out_len);
	conn->out = bytes;
	conn->out_len = len;
	conn->out_done = 0;
	if (conn->stage == PST_REDIS_READY)
		conn->deadline = pst_net_now() + conn->reply_timeout;
}

static bool
broken_by_errno(PstRedisConnection *conn)
{
	pst_fault_set(&conn->fault, PST_RETRY, errno, "lost the connection: %s", strerror(errno));
	return broken(conn, NULL);
}

static bool
write_out(PstRedisConnection *conn, bool *progress)
{
	while (conn->out_done < conn->out_len)
	{
		ssize_t		n = pst_stream_write(&conn->stream, conn->out + conn->out_done,
										 conn->out_len - conn->out_done);

		if (n > 0)
		{
			conn->out_done += n;
			*progress = true;
		}
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else
			return broken_by_errno(conn);
	}
	return true;
}

static bool
read_in(PstRedisConnection *conn, bool *progress)
{
	static char buffer[READ_SIZE];

	for (int i = 0; i < READS_PER_PUMP; i++)
	{
		ssize_t		n = pst_stream_read(&conn->stream, buffer, sizeof(buffer));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n < 0)
			return broken_by_errno(conn);
		if (n == 0)
			return broken(conn, "Redis closed the connection");
		*progress = true;
		if (redisReaderFeed(conn->reader, buffer, n) != REDIS_OK)
			return broken(conn, "could not read a reply");
		if (n < (ssize_t) sizeof(buffer))
			return true;
	}
	return true;
}

bool
pst_redis_pump(PstRedisConnection *conn)
{
	bool		progress = false;

	if (!write_out(conn, &progress) || !read_in(conn, &progress))
		return false;
	if (progress)
		conn->deadline = pst_net_now() + conn->reply_timeout;
	else if (is_late(conn))
		return broken(conn, conn->stage == PST_REDIS_READY ?
					  "Redis did not answer in time" : "could not connect in time");
	return true;
}

bool
pst_redis_next(PstRedisConnection *conn, redisReply **reply)
{
	void	   *next = NULL;

	if (redisReaderGetReply(conn->reader, &next) != REDIS_OK)
	{
		pst_fault_set(&conn->fault, PST_RETRY, 0, "could not understand a reply");
		pst_fault_quote(&conn->fault, conn->reader->errstr, strlen(conn->reader->errstr));
		return broken(conn, NULL);
	}
	*reply = (redisReply *) next;
	return true;
}

bool
pst_redis_is_stale(PstRedisConnection *conn)
{
	if (conn->stage != PST_REDIS_READY)
		return conn->stage != PST_REDIS_CLOSED;
	return !pst_stream_is_quiet(&conn->stream);
}

void
pst_redis_wants(const PstRedisConnection *conn, PstWants *wants)
{
	if (conn->stage == PST_REDIS_CLOSED)
		return;
	wants->timeout_ms = (int) Max(conn->deadline - pst_net_now(), 0);
	pst_stream_wants(&conn->stream, conn->out_done < conn->out_len, wants);
}

bool
pst_redis_answer(PstRedisConnection *conn, void (*send) (void *arg), void *arg, redisReply **reply)
{
	*reply = NULL;
	if (conn->stage != PST_REDIS_READY)
	{
		if (!pst_redis_connect(conn))
			return false;
		if (conn->stage != PST_REDIS_READY)
			return true;
	}
	if (send)
		send(arg);
	return pst_redis_pump(conn) && pst_redis_next(conn, reply);
}
