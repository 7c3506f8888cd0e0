/*
 * pace.c
 *	  How long a sink takes to acknowledge, at a rate: what is ready is sent
 *	  evenly over time, each message alone, without waiting for the one before.
 *
 *		pace redis PORT FILE.commands RATE SECONDS
 *		pace rabbitmq PORT FILE.messages RATE SECONDS
 *		pace clickhouse PORT FILE RATE SECONDS		one request in flight, as the relay has
 *
 * Ends after SECONDS, or when everything is sent.  Prints the milliseconds from
 * each message's sending to its answer, one a line.
 */
#define _GNU_SOURCE
#include "ready.h"

#include <amqp_framing.h>
#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

typedef struct Pace
{
	double		start;
	double		rate;
	size_t		most;			/* messages that the time allows */
	size_t		sent;
	size_t		answered;
	double	   *sent_at;		/* seconds, of each that was sent */
} Pace;

static Pace
begin(double rate, double seconds)
{
	Pace		pace = {.rate = rate, .most = (size_t) (rate * seconds)};

	pace.sent_at = calloc(pace.most + 1, sizeof(double));
	pace.start = now();
	return pace;
}

/* Seconds until the next message is due, 0 if it is. */
static double
until_due(const Pace *pace)
{
	double		due = pace->start + pace->sent / pace->rate;
	double		wait = due - now();

	return wait > 0 ? wait : 0;
}

static void
sending(Pace *pace)
{
	pace->sent_at[pace->sent++] = now();
}

/* All up to so many are answered; sinks answer in order here. */
static void
answered(Pace *pace, size_t upto)
{
	double		at = now();

	for (; pace->answered < upto; pace->answered++)
		printf("%.4f\n", (at - pace->sent_at[pace->answered]) * 1000);
}

static void
await(int fd, short events, double seconds)
{
	struct timespec wait = {(time_t) seconds, (long) ((seconds - (time_t) seconds) * 1e9)};
	struct pollfd poll = {.fd = fd, .events = events};

	(void) ppoll(&poll, 1, &wait, NULL);
}

static void
take_replies(redisContext *redis, Pace *pace, double wait)
{
	void	   *reply;

	await(redis->fd, POLLIN, wait);
	if (redisBufferRead(redis) != REDIS_OK)
		die("Redis", redis->errstr);
	while (redisGetReplyFromReader(redis, &reply) == REDIS_OK && reply != NULL)
	{
		if (((redisReply *) reply)->type == REDIS_REPLY_ERROR)
			die("Redis", ((redisReply *) reply)->str);
		freeReplyObject(reply);
		answered(pace, pace->answered + 1);
	}
}

static void
pace_redis(int port, const char *path, double rate, double seconds)
{
	size_t		length = 0;
	char	   *commands = slurp(path, &length);
	redisContext *redis = redisConnectNonBlock("127.0.0.1", port);
	Pace		pace;
	char	   *at = commands;
	int			done = 0;

	if (commands == NULL || redis == NULL || redis->err)
		die("Redis", redis ? redis->errstr : "no file");
	await(redis->fd, POLLOUT, 5);
	pace = begin(rate, seconds);
	while (pace.sent < pace.most && at < commands + length)
	{
		double		wait = until_due(&pace);

		if (wait == 0)
		{
			char	   *end = command_end(at);

			redisAppendFormattedCommand(redis, at, end - at);
			at = end;
			sending(&pace);
		}
		if (redisBufferWrite(redis, &done) != REDIS_OK)
			die("Redis", redis->errstr);
		take_replies(redis, &pace, until_due(&pace));
	}
	while (pace.answered < pace.sent)
	{
		if (redisBufferWrite(redis, &done) != REDIS_OK)
			die("Redis", redis->errstr);
		take_replies(redis, &pace, 0.01);
	}
}

