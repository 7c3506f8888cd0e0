/*
 * write.c
 *	  Transactions at a rate, and when each was sent and had committed.
 *
 *		write CLIENTS RATE SECONDS STATEMENT
 *
 * The database is where libpq's environment variables say.  STATEMENT is prepared,
 * is a transaction of its own, and may use $1, a number that no other has (bigint).
 * Each client is a thread with a connection; what comes is random, as with pgbench -R,
 * and a client that is late goes on at once.  Prints for each transaction its number,
 * and the microseconds since 1970 just before it was sent and just after its COMMIT was
 * reported: pgbench's log takes the time before it has waited where the answer is quick.
 */
#include "ready.h"

#include <libpq-fe.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST_CLIENTS 64

typedef struct Transaction
{
	double		sent;			/* seconds since 1970 */
	double		committed;
} Transaction;

typedef struct Client
{
	pthread_t	thread;
	int			number;
	double		rate;			/* of this client */
	double		seconds;
	const char *statement;
	Transaction *done;
	size_t		count;
	size_t		room;
} Client;

static unsigned long long
tag_of(const Client *client, size_t n)
{
	return client->number * 10000000ULL + n + 1;
}

static void
sleep_until(double at)
{
	double		wait = at - now();
	struct timespec t = {(time_t) wait, (long) ((wait - (time_t) wait) * 1e9)};

	if (wait > 0)
		nanosleep(&t, NULL);
}

static void
transact(Client *client, PGconn *conn)
{
	char		tag[32];
	const char *values[] = {tag};
	Transaction *t;
	PGresult   *result;
	ExecStatusType status;

	if (client->count == client->room)
		client->done = realloc(client->done, (client->room = client->room * 2 + 1024) * sizeof(Transaction));
	t = &client->done[client->count];
	snprintf(tag, sizeof(tag), "%llu", tag_of(client, client->count));
	t->sent = since_1970();
	result = PQexecPrepared(conn, "t", 1, values, NULL, NULL, 0);
	t->committed = since_1970();
	status = PQresultStatus(result);
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		die("PostgreSQL", PQerrorMessage(conn));
	PQclear(result);
	client->count++;
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;
	PGconn	   *conn = PQconnectdb("");
	const Oid	bigint = 20;
	unsigned short random[3] = {client->number, 4711, 42};
	double		due,
				end;
	PGresult   *result;

	if (PQstatus(conn) != CONNECTION_OK)
		die("PostgreSQL", PQerrorMessage(conn));
	result = PQprepare(conn, "t", client->statement, 1, &bigint);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("PostgreSQL", PQerrorMessage(conn));
	PQclear(result);
	due = now();
	end = due + client->seconds;
	for (;;)
	{
		due -= log(1 - erand48(random)) / client->rate;
		if (due >= end || now() >= end)
			break;
		sleep_until(due);
		transact(client, conn);
	}
	PQfinish(conn);
	return NULL;
}

int
main(int argc, char **argv)
{
	static Client clients[MOST_CLIENTS];
	int			count = argc == 5 ? atoi(argv[1]) : 0;

	if (count < 1 || count > MOST_CLIENTS || atof(argv[2]) <= 0)
		die("usage", "write CLIENTS RATE SECONDS STATEMENT");
	for (int i = 0; i < count; i++)
	{
		clients[i] = (Client) {.number = i, .rate = atof(argv[2]) / count, .seconds = atof(argv[3]), .statement = argv[4]};
		if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
			die("write", "no thread");
	}
	for (int i = 0; i < count; i++)
		pthread_join(clients[i].thread, NULL);
	for (int i = 0; i < count; i++)
		for (size_t n = 0; n < clients[i].count; n++)
			printf("%llu %.0f %.0f\n", tag_of(&clients[i], n), clients[i].done[n].sent * 1e6, clients[i].done[n].committed * 1e6);
	return 0;
}
