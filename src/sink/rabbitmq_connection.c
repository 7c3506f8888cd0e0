/*
 * rabbitmq_connection.c
 *	  A connection to RabbitMQ that never waits.
 *
 * The frames that concern the connection itself (log-in, heartbeats, blocked,
 * close) are dealt with here; the others are the shipment's.  After any failure
 * the connection is closed, conn->fault says why, and the next
 * pst_rabbit_connect() begins anew, with the next host.
 */
#include "postgres.h"

#include "net/net.h"
#include "sink/fault.h"
#include "sink/rabbitmq.h"

#define READ_SIZE 65536
#define PROTOCOL_HEADER 'A'		/* what the codec makes of the peer's "AMQP..." */

void
pst_rabbit_close(PstRabbitConnection *conn)
{
	if (conn->stage == PST_RABBIT_READY && pst_rabbit_unsent(conn) == 0)
	{
		/* Say goodbye, if that takes no waiting; the answer does not matter. */
		static const char goodbye[] = "\x01\0\0\0\0\0\x0b" "\0\x0a\0\x32" "\0\xc8" "\0" "\0\0" "\0\0" "\xce";

		(void) pst_stream_write(&conn->stream, goodbye, sizeof(goodbye) - 1);
	}
	pst_stream_close(&conn->stream);
	if (conn->codec)
		(void) amqp_destroy_connection(conn->codec);	/* it has no socket */
	conn->codec = NULL;
	conn->stage = PST_RABBIT_CLOSED;
	conn->blocked = false;
}

/* Close it, with a fault that is set already or, if why is given, here. */
bool
pst_rabbit_broken(PstRabbitConnection *conn, const char *why)
{
	if (why)
		pst_fault_set(&conn->fault, PST_RETRY, 0, "%s", why);
	conn->stage = Min(conn->stage, PST_RABBIT_CONNECTING);	/* no goodbye */
	pst_rabbit_close(conn);
	conn->turn++;
	return false;
}

static bool
broken_by_errno(PstRabbitConnection *conn)
{
	pst_fault_set(&conn->fault, PST_RETRY, errno, "lost the connection: %s", strerror(errno));
	return pst_rabbit_broken(conn, NULL);
}

int
pst_rabbit_unsent(const PstRabbitConnection *conn)
{
	return conn->out.len - conn->out_done;
}

static bool
begin_connecting(PstRabbitConnection *conn)
{
	char		why[160];
	char		host[PST_HOST_SIZE];
	int			port;

	resetStringInfo(&conn->in);
	resetStringInfo(&conn->out);
	conn->in_done = conn->out_done = 0;
	conn->close_code = 0;
	if (!pst_net_host(conn->hosts, conn->turn, conn->port, host, &port))
	{
		pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0, "the list of hosts cannot be read");
		return pst_rabbit_broken(conn, NULL);
	}
	if (!pst_stream_begin(&conn->stream, host, port, why, sizeof(why)))
		return pst_rabbit_broken(conn, why);
	conn->codec = amqp_new_connection();
	if (conn->codec == NULL)
		return pst_rabbit_broken(conn, "out of memory");
	conn->frame_max = amqp_get_frame_max(conn->codec);
	conn->stage = PST_RABBIT_CONNECTING;
	conn->deadline = pst_net_now() + conn->connect_timeout;
	conn->heartbeat = 0;
	conn->last_read = conn->last_written = pst_net_now();
	return true;
}

static bool
finish_connecting(PstRabbitConnection *conn)
{
	char		why[sizeof(conn->fault.what)];
	PstStreamState state = pst_stream_step(&conn->stream, &conn->tls, why, sizeof(why));

	if (state == PST_STREAM_OPEN)
		return pst_rabbit_greet(conn);
	if (state == PST_STREAM_BUSY)
		return true;
	pst_fault_set(&conn->fault, state == PST_STREAM_REFUSED ? PST_MISCONFIGURED : PST_RETRY, 0, "%s", why);
	return pst_rabbit_broken(conn, NULL);
}

