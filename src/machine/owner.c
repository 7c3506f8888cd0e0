/*
 * owner.c
 *	  Acting as the extension's owner, as foreign keys act as a table's owner.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "machine/owner.h"

/* Both are looked up again once the table is changed or dropped. */
static Oid	installation = InvalidOid;
static Oid	extension_owner = InvalidOid;

static void
forget(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == installation)
	{
		installation = InvalidOid;
		extension_owner = InvalidOid;
	}
}

static void
watch(void)
{
	static bool watching = false;

	if (!watching)
		CacheRegisterRelcacheCallback(forget, (Datum) 0);
	watching = true;
}

Oid
pst_installation(void)
{
	if (!OidIsValid(installation))
	{
		watch();
		installation = get_relname_relid("machine_version",
										 get_namespace_oid("persistomata", false));
		if (!OidIsValid(installation))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("extension \"persistomata\" is not installed in this database")));
	}
	return installation;
}

static Oid
find_extension_owner(void)
{
	Oid			extension = get_extension_oid("persistomata", false);
	Oid			owner = InvalidOid;
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(relation, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	if (!OidIsValid(owner))
		elog(ERROR, "cache lookup failed for extension %u", extension);
	return owner;
}

Oid
pst_extension_owner(void)
{
	if (!OidIsValid(extension_owner))
	{
		Oid			owner;

		pst_installation();		/* what the callback watches */
		owner = find_extension_owner();
		pst_installation();		/* an invalidation may have come in meanwhile */
		extension_owner = owner;
	}
	return extension_owner;
}

void
pst_become_owner(PstIdentity *save)
{
	Oid			owner = pst_extension_owner();

	GetUserIdAndSecContext(&save->user, &save->context);
	SetUserIdAndSecContext(owner, save->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
}

void
pst_restore_identity(const PstIdentity *save)
{
	SetUserIdAndSecContext(save->user, save->context);
}
