/*
 * postgres_connection.c
 *	  A connection over libpq that never waits, and one statement at a time.
 *
 * libpq looks a host's name up before PQconnectStartParams() returns: where the
 * resolver may be slow, the option hostaddr spares it.
 *
 * Whoever may use the server can have a user mapping of his own, but it is the
 * postmaster's operating system user that connects.  So what that one may do
 * without a password (peer, trust, a certificate) must not be had here: the
 * server has to have asked for the mapping's password.
 */
#include "postgres.h"

#include "sink/fault.h"
#include "sink/postgres_shipment.h"

void
pst_pg_close(PstPgConnection *link)
{
	if (link->conn)
		PQfinish(link->conn);
	link->conn = NULL;
	link->stage = PST_PG_CLOSED;
	link->unsent = false;
}

/* Close it, with a fault that quotes libpq. */
static bool
broken(PstPgConnection *link, const char *what, PstFault *fault)
{
	bool		in_doubt = link->stage == PST_PG_RUNNING;

	pst_fault_set(fault, PST_RETRY, 0, "%s", what);
	fault->in_doubt = in_doubt;
	if (link->conn)
	{
		const char *said = PQerrorMessage(link->conn);

		pst_fault_quote(fault, said, strcspn(said, "\r\n"));
	}
	pst_pg_close(link);
	return false;
}

static bool
is_late(const PstPgConnection *link)
{
	return pst_net_now() >= link->deadline;
}

/*
 * libpq gives no SQLSTATE of a connection that failed.  Who we are and which
 * database it is are for a human to mend; a server says so in class 28 or 3D,
 * of which only the text is left, in the server's own language.
 */
static bool
was_refused(const PGconn *conn)
{
	const char *said = PQerrorMessage(conn);

	/* the server answered, asked for a password perhaps, and did not let us in */
	return PQconnectionNeedsPassword(conn) || PQconnectionUsedPassword(conn) ||
		/* nor did we let it, for its certificate, for ours, or for want of TLS */
		strstr(said, "certificate") != NULL || strstr(said, "does not support SSL") != NULL;
}

static bool
has_password(const PstPgConnection *link)
{
	for (int i = 0; link->keywords[i] != NULL; i++)
		if (strcmp(link->keywords[i], "password") == 0 && link->values[i][0] != '\0')
			return true;
	return false;
}

static bool
begin_connecting(PstPgConnection *link, PstFault *fault)
{
	if (!has_password(link))
	{
		pst_fault_set(fault, PST_MISCONFIGURED, 0, "the user mapping of the route's owner has no password");
		return false;
	}
	link->conn = PQconnectStartParams(link->keywords, link->values, 0);
	if (link->conn == NULL || PQstatus(link->conn) == CONNECTION_BAD)
		return broken(link, "could not connect", fault);
	link->stage = PST_PG_CONNECTING;
	link->write_next = true;
	link->deadline = pst_net_now() + link->connect_timeout;
	return true;
}

static bool
finish_connecting(PstPgConnection *link, PstFault *fault)
{
	if (!PQconnectionUsedPassword(link->conn))
	{
		pst_pg_close(link);
		pst_fault_set(fault, PST_MISCONFIGURED, 0, "the server did not ask for the user mapping's password");
		return false;
	}
	if (PQsetnonblocking(link->conn, 1) != 0)
		return broken(link, "could not connect", fault);
	link->stage = PST_PG_READY;
	return true;
}

static bool
refused(PstPgConnection *link, bool to_mend, PstFault *fault)
{
	(void) broken(link, "could not connect", fault);
	if (to_mend)
		fault->verdict = PST_MISCONFIGURED;
	return false;
}

bool
pst_pg_connect(PstPgConnection *link, PstFault *fault)
{
	if (link->stage == PST_PG_CLOSED)
		return begin_connecting(link, fault);
	switch (PQconnectPoll(link->conn))
	{
		case PGRES_POLLING_OK:
			return finish_connecting(link, fault);
		case PGRES_POLLING_FAILED:
			return refused(link, was_refused(link->conn), fault);
		case PGRES_POLLING_WRITING:
			link->write_next = true;
			break;
		default:
			link->write_next = false;
	}
	if (is_late(link))
		return broken(link, "could not connect in time", fault);
	return true;
}

bool
pst_pg_run(PstPgConnection *link, const char *sql, const char *param, PstFault *fault)
{
	int			flushed;

	Assert(link->stage == PST_PG_READY);
	if (!PQsendQueryParams(link->conn, sql, param ? 1 : 0, NULL, &param, NULL, NULL, 0))
		return broken(link, "could not send a statement", fault);
	link->stage = PST_PG_RUNNING;
	link->deadline = pst_net_now() + link->request_timeout;
	flushed = PQflush(link->conn);
	if (flushed < 0)
		return broken(link, "lost the connection", fault);
	link->unsent = flushed > 0;
	return true;
}

/* The result, of which there is one a statement; what follows it is its end. */
static bool
take_result(PstPgConnection *link, PGresult **result)
{
	PGresult   *next;

	*result = PQgetResult(link->conn);
	while (*result && (next = PQgetResult(link->conn)) != NULL)
		PQclear(next);
	if (PQstatus(link->conn) == CONNECTION_BAD || *result == NULL)
	{
		PQclear(*result);
		*result = NULL;
		return false;
	}
	link->stage = PST_PG_READY;
	return true;
}

bool
pst_pg_result(PstPgConnection *link, PGresult **result, PstFault *fault)
{
	*result = NULL;
	if (link->unsent)
	{
		int			flushed = PQflush(link->conn);

		if (flushed < 0)
			return broken(link, "lost the connection", fault);
		link->unsent = flushed > 0;
	}
	if (!PQconsumeInput(link->conn))
		return broken(link, "lost the connection", fault);
	if (!PQisBusy(link->conn))
		return take_result(link, result) || broken(link, "lost the connection", fault);
	if (is_late(link))
		return broken(link, "the server did not answer in time", fault);
	return true;
}

/* Has the server closed it meanwhile? */
bool
pst_pg_is_stale(PstPgConnection *link)
{
	if (link->stage != PST_PG_READY)
		return link->stage != PST_PG_CLOSED;
	return !PQconsumeInput(link->conn) || PQstatus(link->conn) == CONNECTION_BAD;
}

void
pst_pg_wants(const PstPgConnection *link, PstWants *wants)
{
	int			fd = link->conn ? PQsocket(link->conn) : -1;

	wants->timeout_ms = (int) Max(link->deadline - pst_net_now(), 0);
	if (fd < 0)
		return;
	wants->nfds = 1;
	wants->on[0].fd = fd;
	wants->on[0].readable = link->stage != PST_PG_CONNECTING || !link->write_next;
	wants->on[0].writeable = link->stage == PST_PG_CONNECTING ? link->write_next : link->unsent;
}
