/*
 * rabbitmq_frame.c
 *	  AMQP 0-9-1 frames into the buffer that is written.
 *
 * A frame is a type, a channel, a length, the payload and an end mark.  The
 * payloads of methods and of content headers are rabbitmq-c's to encode; room
 * is what they may need at most.
 */
#include "postgres.h"

#include "sink/rabbitmq.h"

#define HEADER_SIZE 7
#define FOOTER_SIZE 1

static void
put_uint16(char *at, uint16 value)
{
	at[0] = (char) (value >> 8);
	at[1] = (char) value;
}

static void
put_uint32(char *at, uint32 value)
{
	put_uint16(at, (uint16) (value >> 16));
	put_uint16(at + 2, (uint16) value);
}

/* Make room for a frame; returns where its payload goes. */
static char *
begin_frame(PstRabbitConnection *conn, size_t room)
{
	enlargeStringInfo(&conn->out, (int) room + HEADER_SIZE + FOOTER_SIZE);
	return conn->out.data + conn->out.len + HEADER_SIZE;
}

static void
end_frame(PstRabbitConnection *conn, int type, int channel, size_t len)
{
	char	   *frame = conn->out.data + conn->out.len;

	frame[0] = (char) type;
	put_uint16(frame + 1, (uint16) channel);
	put_uint32(frame + 3, (uint32) len);
	frame[HEADER_SIZE + len] = (char) AMQP_FRAME_END;
	conn->out.len += (int) (HEADER_SIZE + len + FOOTER_SIZE);
	conn->out.data[conn->out.len] = '\0';
}

/* False if the method does not fit: nothing is appended then. */
bool
pst_rabbit_put_method(PstRabbitConnection *conn, int channel,
					  amqp_method_number_t id, void *method, size_t room)
{
	char	   *payload = begin_frame(conn, room + 4);
	amqp_bytes_t where = {room, payload + 4};
	int			len;

	put_uint32(payload, id);
	len = amqp_encode_method(id, method, where);
	if (len < 0 || (size_t) len > room)
		return false;
	end_frame(conn, AMQP_FRAME_METHOD, channel, len + 4);
	return true;
}

void
pst_rabbit_put_heartbeat(PstRabbitConnection *conn)
{
	(void) begin_frame(conn, 0);
	end_frame(conn, AMQP_FRAME_HEARTBEAT, 0, 0);
}

/* The header and the body of a message, after its basic.publish. */
bool
pst_rabbit_put_content(PstRabbitConnection *conn, amqp_basic_properties_t *properties,
					   size_t room, const char *body, size_t len)
{
	size_t		most = conn->frame_max - HEADER_SIZE - FOOTER_SIZE;
	char	   *payload = begin_frame(conn, room + 12);
	amqp_bytes_t where = {room, payload + 12};
	int			header_len;

	put_uint16(payload, AMQP_BASIC_CLASS);
	put_uint16(payload + 2, 0);
	put_uint32(payload + 4, (uint32) ((uint64) len >> 32));
	put_uint32(payload + 8, (uint32) len);
	header_len = amqp_encode_properties(AMQP_BASIC_CLASS, properties, where);
	if (header_len < 0 || (size_t) header_len > room || (size_t) header_len + 12 > most)
		return false;
	end_frame(conn, AMQP_FRAME_HEADER, PST_RABBIT_CHANNEL, header_len + 12);
	while (len > 0)
	{
		size_t		part = Min(len, most);

		memcpy(begin_frame(conn, part), body, part);
		end_frame(conn, AMQP_FRAME_BODY, PST_RABBIT_CHANNEL, part);
		body += part;
		len -= part;
	}
	return true;
}