bool
pst_rabbit_connect(PstRabbitConnection *conn)
{
	amqp_frame_t frame;

	if (conn->stage == PST_RABBIT_CLOSED && !begin_connecting(conn))
		return false;
	if (conn->stage == PST_RABBIT_CONNECTING && !finish_connecting(conn))
		return false;
	if (conn->stage > PST_RABBIT_CONNECTING && conn->stage < PST_RABBIT_READY)
	{
		if (!pst_rabbit_pump(conn))
			return false;
		do
		{
			if (!pst_rabbit_next(conn, &frame))
				return false;
		} while (frame.frame_type != 0 && conn->stage != PST_RABBIT_READY);
		if (!pst_rabbit_flush(conn))
			return false;
	}
	if (conn->stage != PST_RABBIT_READY && pst_net_now() >= conn->deadline)
		return pst_rabbit_broken(conn, "could not connect and log in in time");
	return true;
}

/* Unlike a pump it reads nothing: what was read here would wait, and nobody would be woken for it. */
bool
pst_rabbit_flush(PstRabbitConnection *conn)
{
	while (conn->out_done < conn->out.len)
	{
		ssize_t		n = pst_stream_write(&conn->stream, conn->out.data + conn->out_done,
										 conn->out.len - conn->out_done);

		if (n > 0)
		{
			conn->out_done += (int) n;
			conn->last_written = pst_net_now();
		}
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		else
			return broken_by_errno(conn);
	}
	resetStringInfo(&conn->out);
	conn->out_done = 0;
	return true;
}

static bool
read_in(PstRabbitConnection *conn)
{
	for (;;)
	{
		ssize_t		n;

		/* What the codec has not taken yet stays; it is never much. */
		if (conn->in_done == conn->in.len)
		{
			resetStringInfo(&conn->in);
			conn->in_done = 0;
		}
		if (conn->in.len > 4 * READ_SIZE)
			return true;
		enlargeStringInfo(&conn->in, READ_SIZE);
		n = pst_stream_read(&conn->stream, conn->in.data + conn->in.len, READ_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n < 0)
			return broken_by_errno(conn);
		if (n == 0 && conn->in.len > conn->in_done)
			return true;		/* first what it said before */
		if (n == 0)
			return pst_rabbit_broken(conn, conn->stage < PST_RABBIT_READY ?
									 "RabbitMQ closed the connection during the log-in" :
									 "RabbitMQ closed the connection");
		conn->last_read = pst_net_now();
		conn->in.len += (int) n;
		if (n < READ_SIZE)
			return true;
	}
}

/* Send a heartbeat when it is time; give up when the peer's have stopped. */
static bool
beat(PstRabbitConnection *conn)
{
	int64		now = pst_net_now();

	if (conn->heartbeat == 0)
		return true;
	if (now - conn->last_read > conn->heartbeat * INT64CONST(2000))
		return pst_rabbit_broken(conn, "RabbitMQ is silent: no heartbeat");
	if (pst_rabbit_unsent(conn) == 0 && now - conn->last_written >= conn->heartbeat * INT64CONST(500))
		pst_rabbit_put_heartbeat(conn);
	return true;
}

bool
pst_rabbit_pump(PstRabbitConnection *conn)
{
	/* Read first: what the peer says last is worth more than that it is gone. */
	if (conn->in_done == conn->in.len && !read_in(conn))
		return false;
	return beat(conn) && pst_rabbit_flush(conn);
}

/*
 * The broker closed the channel or the connection.  Its codes: 320 is a
 * shutdown or an operator; 403, 404, 405, 406, 530 and the like mean that
 * something has to be mended.
 */
