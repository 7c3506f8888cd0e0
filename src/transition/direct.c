/*
 * direct.c
 *	  fire() writes the row by itself, where an UPDATE would do no more.
 *
 * The row is found by its key under a fresh snapshot, decided, and written on
 * the condition that it is still that very version.  If it is not, or if anybody
 * holds the row, or if the event is refused, the row is locked first, which
 * waits, and its newest version is decided: above READ COMMITTED that is a
 * serialization failure.  Machines whose guards or actions look at more than the
 * row and args lock first in any case: what they see must be what holds when the
 * row is ours.
 *
 * Events' ids are drawn once the row is written, when nobody else can come
 * between.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "compat/compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "transition/direct.h"
#include "transition/trigger.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A row that is being written. */
typedef struct Write
{
	PstFiring  *firing;
	Relation	rel;
	PstTarget  *target;
	TupleTableSlot *slot;		/* the version that is decided */
	CommandId	cid;
	Snapshot	snapshot;
	bool		found;
	bool		locked;
	PstDecision decision;
} Write;

/* ---- finding the row ---- */

static bool
find_row(Write *write, Datum *key)
{
	PstTarget  *target = write->target;
	int			nkeys = write->firing->fsm->nkeys;
	ScanKey		keys = palloc(sizeof(ScanKeyData) * nkeys);
	Relation	index = index_open(target->index, AccessShareLock);
	IndexScanDesc scan;
	bool		found;

	memcpy(keys, target->scan_keys, sizeof(ScanKeyData) * nkeys);
	for (int i = 0; i < nkeys; i++)
		keys[i].sk_argument = key[target->key_parts[i]];
	scan = pst_index_beginscan(write->rel, index, write->snapshot, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, write->slot);
	index_endscan(scan);
	index_close(index, NoLock);
	return found;
}

static HeapTuple
version(Write *write)
{
	return ExecFetchSlotHeapTuple(write->slot, false, NULL);
}

static void
raise_lost_race(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent %s", what)));
}

static void
raise_self_modified(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("tuple to be updated was already modified by an operation triggered by the current command")));
}

/* Lock the row in its newest version; false if it is gone. */
static bool
lock_row(Write *write)
{
	ItemPointerData tid = write->slot->tts_tid;
	bool		serial = IsolationUsesXactSnapshot();
	TM_FailureData failure;

	write->locked = true;
	switch (table_tuple_lock(write->rel, &tid, write->snapshot, write->slot, write->cid,
							 write->target->lock_mode, LockWaitBlock,
							 serial ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure))
	{
		case TM_Ok:
			return true;
		case TM_Updated:
			raise_lost_race("update");
			break;
		case TM_Deleted:
			if (serial)
				raise_lost_race("delete");
			return false;
		case TM_SelfModified:
			raise_self_modified();
			break;
		default:
			elog(ERROR, "unexpected result of locking a row of \"%s\"", RelationGetRelationName(write->rel));
	}
	return false;
}

/* May it be decided without a lock? */
static bool
is_quiet(Write *write)
{
	PstFiring  *firing = write->firing;

	return !firing->fsm->needs_lock && firing->idempotency_key == NULL &&
		(version(write)->t_data->t_infomask & HEAP_XMAX_INVALID) != 0;
}

/* ---- writing it ---- */

/* What the executor's functions want to know of a statement. */
static EState *
make_state(Write *write, ResultRelInfo *result)
{
	EState	   *estate = CreateExecutorState();

	pst_init_range_table(estate, write->rel, write->target->selected, write->target->updated);
	estate->es_output_cid = write->cid;
	InitResultRelInfo(result, write->rel, 1, NULL, 0);
	return estate;
}

/* Only CHECKs, and the report of a NULL, need the executor. */
static void
check_constraints(Write *write, TupleTableSlot *slot)
{
	TupleConstr *constraints = RelationGetDescr(write->rel)->constr;
	ResultRelInfo *result;
	EState	   *estate;
	bool		needed;

	if (constraints == NULL)
		return;
	needed = constraints->num_check > 0;
	for (int i = 0; !needed && i < RelationGetDescr(write->rel)->natts; i++)
		needed = TupleDescAttr(RelationGetDescr(write->rel), i)->attnotnull && slot_attisnull(slot, i + 1);
	if (!needed)
		return;
	result = makeNode(ResultRelInfo);
	estate = make_state(write, result);
	ExecConstraints(result, slot, estate);
	FreeExecutorState(estate);
}

