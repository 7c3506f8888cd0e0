/*
 * rabbitmq_confirm.c
 *	  What the broker says about messages: ack, nack, return.
 *
 * The nth publish of a channel has the delivery tag n.  A message that no queue
 * took comes back (basic.return, then its content) before it is confirmed like
 * any other; which one it is, its message_id tells.
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/rabbitmq_shipment.h"

/* The verdict of a publish, by its place in the shipment. */
static void
settle_one(PstRabbit *rabbit, int place, bool acked)
{
	int			nth = rabbit->published[place];
	PstRabbitEvent *event = &rabbit->events[nth];

	if (event->verdict != PST_VERDICT_NONE)
		return;
	if (!acked)
		event->verdict = PST_RETRY;
	else
		event->verdict = event->refusal == PST_RABBIT_UNROUTABLE ? PST_REJECTED : PST_DELIVERED;
	rabbit->due--;
	if (nth < rabbit->nevents)
	{
		rabbit->due_here--;
		pst_rabbit_count(rabbit, event);
	}
}

/* What one event's verdict means for its shipment. */
void
pst_rabbit_count(PstRabbit *rabbit, const PstRabbitEvent *event)
{
	rabbit->delivered += event->verdict == PST_DELIVERED;
	rabbit->unroutable += event->verdict == PST_REJECTED && event->refusal == PST_RABBIT_UNROUTABLE;
	if (event->verdict == PST_RETRY && rabbit->fault.verdict == PST_VERDICT_NONE)
		pst_fault_set(&rabbit->fault, PST_RETRY, 0, "RabbitMQ could not take a message (nack)");
}

static void
take_confirm(PstRabbit *rabbit, uint64 tag, bool multiple, bool acked)
{
	uint64		place = tag - rabbit->first_tag;

	/* Not one of ours: the tags of earlier shipments are all settled. */
	if (tag < rabbit->first_tag || place >= (uint64) rabbit->npublished)
		return;
	if (multiple)
		for (int i = rabbit->settled_below; i <= (int) place; i++)
			settle_one(rabbit, i, acked);
	else
		settle_one(rabbit, (int) place, acked);
	while (rabbit->settled_below < rabbit->npublished &&
		   rabbit->events[rabbit->published[rabbit->settled_below]].verdict != PST_VERDICT_NONE)
		rabbit->settled_below++;
}

static bool
has_message_id(PstRabbit *rabbit, int place, amqp_bytes_t id)
{
	int			nth = rabbit->published[place];

	if (rabbit->events[nth].verdict != PST_VERDICT_NONE)
		return false;
	pst_rabbit_message_id(rabbit, nth);
	return (size_t) rabbit->message_id.len == id.len &&
		memcmp(rabbit->message_id.data, id.bytes, id.len) == 0;
}

/* Mark the event that came back; they come back in the order of publishing. */
static void
take_returned(PstRabbit *rabbit, amqp_bytes_t id)
{
	int			ndue = rabbit->npublished - rabbit->settled_below;
	int			start = Max(rabbit->return_hint, rabbit->settled_below);

	for (int i = 0; i < ndue; i++)
	{
		int			place = start + i;

		if (place >= rabbit->npublished)
			place -= ndue;
		if (has_message_id(rabbit, place, id))
		{
			rabbit->events[rabbit->published[place]].refusal = PST_RABBIT_UNROUTABLE;
			rabbit->return_hint = place + 1;
			return;
		}
	}
}

static void
note_return(PstRabbit *rabbit, const amqp_basic_return_t *returned)
{
	PstFault   *fault = &rabbit->refusals[PST_RABBIT_UNROUTABLE];

	rabbit->returning = true;
	pst_fault_set(fault, PST_REJECTED, returned->reply_code,
				  "no queue is bound to exchange \"%s\" for the routing key \"%.*s\"",
				  rabbit->exchange, (int) Min(returned->routing_key.len, 100),
				  (const char *) returned->routing_key.bytes);
	pst_fault_quote(fault, returned->reply_text.bytes, returned->reply_text.len);
}

void
pst_rabbit_take_frame(PstRabbit *rabbit, const amqp_frame_t *frame)
{
	if (frame->frame_type == AMQP_FRAME_HEADER)
	{
		const amqp_basic_properties_t *properties = frame->payload.properties.decoded;

		if (rabbit->returning && frame->payload.properties.class_id == AMQP_BASIC_CLASS &&
			(properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG))
			take_returned(rabbit, properties->message_id);
		rabbit->returning = false;
	}
	else if (frame->frame_type == AMQP_FRAME_METHOD)
	{
		const amqp_method_t *method = &frame->payload.method;
		const amqp_basic_ack_t *ack = method->decoded;
		const amqp_basic_nack_t *nack = method->decoded;

		if (method->id == AMQP_BASIC_ACK_METHOD)
			take_confirm(rabbit, ack->delivery_tag, ack->multiple, true);
		else if (method->id == AMQP_BASIC_NACK_METHOD)
			take_confirm(rabbit, nack->delivery_tag, nack->multiple, false);
		else if (method->id == AMQP_BASIC_RETURN_METHOD)
			note_return(rabbit, method->decoded);
	}
}

/*
 * The broker closes the channel over a message that is larger than it allows,
 * and says how large: that event alone is refused, the others are in doubt.
 */
void
pst_rabbit_blame_size(PstRabbit *rabbit)
{
	PstFault   *fault = &rabbit->conn.fault;
	const char *at = strstr(fault->peer_said, "message size ");
	unsigned long size = at ? strtoul(at + strlen("message size "), NULL, 10) : 0;

	if (rabbit->conn.close_code != 406 || size == 0)
		return;
	for (int i = rabbit->settled_below; i < rabbit->npublished; i++)
	{
		PstRabbitEvent *event = &rabbit->events[rabbit->published[i]];

		if (event->verdict != PST_VERDICT_NONE || event->body_len != size)
			continue;
		fault->verdict = PST_RETRY;
		/* one of the shipment that follows is to blame when it comes alone */
		if (rabbit->published[i] >= rabbit->nevents)
			return;
		event->verdict = PST_REJECTED;
		event->refusal = PST_RABBIT_TOO_BIG;
		rabbit->refusals[PST_RABBIT_TOO_BIG] = *fault;
		rabbit->refusals[PST_RABBIT_TOO_BIG].verdict = PST_REJECTED;
		return;
	}
}
