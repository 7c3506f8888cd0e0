/*
 * amqp.c
 *	  The consumer's side of RabbitMQ, for tests: binds queues and takes messages.
 *
 * It uses rabbitmq-c in the ordinary, blocking way, so that what the sink sends
 * is read by a client that is not ours.
 */
#include "postgres.h"

#include <sys/time.h>

#include "compat/rabbitmq.h"
#if __has_include(<rabbitmq-c/tcp_socket.h>)
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_tcp_socket.h>
#endif

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

PG_FUNCTION_INFO_V1(amqp_bind);
PG_FUNCTION_INFO_V1(amqp_take);

static void
check(amqp_connection_state_t conn, amqp_rpc_reply_t reply, const char *what)
{
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return;
	amqp_destroy_connection(conn);
	elog(ERROR, "%s failed: %s", what,
		 reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ?
		 amqp_error_string2(reply.library_error) : "refused");
}

static amqp_connection_state_t
connect_to(int port)
{
	amqp_connection_state_t conn = amqp_new_connection();
	struct timeval timeout = {10, 0};

	if (amqp_socket_open_noblock(amqp_tcp_socket_new(conn), "127.0.0.1", port, &timeout) != AMQP_STATUS_OK)
	{
		amqp_destroy_connection(conn);
		elog(ERROR, "could not connect");
	}
	amqp_set_rpc_timeout(conn, &timeout);
	check(conn, amqp_login(conn, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "log-in");
	amqp_channel_open(conn, 1);
	check(conn, amqp_get_rpc_reply(conn), "channel");
	return conn;
}

static void
leave(amqp_connection_state_t conn)
{
	amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(conn);
}

/* port, queue, exchange, key, max_length (0: none; more is refused), type of queue and of exchange */
Datum
amqp_bind(PG_FUNCTION_ARGS)
{
	amqp_connection_state_t conn = connect_to(PG_GETARG_INT32(0));
	amqp_bytes_t queue = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	amqp_bytes_t exchange = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	amqp_bytes_t key = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	int			max_length = PG_GETARG_INT32(4);
	amqp_bytes_t exchange_type = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(6)));
	amqp_table_entry_t entries[3] = {0};
	amqp_table_t arguments = {max_length > 0 ? 3 : 1, entries};

	entries[0].key = amqp_cstring_bytes("x-queue-type");
	entries[0].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[0].value.value.bytes = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(5)));
	entries[1].key = amqp_cstring_bytes("x-max-length");
	entries[1].value.kind = AMQP_FIELD_KIND_I32;
	entries[1].value.value.i32 = max_length;
	entries[2].key = amqp_cstring_bytes("x-overflow");
	entries[2].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[2].value.value.bytes = amqp_cstring_bytes("reject-publish");
	amqp_exchange_declare(conn, 1, exchange, exchange_type, 0, 1, 0, 0, amqp_empty_table);
	check(conn, amqp_get_rpc_reply(conn), "exchange");
	amqp_queue_declare(conn, 1, queue, 0, 1, 0, 0, arguments);
	check(conn, amqp_get_rpc_reply(conn), "queue");
	amqp_queue_bind(conn, 1, queue, exchange, key, amqp_empty_table);
	check(conn, amqp_get_rpc_reply(conn), "bind");
	leave(conn);
	PG_RETURN_VOID();
}

static Datum
text_of(amqp_bytes_t bytes)
{
	return PointerGetDatum(cstring_to_text_with_len(bytes.bytes, (int) bytes.len));
}

/* Headers that are strings or numbers, as JSON. */
static Datum
headers_of(const amqp_table_t *headers)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < headers->num_entries; i++)
	{
		const amqp_table_entry_t *entry = &headers->entries[i];

		if (json.len > 1)
			appendStringInfoChar(&json, ',');
		escape_json(&json, pnstrdup(entry->key.bytes, entry->key.len));
		appendStringInfoChar(&json, ':');
		if (entry->value.kind == AMQP_FIELD_KIND_UTF8)
			escape_json(&json, pnstrdup(entry->value.value.bytes.bytes, entry->value.value.bytes.len));
		else
			appendStringInfo(&json, "%lld", (long long) entry->value.value.i64);
	}
	appendStringInfoChar(&json, '}');
	return CStringGetTextDatum(json.data);
}

/* port, queue, n */
Datum
amqp_take(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	amqp_connection_state_t conn;
	amqp_bytes_t queue = amqp_cstring_bytes(text_to_cstring(PG_GETARG_TEXT_PP(1)));

	InitMaterializedSRF(fcinfo, 0);
	conn = connect_to(PG_GETARG_INT32(0));
	for (int i = 0; i < PG_GETARG_INT32(2); i++)
	{
		amqp_rpc_reply_t reply = amqp_basic_get(conn, 1, queue, 1);
		amqp_message_t message;
		Datum		values[8];
		bool		nulls[8] = {0};
		amqp_basic_get_ok_t *ok = reply.reply.decoded;

		check(conn, reply, "get");
		if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD)
			break;
		values[0] = Int32GetDatum(i + 1);
		values[1] = text_of(ok->routing_key);
		check(conn, amqp_read_message(conn, 1, &message, 0), "read");
		values[2] = text_of(message.properties.message_id);
		values[3] = text_of(message.properties.content_type);
		values[4] = text_of(message.properties.type);
		values[5] = Int32GetDatum(message.properties.delivery_mode);
		values[6] = headers_of(&message.properties.headers);
		values[7] = text_of(message.body);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		amqp_destroy_message(&message);
		amqp_maybe_release_buffers(conn);
	}
	leave(conn);
	return (Datum) 0;
}
