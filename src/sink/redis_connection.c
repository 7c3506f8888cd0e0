/*
 * redis_connection.c
 *	  A connection to Redis that never waits.
 *
 * After any failure the connection is closed and conn->fault says why; the
 * next pst_redis_connect() begins anew.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "sink/fault.h"
#include "sink/redis.h"

#define READ_SIZE 65536
#define READS_PER_PUMP 16		/* then the caller gets its turn */

void
pst_redis_close(PstRedisConnection *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
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
	return false;
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

/* Format AUTH and SELECT; the password is wiped as soon as it is written. */
static void
greet(PstRedisConnection *conn)
{
	char		database[16];
	const char *auth[] = {"AUTH", conn->user, conn->password};
	const char *select[] = {"SELECT", database};

	resetStringInfo(&conn->greeting);
	conn->greetings_due = 0;
	if (conn->password && conn->user)
		pst_redis_format_command(&conn->greeting, 3, auth);
	else if (conn->password)
	{
		auth[1] = conn->password;
		pst_redis_format_command(&conn->greeting, 2, auth);
	}
	conn->greetings_due += conn->password != NULL;
	if (conn->database != 0)
	{
		snprintf(database, sizeof(database), "%d", conn->database);
		pst_redis_format_command(&conn->greeting, 2, select);
		conn->greetings_due++;
	}
	pst_redis_write(conn, conn->greeting.data, conn->greeting.len);
	conn->stage = PST_REDIS_GREETING;
}

static bool
take_greetings(PstRedisConnection *conn)
{
	redisReply *reply;

	while (conn->greetings_due > 0)
	{
		if (!pst_redis_next(conn, &reply))
			return false;
		if (reply == NULL)
			return true;
		if (reply->type == REDIS_REPLY_ERROR)
		{
			pst_redis_fault_of_error(&conn->fault, reply->str, reply->len);
			snprintf(conn->fault.what, sizeof(conn->fault.what), "%s",
					 conn->fault.verdict == PST_RETRY ?
					 "Redis does not let us in now" : "Redis refuses the log-in");
			freeReplyObject(reply);
			return broken(conn, NULL);
		}
		freeReplyObject(reply);
		conn->greetings_due--;
	}
	memset(conn->greeting.data, 0, conn->greeting.maxlen);
	conn->stage = PST_REDIS_READY;
	return true;
}

static bool
begin_connecting(PstRedisConnection *conn)
{
	char		why[160];

	conn->fd = pst_net_connect(conn->host, conn->port, why, sizeof(why));
	if (conn->fd < 0)
		return broken(conn, why);
	conn->reader = redisReaderCreate();
	if (conn->reader == NULL)
		return broken(conn, "out of memory");
	conn->stage = PST_REDIS_CONNECTING;
	conn->deadline = pst_net_now() + conn->connect_timeout;
	return true;
}

static bool
finish_connecting(PstRedisConnection *conn)
{
	int			why = pst_net_connected(conn->fd);

	if (why == 0)
		greet(conn);
	else if (why != EINPROGRESS)
	{
		pst_fault_set(&conn->fault, PST_RETRY, why, "could not connect to \"%s\", port %d: %s",
					  conn->host, conn->port, strerror(why));
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
		ssize_t		n = send(conn->fd, conn->out + conn->out_done,
							 conn->out_len - conn->out_done, MSG_NOSIGNAL);

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
		ssize_t		n = recv(conn->fd, buffer, sizeof(buffer), 0);

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
	char		byte;
	ssize_t		n;

	if (conn->stage != PST_REDIS_READY)
		return conn->stage != PST_REDIS_CLOSED;
	n = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return !(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

void
pst_redis_wants(const PstRedisConnection *conn, PstWants *wants)
{
	int64		left;

	if (conn->fd < 0)
		return;
	left = conn->deadline - pst_net_now();
	wants->nfds = 1;
	wants->on[0].fd = conn->fd;
	wants->on[0].readable = conn->stage != PST_REDIS_CONNECTING;
	wants->on[0].writeable = conn->stage == PST_REDIS_CONNECTING ||
		conn->out_done < conn->out_len;
	wants->timeout_ms = (int) Max(left, 0);
}
