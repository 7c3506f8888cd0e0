/*
 * rabbitmq.c
 *	  The sink for RabbitMQ (AMQP 0-9-1), with publisher confirms: an event is
 *	  delivered when the broker has confirmed that a queue has it.
 *
 * Delivery is at least once: after a lost connection the broker may have what it
 * did not confirm any more, and a repeat carries the same message_id.
 *
 * Messages are published with a window of confirms due, as far as the broker
 * takes the bytes; a broker that blocks publishers (its memory or disk is low)
 * gets none until it lifts that.  What no queue takes comes back.  If that is so
 * for all the events that are settled, publishing stops until the rest of the
 * window is, and if it is so for those too, something is wrong with the bindings
 * and not with the events: the shipment is misconfigured.
 *
 * Options.  Server: host (a list: tried in turn), port, vhost; tls, tls_verify,
 * ca_file, cert_file, key_file; connect_timeout and confirm_timeout (ms),
 * heartbeat (s, 0 for none), window (messages).  User mapping: user, password.
 * Route: exchange, exchange_type, routing_key (a template).
 */
#include "postgres.h"

#include <limits.h>

#include "net/net.h"
#include "sink/fault.h"
#include "sink/rabbitmq_shipment.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MAX_UNSENT (256 * 1024) /* bytes; more would only wait here */
#define BLOCKED_PATIENCE 1000	/* ms until a blocked shipment is given back */

