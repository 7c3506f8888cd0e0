/*
 * rabbitmq_proof.c
 *	  Whether a message that no queue takes is to blame, or the routing.
 *
 * Where nothing of a shipment can be routed, mostly no queue is bound: the route
 * is misconfigured, and nothing is refused.  But where the route has delivered
 * before, with the same exchange and template, a few in a row are events that
 * nobody wants: they alone are refused.  When more follow without one that is
 * delivered, the queue is gone.
 */
#include "postgres.h"

#include "sink/rabbitmq_shipment.h"
#include "utils/memutils.h"

#define MAX_IN_A_ROW 10

struct PstRabbitProof
{
	char	   *route;
	char	   *exchange;
	char	   *routing_key;
	int			unroutable;		/* events, since one was delivered last */
	PstRabbitProof *next;
};

static PstRabbitProof *
find_proof(const PstRabbit *rabbit)
{
	PstRabbitProof *proof = rabbit->proofs;

	while (proof && (strcmp(proof->route, rabbit->shipment->route) != 0 ||
					 strcmp(proof->exchange, rabbit->exchange) != 0 ||
					 strcmp(proof->routing_key, rabbit->routing_key) != 0))
		proof = proof->next;
	return proof;
}

bool
pst_rabbit_is_proven(const PstRabbit *rabbit)
{
	return rabbit->delivered > 0 || find_proof(rabbit) != NULL;
}

bool
pst_rabbit_blames_route(const PstRabbit *rabbit)
{
	const PstRabbitProof *proof;

	if (rabbit->unroutable == 0 || rabbit->delivered > 0)
		return false;
	proof = find_proof(rabbit);
	return proof == NULL || proof->unroutable + rabbit->unroutable > MAX_IN_A_ROW;
}

void
pst_rabbit_remember(PstRabbit *rabbit)
{
	PstRabbitProof *proof = find_proof(rabbit);

	if (proof == NULL && rabbit->delivered > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(rabbit->context);

		proof = palloc0(sizeof(PstRabbitProof));
		proof->route = pstrdup(rabbit->shipment->route);
		proof->exchange = pstrdup(rabbit->exchange);
		proof->routing_key = pstrdup(rabbit->routing_key);
		proof->next = rabbit->proofs;
		rabbit->proofs = proof;
		MemoryContextSwitchTo(old);
	}
	if (proof)
		proof->unroutable = rabbit->delivered > 0 ? 0 : proof->unroutable + rabbit->unroutable;
}

void
pst_rabbit_forget_proofs(PstRabbit *rabbit)
{
	while (rabbit->proofs)
	{
		PstRabbitProof *proof = rabbit->proofs;

		rabbit->proofs = proof->next;
		pfree(proof->route);
		pfree(proof->exchange);
		pfree(proof->routing_key);
		pfree(proof);
	}
}