static void
insert_into_indexes(Write *write, TupleTableSlot *slot, PstUpdateIndexes update_indexes)
{
	ResultRelInfo *result;
	EState	   *estate;

	if (!update_indexes)
		return;
	result = makeNode(ResultRelInfo);
	estate = make_state(write, result);
	ExecOpenIndices(result, false);
	(void) pst_insert_updated(result, slot, estate, update_indexes);
	ExecCloseIndices(result);
	FreeExecutorState(estate);
}

/* False if another has been faster. */
static bool
write_row(Write *write, HeapTuple new)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(write->rel), &TTSOpsHeapTuple);
	LockTupleMode mode;
	PstUpdateIndexes update_indexes;
	TM_FailureData failure;
	TM_Result	result;

	ExecStoreHeapTuple(new, slot, false);	/* never the version on the page: it changes */
	slot->tts_tableOid = RelationGetRelid(write->rel);
	check_constraints(write, slot);
	result = table_tuple_update(write->rel, &write->slot->tts_tid, slot, write->cid, write->snapshot,
								InvalidSnapshot, true, &failure, &mode, &update_indexes);
	if (result == TM_Ok)
		insert_into_indexes(write, slot, update_indexes);
	ExecDropSingleTupleTableSlot(slot);
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_SelfModified:
			raise_self_modified();
			break;
		case TM_Updated:
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				raise_lost_race(result == TM_Updated ? "update" : "delete");
			return false;
		default:
			elog(ERROR, "unexpected result of updating a row of \"%s\"", RelationGetRelationName(write->rel));
	}
	return false;
}

static void
record(Write *write, HeapTuple new)
{
	PstFiring  *firing = write->firing;

	pst_record_move(firing->fsm, &write->decision, firing->key, firing->outcome.from_state,
					write->decision.state, new);
}

/* Decide and write, once the row is found. */
static void
move_row(Write *write)
{
	PstFiring  *firing = write->firing;

	/* equal keys may be written differently: the row's own text counts */
	firing->key = pst_row_key(firing->fsm, version(write));
	write->locked = false;
	if (!is_quiet(write) && !lock_row(write))
		return;
	for (;;)
	{
		HeapTuple	old = version(write);
		HeapTuple	new;

		memset(&write->decision, 0, sizeof(PstDecision));
		new = pst_decide_firing(firing->fsm, firing, old, old, &write->decision);
		if (new == old)
			new = heap_copytuple(old);
		if (new && write_row(write, new))
		{
			/* only now: who is refused meanwhile, and logs that, has locked the version before */
			pst_draw_hop_ids(&write->decision);
			firing->outcome.event_id = write->decision.hops[0].event_id;
			record(write, new);
			return;
		}
		if (write->locked)
			return;
		/* the event is refused, or we were too late: see what is there now */
		memset(&firing->refusal, 0, sizeof(firing->refusal));
		firing->taken = firing->soft = false;
		if (!lock_row(write))
			return;
	}
}

/* Is it here and now as it was when the target was worked out? */
static bool
may_write(PstFiring *firing)
{
	return SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA && !XactReadOnly &&
		!IsInParallelMode() && firing->reason == NULL;
}

/* A foreign key's check of a row inserted in this transaction may still be due. */
static bool
owes_check(Write *write)
{
	return write->target->references &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(version(write)->t_data));
}

/* Under a fresh snapshot; false if it is not for us to write. */
static bool
fire_once(Write *write, Datum *key)
{
	bool		ours = true;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	write->snapshot = GetActiveSnapshot();
	write->cid = GetCurrentCommandId(true);
	write->slot = table_slot_create(write->rel, NULL);
	write->found = find_row(write, key);
	if (write->found && owes_check(write))
		ours = false;
	else if (write->found)
		move_row(write);
	ExecDropSingleTupleTableSlot(write->slot);
	PopActiveSnapshot();
	return ours;
}

static void
check_rights(Relation rel, PstTarget *target)
{
	AclResult	acl = pst_may_use_schema(RelationGetNamespace(rel));

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_SCHEMA, get_namespace_name(RelationGetNamespace(rel)));
	pst_check_update_rights(rel, target->selected, target->updated);
}

bool
pst_fire_direct(PstFiring *firing, Relation rel, PstTarget *target, Datum *key)
{
	Write		write = {.firing = firing, .rel = rel, .target = target};

	if (!may_write(firing))
		return false;
	check_rights(rel, target);
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);

	if (!fire_once(&write, key))
		return false;
	/* gone while we waited, and perhaps there again: a newer snapshot tells */
	if (write.found && !firing->taken && !IsolationUsesXactSnapshot() && !fire_once(&write, key))
		return false;
	CommandCounterIncrement();
	return true;
}
