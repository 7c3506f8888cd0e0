/*
 * net.h
 *	  The one place that waits on sockets and latches.
 *
 * A sink never waits: it says in a PstWants what it would wait for, and the
 * worker waits here, where interrupts are served.  No transaction, lock or
 * snapshot may be held by a caller of pst_net_wait().
 */
#ifndef PST_NET_H
#define PST_NET_H

#include "postgres.h"

#define PST_MAX_FDS 4

typedef struct PstWants
{
	int			nfds;
	struct
	{
		int			fd;
		bool		readable;
		bool		writeable;
	}			on[PST_MAX_FDS];
	int			timeout_ms;		/* -1: as long as the caller likes */
} PstWants;

/*
 * Wait until a socket of *wants is ready, the latch is set, the wants' own
 * timeout or max_ms (whichever is shorter; -1 is none) is over.  Resets the
 * latch and runs CHECK_FOR_INTERRUPTS, so it may throw; no foreign library may
 * be on the stack.  wants may be NULL.  Returns true if the latch was set.
 */
extern PGDLLEXPORT bool pst_net_wait(const PstWants *wants, int max_ms, uint32 wait_event);

/*
 * Start a non-blocking TCP connection (close-on-exec, TCP_NODELAY) to host and
 * port.  A name is looked up synchronously; an address is not.  Returns the
 * socket, perhaps still connecting (wait until it is writeable, then ask
 * pst_net_connected), or -1 with a reason in errbuf.  Never throws.
 */
extern int	pst_net_connect(const char *host, int port, char *errbuf, size_t errlen);

/* 0: connected; EINPROGRESS: not yet; another errno: why it failed. */
extern int	pst_net_connected(int fd);

/* Milliseconds of a clock that is never set: for deadlines. */
extern int64 pst_net_now(void);

#endif							/* PST_NET_H */
