/*
 * schedule.c
 *	  fire_at(), cancel_timer(), and writes to the view of timers.
 *
 * A delayed event is sent with the rights of the table's owner, so whoever
 * delays one must be able to send it now: the caller locks the instance as
 * fire() would, under its own rights and row security.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat/compat.h"
#include "event/log.h"
#include "event/wake.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "transition/fire.h"
#include "transition/timer.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pst_fire_at_text);
PG_FUNCTION_INFO_V1(pst_fire_at_bigint);
PG_FUNCTION_INFO_V1(pst_fire_at_uuid);
PG_FUNCTION_INFO_V1(pst_cancel_timer);
PG_FUNCTION_INFO_V1(pst_change_timer);

static PstQuery find_query = {
	"SELECT b.relid::pg_catalog.oid, t.key"
	" FROM persistomata.timer_entry t JOIN persistomata.binding b ON b.id OPERATOR(pg_catalog.=) t.binding"
	" WHERE t.id OPERATOR(pg_catalog.=) $1 AND b.relid IS NOT NULL",
	1, {INT8OID}, NULL
};

static PstQuery delete_query = {
	"DELETE FROM persistomata.timer_entry WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

/* A new time is a new life, also for one that was parked; an infinite one parks it. */
static PstQuery move_query = {
	"UPDATE persistomata.timer_entry SET due_at = $2, tries = 0, last_error = NULL,"
	" parked = NOT pg_catalog.isfinite($2) WHERE id OPERATOR(pg_catalog.=) $1",
	2, {INT8OID, TIMESTAMPTZOID}, NULL
};

/* ---- rights ---- */

/* The instance, locked with the caller's rights; PF004 if the caller cannot fire at it. */
static void
lock_instance(PstFsm *fsm, Relation rel, const char *key)
{
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	char	   *condition = pst_key_condition(fsm, types);
	char	   *sql = psprintf("SELECT FROM %s WHERE %s FOR NO KEY UPDATE",
							   quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
														  RelationGetRelationName(rel)), condition);
	Datum	   *values = pst_key_datums(fsm, key);
	bool		found;

	pst_check_right_to_fire(fsm, rel);
	SPI_connect();
	SPI_execute_with_args(sql, fsm->nkeys, types, values, NULL, false, 1);
	found = SPI_processed > 0;
	SPI_finish();
	if (!found)
		ereport(ERROR,
				(errcode(PST_NO_INSTANCE),
				 errmsg("\"%s\" has no instance %s", fsm->name, key)));
}

/* The table and the key of a timer; false if there is no such timer. */
static bool
find_timer(int64 id, Oid *relid, char **key)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(id);
	PstIdentity save;
	bool		found;

	pst_become_owner(&save);
	SPI_connect();
	found = pst_query_write(&find_query, &arg, NULL) > 0;
	if (found)
	{
		*relid = DatumGetObjectId(pst_result(0, 1, NULL));
		*key = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	pst_restore_identity(&save);
	MemoryContextSwitchTo(cxt);
	return found;
}

/* ---- fire_at ---- */

static void
check_event(const PstFsm *fsm, const char *event)
{
	for (int i = 0; i < fsm->nedges; i++)
		if (pst_edge_offered(&fsm->edges[i], fsm->edges[i].transition->from, event))
			return;
	ereport(ERROR,
			(errcode(PST_NO_TRANSITION),
			 errmsg("machine \"%s\" has no event \"%s\"", fsm->version->name, event)));
}

static TimestampTz
finite_time(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("the time of a delayed event must be finite")));
	return at;
}

/* fire_at(fsm, key, event, at, args) */
static Datum
fire_at(FunctionCallInfo fcinfo, const char *key)
{
	Relation	rel;
	PstFsm	   *fsm;
	char	   *event;
	int64		id;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the FSM table, key, event and time of fire_at() must not be NULL")));
	fsm = pst_fsm_open(PG_GETARG_OID(0), RowExclusiveLock, &rel);
	key = pst_normal_key(fsm, key);
	event = text_to_cstring(PG_GETARG_TEXT_PP(2));
	check_event(fsm, event);
	lock_instance(fsm, rel, key);
	id = pst_timer_add(fsm, key, event, finite_time(PG_GETARG_TIMESTAMPTZ(3)),
					   PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4), PG_ARGISNULL(4));
	table_close(rel, NoLock);
	pst_event_logged();			/* the scheduler looks */
	PG_RETURN_INT64(id);
}

Datum
pst_fire_at_text(PG_FUNCTION_ARGS)
{
	return fire_at(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_fire_at_bigint(PG_FUNCTION_ARGS)
{
	return fire_at(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_fire_at_uuid(PG_FUNCTION_ARGS)
{
	return fire_at(fcinfo, pst_uuid_key(fcinfo));
}

/* cancel_timer(id): was there one? */
Datum
pst_cancel_timer(PG_FUNCTION_ARGS)
{
	Datum		id = PG_GETARG_DATUM(0);
	Oid			relid;
	char	   *key;
	Relation	rel;
	PstFsm	   *fsm;

	if (!find_timer(DatumGetInt64(id), &relid, &key))
		PG_RETURN_BOOL(false);
	fsm = pst_fsm_open(relid, RowExclusiveLock, &rel);
	lock_instance(fsm, rel, key);
	table_close(rel, NoLock);
	PG_RETURN_BOOL(pst_timer_write(&delete_query, &id, NULL, NULL) > 0);
}

/* ---- the view ---- */

/* Columns of persistomata.timer, as far as they matter here. */
enum
{
	VIEW_ID = 1, VIEW_DUE_AT = 5
};

static void
check_changes(TriggerData *trigdata, TupleDesc desc)
{
	for (int i = 1; i <= desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i - 1);
		bool		old_null;
		bool		new_null;
		Datum		old = heap_getattr(trigdata->tg_trigtuple, i, desc, &old_null);
		Datum		new = heap_getattr(trigdata->tg_newtuple, i, desc, &new_null);

		if (i == VIEW_DUE_AT ? new_null :
			(old_null != new_null || (!old_null && !datum_image_eq(old, new, att->attbyval, att->attlen))))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot change column \"%s\" of a timer", NameStr(att->attname)),
					 errhint("Only the time can be changed, and not to NULL.")));
	}
}

static void
check_owner(int64 id)
{
	Oid			relid;
	char	   *key;

	if (find_timer(id, &relid, &key) && !pst_owns_table(relid))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

/* INSTEAD OF UPDATE OR DELETE on persistomata.timer: for the table's owner. */
Datum
pst_change_timer(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	result;
	Datum		args[2];
	bool		isnull;
	uint64		processed;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("persistomata.change_timer() can only be called as a trigger")));
	/* another view's columns need not be these */
	if (RelationGetRelid(trigdata->tg_relation) != pst_log_relation("timer"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("only the view persistomata.timer may have the trigger function persistomata.change_timer()")));
	desc = RelationGetDescr(trigdata->tg_relation);
	args[0] = heap_getattr(trigdata->tg_trigtuple, VIEW_ID, desc, &isnull);
	check_owner(DatumGetInt64(args[0]));
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		result = trigdata->tg_trigtuple;
		processed = pst_timer_write(&delete_query, args, NULL, NULL);
	}
	else
	{
		result = trigdata->tg_newtuple;
		check_changes(trigdata, desc);
		args[1] = heap_getattr(trigdata->tg_newtuple, VIEW_DUE_AT, desc, &isnull);
		processed = pst_timer_write(&move_query, args, NULL, NULL);
	}
	pst_event_logged();			/* the scheduler looks */
	return PointerGetDatum(processed > 0 ? result : NULL);
}
