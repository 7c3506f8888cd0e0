/*
 * stream.c
 *	  A connection over TCP, with or without TLS, that never waits.
 *
 * OpenSSL works on the socket directly.  It may have read more than it handed
 * out, so whoever waits on the socket must ask for what is pending first:
 * pst_stream_wants() does, by a timeout of 0.  The queue of errors belongs to the
 * process (the server uses it, too), so it is cleared before each call.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"

/* ----- lists of hosts ----- */

int
pst_net_count_hosts(const char *list)
{
	int			count = 1;

	for (; *list != '\0'; list++)
		count += *list == ',';
	return count;
}

bool
pst_net_host(const char *list, int nth, int default_port,
			 char host[PST_HOST_SIZE], int *port)
{
	const char *colon;
	size_t		length;

	for (nth %= pst_net_count_hosts(list); nth > 0; nth--)
		list = strchr(list, ',') + 1;
	list += strspn(list, " ");
	length = strcspn(list, ", ");
	colon = memchr(list, ':', length);
	*port = default_port;
	if (*list == '[')
	{
		colon = memchr(list, ']', length);
		if (colon == NULL)
			return false;
		list++;
		length = colon - list;
		if (colon[1] == ':')
			*port = atoi(colon + 2);
	}
	else if (colon != NULL && memchr(colon + 1, ':', list + length - colon - 1) == NULL)
	{
		*port = atoi(colon + 1);
		length = colon - list;
	}
	if (length == 0 || length >= PST_HOST_SIZE || *port < 1 || *port > 65535)
		return false;
	memcpy(host, list, length);
	host[length] = '\0';
	return true;
}

/* ----- opening ----- */

bool
pst_stream_begin(PstStream *stream, const char *host, int port, char *errbuf, size_t errlen)
{
	memset(stream, 0, sizeof(*stream));
	strlcpy(stream->host, host, sizeof(stream->host));
	stream->port = port;
	stream->fd = pst_net_connect(host, port, errbuf, errlen);
	return stream->fd >= 0;
}

/* OpenSSL's words for the oldest error in its queue. */
static void
tls_reason(char *errbuf, size_t errlen, const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	snprintf(errbuf, errlen, "%s: %s", what, reason != NULL ? reason : "the connection broke");
	ERR_clear_error();
}

static bool
is_address(const char *host)
{
	struct in6_addr ignored;

	return inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
}

static bool
use_files(SSL_CTX *context, const PstTls *tls, char *errbuf, size_t errlen)
{
	if (tls->ca_file != NULL && SSL_CTX_load_verify_locations(context, tls->ca_file, NULL) != 1)
		tls_reason(errbuf, errlen, "could not use the file of authorities");
	else if (tls->ca_file == NULL && SSL_CTX_set_default_verify_paths(context) != 1)
		tls_reason(errbuf, errlen, "could not use the system's authorities");
	else if (tls->cert_file != NULL && SSL_CTX_use_certificate_chain_file(context, tls->cert_file) != 1)
		tls_reason(errbuf, errlen, "could not use our certificate");
	else if (tls->key_file != NULL && SSL_CTX_use_PrivateKey_file(context, tls->key_file, SSL_FILETYPE_PEM) != 1)
		tls_reason(errbuf, errlen, "could not use our private key");
	else
		return true;
	return false;
}

