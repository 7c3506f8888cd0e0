/*
 * snapshot.c
 *	  What a route begins with that starts with a snapshot.
 *
 * The rows of each table that matches are logged as init events for this route
 * only (log_snapshot(), with the caller's rights and as the caller).  Events of
 * transactions that were over by then may still wait for their cut: `since`
 * tells that they are in the rows already.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "route/edit.h"
#include "utils/builtins.h"

static PstQuery tables_query = {
	"SELECT b.relid::pg_catalog.oid, v.name FROM persistomata.binding b"
	" JOIN persistomata.machine_version v ON v.id OPERATOR(pg_catalog.=) b.machine"
	" WHERE b.relid IS NOT NULL ORDER BY b.relid::pg_catalog.oid",
	0, {0}, NULL
};

static PstQuery log_query = {
	"SELECT persistomata.log_snapshot($1, $2)",
	2, {REGCLASSOID, INT4OID}, NULL
};

static PstQuery since_query = {
	"UPDATE persistomata.route_settings SET since = pg_catalog.pg_current_snapshot()"
	" WHERE route OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

void
pst_route_snapshot(int route, const char *machine)
{
	PstOwnerRights rights;
	List	   *tables = NIL;
	ListCell   *cell;
	Datum		args[2] = {(Datum) 0, Int32GetDatum(route)};
	uint64		rows;

	pst_owner_begin(&rights);
	rows = pst_query_write(&tables_query, NULL, NULL);
	for (uint64 row = 0; row < rows; row++)
	{
		Oid			relid = DatumGetObjectId(pst_result(row, 1, NULL));

		if (pst_glob_match(machine, TextDatumGetCString(pst_result(row, 2, NULL))) &&
			pst_route_may_read(rights.user, relid))
			tables = lappend_oid(tables, relid);
	}
	pst_owner_pause(&rights);
	foreach(cell, tables)
	{
		args[0] = ObjectIdGetDatum(lfirst_oid(cell));
		pst_query_write(&log_query, args, NULL);
	}
	pst_owner_resume(&rights);
	pst_query_write(&since_query, &args[1], NULL);
	pst_owner_end(&rights);
}
