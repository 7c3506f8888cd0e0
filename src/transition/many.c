/*
 * many.c
 *	  fire_many(): one event for many instances.
 *
 * Instances are fired one after the other in the order of their keys, as text,
 * so that two such calls at once cannot wait for each other.  Each goes the way
 * of fire(): its row is locked, and its guards see what was committed until then.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transition/fire.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(pst_fire_many);

/* One of the keys given. */
typedef struct Shot
{
	const char *key;
	int			place;			/* in the order given */
	HeapTupleHeader outcome;
} Shot;

static int
compare_shots(const void *a, const void *b)
{
	return strcmp(((const Shot *) a)->key, ((const Shot *) b)->key);
}

static int
compare_places(const void *a, const void *b)
{
	return ((const Shot *) a)->place - ((const Shot *) b)->place;
}

static Shot *
read_keys(PstFsm *fsm, ArrayType *array, int *n)
{
	Datum	   *keys;
	bool	   *nulls;
	Shot	   *shots;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls, n);
	shots = palloc_extended(Max(*n, 1) * sizeof(Shot), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the keys of fire_many() must not be NULL")));
		shots[i].key = pst_normal_key(fsm, TextDatumGetCString(keys[i]));
		shots[i].place = i;
		shots[i].outcome = NULL;
	}
	return shots;
}

/* Fire at one instance; what the event needs goes with the scratch context. */
static HeapTupleHeader
shoot(PstFiring firing, const char *key, TupleDesc desc, MemoryContext scratch)
{
	MemoryContext cxt = MemoryContextSwitchTo(scratch);
	Datum		outcome;

	firing.key = key;
	pst_fire(&firing);
	MemoryContextSwitchTo(cxt);
	outcome = pst_outcome_datum(&firing.outcome, desc);
	MemoryContextReset(scratch);
	return DatumGetHeapTupleHeader(outcome);
}

/* A key that is given twice is fired once. */
static void
shoot_all(const PstFiring *firing, Shot *shots, int n, TupleDesc desc)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "persistomata fire_many",
												  ALLOCSET_DEFAULT_SIZES);

	qsort(shots, n, sizeof(Shot), compare_shots);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		shots[i].outcome = i > 0 && strcmp(shots[i].key, shots[i - 1].key) == 0 ? shots[i - 1].outcome
			: shoot(*firing, shots[i].key, desc, scratch);
	}
	qsort(shots, n, sizeof(Shot), compare_places);
	MemoryContextDelete(scratch);
}

static void
return_outcomes(ReturnSetInfo *rsinfo, const Shot *shots, int n)
{
	for (int i = 0; i < n; i++)
	{
		HeapTupleData tuple;

		tuple.t_len = HeapTupleHeaderGetDatumLength(shots[i].outcome);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = shots[i].outcome;
		tuplestore_puttuple(rsinfo->setResult, &tuple);
	}
}

/* fire_many(fsm, keys, event, args) */
Datum
pst_fire_many(PG_FUNCTION_ARGS)
{
	PstFiring	firing = {0};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	Shot	   *shots;
	int			n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the FSM table, keys and event of fire_many() must not be NULL")));
	InitMaterializedSRF(fcinfo, 0);
	firing.fsm = pst_fsm_open(PG_GETARG_OID(0), RowExclusiveLock, &rel);
	firing.signal.event = text_to_cstring(PG_GETARG_TEXT_PP(2));
	firing.args_null = PG_ARGISNULL(3);
	firing.args = firing.args_null ? (Datum) 0 : PG_GETARG_DATUM(3);
	shots = read_keys(firing.fsm, PG_GETARG_ARRAYTYPE_P(1), &n);
	shoot_all(&firing, shots, n, BlessTupleDesc(rsinfo->setDesc));
	return_outcomes(rsinfo, shots, n);
	table_close(rel, NoLock);
	return (Datum) 0;
}