/* Whom the certificate must be for. */
static bool
expect_host(SSL *ssl, const char *host)
{
	if (is_address(host))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static PstStreamState
begin_tls(PstStream *stream, const PstTls *tls, char *errbuf, size_t errlen)
{
	ERR_clear_error();
	stream->context = SSL_CTX_new(TLS_client_method());
	if (stream->context == NULL)
	{
		tls_reason(errbuf, errlen, "could not begin with TLS");
		return PST_STREAM_FAILED;
	}
	SSL_CTX_set_min_proto_version(stream->context, TLS1_2_VERSION);
	SSL_CTX_set_mode(stream->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(stream->context, tls->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!use_files(stream->context, tls, errbuf, errlen))
		return PST_STREAM_REFUSED;
	stream->ssl = SSL_new(stream->context);
	if (stream->ssl == NULL || SSL_set_fd(stream->ssl, stream->fd) != 1 ||
		!expect_host(stream->ssl, stream->host))
	{
		tls_reason(errbuf, errlen, "could not begin with TLS");
		return PST_STREAM_FAILED;
	}
	SSL_set_connect_state(stream->ssl);
	return PST_STREAM_BUSY;
}

/* Notes what OpenSSL waits for; false if it does not wait. */
static bool
tls_waits(PstStream *stream, int result)
{
	int			why = SSL_get_error(stream->ssl, result);

	stream->tls_writes = why == SSL_ERROR_WANT_WRITE;
	return stream->tls_writes || why == SSL_ERROR_WANT_READ;
}

static PstStreamState
shake_hands(PstStream *stream, char *errbuf, size_t errlen)
{
	long		verified;
	int			result;

	ERR_clear_error();
	result = SSL_do_handshake(stream->ssl);
	if (result == 1)
	{
		stream->tls_writes = false;
		return PST_STREAM_OPEN;
	}
	if (tls_waits(stream, result))
		return PST_STREAM_BUSY;
	verified = SSL_get_verify_result(stream->ssl);
	if (verified != X509_V_OK)
	{
		snprintf(errbuf, errlen, "the certificate of \"%s\" is refused: %s", stream->host,
				 X509_verify_cert_error_string(verified));
		ERR_clear_error();
		return PST_STREAM_REFUSED;
	}
	tls_reason(errbuf, errlen, "TLS failed");
	return PST_STREAM_FAILED;
}

PstStreamState
pst_stream_step(PstStream *stream, const PstTls *tls, char *errbuf, size_t errlen)
{
	if (!stream->connected)
	{
		int			why = pst_net_connected(stream->fd);

		if (why == EINPROGRESS)
			return PST_STREAM_BUSY;
		if (why != 0)
		{
			snprintf(errbuf, errlen, "could not connect to \"%s\", port %d: %s",
					 stream->host, stream->port, strerror(why));
			return PST_STREAM_FAILED;
		}
		stream->connected = true;
	}
	if (!tls->on)
		return PST_STREAM_OPEN;
	if (stream->ssl == NULL)
	{
		PstStreamState state = begin_tls(stream, tls, errbuf, errlen);

		if (state != PST_STREAM_BUSY)
			return state;
	}
	return SSL_is_init_finished(stream->ssl) ? PST_STREAM_OPEN : shake_hands(stream, errbuf, errlen);
}

void
pst_stream_close(PstStream *stream)
{
	if (stream->ssl != NULL)
	{
		ERR_clear_error();
		/* a goodbye, if it can be said at once */
		if (SSL_is_init_finished(stream->ssl))
			(void) SSL_shutdown(stream->ssl);
		SSL_free(stream->ssl);
		ERR_clear_error();
	}
	SSL_CTX_free(stream->context);
	if (stream->fd >= 0)
		close(stream->fd);
	memset(stream, 0, sizeof(*stream));
	stream->fd = -1;
}

/* ----- bytes ----- */

/* As errno: would it wait, or has it broken?  Returns -1, or 0 for a proper end. */
static ssize_t
tls_outcome(PstStream *stream, int result)
{
	int			broken = errno;

	if (tls_waits(stream, result))
	{
		errno = EAGAIN;
		return -1;
	}
	if (SSL_get_error(stream->ssl, result) == SSL_ERROR_ZERO_RETURN)
		return 0;
	ERR_clear_error();
	errno = broken != 0 && broken != EAGAIN ? broken : ECONNRESET;
	return -1;
}

ssize_t
pst_stream_read(PstStream *stream, void *bytes, size_t len)
{
	size_t		done = 0;

	if (stream->ssl == NULL)
		return recv(stream->fd, bytes, len, 0);
	/* record after record: a short read means that there is no more now */
	while (done < len)
	{
		int			n;

		ERR_clear_error();
		errno = 0;
		n = SSL_read(stream->ssl, (char *) bytes + done, (int) Min(len - done, INT_MAX));
		if (n <= 0)
			return done > 0 ? (ssize_t) done : tls_outcome(stream, n);
		done += n;
	}
	return (ssize_t) done;
}

ssize_t
pst_stream_write(PstStream *stream, const void *bytes, size_t len)
{
	int			n;

	if (stream->ssl == NULL)
		return send(stream->fd, bytes, len, MSG_NOSIGNAL);
	if (len == 0)
		return 0;
	ERR_clear_error();
	errno = 0;
	n = SSL_write(stream->ssl, bytes, (int) Min(len, INT_MAX));
	if (n > 0)
	{
		stream->tls_writes = false;
		return n;
	}
	/* a peer that closes is no success of ours */
	if (tls_outcome(stream, n) == 0)
		errno = ECONNRESET;
	return -1;
}

bool
pst_stream_is_quiet(PstStream *stream)
{
	char		byte;
	ssize_t		n;

	if (stream->ssl == NULL)
		n = recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	else
	{
		ERR_clear_error();
		errno = 0;
		n = SSL_peek(stream->ssl, &byte, 1);
		if (n <= 0)
			n = tls_outcome(stream, (int) n);
	}
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

void
pst_stream_wants(const PstStream *stream, bool writes, PstWants *wants)
{
	if (stream->fd < 0)
		return;
	wants->nfds = 1;
	wants->on[0].fd = stream->fd;
	wants->on[0].readable = stream->connected;
	wants->on[0].writeable = !stream->connected || stream->tls_writes || writes;
	if (stream->ssl != NULL && SSL_pending(stream->ssl) > 0)
		wants->timeout_ms = 0;
}
