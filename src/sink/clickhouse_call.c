/*
 * clickhouse_call.c
 *	  Requests to ClickHouse: whom it is told that we are, and what its answers
 *	  have that other servers' have not.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

PstHttp *
pst_ch_http_create(void)
{
	return pst_http_create("x-clickhouse-exception-code:");
}

static bool
make_headers(PstHttp *http, const PstHttpPeer *peer)
{
	if (pst_http_has_headers(http))
		return true;
	if (!pst_http_add_header(http, "Expect:", "") ||
		!pst_http_add_header(http, "Content-Type:", "application/octet-stream"))
		return false;
	if (peer->token != NULL)
	{
		char	   *bearer = psprintf("Bearer %s", peer->token);
		bool		added = pst_http_add_header(http, "Authorization:", bearer);

		explicit_bzero(bearer, strlen(bearer));
		pfree(bearer);
		return added;
	}
	return pst_http_add_header(http, "X-ClickHouse-User:", peer->user) &&
		pst_http_add_header(http, "X-ClickHouse-Key:", peer->password);
}

bool
pst_ch_http_begin(PstHttp *http, const PstHttpPeer *peer, const char *query,
				  const char *body, size_t length, size_t max_answer,
				  char *errbuf, size_t errlen)
{
	StringInfoData url;
	bool		begun;

	if (!make_headers(http, peer))
	{
		pst_http_clear_headers(http);
		strlcpy(errbuf, "out of memory", errlen);
		return false;
	}
	initStringInfo(&url);
	appendStringInfo(&url, "%s%c%s", peer->url,
					 strchr(peer->url, '?') != NULL ? '&' : '?', query);
	begun = pst_http_begin(http, peer, url.data, body, length, max_answer, errbuf, errlen);
	pfree(url.data);
	return begun;
}

static int
exception_code(const char *header)
{
	int			code = 0;

	if (header == NULL)
		return 0;
	for (; *header != '\0' && code < 100000; header++)
		if (*header >= '0' && *header <= '9')
			code = code * 10 + (*header - '0');
	/* a code that we cannot read is still an exception */
	return code > 0 ? code : 999;
}

bool
pst_ch_http_step(PstHttp *http, PstChAnswer *answer)
{
	PstHttpAnswer plain;

	if (!pst_http_step(http, &plain))
		return false;
	answer->result = plain.result;
	answer->status = plain.status;
	answer->exception = exception_code(plain.header);
	answer->text = plain.text;
	answer->length = plain.length;
	answer->overflow = plain.overflow;
	answer->sent = plain.sent;
	answer->reason = plain.reason;
	return true;
}

void
pst_ch_http_param(StringInfo query, const char *name, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";

	if (query->len > 0)
		appendStringInfoChar(query, '&');
	appendStringInfo(query, "%s=", name);
	for (const unsigned char *at = (const unsigned char *) value; *at != '\0'; at++)
	{
		if ((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') ||
			(*at >= 'A' && *at <= 'Z') || strchr("-._~", *at) != NULL)
			appendStringInfoChar(query, (char) *at);
		else
		{
			appendStringInfoChar(query, '%');
			appendStringInfoChar(query, hex[*at >> 4]);
			appendStringInfoChar(query, hex[*at & 15]);
		}
	}
}
