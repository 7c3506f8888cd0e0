/*
 * http.c
 *	  One HTTP request at a time over curl's multi interface.
 *
 * curl never waits here: its socket and timer callbacks only note what it would
 * wait for, which pst_http_wants() hands on.  Everything that lives as long
 * as curl's handles is malloc'd, and no callback allocates from PostgreSQL or
 * can throw: a longjmp through curl would leave its handles unusable.
 *
 * curl repeats a request by itself when a kept connection turns out to be dead.
 * That would be a repeat that nobody checked, so the body is read
 * through a callback that cannot be rewound: such a repeat ends in an error,
 * and the sink finds out what landed.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "sink/http.h"

#define UPLOAD_BUFFER (1024 * 1024)

struct PstHttp
{
	CURLM	   *multi;
	CURL	   *easy;
	struct curl_slist *headers;
	struct curl_slist *resolve;
	bool		resolved;		/* the name was looked up and has served since */
	bool		running;

	/* what curl would wait for */
	int			nwatched;
	struct
	{
		curl_socket_t fd;
		int			what;
	}			watched[PST_MAX_FDS];
	int64		timer_at;		/* monotonic ms, or -1 */

	/* the request */
	const char *body;
	size_t		body_length;
	size_t		body_read;

	/* the answer */
	char	   *text;
	size_t		length;
	size_t		size;
	size_t		max_answer;
	bool		overflow;
	bool		out_of_memory;
	const char *header_name;
	char		header[128];
	int			header_length;	/* -1: there was none */
	char		reason[CURL_ERROR_SIZE];
};

/* ----- callbacks: fixed memory or malloc, nothing of PostgreSQL's ----- */

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
	PstHttp  *http = data;
	int			i = 0;

	while (i < http->nwatched && http->watched[i].fd != fd)
		i++;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < http->nwatched)
			http->watched[i] = http->watched[--http->nwatched];
		return 0;
	}
	if (i == PST_MAX_FDS)
		return -1;
	if (i == http->nwatched)
		http->nwatched++;
	http->watched[i].fd = fd;
	http->watched[i].what = what;
	return 0;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *data)
{
	PstHttp  *http = data;

	http->timer_at = timeout_ms < 0 ? -1 : pst_net_now() + timeout_ms;
	return 0;
}

static curl_socket_t
open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t
read_body(char *to, size_t size, size_t count, void *data)
{
	PstHttp  *http = data;
	size_t		part = Min(size * count, http->body_length - http->body_read);

	memcpy(to, http->body + http->body_read, part);
	http->body_read += part;
	return part;
}

/* See the top of the file: a body that was begun is not sent a second time. */
static int
rewind_body(void *data, curl_off_t offset, int origin)
{
	PstHttp  *http = data;

	if (origin == SEEK_SET && offset == (curl_off_t) http->body_read)
		return CURL_SEEKFUNC_OK;
	return CURL_SEEKFUNC_FAIL;
}

static size_t
take_header(char *line, size_t size, size_t count, void *data)
{
	PstHttp    *http = data;
	size_t		length = size * count;
	size_t		skip = strlen(http->header_name);

	if (length < skip || pg_strncasecmp(line, http->header_name, skip) != 0)
		return length;
	while (skip < length && (line[skip] == ' ' || line[skip] == '\t'))
		skip++;
	http->header_length = 0;
	while (skip < length && line[skip] != '\r' && line[skip] != '\n' &&
		   http->header_length < (int) sizeof(http->header) - 1)
		http->header[http->header_length++] = line[skip++];
	http->header[http->header_length] = '\0';
	return length;
}

/* Keeps the first max_answer bytes and drops the rest: an error's first lines tell enough. */
static size_t
take_body(char *bytes, size_t size, size_t count, void *data)
{
	PstHttp  *http = data;
	size_t		length = size * count;
	size_t		kept = Min(length, http->max_answer - http->length);

	if (kept < length)
		http->overflow = true;
	if (http->length + kept + 1 > http->size)
	{
		size_t		wanted = Max(http->size * 2, http->length + kept + 1);
		char	   *larger = realloc(http->text, wanted);

		if (larger == NULL)
		{
			http->out_of_memory = true;
			return 0;
		}
		http->text = larger;
		http->size = wanted;
	}
	memcpy(http->text + http->length, bytes, kept);
	http->length += kept;
	http->text[http->length] = '\0';
	return length;
}