static void
take_confirm(amqp_connection_state_t conn, Pace *pace, double wait)
{
	struct timeval tv = {(time_t) wait, (long) ((wait - (time_t) wait) * 1e6)};
	amqp_frame_t frame;
	int			status = amqp_simple_wait_frame_noblock(conn, &frame, &tv);

	if (status == AMQP_STATUS_TIMEOUT)
		return;
	if (status != AMQP_STATUS_OK)
		die("RabbitMQ", "the connection broke");
	if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
		die("RabbitMQ", "something else than a confirm");
	else
	{
		amqp_basic_ack_t *ack = frame.payload.method.decoded;

		/* single confirms may overtake each other a little: counted, not named */
		answered(pace, ack->multiple && ack->delivery_tag > pace->answered ? ack->delivery_tag : pace->answered + 1);
	}
	amqp_maybe_release_buffers(conn);
}

static void
pace_rabbitmq(int port, const char *path, double rate, double seconds)
{
	size_t		length = 0,
				count;
	char	   *bytes = slurp(path, &length);
	Message    *messages;
	amqp_connection_state_t conn;
	Pace		pace;

	if (bytes == NULL)
		die("RabbitMQ", "no file");
	messages = read_messages(bytes, length, &count);
	conn = open_rabbitmq(port);
	amqp_confirm_select(conn, 1);
	check(amqp_get_rpc_reply(conn), "confirm.select");
	pace = begin(rate, seconds);
	while (pace.sent < pace.most && pace.sent < count)
	{
		Message    *message = &messages[pace.sent];

		if (until_due(&pace) == 0)
		{
			sending(&pace);
			if (amqp_basic_publish(conn, 1, amqp_cstring_bytes("persistomata"), message->key, 1, 0,
								   message->properties, message->body) != AMQP_STATUS_OK)
				die("RabbitMQ", "publish");
		}
		take_confirm(conn, &pace, until_due(&pace));
	}
	while (pace.answered < pace.sent)
		take_confirm(conn, &pace, 0.1);
}

static size_t
ignore(char *bytes, size_t size, size_t count, void *arg)
{
	return size * count;
}

static void
pace_clickhouse(int port, const char *path, double rate, double seconds)
{
	CURL	   *curl = curl_easy_init();
	Pace		pace = begin(rate, seconds);

	while (pace.sent < pace.most)
	{
		char		name[1024];
		char		url[8192];
		size_t		length,
					ignored;
		char	   *body;
		long		status = 0;

		snprintf(name, sizeof(name), "%s.%zu.body", path, pace.sent);
		body = slurp(name, &length);
		if (body == NULL)
			break;
		snprintf(name, sizeof(name), "%s.%zu.path", path, pace.sent);
		snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, slurp(name, &ignored));
		curl_easy_setopt(curl, CURLOPT_URL, url);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
		curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
		await(-1, 0, until_due(&pace));
		sending(&pace);
		if (curl_easy_perform(curl) != CURLE_OK)
			die("ClickHouse", "no answer");
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		if (status != 200)
			die("ClickHouse", "refused");
		answered(&pace, pace.sent);
		free(body);
	}
}

int
main(int argc, char **argv)
{
	int			port;
	double		rate,
				seconds;

	if (argc != 6)
		die("usage", "pace redis|rabbitmq|clickhouse PORT FILE RATE SECONDS");
	port = atoi(argv[2]);
	rate = atof(argv[4]);
	seconds = atof(argv[5]);
	if (rate <= 0)
		die(argv[4], "no rate");
	if (strcmp(argv[1], "redis") == 0)
		pace_redis(port, argv[3], rate, seconds);
	else if (strcmp(argv[1], "rabbitmq") == 0)
		pace_rabbitmq(port, argv[3], rate, seconds);
	else if (strcmp(argv[1], "clickhouse") == 0)
		pace_clickhouse(port, argv[3], rate, seconds);
	else
		die(argv[1], "no such sink");
	return 0;
}
