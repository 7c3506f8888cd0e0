/*
 * webhook_answer.c
 *	  What an HTTP server's answers mean.
 *
 * 2xx takes the events.  What passes by itself (5xx, 408, 425, 429, no answer)
 * is tried again, no sooner than Retry-After asks.  What would meet any event
 * is for a human to mend: who we are (401, 403, 407), where we send (404, 405,
 * 410, a redirect, which is never followed) and certificates.  Any other 4xx
 * refuses the content.
 */
#include "postgres.h"

#include <limits.h>
#include <time.h>

#include "sink/fault.h"
#include "sink/webhook.h"

static PstWebhookClass
class_of_status(long status)
{
	switch (status)
	{
		case 408:
		case 425:
		case 429:
			return PST_WEBHOOK_RETRY;
		case 401:
		case 403:
		case 404:
		case 405:
		case 407:
		case 410:
			return PST_WEBHOOK_CONFIG;
	}
	if (status >= 200 && status < 300)
		return PST_WEBHOOK_FINE;
	if (status >= 400 && status < 500)
		return PST_WEBHOOK_REFUSED;
	return status >= 500 ? PST_WEBHOOK_RETRY : PST_WEBHOOK_CONFIG;
}

static PstVerdict
verdict_of_class(PstWebhookClass class)
{
	switch (class)
	{
		case PST_WEBHOOK_FINE:
			return PST_DELIVERED;
		case PST_WEBHOOK_REFUSED:
			return PST_REJECTED;
		case PST_WEBHOOK_RETRY:
			return PST_RETRY;
		case PST_WEBHOOK_CONFIG:
			break;
	}
	return PST_MISCONFIGURED;
}

/* Seconds, or an HTTP date; in ms from now, 0 if it is neither or over. */
static int
retry_after(const char *value)
{
	double		seconds = 0;

	if (value == NULL || *value == '\0')
		return 0;
	if (strspn(value, "0123456789") == strlen(value))
		seconds = strtod(value, NULL);
	else
	{
		time_t		at = curl_getdate(value, NULL);

		if (at != (time_t) -1)
			seconds = difftime(at, time(NULL));
	}
	return (int) (Min(Max(seconds, 0), INT_MAX / 2000) * 1000);
}

static bool
is_to_mend(CURLcode result)
{
	switch (result)
	{
		case CURLE_URL_MALFORMAT:
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CACERT_BADFILE:
			return true;
		default:
			return false;
	}
}

/* A server may quote what it was given: blot out each occurrence of a secret. */
static void
blot_out(char *text, const char *secret, size_t length)
{
	if (secret == NULL || length == 0)
		return;
	for (char *at = text; (at = strstr(at, secret)) != NULL; at += length)
		memset(at, '*', length);
}

static void
quote(const PstWebhook *hook, PstFault *fault, const PstHttpAnswer *answer)
{
	char	   *text = pstrdup(answer->text);
	const PstHttpPeer *peer = &hook->peer;

	blot_out(text, peer->password, peer->password ? strlen(peer->password) : 0);
	blot_out(text, peer->token, peer->token ? strlen(peer->token) : 0);
	blot_out(text, (const char *) hook->secret, hook->secret_length);
	pst_fault_quote(fault, text, strcspn(text, "\r\n"));
	pfree(text);
}

PstWebhookClass
pst_webhook_classify(const PstWebhook *hook, const PstHttpAnswer *answer, PstFault *fault)
{
	PstWebhookClass class;

	if (answer->result != CURLE_OK)
	{
		class = is_to_mend(answer->result) ? PST_WEBHOOK_CONFIG : PST_WEBHOOK_RETRY;
		pst_fault_set(fault, verdict_of_class(class), 0, "the request failed: %s", answer->reason);
		fault->in_doubt = answer->sent;
		return class;
	}
	class = class_of_status(answer->status);
	if (class == PST_WEBHOOK_FINE)
		return class;
	pst_fault_set(fault, verdict_of_class(class), (int) answer->status, "HTTP status %ld", answer->status);
	if (class == PST_WEBHOOK_RETRY)
	{
		fault->in_doubt = true;
		fault->retry_after = retry_after(answer->header);
	}
	quote(hook, fault, answer);
	return class;
}
