/*
 * connection.c
 *	  The connections of a sink worker, one per user mapping.
 *
 * A route is sent with the user mapping of its owner or, without one, with that
 * of PUBLIC.  Options are read anew for each opening, and secrets live only in
 * the sink's own memory context.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "event/utf8.h"
#include "foreign/foreign.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "worker/outlet.h"

/* The mapping's OID, or InvalidOid.  In a transaction. */
static Oid
mapping_of(Oid owner, Oid server)
{
	Oid			mapping;

	mapping = GetSysCacheOid2(USERMAPPINGUSERSERVER, Anum_pg_user_mapping_oid,
							  ObjectIdGetDatum(owner), ObjectIdGetDatum(server));
	if (!OidIsValid(mapping))
		mapping = GetSysCacheOid2(USERMAPPINGUSERSERVER, Anum_pg_user_mapping_oid,
								  ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
	return mapping;
}

PstConnection *
pst_connection_for(PstSinkWorker *worker, Oid owner)
{
	Oid			mapping = mapping_of(owner, worker->server_oid);
	PstConnection *connection;
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, worker->connections)
	{
		connection = lfirst(cell);
		if (connection->mapping == mapping)
			return connection;
	}
	old = MemoryContextSwitchTo(worker->context);
	connection = palloc0(sizeof(PstConnection));
	connection->mapping = mapping;
	worker->connections = lappend(worker->connections, connection);
	MemoryContextSwitchTo(old);
	return connection;
}

static List *
mapping_options(Oid mapping)
{
	HeapTuple	tuple = SearchSysCache1(USERMAPPINGOID, ObjectIdGetDatum(mapping));
	List	   *options = NIL;
	bool		isnull;
	Datum		value;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(value);
	ReleaseSysCache(tuple);
	return options;
}

/* Open the sink; in a transaction.  Connecting itself is the sink's, later. */
void
pst_connection_open(PstSinkWorker *worker, PstConnection *connection)
{
	PstSinkSettings settings;
	PstOption  *options;
	List	   *list;
	ListCell   *cell;
	MemoryContext old;
	int			n = 0;

	if (connection->sink)
		return;
	connection->context = AllocSetContextCreate(worker->context, "persistomata sink", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(connection->context);
	list = list_copy(GetForeignServer(worker->server_oid)->options);
	if (OidIsValid(connection->mapping))
		list = list_concat(list, mapping_options(connection->mapping));
	options = palloc0(sizeof(PstOption) * (list_length(list) + 1));
	foreach(cell, list)
	{
		DefElem    *option = lfirst(cell);

		options[n].name = pstrdup(option->defname);
		options[n++].value = pstrdup(pst_to_utf8(defGetString(option)));
	}
	settings.server = worker->server;
	settings.options = options;
	connection->sink = pst_sink_open(worker->ops, &settings);
	MemoryContextSwitchTo(old);
}

void
pst_connection_close(PstConnection *connection)
{
	if (connection->sink)
		pst_sink_close(connection->sink);
	connection->sink = NULL;
	if (connection->context)
		MemoryContextDelete(connection->context);
	connection->context = NULL;
}

/* Forget all connections: the server or a mapping may have changed. */
void
pst_connections_reset(PstSinkWorker *worker)
{
	ListCell   *cell;

	foreach(cell, worker->connections)
	{
		pst_connection_close(lfirst(cell));
		pfree(lfirst(cell));
	}
	list_free(worker->connections);
	worker->connections = NIL;
	foreach(cell, worker->outlets)
		((PstOutlet *) lfirst(cell))->connection = NULL;
}