/* ----- handles ----- */

PstHttp *
pst_http_create(const char *header)
{
	static bool initialized = false;
	PstHttp  *http;

	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	initialized = true;

	http = calloc(1, sizeof(*http));
	if (http == NULL)
		return NULL;
	http->timer_at = -1;
	http->header_name = header;
	http->header_length = -1;
	http->size = 4096;
	http->text = malloc(http->size);
	http->multi = curl_multi_init();
	http->easy = curl_easy_init();
	if (http->text == NULL || http->multi == NULL || http->easy == NULL ||
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 1L) != CURLM_OK)
	{
		pst_http_destroy(http);
		return NULL;
	}
	return http;
}

void
pst_http_destroy(PstHttp *http)
{
	if (http == NULL)
		return;
	if (http->running)
		curl_multi_remove_handle(http->multi, http->easy);
	curl_easy_cleanup(http->easy);
	if (http->multi != NULL)
		curl_multi_cleanup(http->multi);
	pst_http_clear_headers(http);
	curl_slist_free_all(http->resolve);
	free(http->text);
	free(http);
}

/* Tell curl where the host is, so that it need not look for it. */
static bool
resolve_peer(PstHttp *http, const PstHttpPeer *peer, char *errbuf, size_t errlen)
{
	StringInfoData entry;
	bool		good;

	initStringInfo(&entry);
	good = pst_http_resolve(&entry, peer, errbuf, errlen);
	if (good && entry.len > 0)
	{
		curl_slist_free_all(http->resolve);
		http->resolve = curl_slist_append(NULL, entry.data);
		good = http->resolve != NULL;
		if (!good)
			strlcpy(errbuf, "out of memory", errlen);
	}
	pfree(entry.data);
	http->resolved = good;
	return good;
}

/* ----- a request ----- */

bool
pst_http_fits_header(const char *value)
{
	for (; value != NULL && *value != '\0'; value++)
		if ((unsigned char) *value < ' ' || *value == 0x7F)
			return false;
	return true;
}

bool
pst_http_add_header(PstHttp *http, const char *name, const char *value)
{
	StringInfoData line;
	struct curl_slist *longer;

	if (value == NULL)
		return true;
	initStringInfo(&line);
	appendStringInfo(&line, "%s %s", name, value);
	longer = curl_slist_append(http->headers, line.data);
	explicit_bzero(line.data, line.len);
	pfree(line.data);
	if (longer == NULL)
		return false;
	http->headers = longer;
	return true;
}

void
pst_http_clear_headers(PstHttp *http)
{
	for (struct curl_slist *at = http->headers; at != NULL; at = at->next)
		explicit_bzero(at->data, strlen(at->data));
	curl_slist_free_all(http->headers);
	http->headers = NULL;
}

bool
pst_http_has_headers(const PstHttp *http)
{
	return http->headers != NULL;
}

static void
set_options(PstHttp *http, const PstHttpPeer *peer, const char *url)
{
	CURL	   *easy = http->easy;

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");	/* whatever the environment says */
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) peer->connect_timeout);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) peer->request_timeout);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long) UPLOAD_BUFFER);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers);
	curl_easy_setopt(easy, CURLOPT_RESOLVE, http->resolve);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->reason);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, http);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);

	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) http->body_length);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_body);
	curl_easy_setopt(easy, CURLOPT_READDATA, http);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, http);

	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, peer->tls_verify ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, peer->tls_verify ? 2L : 0L);
	if (peer->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, peer->ca_file);
	if (peer->cert_file != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, peer->cert_file);
	if (peer->key_file != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, peer->key_file);
}

static void
clear_answer(PstHttp *http, size_t max_answer)
{
	http->length = 0;
	http->text[0] = '\0';
	http->max_answer = max_answer;
	http->overflow = false;
	http->out_of_memory = false;
	http->header_length = -1;
	http->reason[0] = '\0';
}

