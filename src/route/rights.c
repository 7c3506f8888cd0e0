/*
 * rights.c
 *	  A route shows data: whose events its owner may read.
 *
 * It is the right to SELECT the whole FSM table, without a row security policy
 * in between.  It is asked of each table's events when they are read from the
 * log, so a table made later, or a right that was taken away, is judged as it
 * is then.  A table that is gone has no rights any more: its events are for
 * those who may read everything.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "miscadmin.h"
#include "route/edit.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

/* What a machine's name without a glob means now. */
static PstQuery tables_query = {
	"SELECT b.relid::pg_catalog.oid FROM persistomata.binding b"
	" JOIN persistomata.machine_version v ON v.id OPERATOR(pg_catalog.=) b.machine"
	" WHERE v.name OPERATOR(pg_catalog.=) $1 AND b.relid IS NOT NULL ORDER BY b.id",
	1, {TEXTOID}, NULL
};

bool
pst_route_may_read(Oid role, Oid relid)
{
	if (!OidIsValid(relid) || get_rel_name(relid) == NULL)
		return superuser_arg(role) || has_privs_of_role(role, ROLE_PG_READ_ALL_DATA);
	return pg_class_aclcheck(relid, role, ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(relid, role, true) != RLS_ENABLED;
}

void
pst_route_check_tables(Oid role, Datum machine)
{
	uint64		rows = pst_query_read(&tables_query, &machine);

	for (uint64 row = 0; row < rows; row++)
	{
		Oid			relid = DatumGetObjectId(pst_result(row, 1, NULL));

		if (!pst_route_may_read(role, relid))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for table %s", get_rel_name(relid)),
					 errdetail("A route shows the events of a table only to whom may select all of it.")));
	}
}