static bool
take_close(PstRabbitConnection *conn, uint16 code, amqp_bytes_t text)
{
	bool		passing = code == 320 || code == 405 || code == 506 || code == 541 || code < 400;

	pst_fault_set(&conn->fault, passing ? PST_RETRY : PST_MISCONFIGURED, code,
				  conn->stage < PST_RABBIT_READY ? "RabbitMQ refuses the log-in" :
				  passing ? "RabbitMQ closed the connection" : "RabbitMQ refuses to publish");
	pst_fault_quote(&conn->fault, text.bytes, text.len);
	conn->close_code = code;
	return pst_rabbit_broken(conn, NULL);
}

static bool
take_method(PstRabbitConnection *conn, amqp_frame_t *frame)
{
	const amqp_method_t *method = &frame->payload.method;
	amqp_bytes_t reason;

	switch (method->id)
	{
		case AMQP_CONNECTION_CLOSE_METHOD:
			return take_close(conn, ((amqp_connection_close_t *) method->decoded)->reply_code,
							  ((amqp_connection_close_t *) method->decoded)->reply_text);
		case AMQP_CHANNEL_CLOSE_METHOD:
			return take_close(conn, ((amqp_channel_close_t *) method->decoded)->reply_code,
							  ((amqp_channel_close_t *) method->decoded)->reply_text);
		case AMQP_CONNECTION_BLOCKED_METHOD:
			reason = ((amqp_connection_blocked_t *) method->decoded)->reason;
			conn->blocked = true;
			snprintf(conn->blocked_reason, sizeof(conn->blocked_reason), "%.*s",
					 (int) reason.len, (const char *) reason.bytes);
			break;
		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			conn->blocked = false;
			break;
		default:
			if (conn->stage == PST_RABBIT_READY)
				return true;	/* the shipment's */
			if (!pst_rabbit_take_greeting(conn, method))
				return false;
	}
	frame->frame_type = AMQP_FRAME_HEARTBEAT;	/* dealt with */
	return true;
}

/*
 * The next frame that is not the connection's own; its contents live until the
 * next call.  During the log-in, a heartbeat stands for each frame dealt with.
 */
bool
pst_rabbit_next(PstRabbitConnection *conn, amqp_frame_t *frame)
{
	do
	{
		amqp_bytes_t bytes = {conn->in.len - conn->in_done, conn->in.data + conn->in_done};
		int			taken;

		amqp_maybe_release_buffers(conn->codec);
		taken = amqp_handle_input(conn->codec, bytes, frame);
		if (taken < 0)
		{
			pst_fault_set(&conn->fault, PST_RETRY, taken, "could not understand RabbitMQ");
			pst_fault_quote(&conn->fault, amqp_error_string2(taken), strlen(amqp_error_string2(taken)));
			return pst_rabbit_broken(conn, NULL);
		}
		conn->in_done += taken;
		if (frame->frame_type == 0 && conn->in_done == conn->in.len)
			return true;
		if (frame->frame_type == PROTOCOL_HEADER)
		{
			pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0, "the peer does not speak AMQP 0-9-1");
			return pst_rabbit_broken(conn, NULL);
		}
		if (frame->frame_type == AMQP_FRAME_METHOD && !take_method(conn, frame))
			return false;
	} while (frame->frame_type == 0 ||
			 (frame->frame_type == AMQP_FRAME_HEARTBEAT && conn->stage == PST_RABBIT_READY));
	return true;
}

void
pst_rabbit_wants(const PstRabbitConnection *conn, PstWants *wants)
{
	int64		until;
	int64		now = pst_net_now();

	if (conn->stage == PST_RABBIT_CLOSED)
		return;
	if (conn->stage != PST_RABBIT_READY)
		wants->timeout_ms = (int) Max(conn->deadline - now, 1);
	else if (conn->heartbeat != 0)
	{
		until = Min(conn->last_written + conn->heartbeat * INT64CONST(500),
					conn->last_read + conn->heartbeat * INT64CONST(2000) + 1);
		wants->timeout_ms = (int) Max(until - now, 1);
	}
	/* last: bytes that are decrypted already are not waited for */
	pst_stream_wants(&conn->stream, pst_rabbit_unsent(conn) > 0, wants);
}
