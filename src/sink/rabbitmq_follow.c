/*
 * rabbitmq_follow.c
 *	  The shipment that is published behind the one under way.
 *
 * The broker confirms in bursts, and a shipment is through with its last
 * confirm.  If the next one waited for that, the broker would have nothing to do
 * in between; at a thousand small shipments a second most of a message's latency
 * would be such waiting.  So the window of confirms reaches into the next
 * shipment.  Its events stand behind those of the first in the same arrays.
 *
 * What was published of a shipment that does not come after all, or not before
 * the first is tried again, may be published a second time.  So nothing follows
 * where that is likely: where the route has not been seen to deliver, and after a
 * failure.
 */
#include "postgres.h"

#include "sink/rabbitmq_shipment.h"
#include "utils/memutils.h"

const PstShipment *
pst_rabbit_shipment_of(const PstRabbit *rabbit, int nth)
{
	return nth < rabbit->nevents ? rabbit->shipment : &rabbit->follower;
}

const PstEvent *
pst_rabbit_event(const PstRabbit *rabbit, int nth)
{
	return &pst_rabbit_shipment_of(rabbit, nth)->events[nth < rabbit->nevents ? nth : nth - rabbit->nevents];
}

/* From now on it is the one under way. */
void
pst_rabbit_take(PstRabbit *rabbit, const PstShipment *shipment)
{
	const PstSinkOps *ops = rabbit->base.ops;

	rabbit->shipment = shipment;
	rabbit->nevents = shipment->nevents;
	rabbit->follower.nevents = 0;
	rabbit->exchange = pst_option_or_default(ops, shipment->options, "exchange");
	rabbit->exchange_type = pst_option_or_default(ops, shipment->options, "exchange_type");
	rabbit->routing_key = pst_option_or_default(ops, shipment->options, "routing_key");
	rabbit->delivered = rabbit->unroutable = 0;
	rabbit->blocked_since = 0;
	memset(&rabbit->fault, 0, sizeof(rabbit->fault));
}

static void *
enlarge(PstRabbit *rabbit, void *array, size_t size)
{
	return array ? repalloc(array, size) : MemoryContextAlloc(rabbit->context, size);
}

/* For so many events besides those of the shipment; what stands in the arrays stays. */
void
pst_rabbit_make_room(PstRabbit *rabbit, int nevents)
{
	int			room = rabbit->nevents + nevents;

	if (rabbit->nevents_room >= room)
		return;
	rabbit->events = enlarge(rabbit, rabbit->events, room * sizeof(PstRabbitEvent));
	rabbit->published = enlarge(rabbit, rabbit->published, room * sizeof(int));
	rabbit->nevents_room = room;
}

static bool
may_follow(const PstRabbit *rabbit, const PstShipment *next)
{
	const PstSinkOps *ops = rabbit->base.ops;

	return rabbit->step == PST_RABBIT_PUBLISH && rabbit->follower.nevents == 0 && !rabbit->alone &&
		rabbit->fault.verdict == PST_VERDICT_NONE && rabbit->unroutable == 0 &&
		strcmp(next->route, rabbit->shipment->route) == 0 && pst_rabbit_is_proven(rabbit) &&
		strcmp(pst_option_or_default(ops, next->options, "exchange"), rabbit->exchange) == 0 &&
		strcmp(pst_option_or_default(ops, next->options, "exchange_type"), rabbit->exchange_type) == 0 &&
		strcmp(pst_option_or_default(ops, next->options, "routing_key"), rabbit->routing_key) == 0;
}

void
pst_rabbit_follow(PstSink *sink, const PstShipment *next)
{
	PstRabbit  *rabbit = (PstRabbit *) sink;

	if (next == NULL)
	{
		Assert(rabbit->step == PST_RABBIT_IDLE);
		/* none of its events is looked at any more */
		rabbit->follower.nevents = 0;
		rabbit->npublished = rabbit->due = 0;
	}
	else if (may_follow(rabbit, next))
	{
		pst_rabbit_make_room(rabbit, next->nevents);
		memset(rabbit->events + rabbit->nevents, 0, next->nevents * sizeof(PstRabbitEvent));
		rabbit->follower = *next;
	}
}

/* The events of the shipment that is through go, and those behind take their places. */
static void
move_up(PstRabbit *rabbit)
{
	int			gone = 0;

	memmove(rabbit->events, rabbit->events + rabbit->nevents,
			rabbit->follower.nevents * sizeof(PstRabbitEvent));
	while (gone < rabbit->npublished && rabbit->published[gone] < rabbit->nevents)
		gone++;
	rabbit->npublished -= gone;
	for (int i = 0; i < rabbit->npublished; i++)
		rabbit->published[i] = rabbit->published[i + gone] - rabbit->nevents;
	rabbit->first_tag += gone;
	rabbit->settled_below = Max(rabbit->settled_below - gone, 0);
	rabbit->return_hint = Max(rabbit->return_hint - gone, 0);
	rabbit->next -= rabbit->nevents;
}

bool
pst_rabbit_take_up(PstRabbit *rabbit, const PstShipment *shipment)
{
	if (rabbit->follower.nevents == 0 || rabbit->follower.serial != shipment->serial)
		return false;
	move_up(rabbit);
	pst_rabbit_take(rabbit, shipment);
	rabbit->due_here = rabbit->due;
	for (int i = 0; i < rabbit->next; i++)
		pst_rabbit_count(rabbit, &rabbit->events[i]);
	return true;
}
