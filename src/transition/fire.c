/*
 * fire.c
 *	  fire(), try_fire(), force(): an event is sent to an instance.
 *
 * The event is put on a backend-local stack and the row is written by an
 * ordinary UPDATE of its state column to itself, with the caller's rights, RLS,
 * triggers and constraints.  The BEFORE trigger finds the event there, under the
 * row's lock and with the newest version of the row, and decides.  So a guard is
 * never rechecked against an old snapshot.  Where the UPDATE would do no more
 * than our own triggers do, the row is written without it (direct.c).
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_operator.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "event/append.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transition/attempt.h"
#include "transition/direct.h"
#include "transition/fire.h"
#include "transition/idempotency.h"
#include "transition/instance.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(pst_fire_text);
PG_FUNCTION_INFO_V1(pst_fire_bigint);
PG_FUNCTION_INFO_V1(pst_fire_uuid);
PG_FUNCTION_INFO_V1(pst_try_fire_text);
PG_FUNCTION_INFO_V1(pst_try_fire_bigint);
PG_FUNCTION_INFO_V1(pst_try_fire_uuid);
PG_FUNCTION_INFO_V1(pst_force_text);
PG_FUNCTION_INFO_V1(pst_force_bigint);
PG_FUNCTION_INFO_V1(pst_force_uuid);

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

char *
pst_key_condition(const PstFsm *fsm, Oid *types)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < fsm->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->keys[i] - 1);

		types[i] = getBaseType(att->atttypid);
		appendStringInfo(&sql, "%s%s %s $%d", i ? " AND " : "",
						 quote_identifier(NameStr(att->attname)), equality_of(types[i]), i + 1);
	}
	return sql.data;
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
	appendStringInfo(&sql, "UPDATE %s SET %s = %s WHERE %s",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)),
					 state, state, pst_key_condition(fsm, types));
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

/* The row was written, and no trigger saw it. */
static void
refuse_unguarded(PstFiring *firing)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the triggers of FSM table \"%s\" do not fire", firing->fsm->name),
			 errdetail("They are disabled or missing, or session_replication_role is \"replica\"."),
			 errhint("The column enforced of the view persistomata.fsm shows it.")));
}

static void
run_update(PstFiring *firing, Relation rel, Datum *key)
{
	uint64		written;

	SPI_connect();
	SPI_execute_plan(fire_plan(firing->fsm, rel), key, NULL, false, 0);
	written = SPI_processed;
	SPI_finish();
	if (written > 0 && !firing->taken)
		refuse_unguarded(firing);
}

static void
fire_by_update(PstFiring *firing, Relation rel, Datum *key)
{
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
}

static void
fire_at_row(PstFiring *firing, Relation rel, PstTarget *target, Datum *key)
{
	if (target == NULL || !pst_fire_direct(firing, rel, target, key))
		fire_by_update(firing, rel, key);
}

/*
 * The instance may have ended with the event that the key was used for.  It may
 * also be there and hidden: then its outcomes are, too.
 */
static bool
recall_of_ended(PstFiring *firing)
{
	return firing->idempotency_key &&
		check_enable_rls(firing->fsm->root, InvalidOid, true) != RLS_ENABLED &&
		pst_idempotency_recall(firing);
}

void
pst_fire(PstFiring *firing)
{
	Relation	rel = table_open(firing->fsm->root, RowExclusiveLock);
	Datum	   *key = firing->key_parts ? firing->key_parts : pst_key_datums(firing->fsm, firing->key);
	PstTarget  *target;

	firing->cxt = CurrentMemoryContext;
	firing->taken = false;
	firing->outcome.event = firing->signal.event;
	target = pst_target(firing->fsm, rel);
	fire_at_row(firing, rel, target, key);
	/* gone while we waited, and there again? a newer snapshot tells */
	if (!firing->taken && !IsolationUsesXactSnapshot() &&
		pst_instance_exists(firing->fsm, key))
		fire_by_update(firing, rel, key);
	if (!firing->taken && !recall_of_ended(firing))
		refuse_missing(firing);
	else if (firing->idempotency_key && firing->outcome.status == PST_TRANSITIONED)
		pst_idempotency_remember(firing);
	table_close(rel, NoLock);
}

/* ---- trying ---- */

static void
fire_work(void *arg)
{
	pst_fire((PstFiring *) arg);
}

/* The errored event: the instance is as it was. */
static int64
log_errored(PstFiring *firing, int sqlstate, const char *message)
{
	PstFsm	   *fsm = firing->row_fsm;
	PstLogRow	row = {
		.event_id = pst_log_draw_id(),
		.type = PST_ERRORED,
		.binding = fsm->binding,
		.machine = fsm->version->number,
		.key = firing->key,
		.event = firing->signal.event,
		.from_state = firing->outcome.from_state,
		.to_state = firing->outcome.from_state,
		.args = firing->args,
		.args_null = firing->args_null,
		.payload = pst_row_payload(fsm, firing->row),
		.reason = psprintf("%s: %s", unpack_sql_state(sqlstate), message)
	};

	pst_log_append(&row, 1);
	return row.event_id;
}

