/*
 * rabbitmq_mark.c
 *	  The nonces that tell copies of a cluster apart, in a queue of ours.
 *
 * A queue for each log and route has the newest nonce as its one message.  It is
 * looked at by taking out what is there: the newest is given back to its place,
 * what is older is dropped.  While one worker looks, another may find the queue
 * empty for a moment; what he puts there then is dropped at the next look, unless
 * it is the newer one.
 *
 * Where the user may not declare the queue, write to it (through the default
 * exchange) or read from it, the broker closes the channel: no nonces are kept
 * then, and it is not tried again before the sink is opened anew.
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/rabbitmq_shipment.h"

static PstSinkProgress
end(PstRabbit *rabbit)
{
	rabbit->step = PST_RABBIT_IDLE;
	return PST_SINK_DONE;
}

static bool
put_declare(PstRabbitConnection *conn, amqp_bytes_t queue)
{
	amqp_table_entry_t type = {0};
	amqp_queue_declare_t declare = {0};

	/* quorum queues drop what is given back too often */
	type.key = amqp_cstring_bytes("x-queue-type");
	type.value.kind = AMQP_FIELD_KIND_UTF8;
	type.value.value.bytes = amqp_cstring_bytes("classic");
	declare.queue = queue;
	declare.durable = 1;
	declare.arguments.num_entries = 1;
	declare.arguments.entries = &type;
	return pst_rabbit_put_method(conn, PST_RABBIT_CHANNEL, AMQP_QUEUE_DECLARE_METHOD, &declare, 1024);
}

static bool
put_nonce(PstRabbit *rabbit, amqp_bytes_t queue)
{
	amqp_basic_publish_t publish = {0};
	amqp_basic_properties_t properties = {0};
	const char *nonce = rabbit->shipment->nonce;

	publish.routing_key = queue;
	properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG;
	properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
	properties.app_id = amqp_cstring_bytes("persistomata");
	if (!pst_rabbit_put_method(&rabbit->conn, PST_RABBIT_CHANNEL, AMQP_BASIC_PUBLISH_METHOD, &publish, 1024) ||
		!pst_rabbit_put_content(&rabbit->conn, &properties, 1024, nonce, strlen(nonce)))
		return false;
	rabbit->marking.confirm = ++rabbit->last_tag;
	return true;
}

static bool
put_get(PstRabbit *rabbit)
{
	amqp_basic_get_t get = {0};

	get.queue = amqp_cstring_bytes(rabbit->marking.queue);
	rabbit->marking.due++;
	return pst_rabbit_put_method(&rabbit->conn, PST_RABBIT_CHANNEL, AMQP_BASIC_GET_METHOD, &get, 1024);
}

/* Give a message back to its place, or have it dropped. */
static void
put_back(PstRabbit *rabbit, uint64 tag, bool requeue)
{
	amqp_basic_reject_t reject = {.delivery_tag = tag, .requeue = requeue};

	(void) pst_rabbit_put_method(&rabbit->conn, PST_RABBIT_CHANNEL, AMQP_BASIC_REJECT_METHOD, &reject, 64);
}

/* All questions at once: mostly there is one message, and then none. */
static void
put_questions(PstRabbit *rabbit)
{
	amqp_bytes_t queue = amqp_cstring_bytes(rabbit->marking.queue);

	rabbit->deadline = pst_net_now() + rabbit->confirm_timeout;
	rabbit->step = PST_RABBIT_MARKING;
	if (!put_declare(&rabbit->conn, queue) || (rabbit->marking.leave && !put_nonce(rabbit, queue)) ||
		!put_get(rabbit) || !put_get(rabbit))
		(void) pst_rabbit_broken(&rabbit->conn, "could not ask for the nonce");
}

/* A message is there whole: is it the newest? */
static void
take_message(PstRabbit *rabbit)
{
	PstRabbitMarking *marking = &rabbit->marking;

	marking->body[marking->body_len] = '\0';
	if (marking->newest_tag == 0 || pst_nonce_compare(marking->body, marking->newest) > 0)
	{
		if (marking->newest_tag != 0)
			put_back(rabbit, marking->newest_tag, false);
		marking->newest_tag = marking->tag;
		strlcpy(marking->newest, marking->body, sizeof(marking->newest));
	}
	else
		put_back(rabbit, marking->tag, false);
	marking->tag = 0;
	if (--marking->due == 0)
		(void) put_get(rabbit);
}

static void
take_method(PstRabbit *rabbit, const amqp_method_t *method)
{
	PstRabbitMarking *marking = &rabbit->marking;
	const amqp_basic_ack_t *ack = method->decoded;

	if (method->id == AMQP_BASIC_GET_OK_METHOD)
	{
		marking->tag = ((const amqp_basic_get_ok_t *) method->decoded)->delivery_tag;
		marking->body_len = 0;
	}
	else if (method->id == AMQP_BASIC_GET_EMPTY_METHOD)
		marking->due--;
	else if ((method->id == AMQP_BASIC_ACK_METHOD || method->id == AMQP_BASIC_NACK_METHOD) &&
			 ack->delivery_tag >= marking->confirm)
		marking->confirm = 0;
}

