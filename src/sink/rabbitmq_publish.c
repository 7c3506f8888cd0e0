/*
 * rabbitmq_publish.c
 *	  An event as a message.
 *
 * The body is the event in the route's format.  Properties: persistent,
 * message_id = <event name>/<route> (what a consumer drops repeats by; with the
 * route, since two routes may feed one queue), type, timestamp, app_id.
 * Headers: a few of the event's fields, so that a binding or a consumer need not
 * parse the body, x-deduplication-header for brokers with that plugin, and those
 * of the event's own headers that are strings (traceparent).  Not more of them:
 * eleven headers were seen to cost a broker two fifths of its throughput.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "sink/fault.h"
#include "sink/rabbitmq_shipment.h"

#define MAX_SHORT 255			/* bytes of AMQP's short strings */
#define MAX_HEADER_NAME 128
#define MAX_HEADERS 48
#define MAX_OWN_HEADERS 32768	/* bytes of the event's own headers; more is left out */
#define FIXED_ROOM 2048			/* for what is bounded: lengths, kinds, short strings */

static amqp_bytes_t
bytes_of(const StringInfo string)
{
	return (amqp_bytes_t) {string->len, string->data};
}

void
pst_rabbit_message_id(PstRabbit *rabbit, int nth)
{
	resetStringInfo(&rabbit->message_id);
	appendStringInfoString(&rabbit->message_id, pst_rabbit_event(rabbit, nth)->name);
	appendStringInfoCharMacro(&rabbit->message_id, '/');
	appendStringInfoString(&rabbit->message_id, pst_rabbit_shipment_of(rabbit, nth)->route);
	rabbit->message_id.len = Min(rabbit->message_id.len, MAX_SHORT);
}

typedef struct Headers
{
	amqp_table_entry_t entries[MAX_HEADERS];
	int			n;
	size_t		room;			/* what the texts take */
} Headers;

static void
add_bytes(Headers *headers, amqp_bytes_t name, amqp_bytes_t value)
{
	amqp_table_entry_t *entry;

	if (headers->n >= MAX_HEADERS)
		return;
	entry = &headers->entries[headers->n++];
	entry->key = name;
	entry->value.kind = AMQP_FIELD_KIND_UTF8;
	entry->value.value.bytes = value;
	headers->room += name.len + value.len + 16;
}

static void
add_text(Headers *headers, const char *name, const char *value)
{
	if (value)
		add_bytes(headers, amqp_cstring_bytes(name), amqp_cstring_bytes(value));
}

static void
add_int64(Headers *headers, const char *name, int64 value)
{
	amqp_table_entry_t *entry = &headers->entries[headers->n++];

	entry->key = amqp_cstring_bytes(name);
	entry->value.kind = AMQP_FIELD_KIND_I64;
	entry->value.value.i64 = value;
}

static bool
is_taken(const Headers *headers, const StringInfo name)
{
	for (int i = 0; i < headers->n; i++)
		if (headers->entries[i].key.len == (size_t) name->len &&
			memcmp(headers->entries[i].key.bytes, name->data, name->len) == 0)
			return true;
	return false;
}

/* The event's own headers; ours have precedence. */
static void
add_own_headers(PstRabbit *rabbit, Headers *headers, const char *json)
{
	StringInfo	text = &rabbit->text;
	const char *at = json;

	/* Enough for all, so that the text does not move while it is pointed to. */
	resetStringInfo(text);
	enlargeStringInfo(text, MAX_OWN_HEADERS + 1);
	while ((at = pst_next_member(at, &rabbit->member_name, &rabbit->member_value)) != NULL)
	{
		int			name_len = rabbit->member_name.len;
		int			value_len = rabbit->member_value.len;
		char	   *name = text->data + text->len;

		if (name_len == 0 || name_len > MAX_HEADER_NAME ||
			text->len + name_len + value_len > MAX_OWN_HEADERS ||
			is_taken(headers, &rabbit->member_name))
			continue;
		appendBinaryStringInfo(text, rabbit->member_name.data, name_len);
		appendBinaryStringInfo(text, rabbit->member_value.data, value_len);
		add_bytes(headers, (amqp_bytes_t) {name_len, name},
				  (amqp_bytes_t) {value_len, name + name_len});
	}
}

static void
make_headers(PstRabbit *rabbit, const PstEvent *event, Headers *headers)
{
	headers->n = 0;
	headers->room = 0;
	add_text(headers, "name", event->name);
	add_int64(headers, "position", event->position);
	add_text(headers, "fsm", event->fsm);
	add_text(headers, "key", event->key);
	add_text(headers, "event", event->event);
	add_bytes(headers, amqp_cstring_bytes("x-deduplication-header"), bytes_of(&rabbit->message_id));
	if (event->headers)
		add_own_headers(rabbit, headers, event->headers);
}

static bool
refuse(PstRabbit *rabbit, int nth, PstRabbitRefusal refusal, const char *why)
{
	rabbit->events[nth].verdict = PST_REJECTED;
	rabbit->events[nth].refusal = refusal;
	pst_fault_set(&rabbit->refusals[refusal], PST_REJECTED, 0, "%s", why);
	return false;
}

/* False if it cannot be a message: it has its verdict then, and nothing is sent. */
bool
pst_rabbit_publish(PstRabbit *rabbit, int nth)
{
	PstRabbitConnection *conn = &rabbit->conn;
	const PstEvent *event = pst_rabbit_event(rabbit, nth);
	const char *format = pst_rabbit_shipment_of(rabbit, nth)->format;
	bool		enveloped = format && strcmp(format, "cloudevents") == 0;
	int			before = conn->out.len;
	amqp_basic_publish_t publish = {0};
	amqp_basic_properties_t properties = {0};
	Headers		headers;

	resetStringInfo(&rabbit->key);
	pst_encode_address(&rabbit->key, rabbit->routing_key, event);	/* a follower's is the same */
	if (rabbit->key.len > MAX_SHORT)
		return refuse(rabbit, nth, PST_RABBIT_LONG_KEY, "the routing key is longer than 255 bytes");
	resetStringInfo(&rabbit->body);
	pst_encode_event(&rabbit->body, event, format);
	pst_rabbit_message_id(rabbit, nth);
	make_headers(rabbit, event, &headers);

	publish.exchange = amqp_cstring_bytes(rabbit->exchange);
	publish.routing_key = bytes_of(&rabbit->key);
	publish.mandatory = 1;
	properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG |
		AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
		AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG;
	properties.content_type = amqp_cstring_bytes(enveloped ? "application/cloudevents+json" : "application/json");
	properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
	properties.message_id = bytes_of(&rabbit->message_id);
	properties.timestamp = (uint64) Max(event->occurred_at / 1000000, 0);
	properties.type = amqp_cstring_bytes(pst_event_type_name(event->type));
	properties.app_id = amqp_cstring_bytes("persistomata");
	properties.headers.num_entries = headers.n;
	properties.headers.entries = headers.entries;
	if (!pst_rabbit_put_method(conn, PST_RABBIT_CHANNEL, AMQP_BASIC_PUBLISH_METHOD, &publish, 1024) ||
		!pst_rabbit_put_content(conn, &properties, FIXED_ROOM + headers.room,
								rabbit->body.data, rabbit->body.len))
	{
		conn->out.len = before;
		return refuse(rabbit, nth, PST_RABBIT_TOO_BIG, "the message's properties are too big");
	}
	rabbit->events[nth].body_len = rabbit->body.len;
	rabbit->published[rabbit->npublished++] = nth;
	rabbit->due++;
	rabbit->due_here += nth < rabbit->nevents;
	rabbit->last_tag++;
	return true;
}
