/*
 * redis_format.c
 *	  Commands of the Redis sink in the wire format, RESP2.
 *
 * An event becomes one entry with the fields
 *
 *		name		the event's name; what a repeat is recognized by
 *		position	its place in the log
 *		type		init, state, value, errored, deleted
 *		key			the instance's key
 *		event		the event's own name; left out if it has none
 *		traceparent, tracestate, header:NAME
 *					what its headers have as texts; mostly nothing
 *		data		the whole event, as JSON or as a CloudEvents envelope
 *
 * so that a consumer can pick what concerns it without parsing the JSON.  The
 * entry's id is <ms of the cut>-<ordinal in the cut>, which rises strictly.
 *
 * Lists and channels get the data alone; a hash has the same fields as an entry,
 * and "state", of the latest event of its instance.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/redis.h"

/* A bulk string that is known when compiling, as in BULK("4", "name"). */
#define BULK(len, text) "$" len "\r\n" text "\r\n"
#define HEADER_PREFIX "header:"
#define append_literal(out, text) pst_append(out, text, sizeof(text) - 1)

/* Digits of an unsigned number at the end of a buffer; returns where they begin. */
static char *
digits_of(uint64 value, char *end)
{
	do
	{
		*--end = '0' + value % 10;
		value /= 10;
	} while (value > 0);
	return end;
}

/* "*3\r\n" or "$3\r\n" */
static void
append_header(StringInfo out, char mark, uint64 value)
{
	char		buffer[24];
	char	   *at;

	buffer[sizeof(buffer) - 2] = '\r';
	buffer[sizeof(buffer) - 1] = '\n';
	at = digits_of(value, buffer + sizeof(buffer) - 2);
	*--at = mark;
	pst_append(out, at, buffer + sizeof(buffer) - at);
}

static void
append_bulk(StringInfo out, const char *bytes, size_t len)
{
	append_header(out, '$', len);
	pst_append(out, bytes, len);
	pst_append(out, "\r\n", 2);
}

static void
append_text(StringInfo out, const char *text)
{
	append_bulk(out, text, strlen(text));
}

/* The key or channel as the template has it for this event. */
static void
append_key(StringInfo out, StringInfo scratch, const PstRedisAddress *address,
		   const PstEvent *event)
{
	resetStringInfo(scratch);
	pst_encode_address(scratch, address->key, event);
	append_bulk(out, scratch->data, scratch->len);
}

static void
append_id(StringInfo out, const PstEvent *event)
{
	char		buffer[48];
	char	   *at = digits_of(event->ordinal, buffer + sizeof(buffer));

	*--at = '-';
	at = digits_of(event->stream_ms, at);
	append_bulk(out, at, buffer + sizeof(buffer) - at);
}

static void
append_number(StringInfo out, int64 value)
{
	char		buffer[24];
	char	   *at = digits_of(value < 0 ? -(uint64) value : (uint64) value,
							   buffer + sizeof(buffer));

	if (value < 0)
		*--at = '-';
	append_bulk(out, at, buffer + sizeof(buffer) - at);
}

void
pst_redis_format_command(StringInfo out, int argc, const char *const *argv)
{
	append_header(out, '*', argc);
	for (int i = 0; i < argc; i++)
		append_text(out, argv[i]);
}

static void
append_data(StringInfo out, StringInfo scratch, const PstRedisAddress *address,
			const PstEvent *event)
{
	resetStringInfo(scratch);
	pst_encode_event(scratch, event, address->format);
	append_bulk(out, scratch->data, scratch->len);
}

/* An event's headers as fields; returns how many. */
static int
append_headers(StringInfo out, const char *headers)
{
	StringInfoData name;
	StringInfoData value;
	const char *at = headers;
	int			n = 0;

	initStringInfo(&name);
	initStringInfo(&value);
	while ((at = pst_next_member(at, &name, &value)) != NULL)
	{
		bool		known = strcmp(name.data, "traceparent") == 0 || strcmp(name.data, "tracestate") == 0;

		append_header(out, '$', (known ? 0 : sizeof(HEADER_PREFIX) - 1) + name.len);
		if (!known)
			append_literal(out, HEADER_PREFIX);
		pst_append(out, name.data, name.len);
		append_literal(out, "\r\n");
		append_bulk(out, value.data, value.len);
		n++;
	}
	pfree(name.data);
	pfree(value.data);
	return n;
}

