/*
 * snapshot.c
 *	  All rows of an FSM table as init events for one route.
 *
 * They are rows of the log like others, so positions, order and restarts are
 * those of any event; but they are for that route only, and are no part of the
 * table's history.  Writers wait until the transaction ends, as they do for the
 * baseline of attach(): whatever is committed before is in the rows, whatever
 * comes after has a later id.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "fsm/fsm.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "transition/bulk.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

PG_FUNCTION_INFO_V1(pst_log_snapshot);

static Oid
owner_of_route(int route)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(route)};
	Oid			owner = InvalidOid;
	PstIdentity save;
	bool		isnull;

	pst_become_owner(&save);
	SPI_connect();
	SPI_execute_with_args("SELECT persistomata.role_of(owner) FROM persistomata.route WHERE id OPERATOR(pg_catalog.=) $1",
						  1, types, values, NULL, false, 1);
	if (SPI_processed > 0)
		owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	pst_restore_identity(&save);
	return owner;
}

/* Reading all of it, and keeping writers out as LOCK TABLE would. */
static void
check_rights(Oid relid, int route)
{
	Oid			owner = owner_of_route(route);

	if (!OidIsValid(owner) || !has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of route %d", route)));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
	if (pg_class_aclmask(relid, GetUserId(), ACL_UPDATE | ACL_DELETE | ACL_TRUNCATE, ACLMASK_ANY) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", get_rel_name(relid)),
				 errdetail("A snapshot keeps writers out, which needs one of UPDATE, DELETE and TRUNCATE.")));
}

/* log_snapshot(fsm, route) */
Datum
pst_log_snapshot(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	int			route = PG_GETARG_INT32(1);
	ListCell   *lc;

	check_rights(relid, route);
	LockRelationOid(relid, ShareRowExclusiveLock);
	foreach(lc, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), NoLock);

		if (part->rd_rel->relkind == RELKIND_RELATION)
			pst_log_rows_for(part, route);
		table_close(part, NoLock);
	}
	PG_RETURN_VOID();
}