/* Let curl take one step; what became of it is told by curl_multi_info_read. */
static void
kick(PstHttp *http, curl_socket_t fd)
{
	int			running;

	curl_multi_socket_action(http->multi, fd, 0, &running);
}

bool
pst_http_begin(PstHttp *http, const PstHttpPeer *peer, const char *url,
			   const char *body, size_t length, size_t max_answer,
			   char *errbuf, size_t errlen)
{
	Assert(!http->running);
	if (!http->resolved && !resolve_peer(http, peer, errbuf, errlen))
		return false;
	http->body = body;
	http->body_length = length;
	http->body_read = 0;
	clear_answer(http, max_answer);
	set_options(http, peer, url);	/* curl copies strings */
	if (curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
	{
		strlcpy(errbuf, "curl does not take the request", errlen);
		return false;
	}
	http->running = true;
	kick(http, CURL_SOCKET_TIMEOUT);
	return true;
}

/* The request has ended: hand out what came of it. */
static void
finish(PstHttp *http, CURLcode result, PstHttpAnswer *answer)
{
	long		request_bytes = 0;

	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &answer->status);
	curl_easy_getinfo(http->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
	curl_multi_remove_handle(http->multi, http->easy);
	http->running = false;
	/* a peer that cannot be reached may have moved */
	if (result != CURLE_OK)
		http->resolved = false;

	answer->result = result;
	answer->header = http->header_length < 0 ? NULL : http->header;
	answer->text = http->text;
	answer->length = http->length;
	answer->overflow = http->overflow;
	answer->sent = request_bytes > 0 || http->body_read > 0;
	answer->reason = http->reason[0] != '\0' ? http->reason : curl_easy_strerror(result);
	if (http->out_of_memory)
		answer->reason = "out of memory";
}

bool
pst_http_step(PstHttp *http, PstHttpAnswer *answer)
{
	curl_socket_t fds[PST_MAX_FDS];
	int			nfds = http->nwatched;
	CURLMsg    *message;
	int			left;

	Assert(http->running);
	/* the callbacks change the list while we go through it */
	for (int i = 0; i < nfds; i++)
		fds[i] = http->watched[i].fd;
	/* no event given: curl looks itself at what the socket is ready for */
	for (int i = 0; i < nfds; i++)
		kick(http, fds[i]);
	if (http->timer_at >= 0 && http->timer_at <= pst_net_now())
	{
		http->timer_at = -1;
		kick(http, CURL_SOCKET_TIMEOUT);
	}
	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
		{
			finish(http, message->data.result, answer);
			return true;
		}
	return false;
}

void
pst_http_wants(PstHttp *http, PstWants *wants)
{
	wants->nfds = http->nwatched;
	for (int i = 0; i < http->nwatched; i++)
	{
		wants->on[i].fd = http->watched[i].fd;
		wants->on[i].readable = (http->watched[i].what & CURL_POLL_IN) != 0;
		wants->on[i].writeable = (http->watched[i].what & CURL_POLL_OUT) != 0;
	}
	wants->timeout_ms = -1;
	if (http->timer_at >= 0)
		wants->timeout_ms = (int) Min(Max(http->timer_at - pst_net_now(), 0), 60 * 1000);
}

void
pst_http_read_peer(PstHttpPeer *peer, const PstSinkOps *ops, const PstOption *options)
{
	peer->url = pst_option_copy(ops, options, "url");
	peer->address = pst_option_copy(ops, options, "address");
	peer->user = pst_option_copy(ops, options, "user");
	peer->password = pst_option_copy(ops, options, "password");
	peer->token = pst_option_copy(ops, options, "token");
	peer->ca_file = pst_option_copy(ops, options, "ca_file");
	peer->cert_file = pst_option_copy(ops, options, "cert_file");
	peer->key_file = pst_option_copy(ops, options, "key_file");
	peer->tls_verify = pst_option_bool(ops, options, "tls_verify");
	peer->connect_timeout = pst_option_int(ops, options, "connect_timeout");
	peer->request_timeout = pst_option_int(ops, options, "request_timeout");
}
