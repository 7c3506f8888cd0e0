/*
 * census.c
 *	  Which states the rows of a table are in, before it is attached.
 *
 * The rows are read from the table itself and not by a query, so that row
 * security hides none and no cast of the user's has a say.  The caller holds a
 * lock that keeps writers out.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "executor/tuptable.h"
#include "fsm/fsm.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* So many states that the machine does not have are named. */
#define EXAMPLES 5

typedef struct Stranger
{
	char	   *state;			/* NULL: no state at all */
	char	   *key;			/* of the first row found in it */
	int64		rows;
} Stranger;

typedef struct Census
{
	const PstMachine *machine;
	const char *state_column;
	List	   *keys;			/* of char * */
	Stranger	strangers[EXAMPLES];
	int			n;
	int64		others;			/* rows in yet other states */
	int64		total;
	MemoryContext cxt;			/* for what is kept of them */
} Census;

static char *
print_column(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);
	Oid			output;
	bool		varlena;

	if (isnull)
		return NULL;
	getTypeOutputInfo(TupleDescAttr(slot->tts_tupleDescriptor, attnum - 1)->atttypid, &output, &varlena);
	return OidOutputFunctionCall(output, value);
}

static char *
print_key(Census *census, Relation rel, TupleTableSlot *slot)
{
	StringInfoData key;
	ListCell   *lc;

	initStringInfo(&key);
	foreach(lc, census->keys)
	{
		char	   *part = print_column(slot, get_attnum(RelationGetRelid(rel), lfirst(lc)));

		appendStringInfo(&key, "%s%s", key.len ? ", " : "", part ? part : "NULL");
	}
	return key.data;
}

static void
count_stranger(Census *census, Relation rel, TupleTableSlot *slot, const char *state)
{
	Stranger   *stranger;
	MemoryContext old;

	census->total++;
	for (int i = 0; i < census->n; i++)
	{
		const char *known = census->strangers[i].state;

		if (known == state || (known && state && strcmp(known, state) == 0))
		{
			census->strangers[i].rows++;
			return;
		}
	}
	if (census->n == EXAMPLES)
	{
		census->others++;
		return;
	}
	old = MemoryContextSwitchTo(census->cxt);
	stranger = &census->strangers[census->n++];
	stranger->state = state ? pstrdup(state) : NULL;
	stranger->key = print_key(census, rel, slot);
	stranger->rows = 1;
	MemoryContextSwitchTo(old);
}

static void
count_table(Census *census, Relation rel)
{
	AttrNumber	state_att = get_attnum(RelationGetRelid(rel), census->state_column);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata census",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		char	   *state = print_column(slot, state_att);

		CHECK_FOR_INTERRUPTS();
		if (state == NULL || pst_machine_state(census->machine, state) < PST_STAR)
			count_stranger(census, rel, slot, state);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

static void
report(Census *census, Relation rel)
{
	StringInfoData detail;

	initStringInfo(&detail);
	for (int i = 0; i < census->n; i++)
	{
		Stranger   *stranger = &census->strangers[i];

		appendStringInfo(&detail, "%s" INT64_FORMAT " in state %s", i ? ", " : "", stranger->rows,
						 stranger->state ? psprintf("\"%s\"", stranger->state) : "NULL");
		if (census->keys)
			appendStringInfo(&detail, " (key %s)", stranger->key);
	}
	if (census->others > 0)
		appendStringInfo(&detail, ", " INT64_FORMAT " in other states", census->others);
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("table \"%s\" has rows in states that the machine does not have",
					RelationGetRelationName(rel)),
			 errdetail_internal("There are " INT64_FORMAT ": %s.", census->total, detail.data),
			 errhint("Update these rows first, or add the states to the machine.")));
}

void
pst_check_states(Relation rel, const char *state_column, List *keys, const PstMachine *machine)
{
	Census		census = {
		.machine = machine,
		.state_column = state_column,
		.keys = keys,
		.cxt = CurrentMemoryContext
	};
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(lc), NoLock);

		if (part->rd_rel->relkind == RELKIND_RELATION)
			count_table(&census, part);
		else if (part->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition \"%s\" is not an ordinary table", RelationGetRelationName(part)),
					 errdetail("What is written elsewhere cannot be guarded here.")));
		table_close(part, NoLock);
	}
	if (census.total > 0)
		report(&census, rel);
}
