/*
 * pieces.c
 *	  A shipment that is sent in pieces, and halved where it is refused.
 */
#include "postgres.h"

#include "sink/pieces.h"

/* Refusals without a single event taken, after which it is not the events. */
#define MANY_REFUSALS 16

void
pst_pieces_begin(PstPieces *pieces, int nevents, int most)
{
	memset(pieces, 0, sizeof(*pieces));
	pieces->nevents = nevents;
	pieces->most = most;
	pieces->verdicts = palloc0(sizeof(PstVerdict) * nevents);
}

int
pst_pieces_next(PstPieces *pieces)
{
	if (pieces->from == pieces->nevents)
	{
		pieces->done = true;
		return pieces->from;
	}
	if (pieces->nends == 0)
		pieces->ends[pieces->nends++] = Min(pieces->nevents, pieces->from + pieces->most);
	return pieces->ends[pieces->nends - 1];
}

int
pst_pieces_count(const PstPieces *pieces)
{
	return pieces->ends[pieces->nends - 1] - pieces->from;
}

static void
finish_piece(PstPieces *pieces, PstVerdict verdict)
{
	int			until = pieces->ends[--pieces->nends];

	while (pieces->from < until)
		pieces->verdicts[pieces->from++] = verdict;
}

/* Every event that has no verdict yet gets this one. */
static void
settle(PstPieces *pieces, PstVerdict verdict)
{
	for (int i = 0; i < pieces->nevents; i++)
		if (pieces->verdicts[i] == PST_VERDICT_NONE)
			pieces->verdicts[i] = verdict;
	pieces->done = true;
}

void
pst_pieces_passed(PstPieces *pieces)
{
	pieces->ndelivered += pst_pieces_count(pieces);
	finish_piece(pieces, PST_DELIVERED);
}

static void
refuse_one(PstPieces *pieces, const PstFault *fault)
{
	Size		size = sizeof(PstRefusal) * (pieces->nrefusals + 1);

	pieces->refusals = pieces->refusals ? repalloc(pieces->refusals, size) : palloc(size);
	pieces->refusals[pieces->nrefusals].event = pieces->from;
	pieces->refusals[pieces->nrefusals++].fault = *fault;
	finish_piece(pieces, PST_REJECTED);
}

void
pst_pieces_refused(PstPieces *pieces, const PstFault *fault)
{
	int			count = pst_pieces_count(pieces);

	if (count > 1)
	{
		pieces->ends[pieces->nends] = pieces->from + count / 2;
		pieces->nends++;
		return;
	}
	refuse_one(pieces, fault);
	if (pieces->ndelivered > 0 || pieces->nrefusals < MANY_REFUSALS)
		return;
	/* the events are not to blame */
	memset(pieces->verdicts, 0, sizeof(PstVerdict) * pieces->nevents);
	pieces->nrefusals = 0;
	pieces->fault = *fault;
	pieces->fault.verdict = PST_MISCONFIGURED;
	settle(pieces, PST_MISCONFIGURED);
}

/*
 * What would hold up the whole route is told only when nothing was taken: what
 * was taken is then settled first, and the rest tried once more.
 */
void
pst_pieces_give_up(PstPieces *pieces, const PstFault *fault)
{
	pieces->fault = *fault;
	if (fault->verdict == PST_MISCONFIGURED && pieces->ndelivered + pieces->nrefusals > 0)
		pieces->fault.verdict = PST_RETRY;
	settle(pieces, pieces->fault.verdict);
}

const PstFault *
pst_pieces_fault(const PstPieces *pieces, int nth)
{
	for (int i = 0; i < pieces->nrefusals; i++)
		if (pieces->refusals[i].event == nth)
			return &pieces->refusals[i].fault;
	return NULL;
}
