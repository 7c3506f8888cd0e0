/*
 * bare.c
 *	  The least that a client of each library must do to deliver what is ready:
 *	  the measure that the relay is held against.
 *
 *		bare redis PORT FILE.commands		XADD, pipelined by 1,000
 *		bare rabbitmq PORT FILE.messages	mandatory, 1,000 unconfirmed at most
 *		bare clickhouse PORT FILE			FILE.N.body, each a request to FILE.N.path
 *
 * Reads everything first; prints the seconds from the first byte sent to the
 * last answer.  What the server refuses ends it with an error.
 */
#include "ready.h"

#include <amqp_framing.h>
#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 1000

/* ---- Redis ---- */

static void
read_replies(redisContext *redis, int count)
{
	while (count-- > 0)
	{
		redisReply *reply;

		if (redisGetReply(redis, (void **) &reply) != REDIS_OK)
			die("Redis", redis->errstr);
		if (reply->type == REDIS_REPLY_ERROR)
			die("Redis", reply->str);
		freeReplyObject(reply);
	}
}

static void
run_redis(int port, const char *path)
{
	size_t		length = 0;
	char	   *commands = slurp(path, &length);
	redisContext *redis = redisConnect("127.0.0.1", port);
	double		start = now();
	int			pending = 0;

	if (commands == NULL || redis == NULL || redis->err)
		die("Redis", redis ? redis->errstr : "no file");
	for (char *at = commands; at < commands + length;)
	{
		char	   *end = command_end(at);

		redisAppendFormattedCommand(redis, at, end - at);
		at = end;
		if (++pending == WINDOW)
		{
			read_replies(redis, pending);
			pending = 0;
		}
	}
	read_replies(redis, pending);
	printf("%.4f\n", now() - start);
}

/* ---- RabbitMQ ---- */

/* Wait until at most so many are unconfirmed; returns the number of confirmed ones. */
static uint64_t
await_confirms(amqp_connection_state_t conn, uint64_t sent, uint64_t confirmed, uint64_t most)
{
	while (sent - confirmed > most)
	{
		amqp_frame_t frame;

		if (amqp_simple_wait_frame(conn, &frame) != AMQP_STATUS_OK)
			die("RabbitMQ", "the connection broke");
		if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
			die("RabbitMQ", "something else than a confirm");
		else
		{
			amqp_basic_ack_t *ack = frame.payload.method.decoded;

			confirmed = ack->multiple ? ack->delivery_tag : confirmed + 1;
		}
		amqp_maybe_release_buffers(conn);
	}
	return confirmed;
}

static void
run_rabbitmq(int port, const char *path)
{
	size_t		length = 0,
				count;
	char	   *bytes = slurp(path, &length);
	Message    *messages;
	amqp_connection_state_t conn;
	uint64_t	confirmed = 0;
	double		start;

	if (bytes == NULL)
		die("RabbitMQ", "no file");
	messages = read_messages(bytes, length, &count);
	conn = open_rabbitmq(port);
	amqp_confirm_select(conn, 1);
	check(amqp_get_rpc_reply(conn), "confirm.select");

	start = now();
	for (size_t sent = 0; sent < count; sent++)
	{
		if (amqp_basic_publish(conn, 1, amqp_cstring_bytes("persistomata"), messages[sent].key, 1, 0,
							   messages[sent].properties, messages[sent].body) != AMQP_STATUS_OK)
			die("RabbitMQ", "publish");
		confirmed = await_confirms(conn, sent + 1, confirmed, WINDOW);
	}
	await_confirms(conn, count, confirmed, 0);
	printf("%.4f\n", now() - start);
}

/* ---- ClickHouse ---- */

static size_t
ignore(char *bytes, size_t size, size_t count, void *arg)
{
	return size * count;
}

static void
run_clickhouse(int port, const char *path)
{
	CURL	   *curl = curl_easy_init();
	double		seconds = 0;

	for (int n = 0;; n++)
	{
		char		name[1024];
		char		url[8192];
		size_t		length,
					ignored;
		char	   *body;
		double		start;
		long		status = 0;

		snprintf(name, sizeof(name), "%s.%d.body", path, n);
		body = slurp(name, &length);
		if (body == NULL)
			break;
		snprintf(name, sizeof(name), "%s.%d.path", path, n);
		snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, slurp(name, &ignored));
		start = now();
		curl_easy_setopt(curl, CURLOPT_URL, url);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
		curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
		if (curl_easy_perform(curl) != CURLE_OK)
			die("ClickHouse", "no answer");
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		if (status != 200)
			die("ClickHouse", "refused");
		seconds += now() - start;
		free(body);
	}
	if (seconds == 0)
		die("ClickHouse", "no bodies");
	printf("%.4f\n", seconds);
}

int
main(int argc, char **argv)
{
	if (argc != 4)
		die("usage", "bare redis|rabbitmq|clickhouse PORT FILE");
	if (strcmp(argv[1], "redis") == 0)
		run_redis(atoi(argv[2]), argv[3]);
	else if (strcmp(argv[1], "rabbitmq") == 0)
		run_rabbitmq(atoi(argv[2]), argv[3]);
	else if (strcmp(argv[1], "clickhouse") == 0)
		run_clickhouse(atoi(argv[2]), argv[3]);
	else
		die(argv[1], "no such sink");
	return 0;
}