static const PstOptionDef rabbitmq_options[] = {
	{"host", PST_OPTION_SERVER, PST_OPTION_HOSTS, "127.0.0.1", 0, 0, NULL},
	{"port", PST_OPTION_SERVER, PST_OPTION_INT, "5672", 1, 65535, NULL},
	{"vhost", PST_OPTION_SERVER, PST_OPTION_TEXT, "/", 0, 0, NULL},
	{"tls", PST_OPTION_SERVER, PST_OPTION_BOOL, "off", 0, 0, NULL},
	{"tls_verify", PST_OPTION_SERVER, PST_OPTION_BOOL, "on", 0, 0, NULL},
	{"ca_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"cert_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"key_file", PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{"connect_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "5000", 10, 600000, NULL},
	{"confirm_timeout", PST_OPTION_SERVER, PST_OPTION_INT, "30000", 10, 3600000, NULL},
	{"heartbeat", PST_OPTION_SERVER, PST_OPTION_INT, "10", 0, 3600, NULL},
	{"window", PST_OPTION_SERVER, PST_OPTION_INT, "1000", 1, 100000, NULL},
	{"user", PST_OPTION_MAPPING, PST_OPTION_TEXT, "guest", 0, 0, NULL},
	{"password", PST_OPTION_MAPPING, PST_OPTION_TEXT, "guest", 0, 0, NULL},
	{"exchange", PST_OPTION_ROUTE, PST_OPTION_TEXT, "persistomata", 0, 0, NULL},
	{"exchange_type", PST_OPTION_ROUTE, PST_OPTION_TEXT, "topic", 0, 0, NULL},
	{"routing_key", PST_OPTION_ROUTE, PST_OPTION_TEMPLATE, "{machine}.{type}.{event}", 0, 0, NULL},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

/* The socket and the codec are not palloc'd: free them with the memory. */
static void
free_foreign(void *arg)
{
	PstRabbit  *rabbit = arg;

	/* The buffers may be gone by now, so no goodbye. */
	rabbit->conn.stage = PST_RABBIT_CLOSED;
	pst_rabbit_close(&rabbit->conn);
}

static PstSink *
rabbitmq_open(const PstSinkSettings *settings)
{
	PstRabbit  *rabbit = palloc0(sizeof(PstRabbit));
	StringInfo	buffers[] = {
		&rabbit->conn.in, &rabbit->conn.out, &rabbit->declared, &rabbit->body, &rabbit->key,
		&rabbit->message_id, &rabbit->text, &rabbit->member_name, &rabbit->member_value
	};
	MemoryContext old;

	rabbit->base.ops = &pst_rabbitmq_sink;
	rabbit->conn.stream.fd = -1;
	rabbit->on_reset.func = free_foreign;
	rabbit->on_reset.arg = rabbit;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &rabbit->on_reset);
	rabbit->context = AllocSetContextCreate(CurrentMemoryContext, "RabbitMQ sink",
											ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(rabbit->context);
	rabbit->conn.hosts = pst_option_copy(&pst_rabbitmq_sink, settings->options, "host");
	rabbit->conn.tls.on = pst_option_bool(&pst_rabbitmq_sink, settings->options, "tls");
	rabbit->conn.tls.verify = pst_option_bool(&pst_rabbitmq_sink, settings->options, "tls_verify");
	rabbit->conn.tls.ca_file = pst_option_copy(&pst_rabbitmq_sink, settings->options, "ca_file");
	rabbit->conn.tls.cert_file = pst_option_copy(&pst_rabbitmq_sink, settings->options, "cert_file");
	rabbit->conn.tls.key_file = pst_option_copy(&pst_rabbitmq_sink, settings->options, "key_file");
	rabbit->conn.port = pst_option_int(&pst_rabbitmq_sink, settings->options, "port");
	rabbit->conn.vhost = pst_option_copy(&pst_rabbitmq_sink, settings->options, "vhost");
	rabbit->conn.user = pst_option_copy(&pst_rabbitmq_sink, settings->options, "user");
	rabbit->conn.password = pst_option_copy(&pst_rabbitmq_sink, settings->options, "password");
	rabbit->conn.connect_timeout = pst_option_int(&pst_rabbitmq_sink, settings->options, "connect_timeout");
	rabbit->conn.heartbeat_wish = pst_option_int(&pst_rabbitmq_sink, settings->options, "heartbeat");
	rabbit->confirm_timeout = pst_option_int(&pst_rabbitmq_sink, settings->options, "confirm_timeout");
	rabbit->window = pst_option_int(&pst_rabbitmq_sink, settings->options, "window");
	for (int i = 0; i < (int) lengthof(buffers); i++)
		initStringInfo(buffers[i]);
	MemoryContextSwitchTo(old);
	return &rabbit->base;
}

/* A new connection: nothing is declared there, and tags begin with 1. */
void
pst_rabbit_forget_connection(PstRabbit *rabbit)
{
	resetStringInfo(&rabbit->declared);
	rabbit->last_tag = 0;
	rabbit->follower.nevents = 0;
}

/* One exchange with the broker; false when the connection has broken. */
static bool
exchange(PstRabbit *rabbit)
{
	amqp_frame_t frame;

	if (rabbit->conn.stage == PST_RABBIT_CLOSED || !pst_rabbit_pump(&rabbit->conn))
		return false;
	for (;;)
	{
		int			due = rabbit->due;

		if (!pst_rabbit_next(&rabbit->conn, &frame))
			return false;
		if (frame.frame_type == 0)
			break;
		if (rabbit->step == PST_RABBIT_DECLARING && frame.frame_type == AMQP_FRAME_METHOD &&
			frame.payload.method.id == AMQP_EXCHANGE_DECLARE_OK_METHOD)
			rabbit->step = PST_RABBIT_PUBLISH;
		pst_rabbit_take_frame(rabbit, &frame);
		if (rabbit->due < due)
			rabbit->deadline = pst_net_now() + rabbit->confirm_timeout;
	}
	return true;
}

/* AMQP's short strings; a plugin's own types of exchanges are called x-something. */
static const char *
rabbitmq_check_route(const PstOption *route)
{
	const char *type = pst_option_or_default(&pst_rabbitmq_sink, route, "exchange_type");
	static const char *const types[] = {"topic", "direct", "fanout", "headers"};
	bool		known = strncmp(type, "x-", 2) == 0;

	for (int i = 0; i < (int) lengthof(types); i++)
		known |= strcmp(type, types[i]) == 0;
	if (!known)
		return "the option \"exchange_type\" must be topic, direct, fanout, headers, or one of a plugin, x-...";
	if (strlen(pst_option_or_default(&pst_rabbitmq_sink, route, "exchange")) > 255 || strlen(type) > 255)
		return "the name and type of an exchange have at most 255 bytes";
	return NULL;
}

/* The connection may have died while idle: no reason for a fault. */
void
pst_rabbit_refresh(PstRabbit *rabbit)
{
	if (rabbit->conn.stage == PST_RABBIT_CLOSED || !exchange(rabbit))
		pst_rabbit_forget_connection(rabbit);
	rabbit->turns = pst_net_count_hosts(rabbit->conn.hosts);
}

static void
rabbitmq_send(PstSink *sink, const PstShipment *shipment)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	pst_rabbit_refresh(rabbit);
	if (pst_rabbit_take_up(rabbit, shipment))
	{
		rabbit->step = PST_RABBIT_PUBLISH;
		return;
	}
	rabbit->nevents = 0;
	pst_rabbit_make_room(rabbit, shipment->nevents);
	memset(rabbit->events, 0, shipment->nevents * sizeof(PstRabbitEvent));
	pst_rabbit_take(rabbit, shipment);
	rabbit->npublished = rabbit->next = rabbit->settled_below = rabbit->due = rabbit->due_here = 0;
	rabbit->return_hint = 0;
	rabbit->returning = rabbit->may_not_declare = false;
	rabbit->step = PST_RABBIT_CONNECT;
}

static PstSinkProgress
settle(PstRabbit *rabbit, PstVerdict verdict)
{
	for (int i = 0; i < rabbit->nevents; i++)
		if (rabbit->events[i].verdict == PST_VERDICT_NONE)
			rabbit->events[i].verdict = verdict;
	rabbit->alone = rabbit->fault.verdict != PST_VERDICT_NONE;
	rabbit->step = PST_RABBIT_IDLE;
	return PST_SINK_DONE;
}

/* Events that no queue takes are not refused for that. */
static void
settle_unroutable(PstRabbit *rabbit, PstVerdict verdict)
{
	for (int i = 0; i < Min(rabbit->next, rabbit->nevents); i++)
		if (rabbit->events[i].refusal == PST_RABBIT_UNROUTABLE)
			rabbit->events[i].verdict = verdict;
}

/* The connection is gone, and conn.fault says why. */
static PstSinkProgress
settle_broken(PstRabbit *rabbit)
{
	pst_rabbit_forget_connection(rabbit);

	/* Without the right to declare, the exchange may be there all the same. */
	if (rabbit->step == PST_RABBIT_DECLARING && rabbit->conn.close_code == 403)
	{
		rabbit->may_not_declare = true;
		rabbit->step = PST_RABBIT_CONNECT;
		if (pst_rabbit_connect(&rabbit->conn))
			return PST_SINK_BUSY;
	}
	/* that the others cannot be routed either is not known yet */
	if (pst_rabbit_blames_route(rabbit))
		settle_unroutable(rabbit, PST_RETRY);
	pst_rabbit_blame_size(rabbit);
	rabbit->fault = rabbit->conn.fault;
	rabbit->fault.in_doubt = rabbit->due_here > 0;
	/* an exchange that was gone comes back without its bindings */
	if (rabbit->fault.verdict == PST_MISCONFIGURED)
		pst_rabbit_forget_proofs(rabbit);
	return settle(rabbit, rabbit->fault.verdict);
}

/* False if the exchange is declared already, or cannot be. */
static bool
begin_declaring(PstRabbit *rabbit)
{
	amqp_exchange_declare_t declare = {0};
	char	   *both;
	bool		known;

	if (rabbit->exchange[0] == '\0')
		return false;
	both = psprintf("%s %s", rabbit->exchange_type, rabbit->exchange);
	known = strcmp(rabbit->declared.data, both) == 0;
	if (!known)
	{
		resetStringInfo(&rabbit->declared);
		appendStringInfoString(&rabbit->declared, both);
	}
	pfree(both);
	if (known || rabbit->may_not_declare)
		return false;
	declare.exchange = amqp_cstring_bytes(rabbit->exchange);
	declare.type = amqp_cstring_bytes(rabbit->exchange_type);
	declare.durable = 1;
	if (!pst_rabbit_put_method(&rabbit->conn, PST_RABBIT_CHANNEL, AMQP_EXCHANGE_DECLARE_METHOD,
							   &declare, 1024))
	{
		pst_fault_set(&rabbit->conn.fault, PST_MISCONFIGURED, 0, "the exchange's name or type is too long");
		(void) pst_rabbit_broken(&rabbit->conn, NULL);
	}
	rabbit->deadline = pst_net_now() + rabbit->confirm_timeout;
	return true;
}

/* Are all that are settled unroutable, and always were?  Then wait for the others. */
static bool
is_suspicious(const PstRabbit *rabbit)
{
	return rabbit->unroutable > 0 && !pst_rabbit_is_proven(rabbit);
}

static void
publish_more(PstRabbit *rabbit)
{
	while (rabbit->next < rabbit->nevents + rabbit->follower.nevents && rabbit->due < rabbit->window &&
		   pst_rabbit_unsent(&rabbit->conn) < MAX_UNSENT &&
		   !rabbit->conn.blocked && !is_suspicious(rabbit) &&
		   rabbit->fault.verdict == PST_VERDICT_NONE)
	{
		if (rabbit->due == 0)
			rabbit->deadline = pst_net_now() + rabbit->confirm_timeout;
		(void) pst_rabbit_publish(rabbit, rabbit->next++);
	}
}

/* Nothing of it is due: is the shipment through, and how?  False: there is more to publish. */
static bool
is_through(PstRabbit *rabbit)
{
	bool		through = rabbit->next >= rabbit->nevents || rabbit->fault.verdict != PST_VERDICT_NONE;

	if (is_suspicious(rabbit) || (through && pst_rabbit_blames_route(rabbit)))
	{
		rabbit->fault = rabbit->refusals[PST_RABBIT_UNROUTABLE];
		rabbit->fault.verdict = PST_MISCONFIGURED;
		settle_unroutable(rabbit, PST_MISCONFIGURED);
		return true;
	}
	if (through)
		pst_rabbit_remember(rabbit);
	return through;
}

/* The broker blocks publishers: wait for a moment, then give the rest back. */
static bool
is_blocked_for_long(PstRabbit *rabbit)
{
	if (!rabbit->conn.blocked || rabbit->next >= rabbit->nevents)
		rabbit->blocked_since = 0;
	else if (rabbit->blocked_since == 0)
		rabbit->blocked_since = pst_net_now();
	else if (rabbit->due_here == 0 && pst_net_now() - rabbit->blocked_since >= BLOCKED_PATIENCE)
	{
		pst_fault_set(&rabbit->fault, PST_RETRY, 0, "RabbitMQ blocks publishers");
		pst_fault_quote(&rabbit->fault, rabbit->conn.blocked_reason, strlen(rabbit->conn.blocked_reason));
		return true;
	}
	return false;
}

static PstSinkProgress
publish(PstRabbit *rabbit)
{
	if (!exchange(rabbit))
		return settle_broken(rabbit);
	publish_more(rabbit);
	if (!pst_rabbit_flush(&rabbit->conn))
		return settle_broken(rabbit);
	if ((rabbit->due_here == 0 && is_through(rabbit)) || is_blocked_for_long(rabbit))
		return settle(rabbit, rabbit->fault.verdict);
	if (rabbit->due > 0 && pst_net_now() >= rabbit->deadline)
	{
		pst_fault_set(&rabbit->conn.fault, PST_RETRY, 0, rabbit->conn.blocked ?
					  "RabbitMQ blocks publishers, and does not confirm what it has" :
					  "RabbitMQ does not confirm in time");
		if (rabbit->conn.blocked)
			pst_fault_quote(&rabbit->conn.fault, rabbit->conn.blocked_reason,
							strlen(rabbit->conn.blocked_reason));
		(void) pst_rabbit_broken(&rabbit->conn, NULL);
		return settle_broken(rabbit);
	}
	return PST_SINK_BUSY;
}

static PstSinkProgress
declare(PstRabbit *rabbit)
{
	if (!exchange(rabbit))
		return settle_broken(rabbit);
	if (rabbit->step == PST_RABBIT_PUBLISH)
		return publish(rabbit);
	if (pst_net_now() < rabbit->deadline)
		return PST_SINK_BUSY;
	(void) pst_rabbit_broken(&rabbit->conn, "RabbitMQ did not declare the exchange in time");
	return settle_broken(rabbit);
}

bool
pst_rabbit_ready(PstRabbit *rabbit)
{
	while (!pst_rabbit_connect(&rabbit->conn))
		if (rabbit->conn.fault.verdict != PST_RETRY || --rabbit->turns <= 0)
			return false;
	return rabbit->conn.stage == PST_RABBIT_READY;
}

static PstSinkProgress
rabbitmq_poll(PstSink *sink)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	if (rabbit->step == PST_RABBIT_MARK_CONNECT || rabbit->step == PST_RABBIT_MARKING)
		return pst_rabbit_mark_step(rabbit);
	if (rabbit->step == PST_RABBIT_CONNECT)
	{
		if (!pst_rabbit_ready(rabbit))
			return rabbit->conn.stage == PST_RABBIT_CLOSED ? settle_broken(rabbit) : PST_SINK_BUSY;
		rabbit->step = PST_RABBIT_DECLARE;
	}
	if (rabbit->step == PST_RABBIT_DECLARE)
	{
		rabbit->first_tag = rabbit->last_tag + 1;
		rabbit->step = begin_declaring(rabbit) ? PST_RABBIT_DECLARING : PST_RABBIT_PUBLISH;
	}
	if (rabbit->step == PST_RABBIT_DECLARING)
		return declare(rabbit);
	return publish(rabbit);
}

static void
rabbitmq_wants(const PstSink *sink, PstWants *wants)
{
	const PstRabbit *rabbit = (const PstRabbit *) sink;
	int64		until = rabbit->deadline;
	int			left;

	/* idle, or still connecting: what the connection itself wants */
	pst_rabbit_wants(&rabbit->conn, wants);
	if (rabbit->step != PST_RABBIT_DECLARING && rabbit->step != PST_RABBIT_PUBLISH && rabbit->step != PST_RABBIT_MARKING)
		return;
	if (rabbit->step != PST_RABBIT_MARKING && rabbit->blocked_since != 0 && rabbit->due_here == 0)
		until = rabbit->blocked_since + BLOCKED_PATIENCE;
	left = (int) Max(until - pst_net_now(), 1);
	wants->timeout_ms = wants->timeout_ms < 0 ? left : Min(wants->timeout_ms, left);
}

static PstVerdict
rabbitmq_verdict(const PstSink *sink, int nth)
{
	return ((const PstRabbit *) sink)->events[nth].verdict;
}

static const PstFault *
rabbitmq_event_fault(const PstSink *sink, int nth)
{
	const PstRabbit *rabbit = (const PstRabbit *) sink;
	const PstRabbitEvent *event = &rabbit->events[nth];

	if (event->verdict == PST_DELIVERED)
		return NULL;
	return event->verdict == PST_REJECTED ? &rabbit->refusals[event->refusal] : &rabbit->fault;
}

static const PstFault *
rabbitmq_fault(const PstSink *sink)
{
	return &((const PstRabbit *) sink)->fault;
}

/* The broker does not tell: a repeat has the same message_id, that is all. */
static int
rabbitmq_duplicates(const PstSink *sink)
{
	return 0;
}

/* Send heartbeats, and take what comes. */
static void
rabbitmq_idle(PstSink *sink)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	if (rabbit->step == PST_RABBIT_IDLE && rabbit->conn.stage == PST_RABBIT_READY &&
		!exchange(rabbit))
		pst_rabbit_forget_connection(rabbit);
}

static void
rabbitmq_close(PstSink *sink)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	pst_rabbit_close(&rabbit->conn);
	if (rabbit->context)
		MemoryContextDelete(rabbit->context);
	rabbit->context = NULL;
	rabbit->events = NULL;
	rabbit->proofs = NULL;
	rabbit->nevents_room = 0;
	rabbit->step = PST_RABBIT_IDLE;
}

const PstSinkOps pst_rabbitmq_sink = {
	.kind = "rabbitmq",
	.options = rabbitmq_options,
	.check_route = rabbitmq_check_route,
	.names_shipments = false,
	.max_rows = 5000,
	.max_bytes = 8 * 1024 * 1024,
	.open = rabbitmq_open,
	.send = rabbitmq_send,
	.prepare = pst_rabbit_follow,
	.begins_early = true,
	.poll = rabbitmq_poll,
	.wants = rabbitmq_wants,
	.verdict = rabbitmq_verdict,
	.event_fault = rabbitmq_event_fault,
	.fault = rabbitmq_fault,
	.duplicates = rabbitmq_duplicates,
	.idle = rabbitmq_idle,
	.close = rabbitmq_close,
	.mark = pst_rabbit_mark,
	.marked = pst_rabbit_marked,
};
