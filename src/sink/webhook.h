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
#include "sink/pieces.h"

typedef enum PstWebhookClass
{
	PST_WEBHOOK_FINE,
	PST_WEBHOOK_REFUSED,		/* the events sent: of several, one may be to blame */
	PST_WEBHOOK_RETRY,
	PST_WEBHOOK_CONFIG			/* would refuse any */
} PstWebhookClass;

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
	PstPieces	pieces;
} PstWebhook;

/*
 * In webhook_request.c: begin a request with the events from pieces.from to
 * `until`, which is behind the last.  False, with a reason in errbuf, if it
 * cannot begin.
 */
extern bool pst_webhook_begin(PstWebhook *hook, int until, char *errbuf, size_t errlen);

/* In webhook_answer.c: fills in the fault unless it is fine. */
extern PstWebhookClass pst_webhook_classify(const PstWebhook *hook, const PstHttpAnswer *answer, PstFault *fault);

#endif							/* PST_WEBHOOK_H */
