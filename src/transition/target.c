/*
 * target.c
 *	  May fire() write a row by itself, and how does it find it?
 *
 * It may where an UPDATE of the row would do nothing but what fire() does
 * anyhow: an ordinary heap table without rules, row security, generated columns
 * or children, with no triggers on UPDATE but ours and those of foreign keys
 * whose columns the machine never changes, and with an ordinary unique B-tree
 * on the key that compares as the key's type does.  Constraints and indexes go
 * through the executor's own functions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/sysattr.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "transition/target.h"
#include "transition/trigger.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* ---- what an UPDATE would do besides ---- */

static bool
is_plain(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		rel->rd_rel->relhassubclass || rel->rd_rel->relrowsecurity || rel->rd_rules != NULL ||
		rel->rd_tableam != GetHeapamTableAmRoutine())
		return false;
	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attgenerated)
			return false;
	return true;
}

/* The columns that the machine's events may change; NULL with *any: all of them. */
static Bitmapset *
columns_set(const PstAction *action, Bitmapset *columns, bool *any)
{
	ListCell   *lc;

	if (action->kind == PST_ACTION_ROW)
		*any = true;
	foreach(lc, action->assignments)
		columns = bms_add_member(columns, ((PstAssignment *) lfirst(lc))->attnum);
	return columns;
}

static Bitmapset *
columns_changed(const PstFsm *fsm, bool *any)
{
	Bitmapset  *columns = bms_make_singleton(fsm->state_att);

	*any = false;
	for (int i = 0; i < fsm->nedges; i++)
		columns = columns_set(&fsm->edges[i].action, columns, any);
	for (int i = 0; i < fsm->machine->nstates; i++)
	{
		columns = columns_set(&fsm->entry[i], columns, any);
		columns = columns_set(&fsm->exit[i], columns, any);
	}
	return columns;
}

/* Could an event change a column of a foreign key, or one that another refers to? */
static bool
touches_foreign_keys(const PstFsm *fsm, Relation rel, PstTarget *target)
{
	bool		any;
	Bitmapset  *changed = columns_changed(fsm, &any);
	Bitmapset  *keys = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	ListCell   *lc;
	int			column = -1;

	if (any)
		return true;
	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = (ForeignKeyCacheInfo *) lfirst(lc);

		target->references = true;
		for (int i = 0; i < fk->nkeys; i++)
			if (bms_is_member(fk->conkey[i], changed))
				return true;
	}
	while ((column = bms_next_member(changed, column)) >= 0)
		if (bms_is_member(column - FirstLowInvalidHeapAttributeNumber, keys))
			return true;
	return false;
}

/* Our two triggers are on, and no other sees an UPDATE that matters to it. */
static bool
only_our_triggers(const PstFsm *fsm, Relation rel, PstTarget *target)
{
	TriggerDesc *triggers = rel->trigdesc;
	int			ours = 0;
	bool		foreign_keys = false;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (!TRIGGER_FOR_UPDATE(trigger->tgtype) || trigger->tgenabled == TRIGGER_DISABLED ||
			trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA)
			continue;
		if (pst_is_our_trigger(trigger))
			ours++;
		else if (RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_NONE)
			foreign_keys = true;
		else
			return false;
	}
	return ours == 2 && !(foreign_keys && touches_foreign_keys(fsm, rel, target));
}

/* ---- the index ---- */

/* Which part of the key an index column is, or -1. */
static int
part_of_key(const PstFsm *fsm, AttrNumber attnum)
{
	for (int i = 0; i < fsm->nkeys; i++)
		if (fsm->keys[i] == attnum)
			return i;
	return -1;
}

static bool
fits_key(const PstFsm *fsm, Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indisvalid && form->indimmediate && form->indisready &&
		form->indnkeyatts == fsm->nkeys && index->rd_rel->relam == BTREE_AM_OID &&
		RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL;
}

/* One column of the index compares as its type does by itself. */
static bool
make_scan_key(const PstFsm *fsm, Relation index, int column, PstTarget *target)
{
	AttrNumber	attnum = index->rd_index->indkey.values[column];
	int			part = part_of_key(fsm, attnum);
	Oid			type = index->rd_opcintype[column];
	Oid			operator = get_opfamily_member(index->rd_opfamily[column], type, type, BTEqualStrategyNumber);
	Form_pg_attribute att;

	if (part < 0 || !OidIsValid(operator))
		return false;
	att = TupleDescAttr(fsm->desc, attnum - 1);
	if (lookup_type_cache(getBaseType(att->atttypid), TYPECACHE_EQ_OPR)->eq_opr != operator ||
		index->rd_indcollation[column] != att->attcollation)
		return false;
	ScanKeyEntryInitialize(&target->scan_keys[column], 0, column + 1, BTEqualStrategyNumber,
						   InvalidOid, att->attcollation, get_opcode(operator), (Datum) 0);
	target->key_parts[column] = part;
	return true;
}

static bool
use_index(const PstFsm *fsm, Oid index_oid, PstTarget *target)
{
	Relation	index = index_open(index_oid, AccessShareLock);
	bool		fits = fits_key(fsm, index);

	for (int i = 0; fits && i < fsm->nkeys; i++)
		fits = make_scan_key(fsm, index, i, target);
	index_close(index, AccessShareLock);
	if (fits)
		target->index = index_oid;
	return fits;
}

static void
choose_index(const PstFsm *fsm, Relation rel, PstTarget *target)
{
	ListCell   *lc;

	target->scan_keys = palloc0(sizeof(ScanKeyData) * fsm->nkeys);
	target->key_parts = palloc0(sizeof(int) * fsm->nkeys);
	foreach(lc, RelationGetIndexList(rel))
		if (use_index(fsm, lfirst_oid(lc), target))
			return;
}

/* ---- the target ---- */

static void
note_columns(const PstFsm *fsm, Relation rel, PstTarget *target)
{
	int			state = fsm->state_att - FirstLowInvalidHeapAttributeNumber;

	target->lock_mode = bms_is_member(state, RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY)) ?
		LockTupleExclusive : LockTupleNoKeyExclusive;
	target->updated = bms_make_singleton(state);
	target->selected = bms_make_singleton(state);
	for (int i = 0; i < fsm->nkeys; i++)
		target->selected = bms_add_member(target->selected,
										  fsm->keys[i] - FirstLowInvalidHeapAttributeNumber);
}

static void
work_out(PstFsm *fsm, Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(fsm->cxt);
	PstTarget  *target = palloc0(sizeof(PstTarget));

	if (fsm->relid == fsm->root && is_plain(rel) && only_our_triggers(fsm, rel, target))
	{
		choose_index(fsm, rel, target);
		note_columns(fsm, rel, target);
	}
	fsm->target = target;
	MemoryContextSwitchTo(old);
}

PstTarget *
pst_target(PstFsm *fsm, Relation rel)
{
	if (fsm->target == NULL)
		work_out(fsm, rel);
	return OidIsValid(fsm->target->index) ? fsm->target : NULL;
}
