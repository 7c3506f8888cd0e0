/*
 * compat.h
 *	  Every test of PG_VERSION_NUM and of a library's version lives here.
 *
 * The rest of the code includes this header and calls what it offers; no other
 * file compares versions.
 */
#ifndef PST_COMPAT_H
#define PST_COMPAT_H

#include "postgres.h"

#include "fmgr.h"

#if PG_VERSION_NUM < 150000
#error "persistomata needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 180000
#define PST_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "persistomata", .version = "0.1")
#else
#define PST_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* From 17 a set belongs to a resource owner (NULL: to the process). */
#if PG_VERSION_NUM >= 170000
#define pst_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define pst_create_wait_event_set(nevents) CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/rel.h"
#include "utils/regproc.h"

/* 17 dropped the feature, and with it the code's name. */
#define PST_SNAPSHOT_TOO_OLD MAKE_SQLSTATE('7', '2', '0', '0', '0')

/* Before a function that does not return. */
#if PG_VERSION_NUM >= 180000
#define PST_NORETURN pg_noreturn
#else
#define PST_NORETURN pg_attribute_noreturn()
#endif

/* Run a query that was started, for at most so many rows (0: all). */
static inline void
pst_executor_run(QueryDesc *query, uint64 count)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(query, ForwardScanDirection, count);
#else
	ExecutorRun(query, ForwardScanDirection, count, true);
#endif
}

/* Does a parsed UPDATE have a RETURNING clause? */
static inline bool
pst_update_returns(const UpdateStmt *update)
{
#if PG_VERSION_NUM >= 180000
	return update->returningClause != NULL;
#else
	return update->returningList != NIL;
#endif
}

/* The local id of the current transaction; 0 is none. */
static inline LocalTransactionId
pst_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* A name as SQL writes it, in parts; raises an error if it is none. */
static inline List *
pst_qualified_name(const char *text)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(text, NULL);
#else
	return stringToQualifiedNameList(text);
#endif
}

/* The nth backend's entry in pg_stat_activity, from 1, as this transaction sees it; NULL: none. */
static inline const PgBackendStatus *
pst_backend_status(int nth)
{
#if PG_VERSION_NUM >= 160000
	LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(nth);
#else
	LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(nth);
#endif

	return local ? &local->backendStatus : NULL;
}

/* Does the current user own a table? */
static inline bool
pst_owns_table(Oid relid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, GetUserId());
#else
	return pg_class_ownercheck(relid, GetUserId());
#endif
}

/* May the current user call a function? */
static inline AclResult
pst_may_call(Oid function)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE);
#endif
}

/* May the current user name what is in a schema? */
static inline AclResult
pst_may_use_schema(Oid schema)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, GetUserId(), ACL_USAGE);
#else
	return pg_namespace_aclcheck(schema, GetUserId(), ACL_USAGE);
#endif
}

/* May the current user use a foreign server? */

static inline bool
pst_may_use_server(Oid server)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* ---- writing a row without a statement ---- */

/* Which indexes an updated row must go into; 0 is none. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes PstUpdateIndexes;
#else
typedef bool PstUpdateIndexes;
#endif

static inline List *
pst_insert_updated(ResultRelInfo *result, TupleTableSlot *slot, EState *estate, PstUpdateIndexes which)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL, which == TU_Summarizing);
#else
	return ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL);
#endif
}

static inline IndexScanDesc
pst_index_beginscan(Relation table, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(table, index, snapshot, nkeys, 0);
#endif
}

/* The range table entry of an UPDATE; the columns are offset as in pg_attribute. */
static inline RangeTblEntry *
pst_update_entry(Relation rel)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(rel);
	entry->relkind = rel->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
	return entry;
}

#if PG_VERSION_NUM >= 160000
static inline RTEPermissionInfo *
pst_update_permissions(Relation rel, Bitmapset *selected, Bitmapset *updated)
{
	RTEPermissionInfo *info = makeNode(RTEPermissionInfo);

	info->relid = RelationGetRelid(rel);
	info->requiredPerms = ACL_SELECT | ACL_UPDATE;
	info->selectedCols = selected;
	info->updatedCols = updated;
	return info;
}
#endif

/* Raises an error unless the current user may read and write these columns. */
static inline void
pst_check_update_rights(Relation rel, Bitmapset *selected, Bitmapset *updated)
{
	RangeTblEntry *entry = pst_update_entry(rel);

#if PG_VERSION_NUM >= 160000
	entry->perminfoindex = 1;
	(void) ExecCheckPermissions(list_make1(entry),
								list_make1(pst_update_permissions(rel, selected, updated)), true);
#else
	entry->requiredPerms = ACL_SELECT | ACL_UPDATE;
	entry->selectedCols = selected;
	entry->updatedCols = updated;
	(void) ExecCheckRTPerms(list_make1(entry), true);
#endif
}

/* A range table of that one relation. */
static inline void
pst_init_range_table(EState *estate, Relation rel, Bitmapset *selected, Bitmapset *updated)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	RangeTblEntry *entry = pst_update_entry(rel);

#if PG_VERSION_NUM >= 180000
	entry->perminfoindex = 1;
	ExecInitRangeTable(estate, list_make1(entry),
					   list_make1(pst_update_permissions(rel, selected, updated)),
					   bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
	entry->perminfoindex = 1;
	ExecInitRangeTable(estate, list_make1(entry),
					   list_make1(pst_update_permissions(rel, selected, updated)));
#else
	entry->selectedCols = selected;
	entry->updatedCols = updated;
	ExecInitRangeTable(estate, list_make1(entry));
#endif
	MemoryContextSwitchTo(old);
}

#endif							/* PST_COMPAT_H */
