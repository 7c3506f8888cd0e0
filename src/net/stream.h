/*
 * stream.h
 *	  A connection over TCP, with or without TLS, that never waits.
 *
 * Reads and writes behave like recv() and send() on a non-blocking socket,
 * whether the bytes are encrypted or not.  Nothing here throws or palloc's, but
 * for what OpenSSL allocates by itself: a stream must be closed.
 */
#ifndef PST_STREAM_H
#define PST_STREAM_H

#include "postgres.h"

#include "net/net.h"

/* How a peer is talked to; strings live as long as the settings. */
typedef struct PstTls
{
	bool		on;
	bool		verify;			/* the certificate, and that it is the host's */
	const char *ca_file;		/* NULL: the system's authorities */
	const char *cert_file;		/* of ours, or NULL */
	const char *key_file;
} PstTls;

#define PST_HOST_SIZE 256

typedef struct PstStream
{
	int			fd;				/* -1: closed */
	char		host[PST_HOST_SIZE];
	int			port;
	bool		connected;		/* the socket is; TLS may be on its way */
	bool		tls_writes;		/* TLS waits until the socket takes bytes */
	struct ssl_st *ssl;			/* NULL: plain */
	struct ssl_ctx_st *context;
} PstStream;

typedef enum PstStreamState
{
	PST_STREAM_BUSY,			/* wait, then ask again */
	PST_STREAM_OPEN,
	PST_STREAM_FAILED,			/* it may do the next time */
	PST_STREAM_REFUSED			/* a certificate, a file: until somebody mends it */
} PstStreamState;

/*
 * The nth entry, counted round, of a list "host[:port],…" (an IPv6 address with
 * a port in brackets).  False if it cannot be read.
 */
extern bool pst_net_host(const char *list, int nth, int default_port,
						 char host[PST_HOST_SIZE], int *port);
extern int	pst_net_count_hosts(const char *list);

/* Begin; -1 with a reason in errbuf if that cannot be. */
extern bool pst_stream_begin(PstStream *stream, const char *host, int port,
							 char *errbuf, size_t errlen);

/* One step of opening; a reason in errbuf unless it is busy or open. */
extern PstStreamState pst_stream_step(PstStream *stream, const PstTls *tls,
									  char *errbuf, size_t errlen);
extern void pst_stream_close(PstStream *stream);

/* as recv() and send(): -1 with errno EAGAIN if it would wait; 0: the peer has closed */
extern ssize_t pst_stream_read(PstStream *stream, void *bytes, size_t len);
extern ssize_t pst_stream_write(PstStream *stream, const void *bytes, size_t len);

/* Is nothing to be read, and the peer still there? */
extern bool pst_stream_is_quiet(PstStream *stream);

/* What the stream waits for; writes: the caller has bytes to write. */
extern void pst_stream_wants(const PstStream *stream, bool writes, PstWants *wants);

#endif							/* PST_STREAM_H */
