/*
 * rabbitmq_greeting.c
 *	  The log-in to RabbitMQ: connection.start, .tune and .open, then a channel
 *	  in confirm mode.
 *
 * It goes step by step, as the broker's answers come in.  The client announces
 * connection.blocked, which rabbitmq-c's own log-in does not: without it a
 * broker under a memory alarm just stops reading.
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/rabbitmq.h"

static amqp_table_entry_t
text_entry(const char *key, const char *value)
{
	amqp_table_entry_t entry = {0};

	entry.key = amqp_cstring_bytes(key);
	entry.value.kind = AMQP_FIELD_KIND_UTF8;
	entry.value.value.bytes = amqp_cstring_bytes(value);
	return entry;
}

static amqp_table_entry_t
true_entry(const char *key)
{
	amqp_table_entry_t entry = {0};

	entry.key = amqp_cstring_bytes(key);
	entry.value.kind = AMQP_FIELD_KIND_BOOLEAN;
	entry.value.value.boolean = 1;
	return entry;
}

bool
pst_rabbit_greet(PstRabbitConnection *conn)
{
	static const char header[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

	appendBinaryStringInfo(&conn->out, header, sizeof(header));
	conn->stage = PST_RABBIT_GREETING;
	return true;
}

/* Is PLAIN among the mechanisms, which are separated by spaces? */
static bool
offers_plain(amqp_bytes_t mechanisms)
{
	const char *at = mechanisms.bytes;
	const char *end = at + mechanisms.len;

	while (at < end)
	{
		const char *stop = memchr(at, ' ', end - at);

		if (stop == NULL)
			stop = end;
		if (stop - at == 5 && memcmp(at, "PLAIN", 5) == 0)
			return true;
		at = stop + 1;
	}
	return false;
}

static bool
take_start(PstRabbitConnection *conn, const amqp_connection_start_t *start)
{
	amqp_table_entry_t capabilities[] = {
		true_entry("publisher_confirms"), true_entry("basic.nack"),
		true_entry("connection.blocked"), true_entry("consumer_cancel_notify"),
		true_entry("authentication_failure_close")
	};
	amqp_table_entry_t properties[] = {
		text_entry("product", "persistomata"), text_entry("platform", "PostgreSQL"),
		text_entry("connection_name", "persistomata"), {{0}, {0}}
	};
	amqp_connection_start_ok_t ok = {0};
	size_t		user_len = strlen(conn->user);
	size_t		password_len = strlen(conn->password);
	char	   *response;
	bool		fits;

	if (!offers_plain(start->mechanisms))
	{
		pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0,
					  "RabbitMQ does not offer log-in by user and password (PLAIN)");
		return pst_rabbit_broken(conn, NULL);
	}
	properties[3].key = amqp_cstring_bytes("capabilities");
	properties[3].value.kind = AMQP_FIELD_KIND_TABLE;
	properties[3].value.value.table.num_entries = lengthof(capabilities);
	properties[3].value.value.table.entries = capabilities;
	ok.client_properties.num_entries = lengthof(properties);
	ok.client_properties.entries = properties;
	ok.mechanism = amqp_cstring_bytes("PLAIN");
	ok.locale = amqp_cstring_bytes("en_US");

	/* NUL, user, NUL, password */
	response = palloc0(user_len + password_len + 2);
	memcpy(response + 1, conn->user, user_len);
	memcpy(response + user_len + 2, conn->password, password_len);
	ok.response.len = user_len + password_len + 2;
	ok.response.bytes = response;
	fits = pst_rabbit_put_method(conn, 0, AMQP_CONNECTION_START_OK_METHOD, &ok,
								 1024 + ok.response.len);
	memset(response, 0, ok.response.len);
	pfree(response);
	return fits || pst_rabbit_broken(conn, "could not encode the log-in");
}

static bool
take_tune(PstRabbitConnection *conn, const amqp_connection_tune_t *tune)
{
	amqp_connection_tune_ok_t tune_ok = {0};
	amqp_connection_open_t open = {0};

	/* No frame may be larger than what the codec was made for. */
	conn->frame_max = amqp_get_frame_max(conn->codec);
	if (tune->frame_max != 0 && tune->frame_max < (uint32) conn->frame_max)
		conn->frame_max = (int) tune->frame_max;
	conn->heartbeat = conn->heartbeat_wish;
	if (tune->heartbeat != 0 && conn->heartbeat != 0)
		conn->heartbeat = Min(conn->heartbeat, tune->heartbeat);
	if (conn->frame_max < AMQP_FRAME_MIN_SIZE)
		return pst_rabbit_broken(conn, "RabbitMQ asks for frames that are too small");
	tune_ok.channel_max = 1;
	tune_ok.frame_max = conn->frame_max;
	tune_ok.heartbeat = (uint16) conn->heartbeat;
	open.virtual_host = amqp_cstring_bytes(conn->vhost);
	if (!pst_rabbit_put_method(conn, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &tune_ok, 64) ||
		!pst_rabbit_put_method(conn, 0, AMQP_CONNECTION_OPEN_METHOD, &open, 512))
	{
		pst_fault_set(&conn->fault, PST_MISCONFIGURED, 0,
					  "the name of the virtual host is too long");
		return pst_rabbit_broken(conn, NULL);
	}
	return true;
}

bool
pst_rabbit_open_channel(PstRabbitConnection *conn)
{
	amqp_channel_open_t open = {0};
	amqp_confirm_select_t confirm = {0};

	conn->stage = PST_RABBIT_OPENING;
	return (pst_rabbit_put_method(conn, PST_RABBIT_CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open, 64) &&
			pst_rabbit_put_method(conn, PST_RABBIT_CHANNEL, AMQP_CONFIRM_SELECT_METHOD, &confirm, 64)) ||
		pst_rabbit_broken(conn, "could not open a channel");
}

/* A method that came while the connection is not ready yet. */
bool
pst_rabbit_take_greeting(PstRabbitConnection *conn, const amqp_method_t *method)
{
	switch (method->id)
	{
		case AMQP_CONNECTION_START_METHOD:
			return take_start(conn, method->decoded);
		case AMQP_CONNECTION_TUNE_METHOD:
			return take_tune(conn, method->decoded);
		case AMQP_CONNECTION_OPEN_OK_METHOD:
			/* The password is through: leave no copy of it in the buffer. */
			memset(conn->out.data, 0, conn->out_done);
			return pst_rabbit_open_channel(conn);
		case AMQP_CHANNEL_OPEN_OK_METHOD:
			return true;
		case AMQP_CONFIRM_SELECT_OK_METHOD:
			conn->stage = PST_RABBIT_READY;
			return true;
		default:
			return pst_rabbit_broken(conn, "unexpected method during the log-in");
	}
}
