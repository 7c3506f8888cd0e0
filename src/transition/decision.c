/*
 * decision.c
 *	  Keeps decisions between the BEFORE and the AFTER trigger of a row.
 *
 * Backend-local, in a child of TopTransactionContext: nothing survives the
 * transaction, and no callback is needed to forget.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "compat/compat.h"
#include "storage/proc.h"
#include "transition/decision.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct DecisionKey
{
	uint64		key_hash;		/* of a new row's key; 0 for others */
	Oid			relid;
	ItemPointerData tid;		/* invalid for a new row */
	uint16		padding;		/* no hidden bytes: it is hashed as a blob */
	uint32		more_padding;
} DecisionKey;

typedef struct DecisionEntry
{
	DecisionKey key;
	PstDecision *decision;
} DecisionEntry;

static HTAB *decisions = NULL;
static MemoryContext decisions_cxt = NULL;
static LocalTransactionId decisions_lxid = InvalidLocalTransactionId;

static HTAB *
current_decisions(void)
{
	if (decisions_lxid != pst_my_lxid())
	{
		HASHCTL		ctl = {0};

		decisions_cxt = AllocSetContextCreate(TopTransactionContext, "persistomata decisions",
											  ALLOCSET_DEFAULT_SIZES);
		ctl.keysize = sizeof(DecisionKey);
		ctl.entrysize = sizeof(DecisionEntry);
		ctl.hcxt = decisions_cxt;
		decisions = hash_create("persistomata decisions", 64, &ctl,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		decisions_lxid = pst_my_lxid();
	}
	return decisions;
}

static DecisionKey
version_key(Oid relid, ItemPointer tid)
{
	DecisionKey key;

	memset(&key, 0, sizeof(key));
	key.relid = relid;
	key.tid = *tid;
	return key;
}

static DecisionKey
new_key(Oid relid, const char *key_text)
{
	DecisionKey key;

	memset(&key, 0, sizeof(key));
	key.relid = relid;
	ItemPointerSetInvalid(&key.tid);
	key.key_hash = hash_bytes_extended((const unsigned char *) key_text, strlen(key_text), 0) | 1;
	return key;
}

static PstDecision *
keep(DecisionKey key)
{
	bool		found;
	DecisionEntry *entry = hash_search(current_decisions(), &key, HASH_ENTER, &found);

	if (found)
		pst_decision_drop(entry->decision);
	entry->decision = NULL;
	entry->decision = MemoryContextAllocZero(decisions_cxt, sizeof(PstDecision));
	entry->decision->cxt = decisions_cxt;
	entry->decision->args_null = true;	/* nothing to free yet, should filling it fail */
	return entry->decision;
}

static PstDecision *
take(DecisionKey key)
{
	PstDecision *decision = NULL;
	bool		found;
	DecisionEntry *entry = hash_search(current_decisions(), &key, HASH_FIND, &found);

	if (found)
	{
		decision = entry->decision;
		hash_search(decisions, &key, HASH_REMOVE, NULL);
	}
	return decision;
}

PstDecision *
pst_decision_keep(Oid relid, ItemPointer tid)
{
	return keep(version_key(relid, tid));
}

PstDecision *
pst_decision_take(Oid relid, ItemPointer tid)
{
	return take(version_key(relid, tid));
}

PstDecision *
pst_decision_keep_new(Oid relid, const char *key)
{
	return keep(new_key(relid, key));
}

PstDecision *
pst_decision_take_new(Oid relid, const char *key)
{
	return take(new_key(relid, key));
}

/* Cheap when nothing is left. */
static void
forget(DecisionKey key)
{
	if (decisions_lxid == pst_my_lxid() && hash_get_num_entries(decisions) > 0)
		pst_decision_drop(take(key));
}

void
pst_decision_forget(Oid relid, ItemPointer tid)
{
	forget(version_key(relid, tid));
}

void
pst_decision_forget_new(Oid relid, const char *key)
{
	forget(new_key(relid, key));
}

/* A statement may decide about many rows: what one needed is freed at once. */
void
pst_decision_drop(PstDecision *decision)
{
	if (decision == NULL)
		return;
	if (decision->hops)
		pfree(decision->hops);
	if (decision->state)
		pfree(decision->state);
	if (decision->reason)
		pfree(decision->reason);
	if (!decision->args_null)
		pfree(DatumGetPointer(decision->args));
	list_free(decision->void_actions);
	pfree(decision);
}
