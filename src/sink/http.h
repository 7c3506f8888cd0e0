/*
 * http.h
 *	  One HTTP request at a time over curl's multi interface, for the sinks that
 *	  speak HTTP.
 *
 * The caller gives the bodies and says what the answers mean.  Nothing here
 * waits: after pst_http_begin() call pst_http_step() until it is true, and wait
 * in between for what pst_http_wants() says.
 */
#ifndef PST_HTTP_H
#define PST_HTTP_H

#include "postgres.h"

#include <curl/curl.h>

#include "lib/stringinfo.h"
#include "net/net.h"
#include "sink/sink.h"

/* How a connection is made; strings live as long as the sink. */
typedef struct PstHttpPeer
{
	const char *url;			/* scheme://host:port/path, without credentials */
	const char *address;		/* where the host is, if its name is not to be looked up */
	const char *user;			/* NULL: none */
	const char *password;		/* a secret */
	const char *token;			/* a secret: sent as a bearer token instead of user and password */
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
	bool		tls_verify;
	int			connect_timeout;	/* ms */
	int			request_timeout;	/* ms */
} PstHttpPeer;

/*
 * Read the options that a kind of sink has for that, all of them by these names;
 * copies are in the current memory context.
 */
extern void pst_http_read_peer(PstHttpPeer *peer, const PstSinkOps *ops, const PstOption *options);

/* What came back; valid until the next request begins. */
typedef struct PstHttpAnswer
{
	CURLcode	result;
	long		status;
	const char *header;			/* the value of the header looked for, or NULL */
	const char *text;			/* the body, NUL-terminated */
	size_t		length;
	bool		overflow;		/* the body was longer than what was asked for */
	bool		sent;			/* something of the request may have reached the server */
	const char *reason;			/* curl's words, if result is not CURLE_OK */
} PstHttpAnswer;

typedef struct PstHttp PstHttp;

/*
 * malloc'd; NULL if there is no memory.  header names the one header of answers
 * that is kept, in lower case and with its colon; a constant.
 */
extern PstHttp *pst_http_create(const char *header);
extern void pst_http_destroy(PstHttp *http);

/*
 * Add a header to the requests to come, from a name with its colon and a value;
 * a NULL value adds nothing.  False if there is no memory.
 */
extern bool pst_http_add_header(PstHttp *http, const char *name, const char *value);
extern void pst_http_clear_headers(PstHttp *http);
extern bool pst_http_has_headers(const PstHttp *http);

/*
 * Begin a request: POST body (borrowed until its end) to url, which is on the
 * peer's host.  At most max_answer bytes of the answer are kept.  False, with a
 * reason in errbuf, if it cannot even begin.
 */
extern bool pst_http_begin(PstHttp *http, const PstHttpPeer *peer, const char *url,
						   const char *body, size_t length, size_t max_answer,
						   char *errbuf, size_t errlen);

/* One step without waiting; true when *answer is there. */
extern bool pst_http_step(PstHttp *http, PstHttpAnswer *answer);
extern void pst_http_wants(PstHttp *http, PstWants *wants);

/* May the value stand in a header?  A line break would begin one of its own. */
extern bool pst_http_fits_header(const char *value);

/*
 * In http_resolve.c: an entry for CURLOPT_RESOLVE, or nothing if the url has an
 * address already.  False, with a reason in errbuf, if there is none.
 */
extern bool pst_http_resolve(StringInfo entry, const PstHttpPeer *peer, char *errbuf, size_t errlen);

#endif							/* PST_HTTP_H */
