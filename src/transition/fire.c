/*
 * fire.c
 *	  fire(): sends an event to an instance.
 *
 * The event is put on a backend-local stack and the row is written by an
 * ordinary UPDATE of its state column to itself, with the caller's rights, RLS,
 * triggers and constraints.  The BEFORE trigger finds the event there, under the
 * row's lock and with the newest version of the row, and decides.  So there is
 * one place that moves a row, whoever writes it, and a guard is never rechecked
 * against an old snapshot.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transition/fire.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(pst_fire_text);
PG_FUNCTION_INFO_V1(pst_fire_bigint);
PG_FUNCTION_INFO_V1(pst_fire_uuid);

static PstFiring *firings = NULL;

/* ---- the stack ---- */

bool
pst_firing_any(const PstFsm *fsm)
{
	for (PstFiring *firing = firings; firing; firing = firing->outer)
		if (!firing->taken && firing->fsm->binding == fsm->binding)
			return true;
	return false;
}

PstFiring *
pst_firing_for(const PstFsm *fsm, const char *key)
{
	for (PstFiring *firing = firings; firing; firing = firing->outer)
		if (!firing->taken && firing->fsm->binding == fsm->binding && strcmp(firing->key, key) == 0)
			return firing;
	return NULL;
}

/* ---- the UPDATE ---- */

/* The equality that the key's type has by itself, under its full name. */
static char *
equality_of(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(entry->eq_opr));
	Form_pg_operator operator;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an equality operator for type %s", format_type_be(type))));
	operator = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(operator->oprnamespace)),
					  NameStr(operator->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* UPDATE t SET state = state WHERE key = $1, prepared once per compiled binding. */
static SPIPlanPtr
fire_plan(PstFsm *fsm, Relation rel)
{
	StringInfoData sql;
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	const char *state = quote_identifier(NameStr(TupleDescAttr(fsm->desc, fsm->state_att - 1)->attname));

	if (fsm->fire_plan)
		return fsm->fire_plan;
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET %s = %s WHERE ",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)),
					 state, state);
	for (int i = 0; i < fsm->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->keys[i] - 1);

		types[i] = getBaseType(att->atttypid);
		appendStringInfo(&sql, "%s%s %s $%d", i ? " AND " : "",
						 quote_identifier(NameStr(att->attname)), equality_of(types[i]), i + 1);
	}
	fsm->fire_plan = SPI_prepare(sql.data, fsm->nkeys, types);
	if (fsm->fire_plan == NULL || SPI_keepplan(fsm->fire_plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql.data, SPI_result_code_string(SPI_result));
	return fsm->fire_plan;
}

static void
refuse_missing(PstFiring *firing)
{
	MemoryContext old = MemoryContextSwitchTo(firing->cxt);

	pst_refuse(&firing->refusal, PST_NO_INSTANCE, "\"%s\" has no instance %s",
			   firing->fsm->name, firing->key);
	firing->outcome.status = PST_REFUSED;
	firing->outcome.reason = firing->refusal.message;
	MemoryContextSwitchTo(old);
}

static void
run_update(PstFiring *firing, Relation rel, Datum *key)
{
	SPI_connect();
	SPI_execute_plan(fire_plan(firing->fsm, rel), key, NULL, false, 0);
	SPI_finish();
}

void
pst_fire(PstFiring *firing)
{
	Relation	rel = table_open(firing->fsm->root, RowExclusiveLock);
	Datum	   *key = pst_key_datums(firing->fsm, firing->key);

	firing->cxt = CurrentMemoryContext;
	firing->taken = false;
	firing->outcome.event = firing->signal.event;
	firing->outer = firings;
	firings = firing;
	PG_TRY();
	{
		run_update(firing, rel, key);
	}
	PG_FINALLY();
	{
		firings = firing->outer;
	}
	PG_END_TRY();
	if (!firing->taken)
		refuse_missing(firing);
	table_close(rel, NoLock);
}

/* ---- SQL ---- */

static char *
optional_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* As a key is printed, so that it can be compared with a row's. */
static char *
normal_key(PstFsm *fsm, const char *key)
{
	Datum	   *values = pst_key_datums(fsm, key);
	Datum	   *row = palloc0(sizeof(Datum) * fsm->desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * fsm->desc->natts);

	memset(nulls, true, sizeof(bool) * fsm->desc->natts);
	for (int i = 0; i < fsm->nkeys; i++)
	{
		row[fsm->keys[i] - 1] = values[i];
		nulls[fsm->keys[i] - 1] = false;
	}
	return pst_row_key(fsm, heap_form_tuple(fsm->desc, row, nulls));
}

/* fire(fsm, key, event, args, expected_state, idempotency_key, to_state) */
static Datum
fire(FunctionCallInfo fcinfo, const char *key)
{
	PstFiring	firing = {0};
	TupleDesc	desc;
	Relation	rel;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the FSM table, key and event of fire() must not be NULL")));
	if (!PG_ARGISNULL(5))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("idempotency keys are not supported yet")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	firing.fsm = pst_fsm_open(PG_GETARG_OID(0), RowExclusiveLock, &rel);
	firing.key = normal_key(firing.fsm, key);
	firing.signal.event = optional_text(fcinfo, 2);
	firing.args_null = PG_ARGISNULL(3);
	firing.args = firing.args_null ? (Datum) 0 : PG_GETARG_DATUM(3);
	firing.signal.expected_state = optional_text(fcinfo, 4);
	firing.signal.to_state = optional_text(fcinfo, 6);
	pst_fire(&firing);
	table_close(rel, NoLock);
	if (firing.refusal.sqlstate && !firing.soft)
		pst_raise_refusal(&firing.refusal);
	return pst_outcome_datum(&firing.outcome, BlessTupleDesc(desc));
}

Datum
pst_fire_text(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1)));
}

Datum
pst_fire_bigint(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, PG_ARGISNULL(1) ? "" : psprintf(INT64_FORMAT, PG_GETARG_INT64(1)));
}

Datum
pst_fire_uuid(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, PG_ARGISNULL(1) ? "" :
				DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1))));
}
