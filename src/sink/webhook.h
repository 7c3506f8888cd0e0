/*
 * webhook.h
 *	  What the files of the HTTP sink share.
 *
 *	webhook.c			the sink's ops, and the course of a shipment
 *	webhook_request.c	the requests: body, headers, signature
 *	webhook_answer.c	what a server's answers mean
 */
#ifndef PST_WEBHOOK_H
#define PST_WEBHOOK_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "sink/http.h"
#include "sink/sink.h"

#define PST_WEBHOOK_MAX_SPLITS 32	/* a bisection of 2^31 events needs fewer */

typedef enum PstWebhookClass
{
	PST_WEBHOOK_FINE,
	PST_WEBHOOK_REFUSED,		/* the events sent: of several, one may be to blame */
	PST_WEBHOOK_RETRY,
	PST_WEBHOOK_CONFIG			/* would refuse any */
} PstWebhookClass;

/* An event that was refused, and why. */
typedef struct PstWebhookRefusal
{
	int			event;
	PstFault	fault;
} PstWebhookRefusal;

typedef struct PstWebhook
{
	PstSink		base;
	MemoryContext context;		/* of the sink; NULL once closed */
	MemoryContext scratch;		/* of a shipment */
	PstHttpPeer peer;
	const uint8 *secret;		/* the key of signatures, or NULL */
	int			secret_length;
	const char *open_error;		/* why this sink can never work, or NULL */
	PstHttp    *http;
	StringInfoData body;
	StringInfoData text;		/* of a header */

	/* the shipment under way */
	const PstShipment *shipment;
	bool		batched;
	bool		done;
	PstVerdict *verdicts;		/* per event */
	PstWebhookRefusal *refusals;
	int			nrefusals;
	int			ndelivered;
	PstFault	fault;
	int			from;			/* the first event of the request under way */
	int			ends[PST_WEBHOOK_MAX_SPLITS];	/* where it ends, and above that the pieces split before */
	int			nends;
} PstWebhook;

/*
 * In webhook_request.c: begin a request with the events from hook->from to
 * `until`, which is behind the last.  False, with a reason in errbuf, if it
 * cannot begin.
 */
extern bool pst_webhook_begin(PstWebhook *hook, int until, char *errbuf, size_t errlen);

/* In webhook_answer.c: fills in the fault unless it is fine. */
extern PstWebhookClass pst_webhook_classify(const PstWebhook *hook, const PstHttpAnswer *answer, PstFault *fault);

#endif							/* PST_WEBHOOK_H */
