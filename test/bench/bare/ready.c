/*
 * ready.c
 *	  What the bare clients and the observer share; see ready.h.
 */
#include "ready.h"

#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void
die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

double
since_1970(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* A whole file, NUL-terminated; NULL if there is none. */
char *
slurp(const char *path, size_t *length)
{
	FILE	   *file = fopen(path, "rb");
	char	   *bytes;

	if (file == NULL)
		return NULL;
	fseek(file, 0, SEEK_END);
	*length = ftell(file);
	rewind(file);
	bytes = malloc(*length + 1);
	if (fread(bytes, 1, *length, file) != *length)
		die(path, "cannot be read");
	bytes[*length] = '\0';
	fclose(file);
	return bytes;
}

/* The end of a command in the wire format. */
char *
command_end(char *at)
{
	long		words = strtol(at + 1, &at, 10);

	at += 2;
	while (words-- > 0)
	{
		long		length = strtol(at + 1, &at, 10);

		at += 2 + length + 2;
	}
	return at;
}

void
check(amqp_rpc_reply_t reply, const char *what)
{
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		die("RabbitMQ", what);
}

static amqp_bytes_t
next_part(char **at)
{
	unsigned char *length = (unsigned char *) *at;
	amqp_bytes_t part = {
		.len = (size_t) length[0] << 24 | length[1] << 16 | length[2] << 8 | length[3],
		.bytes = *at + 4
	};

	*at += 4 + part.len;
	return part;
}

/* All messages of a file, as the library takes them; they point into the bytes. */
Message *
read_messages(char *at, size_t length, size_t *count)
{
	static amqp_pool_t pool;
	char	   *end = at + length;
	size_t		room = 1024;
	Message    *messages = malloc(room * sizeof(Message));

	init_amqp_pool(&pool, 65536);
	for (*count = 0; at < end; (*count)++)
	{
		Message    *message;
		void	   *properties;

		if (*count == room)
			messages = realloc(messages, (room *= 2) * sizeof(Message));
		message = &messages[*count];
		message->key = next_part(&at);
		if (amqp_decode_properties(AMQP_BASIC_CLASS, &pool, next_part(&at), &properties) < 0)
			die("RabbitMQ", "the properties cannot be read");
		message->properties = properties;
		message->body = next_part(&at);
	}
	return messages;
}

/* As guest, with channel 1 open. */
amqp_connection_state_t
open_rabbitmq(int port)
{
	amqp_connection_state_t conn = amqp_new_connection();
	amqp_socket_t *socket = amqp_tcp_socket_new(conn);

	if (amqp_socket_open(socket, "127.0.0.1", port) != 0)
		die("RabbitMQ", "cannot connect");
	check(amqp_login(conn, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
	amqp_channel_open(conn, 1);
	check(amqp_get_rpc_reply(conn), "channel");
	return conn;
}
