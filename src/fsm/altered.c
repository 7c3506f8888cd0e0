/*
 * altered.c
 *	  What becomes of a binding when its table is altered.
 *
 * Runs at the end of the DDL, under its locks.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "fsm/eligible.h"
#include "fsm/fsm.h"
#include "utils/fmgroids.h"
#include "utils/reltrigger.h"

/*
 * A table that was altered is still what attach() would take, and its columns
 * are those that the binding and the machine name.
 */
static void
check_binding(Relation rel)
{
	PstFsm	   *fsm = pst_fsm_lookup(rel, true);
	List	   *keys = NIL;

	/* without its triggers it is still being restored: indexes and all may be to come */
	if (fsm == NULL || !pst_fsm_is_guarded(rel))
		return;
	pst_check_table_kind(rel);
	pst_check_state_column(rel, NameStr(TupleDescAttr(fsm->desc, fsm->state_att - 1)->attname));
	for (int i = 0; i < fsm->nkeys; i++)
		keys = lappend(keys, NameStr(TupleDescAttr(fsm->desc, fsm->keys[i] - 1)->attname));
	(void) pst_choose_key(rel, keys);
}

/* The tables that a table inherits from; only_new: since this transaction. */
static List *
find_parents(Oid relid, bool only_new)
{
	List	   *result = NIL;
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (!only_new || TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			result = lappend_oid(result, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return result;
}

/* A child would bring rows of its own, that nothing guards. */
static void
check_parents(Relation rel)
{
	ListCell   *lc;

	if (rel->rd_rel->relispartition || !has_superclass(RelationGetRelid(rel)))
		return;
	foreach(lc, find_parents(RelationGetRelid(rel), false))
	{
		Relation	parent = table_open(lfirst_oid(lc), AccessShareLock);

		if (pst_fsm_lookup(parent, true))
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("cannot inherit from FSM table \"%s\"", RelationGetRelationName(parent)),
					 errhint("Detach it first with persistomata.detach(), or use declarative partitioning.")));
		table_close(parent, NoLock);
	}
}

static bool
has_trigger(Relation rel, const char *name)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		if (strcmp(rel->trigdesc->triggers[i].tgname, name) == 0)
			return true;
	return false;
}

/* A restored one may lack its trigger too, but is there already. */
static bool
is_new_partition(Relation part)
{
	return part->rd_rel->relispartition && !has_trigger(part, PST_TRUNCATE_TRIGGER) &&
		find_parents(RelationGetRelid(part), true) != NIL;
}

bool
pst_fsm_is_guarded(Relation rel)
{
	return has_trigger(rel, PST_DECIDE_TRIGGER);
}

List *
pst_fsm_altered(Relation rel)
{
	List	   *result = NIL;
	PstFsm	   *fsm;
	ListCell   *lc;

	check_parents(rel);
	check_binding(rel);
	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE && !rel->rd_rel->relispartition)
		return NIL;
	fsm = pst_fsm_lookup(rel, true);
	if (fsm == NULL || !pst_fsm_is_guarded(rel))
		return NIL;
	foreach(lc, find_all_inheritors(RelationGetRelid(rel), NoLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), AccessShareLock);

		if (is_new_partition(part))
		{
			pst_check_states(part, NameStr(TupleDescAttr(fsm->desc, fsm->state_att - 1)->attname),
							 NIL, fsm->machine);
			result = lappend_oid(result, RelationGetRelid(part));
		}
		table_close(part, NoLock);
	}
	return result;
}