static void
take_frame(PstRabbit *rabbit, const amqp_frame_t *frame)
{
	PstRabbitMarking *marking = &rabbit->marking;

	if (frame->frame_type == AMQP_FRAME_METHOD)
		take_method(rabbit, &frame->payload.method);
	else if (marking->tag == 0)
		return;
	else if (frame->frame_type == AMQP_FRAME_HEADER)
	{
		marking->body_size = frame->payload.properties.body_size;
		if (marking->body_size == 0)
			take_message(rabbit);
	}
	else if (frame->frame_type == AMQP_FRAME_BODY)
	{
		amqp_bytes_t part = frame->payload.body_fragment;
		size_t		room = sizeof(marking->body) - 1 - marking->body_len;

		/* what is longer is not ours */
		memcpy(marking->body + marking->body_len, part.bytes, Min(part.len, room));
		marking->body_len += (int) Min(part.len, room);
		marking->body_size -= Min(part.len, marking->body_size);
		if (marking->body_size == 0)
			take_message(rabbit);
	}
}

/* The connection is gone, and conn.fault says why. */
static PstSinkProgress
end_broken(PstRabbit *rabbit)
{
	int			code = rabbit->step == PST_RABBIT_MARKING ? rabbit->conn.close_code : 0;

	pst_rabbit_forget_connection(rabbit);
	rabbit->fault = rabbit->conn.fault;
	if (code >= 400 && rabbit->fault.verdict == PST_MISCONFIGURED)
	{
		rabbit->fault.verdict = PST_REJECTED;
		snprintf(rabbit->fault.what, sizeof(rabbit->fault.what), "the queue \"%.100s\" cannot be used",
				 rabbit->marking.queue);
		rabbit->mark_refused = rabbit->fault;
	}
	return end(rabbit);
}

void
pst_rabbit_mark(PstSink *sink, const PstShipment *shipment, bool leave)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	memset(&rabbit->marking, 0, sizeof(rabbit->marking));
	rabbit->fault = rabbit->mark_refused;
	rabbit->shipment = shipment;
	rabbit->marking.leave = leave;
	snprintf(rabbit->marking.queue, sizeof(rabbit->marking.queue), "persistomata.claim.%s", shipment->mark);
	if (rabbit->fault.verdict == PST_VERDICT_NONE)
		pst_rabbit_refresh(rabbit);
	rabbit->step = PST_RABBIT_MARK_CONNECT;
}

PstSinkProgress
pst_rabbit_mark_step(PstRabbit *rabbit)
{
	amqp_frame_t frame;

	if (rabbit->fault.verdict != PST_VERDICT_NONE)
		return end(rabbit);
	if (rabbit->step == PST_RABBIT_MARK_CONNECT)
	{
		if (!pst_rabbit_ready(rabbit))
			return rabbit->conn.stage == PST_RABBIT_CLOSED ? end_broken(rabbit) : PST_SINK_BUSY;
		put_questions(rabbit);
	}
	if (rabbit->conn.stage == PST_RABBIT_CLOSED || !pst_rabbit_pump(&rabbit->conn))
		return end_broken(rabbit);
	for (;;)
	{
		if (!pst_rabbit_next(&rabbit->conn, &frame))
			return end_broken(rabbit);
		if (frame.frame_type == 0)
			break;
		take_frame(rabbit, &frame);
	}
	if (rabbit->marking.due == 0 && rabbit->marking.confirm == 0)
	{
		if (rabbit->marking.newest_tag != 0)
			put_back(rabbit, rabbit->marking.newest_tag, true);
		return pst_rabbit_flush(&rabbit->conn) ? end(rabbit) : end_broken(rabbit);
	}
	if (!pst_rabbit_flush(&rabbit->conn))
		return end_broken(rabbit);
	if (rabbit->marking.confirm != 0 && rabbit->conn.blocked)
	{
		pst_fault_set(&rabbit->conn.fault, PST_RETRY, 0, "RabbitMQ blocks publishers");
		pst_fault_quote(&rabbit->conn.fault, rabbit->conn.blocked_reason, strlen(rabbit->conn.blocked_reason));
		(void) pst_rabbit_broken(&rabbit->conn, NULL);
		return end_broken(rabbit);
	}
	if (pst_net_now() < rabbit->deadline)
		return PST_SINK_BUSY;
	(void) pst_rabbit_broken(&rabbit->conn, "RabbitMQ does not answer in time");
	return end_broken(rabbit);
}

const char *
pst_rabbit_marked(const PstSink *sink)
{
	const PstRabbit *rabbit = (const PstRabbit *) sink;

	return rabbit->marking.newest_tag != 0 ? rabbit->marking.newest : NULL;
}
