/*
 * net.c
 *	  Waiting on sockets and the latch, and starting TCP connections.
 *
 * pst_net_wait() is the only place of the library that waits while a peer is
 * involved: here the latch is reset, interrupts are served and the death of
 * the postmaster ends the process, whatever a peer does or does not do.
 */
#include "postgres.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compat/compat.h"
#include "miscadmin.h"
#include "net/net.h"
#include "portability/instr_time.h"
#include "storage/latch.h"

/*
 * Connections that failed so far in this process.  A name may have several
 * addresses; each try starts with the next one, since a refusal is often known
 * only after pst_net_connect() has returned.
 */
static unsigned int failures = 0;

int64
pst_net_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/* The shorter of two timeouts, of which -1 is none. */
static int
shorter(int a, int b)
{
	if (a < 0)
		return b;
	if (b < 0)
		return a;
	return Min(a, b);
}

static uint32
socket_events(const PstWants *wants, int nth)
{
	uint32		events = 0;

	if (wants->on[nth].readable)
		events |= WL_SOCKET_READABLE;
	if (wants->on[nth].writeable)
		events |= WL_SOCKET_WRITEABLE;
	return events;
}

/*
 * Wait on several sockets.  The set is made for this one wait: sinks that have
 * more than one socket (those on libcurl) change them all the time, and a set
 * cannot forget a socket.
 */
static bool
wait_for_many(const PstWants *wants, long timeout_ms, uint32 wait_event)
{
	WaitEventSet *set = pst_create_wait_event_set(PST_MAX_FDS + 2);
	WaitEvent	occurred[PST_MAX_FDS + 2];
	bool		latch_set = false;

	PG_TRY();
	{
		int			n;

		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		for (int i = 0; i < wants->nfds; i++)
		{
			uint32		events = socket_events(wants, i);

			if (events != 0)
				AddWaitEventToSet(set, events, wants->on[i].fd, NULL, NULL);
		}
		n = WaitEventSetWait(set, timeout_ms, occurred, lengthof(occurred), wait_event);
		for (int i = 0; i < n; i++)
			latch_set |= (occurred[i].events & WL_LATCH_SET) != 0;
	}
	PG_FINALLY();
	{
		FreeWaitEventSet(set);
	}
	PG_END_TRY();
	return latch_set;
}

bool
pst_net_wait(const PstWants *wants, int max_ms, uint32 wait_event)
{
	int			timeout_ms = shorter(wants ? wants->timeout_ms : -1, max_ms);
	bool		latch_set;

	CHECK_FOR_INTERRUPTS();
	if (wants && wants->nfds > 1)
		latch_set = wait_for_many(wants, timeout_ms, wait_event);
	else
	{
		uint32		events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		pgsocket	fd = PGINVALID_SOCKET;

		if (wants && wants->nfds == 1 && socket_events(wants, 0) != 0)
		{
			fd = wants->on[0].fd;
			events |= socket_events(wants, 0);
		}
		if (timeout_ms >= 0)
			events |= WL_TIMEOUT;
		latch_set = (WaitLatchOrSocket(MyLatch, events, fd, timeout_ms, wait_event) & WL_LATCH_SET) != 0;
	}
	/* Reset before anyone looks for work, so that no wake-up is lost. */
	if (latch_set)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return latch_set;
}

/* Look up host and port, without a name server if it is an address. */
static struct addrinfo *
look_up(const char *host, int port, char *errbuf, size_t errlen)
{
	struct addrinfo hints;
	struct addrinfo *found = NULL;
	char		service[16];
	int			rc;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	snprintf(service, sizeof(service), "%d", port);
	rc = getaddrinfo(host, service, &hints, &found);
	if (rc == EAI_NONAME)
	{
		hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
		rc = getaddrinfo(host, service, &hints, &found);
	}
	if (rc == 0)
		return found;
	snprintf(errbuf, errlen, "could not look up host \"%s\": %s", host, gai_strerror(rc));
	return NULL;
}

/* A socket of our kind that has begun to connect, or -1 with errno set. */
static int
begin_connecting(const struct addrinfo *address)
{
	int			on = 1;
	int			fd = socket(address->ai_family,
							address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
							address->ai_protocol);

	if (fd < 0)
		return -1;
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
	{
		int			why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

int
pst_net_connect(const char *host, int port, char *errbuf, size_t errlen)
{
	struct addrinfo *found = look_up(host, port, errbuf, errlen);
	struct addrinfo *address;
	int			naddresses = 0;
	int			fd = -1;

	if (found == NULL)
		return -1;
	for (address = found; address; address = address->ai_next)
		naddresses++;
	for (int try = 0; try < naddresses && fd < 0; try++)
	{
		int			skip = (int) ((failures + try) % naddresses);

		for (address = found; skip > 0; skip--)
			address = address->ai_next;
		fd = begin_connecting(address);
	}
	if (fd < 0)
	{
		failures++;
		snprintf(errbuf, errlen, "could not connect to \"%s\", port %d: %s",
				 host, port, strerror(errno));
	}
	freeaddrinfo(found);
	return fd;
}

int
pst_net_connected(int fd)
{
	int			why = 0;
	socklen_t	len = sizeof(why);
	struct sockaddr_storage peer;
	socklen_t	peer_len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
		why = errno;
	if (why == 0)
	{
		if (getpeername(fd, (struct sockaddr *) &peer, &peer_len) == 0)
			return 0;
		if (errno == ENOTCONN)
			return EINPROGRESS;
		why = errno;
	}
	failures++;
	return why;
}
