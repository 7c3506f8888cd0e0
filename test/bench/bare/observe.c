/*
 * observe.c
 *	  Sees events arrive at a sink, as a reader of it does.
 *
 *		observe redis PORT STREAM				XREAD BLOCK
 *		observe rabbitmq PORT QUEUE				a consumer, without acknowledgements
 *		observe clickhouse PORT TABLE MS		SELECT, MS after the answer of the one before
 *
 * Prints for each event its tag (the number that follows "tag": in it) and when
 * it was seen, in microseconds since 1970, until it is ended by a signal.  Times
 * are taken when the answer has been read whole.  For ClickHouse a line "poll MS
 * SELECT_MS" after each SELECT that brought events says how long ago the one
 * before was sent, and how long this one took.
 */
#define _GNU_SOURCE
#include "ready.h"

#include <amqp_framing.h>
#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The event in these bytes; those without a tag are none of ours. */
static void
saw(const char *bytes, size_t length, double at)
{
	const char *tag = memmem(bytes, length, "\"tag\":", 6);

	if (tag != NULL)
		printf("%llu %.0f\n", strtoull(tag + 6, NULL, 10), at * 1e6);
}

static void
observe_redis(int port, const char *stream)
{
	redisContext *redis = redisConnect("127.0.0.1", port);
	char		last[64] = "0";

	if (redis == NULL || redis->err)
		die("Redis", "cannot connect");
	for (;;)
	{
		redisReply *reply = redisCommand(redis, "XREAD COUNT 1000 BLOCK 500 STREAMS %s %s", stream, last);
		double		at = since_1970();

		if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
			die("Redis", reply ? reply->str : redis->errstr);
		if (reply->type == REDIS_REPLY_ARRAY)
		{
			redisReply *entries = reply->element[0]->element[1];

			for (size_t i = 0; i < entries->elements; i++)
			{
				redisReply *fields = entries->element[i]->element[1];

				snprintf(last, sizeof(last), "%s", entries->element[i]->element[0]->str);
				for (size_t f = 1; f < fields->elements; f += 2)
					if (strcmp(fields->element[f - 1]->str, "data") == 0)
						saw(fields->element[f]->str, fields->element[f]->len, at);
			}
			fflush(stdout);
		}
		freeReplyObject(reply);
	}
}

static void
observe_rabbitmq(int port, const char *queue)
{
	amqp_connection_state_t conn = open_rabbitmq(port);

	amqp_basic_consume(conn, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(conn), "consume");
	for (;;)
	{
		amqp_envelope_t envelope;

		amqp_maybe_release_buffers(conn);
		check(amqp_consume_message(conn, &envelope, NULL, 0), "a message");
		saw(envelope.message.body.bytes, envelope.message.body.len, since_1970());
		fflush(stdout);
		amqp_destroy_envelope(&envelope);
	}
}

typedef struct Answer
{
	char		bytes[1 << 22];
	size_t		length;
} Answer;

static size_t
gather(char *bytes, size_t size, size_t count, void *arg)
{
	Answer	   *answer = arg;

	if (answer->length + size * count >= sizeof(answer->bytes))
		return 0;
	memcpy(answer->bytes + answer->length, bytes, size * count);
	answer->length += size * count;
	return size * count;
}

/*
 * A peer's rows may come out of order, as its writers commit: those of a few
 * positions back are asked for again.  Positions printed are kept by their last
 * bits.
 */
#define BACK 50
#define KEPT 4096

static void
observe_clickhouse(int port, const char *table, int pause_ms)
{
	static Answer answer;
	static unsigned long long shown[KEPT];
	CURL	   *curl = curl_easy_init();
	unsigned long long top = 0;
	double		before = now();
	char		url[256];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, gather);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
	for (;;)
	{
		char		query[512];
		double		asked = now(),
					at;
		long		status = 0;
		unsigned long long reached = top;

		snprintf(query, sizeof(query), "SELECT position, args FROM %s WHERE position > %llu FORMAT TabSeparatedRaw",
				 table, top > BACK ? top - BACK : 0);
		answer.length = 0;
		curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, query);
		if (curl_easy_perform(curl) != CURLE_OK)
			die("ClickHouse", "no answer");
		at = since_1970();
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		answer.bytes[answer.length] = '\0';
		/* until the first shipment there is no table */
		for (char *line = answer.bytes; status == 200 && *line != '\0';)
		{
			char	   *end = strchrnul(line, '\n');
			unsigned long long position = strtoull(line, NULL, 10);

			if (shown[position % KEPT] != position)
				saw(line, end - line, at);
			shown[position % KEPT] = position;
			if (position > reached)
				reached = position;
			line = *end ? end + 1 : end;
		}
		if (reached > top)
			printf("poll %.3f %.3f\n", (asked - before) * 1000, (now() - asked) * 1000);
		top = reached;
		fflush(stdout);
		before = asked;
		usleep(pause_ms * 1000);
	}
}

int
main(int argc, char **argv)
{
	if (argc < 4)
		die("usage", "observe redis|rabbitmq|clickhouse PORT NAME [MS]");
	if (strcmp(argv[1], "redis") == 0)
		observe_redis(atoi(argv[2]), argv[3]);
	else if (strcmp(argv[1], "rabbitmq") == 0)
		observe_rabbitmq(atoi(argv[2]), argv[3]);
	else if (strcmp(argv[1], "clickhouse") == 0 && argc == 5)
		observe_clickhouse(atoi(argv[2]), argv[3], atoi(argv[4]));
	else
		die(argv[1], "no such sink");
	return 0;
}