static void
format_xadd(StringInfo out, StringInfo scratch,
			const PstRedisAddress *address, const PstEvent *event)
{
	int			nfields = event->event ? 6 : 5;
	StringInfoData headers = {0};

	if (event->headers)
	{
		initStringInfo(&headers);
		nfields += append_headers(&headers, event->headers);
	}

	append_header(out, '*', 3 + (address->maxlen ? 3 : 0) + 2 * nfields);
	append_literal(out, BULK("4", "XADD"));
	append_key(out, scratch, address, event);
	if (address->maxlen)
	{
		append_literal(out, BULK("6", "MAXLEN") BULK("1", "~"));
		append_text(out, address->maxlen);
	}
	append_id(out, event);
	append_literal(out, BULK("4", "name"));
	append_text(out, event->name);
	append_literal(out, BULK("8", "position"));
	append_number(out, event->position);
	append_literal(out, BULK("4", "type"));
	append_text(out, pst_event_type_name(event->type));
	append_literal(out, BULK("3", "key"));
	append_text(out, event->key ? event->key : "");
	if (event->event)
	{
		append_literal(out, BULK("5", "event"));
		append_text(out, event->event);
	}
	if (event->headers)
	{
		pst_append(out, headers.data, headers.len);
		pfree(headers.data);
	}
	append_literal(out, BULK("4", "data"));
	append_data(out, scratch, address, event);
}

/*
 * A state is written unless a later one of the same log stands there already, so
 * a repeat, a late retry or a replay never takes an instance back.  Positions are
 * compared as texts, by length first: a number of Lua has 53 bits.  What has no
 * effect on the state is left out; what is deleted leaves its mark.
 */
static const char latest_script[] =
"if ARGV[4] == 'errored' then return 0 end "
"local old = redis.call('HMGET', KEYS[1], 'log', 'position') "
"local at, new = old[2], ARGV[2] "
"if old[1] == ARGV[1] and at and (#at > #new or (#at == #new and at >= new)) then return 0 end "
"redis.call('HSET', KEYS[1], 'log', ARGV[1], 'position', new, 'name', ARGV[3], 'type', ARGV[4], "
"'key', ARGV[5], 'event', ARGV[6], 'state', ARGV[7], 'data', ARGV[8]) "
"return 1";

static void
format_latest(StringInfo out, StringInfo scratch,
			  const PstRedisAddress *address, const PstEvent *event)
{
	const char *tail = strchr(event->name, '-');

	append_literal(out, "*12\r\n" BULK("4", "EVAL"));
	append_text(out, latest_script);
	append_literal(out, BULK("1", "1"));
	append_key(out, scratch, address, event);
	append_bulk(out, event->name, tail ? (size_t) (tail - event->name) : strlen(event->name));
	append_number(out, event->position);
	append_text(out, event->name);
	append_text(out, pst_event_type_name(event->type));
	append_text(out, event->key ? event->key : "");
	append_text(out, event->event ? event->event : "");
	append_text(out, event->to_state ? event->to_state : "");
	append_data(out, scratch, address, event);
}

void
pst_redis_format_event(StringInfo out, StringInfo scratch,
					   const PstRedisAddress *address, const PstEvent *event)
{
	switch (address->mode)
	{
		case PST_REDIS_STREAM:
			format_xadd(out, scratch, address, event);
			return;
		case PST_REDIS_HASH:
			format_latest(out, scratch, address, event);
			return;
		case PST_REDIS_PUBSUB:
			append_literal(out, "*3\r\n" BULK("7", "PUBLISH"));
			break;
		case PST_REDIS_LIST:
			append_literal(out, "*3\r\n" BULK("5", "RPUSH"));
			break;
	}
	append_key(out, scratch, address, event);
	append_data(out, scratch, address, event);
}

/* XRANGE: what stands at this event's id? */
void
pst_redis_format_find(StringInfo out, StringInfo scratch,
					  const PstRedisAddress *address, const PstEvent *event)
{
	append_literal(out, "*4\r\n" BULK("6", "XRANGE"));
	append_key(out, scratch, address, event);
	append_id(out, event);
	append_id(out, event);
}

/* XRANGE: what is the first entry of this event's stream? */
void
pst_redis_format_first(StringInfo out, StringInfo scratch,
					   const PstRedisAddress *address, const PstEvent *event)
{
	append_literal(out, "*6\r\n" BULK("6", "XRANGE"));
	append_key(out, scratch, address, event);
	append_literal(out, BULK("1", "-") BULK("1", "+") BULK("5", "COUNT") BULK("1", "1"));
}
