/*
 * clickhouse_call.c
 *	  Requests to ClickHouse: whom it is told that we are, and what its answers
 *	  have that other servers' have not.
 */
#include "postgres.h"

#include <zlib.h>
#include <zstd.h>

#include "sink/clickhouse.h"

PstHttp *
pst_ch_http_create(void)
{
	return pst_http_create("x-clickhouse-exception-code:");
}

static bool
pack_gzip(StringInfo to, const StringInfo from)
{
	z_stream	stream;
	int			result;

	memset(&stream, 0, sizeof(stream));
	/* 15 bits of window, and 16 more for gzip's head; the fastest level */
	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	enlargeStringInfo(to, (int) deflateBound(&stream, from->len));
	stream.next_in = (Bytef *) from->data;
	stream.avail_in = from->len;
	stream.next_out = (Bytef *) to->data;
	stream.avail_out = to->maxlen - 1;
	result = deflate(&stream, Z_FINISH);
	to->len = (int) stream.total_out;
	deflateEnd(&stream);
	return result == Z_STREAM_END;
}

static bool
pack_zstd(StringInfo to, const StringInfo from)
{
	size_t		length;

	enlargeStringInfo(to, (int) ZSTD_compressBound(from->len));
	length = ZSTD_compress(to->data, to->maxlen - 1, from->data, from->len, 1);
	if (ZSTD_isError(length))
		return false;
	to->len = (int) length;
	return true;
}

bool
pst_ch_pack(StringInfo to, const StringInfo from, const char *encoding)
{
	resetStringInfo(to);
	return strcmp(encoding, "zstd") == 0 ? pack_zstd(to, from) : pack_gzip(to, from);
}

/* They differ from request to request, by what the body is. */
static bool
make_headers(PstHttp *http, const PstHttpPeer *peer, const char *encoding)
{
	pst_http_clear_headers(http);
	if (!pst_http_add_header(http, "Expect:", "") ||
		!pst_http_add_header(http, "Content-Encoding:", encoding) ||
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
				  const StringInfo body, const char *encoding, size_t max_answer,
				  char *errbuf, size_t errlen)
{
	StringInfoData url;
	bool		begun;

	if (!make_headers(http, peer, encoding))
	{
		pst_http_clear_headers(http);
		strlcpy(errbuf, "out of memory", errlen);
		return false;
	}
	initStringInfo(&url);
	appendStringInfo(&url, "%s%c%s", peer->url,
					 strchr(peer->url, '?') != NULL ? '&' : '?', query);
	begun = pst_http_begin(http, peer, url.data, body->data, body->len, max_answer, errbuf, errlen);
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
