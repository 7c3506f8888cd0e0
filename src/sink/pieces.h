/*
 * pieces.h
 *	  A shipment that is sent in pieces, one after the other, and whose refused
 *	  pieces are halved until the events to blame are alone.
 *
 * For sinks that refuse a request as a whole and do not say which event it was.
 */
#ifndef PST_PIECES_H
#define PST_PIECES_H

#include "postgres.h"

#include "sink/sink.h"

#define PST_MAX_SPLITS 32		/* a bisection of 2^31 events needs fewer */

/* An event that was refused, and why. */
typedef struct PstRefusal
{
	int			event;
	PstFault	fault;
} PstRefusal;

typedef struct PstPieces
{
	int			nevents;
	int			most;			/* events of a piece */
	bool		done;			/* each event has its verdict */
	PstVerdict *verdicts;
	PstRefusal *refusals;
	int			nrefusals;
	int			ndelivered;
	PstFault	fault;			/* of the shipment */
	int			from;			/* the first event of the piece under way */
	int			ends[PST_MAX_SPLITS];	/* where it ends, and above that the pieces split before */
	int			nends;
} PstPieces;

/* Begin a shipment; allocates in the current context, as those below may. */
extern void pst_pieces_begin(PstPieces *pieces, int nevents, int most);

/* Where the piece that begins at `from` ends; from itself if there is none left: then it is done. */
extern int	pst_pieces_next(PstPieces *pieces);

/* How many events the piece under way has. */
extern int	pst_pieces_count(const PstPieces *pieces);

/* What became of the piece under way. */
extern void pst_pieces_passed(PstPieces *pieces);
extern void pst_pieces_refused(PstPieces *pieces, const PstFault *fault);

/* The end of the shipment: nothing more can be sent now. */
extern void pst_pieces_give_up(PstPieces *pieces, const PstFault *fault);

/* Why an event was refused, or NULL. */
extern const PstFault *pst_pieces_fault(const PstPieces *pieces, int nth);

#endif							/* PST_PIECES_H */