void
pst_try_fire(PstFiring *firing)
{
	ErrorData  *error;
	PstOutcome *outcome = &firing->outcome;

	firing->keeps_row = true;
	error = pst_attempt(fire_work, firing, true);
	if (error)
	{
		outcome->status = PST_FAILED;
		outcome->event = firing->signal.event;
		outcome->event_id = 0;
		outcome->to_state = outcome->from_state;
		outcome->reason = error->message;
	}
	else if (firing->refusal.sqlstate == 0 || firing->soft)
		return;
	if (firing->row && firing->row_fsm->logs[PST_ERRORED])
		outcome->event_id = log_errored(firing, error ? error->sqlerrcode : firing->refusal.sqlstate,
										outcome->reason);
}

/* ---- SQL ---- */

static char *
optional_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
pst_normal_key(PstFsm *fsm, const char *key)
{
	return pst_instance_key(fsm, pst_key_datums(fsm, key));
}

/* The arguments that fire() and try_fire() share. */
static void
read_arguments(FunctionCallInfo fcinfo, const char *key, PstFiring *firing, Relation *rel)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the FSM table, key and event of %s() must not be NULL",
						get_func_name(fcinfo->flinfo->fn_oid))));
	firing->fsm = pst_fsm_open(PG_GETARG_OID(0), RowExclusiveLock, rel);
	firing->key_parts = pst_key_datums(firing->fsm, key);
	firing->key = pst_instance_key(firing->fsm, firing->key_parts);
	firing->signal.event = optional_text(fcinfo, 2);
	firing->args_null = PG_ARGISNULL(3);
	firing->args = firing->args_null ? (Datum) 0 : JsonbPGetDatum(PG_GETARG_JSONB_P(3));
	firing->signal.expected_state = optional_text(fcinfo, 4);
	firing->idempotency_key = optional_text(fcinfo, 5);
	if (firing->idempotency_key && strlen(firing->idempotency_key) > PST_IDEMPOTENCY_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the idempotency key is too long"),
				 errdetail("It has %zu bytes; the most is %d.", strlen(firing->idempotency_key),
						   PST_IDEMPOTENCY_KEY_MAX)));
	firing->signal.to_state = optional_text(fcinfo, 6);
}

static Datum
outcome_result(FunctionCallInfo fcinfo, const PstFiring *firing)
{
	TupleDesc	desc = fcinfo->flinfo->fn_extra;

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		/* for the calls to come */
		desc = fcinfo->flinfo->fn_extra = BlessTupleDesc(CreateTupleDescCopy(desc));
		MemoryContextSwitchTo(old);
	}
	return pst_outcome_datum(&firing->outcome, desc);
}

/* fire(fsm, key, event, args, expected_state, idempotency_key, to_state) */
static Datum
fire(FunctionCallInfo fcinfo, const char *key)
{
	PstFiring	firing = {0};
	Relation	rel;

	read_arguments(fcinfo, key, &firing, &rel);
	pst_fire(&firing);
	table_close(rel, NoLock);
	if (firing.refusal.sqlstate && !firing.soft)
		pst_raise_refusal(&firing.refusal);
	return outcome_result(fcinfo, &firing);
}

/*
 * Whoever may not write the state gets an error, not an outcome: a failed
 * event is logged, and the log is for those who may fire.
 */
void
pst_check_right_to_fire(const PstFsm *fsm, Relation rel)
{
	if (pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(RelationGetRelid(rel), fsm->state_att, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
}

/* try_fire(), with the arguments of fire() */
static Datum
try_fire(FunctionCallInfo fcinfo, const char *key)
{
	PstFiring	firing = {0};
	Relation	rel;

	/* not the instance's trouble, nor could it be logged */
	PreventCommandIfReadOnly("try_fire()");
	read_arguments(fcinfo, key, &firing, &rel);
	pst_check_right_to_fire(firing.fsm, rel);
	pst_try_fire(&firing);
	table_close(rel, NoLock);
	return outcome_result(fcinfo, &firing);
}

/* force(fsm, key, to_state, reason) */
static Datum
force(FunctionCallInfo fcinfo, const char *key)
{
	PstFiring	firing = {0};
	Relation	rel;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the arguments of force() must not be NULL")));
	firing.fsm = pst_fsm_open(PG_GETARG_OID(0), RowExclusiveLock, &rel);
	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	firing.key = pst_normal_key(firing.fsm, key);
	firing.signal.to_state = optional_text(fcinfo, 2);
	firing.reason = optional_text(fcinfo, 3);
	firing.args_null = true;
	pst_fire(&firing);
	table_close(rel, NoLock);
	if (firing.refusal.sqlstate)
		pst_raise_refusal(&firing.refusal);
	return outcome_result(fcinfo, &firing);
}

char *
pst_text_key(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1));
}

char *
pst_bigint_key(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? "" : psprintf(INT64_FORMAT, PG_GETARG_INT64(1));
}

char *
pst_uuid_key(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? "" : DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1)));
}

Datum
pst_fire_text(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_fire_bigint(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_fire_uuid(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, pst_uuid_key(fcinfo));
}

Datum
pst_try_fire_text(PG_FUNCTION_ARGS)
{
	return try_fire(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_try_fire_bigint(PG_FUNCTION_ARGS)
{
	return try_fire(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_try_fire_uuid(PG_FUNCTION_ARGS)
{
	return try_fire(fcinfo, pst_uuid_key(fcinfo));
}

Datum
pst_force_text(PG_FUNCTION_ARGS)
{
	return force(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_force_bigint(PG_FUNCTION_ARGS)
{
	return force(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_force_uuid(PG_FUNCTION_ARGS)
{
	return force(fcinfo, pst_uuid_key(fcinfo));
}
