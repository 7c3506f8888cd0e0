/*
 * history.c
 *	  history() and state_at(): what the log says of an instance.
 *
 * Whoever may see the whole table may see its log.  The log is read as the
 * extension's owner, under the caller's snapshot; its slots are locked first, so
 * that none is emptied meanwhile.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "event/event.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "transition/fire.h"
#include "transition/history.h"
#include "transition/instance.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pst_history_text);
PG_FUNCTION_INFO_V1(pst_history_bigint);
PG_FUNCTION_INFO_V1(pst_history_uuid);
PG_FUNCTION_INFO_V1(pst_state_at_text);
PG_FUNCTION_INFO_V1(pst_state_at_bigint);
PG_FUNCTION_INFO_V1(pst_state_at_uuid);

#define HISTORY_COLUMNS 11

uint64
pst_log_query(const char *sql, int nargs, Oid *types, Datum *values)
{
	MemoryContext cxt = CurrentMemoryContext;
	PstIdentity save;

	pst_become_owner(&save);
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the event log");
	pst_restore_identity(&save);
	MemoryContextSwitchTo(cxt);
	return SPI_processed;
}

static Datum
found(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

TimestampTz
pst_log_reach(const PstFsm *fsm, bool *cut)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(fsm->binding)};
	TimestampTz result;
	bool		isnull;

	SPI_connect();
	(void) pst_log_query("SELECT persistomata.log_intact()", 0, NULL, NULL);
	(void) pst_log_query("SELECT pg_catalog.max(r.emptied_to), b.attached_at"
						 " FROM persistomata.binding b LEFT JOIN persistomata.ring r"
						 " ON r.emptied_to OPERATOR(pg_catalog.>) b.attached_at"
						 " WHERE b.id OPERATOR(pg_catalog.=) $1 GROUP BY b.attached_at", 1, types, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(PST_SNAPSHOT_TOO_OLD),
				 errmsg("\"%s\" was attached after this snapshot was taken", fsm->name)));
	result = DatumGetTimestampTz(found(0, 1, &isnull));
	*cut = !isnull;
	if (isnull)
		result = DatumGetTimestampTz(found(0, 2, &isnull));
	SPI_finish();
	return result;
}

/* The table and the key of a call, with the right to read. */
static char *
open_history(FunctionCallInfo fcinfo, const char *key, PstFsm **fsm, Relation *rel)
{
	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the arguments of %s() must not be NULL", get_func_name(fcinfo->flinfo->fn_oid))));
	*fsm = pst_fsm_open(PG_GETARG_OID(0), AccessShareLock, rel);
	pst_check_right_to_read(*rel);
	return pst_normal_key(*fsm, key);
}

/* ---- history ---- */

static bool
is_text(uint64 row, int column, const char *text)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return value && strcmp(value, text) == 0;
}

/* history(fsm, key) */
static Datum
history(FunctionCallInfo fcinfo, const char *key)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	PstFsm	   *fsm;
	Relation	rel;
	TimestampTz reach;
	bool		cut;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	key = open_history(fcinfo, key, &fsm, &rel);
	reach = pst_log_reach(fsm, &cut);
	values[0] = Int32GetDatum(fsm->binding);
	values[1] = CStringGetTextDatum(key);
	SPI_connect();
	n = pst_log_query("SELECT l.event_id, persistomata.event_type_name(l.type), v.version, l.event, l.from_state,"
					  " l.to_state, l.args, l.payload, l.reason, l.occurred_at, l.actor"
					  " FROM persistomata.log_row l"
					  " LEFT JOIN persistomata.machine_version v ON v.id OPERATOR(pg_catalog.=) l.machine"
					  " WHERE l.binding OPERATOR(pg_catalog.=) $1 AND l.key OPERATOR(pg_catalog.=) $2"
					  " ORDER BY l.event_id", lengthof(types), types, values);
	for (uint64 i = 0; i < n; i++)
	{
		Datum		columns[HISTORY_COLUMNS];
		bool		nulls[HISTORY_COLUMNS];

		for (int k = 0; k < HISTORY_COLUMNS; k++)
			columns[k] = found(i, k + 1, &nulls[k]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, columns, nulls);
	}
	if (cut && (n == 0 || !is_text(0, 2, "init")))
		ereport(NOTICE,
				(errmsg("the event log reaches back to %s", timestamptz_to_str(reach)),
				 errdetail("What happened to instance %s before is no longer kept.", key)));
	SPI_finish();
	table_close(rel, NoLock);
	return (Datum) 0;
}

Datum
pst_history_text(PG_FUNCTION_ARGS)
{
	return history(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_history_bigint(PG_FUNCTION_ARGS)
{
	return history(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_history_uuid(PG_FUNCTION_ARGS)
{
	return history(fcinfo, pst_uuid_key(fcinfo));
}

/* ---- state_at ---- */

/* The state that the first row of the result tells, or NULL. */
static char *
found_state(MemoryContext cxt, int column)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(cxt, value) : NULL;
}

/*
 * The last event until then tells its state after it; if there is none, the
 * first one later tells the state before; if there is none either, nothing has
 * ever happened, and the row is as it was.  Returns false in this last case.
 */
static bool
state_from_log(PstFsm *fsm, const char *key, TimestampTz at, char **state)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(fsm->binding), CStringGetTextDatum(key), TimestampTzGetDatum(at)};
	bool		told = true;

	*state = NULL;
	SPI_connect();
	if (pst_log_query("SELECT type, to_state FROM persistomata.log_row"
					  " WHERE binding OPERATOR(pg_catalog.=) $1 AND key OPERATOR(pg_catalog.=) $2"
					  " AND occurred_at OPERATOR(pg_catalog.<=) $3 AND type OPERATOR(pg_catalog.<>) 'e'::\"char\""
					  " ORDER BY event_id DESC LIMIT 1", lengthof(types), types, values) > 0)
		*state = is_text(0, 1, "d") ? NULL : found_state(cxt, 2);
	else if (pst_log_query("SELECT type, from_state FROM persistomata.log_row"
						   " WHERE binding OPERATOR(pg_catalog.=) $1 AND key OPERATOR(pg_catalog.=) $2"
						   " AND occurred_at OPERATOR(pg_catalog.>) $3 AND type OPERATOR(pg_catalog.<>) 'e'::\"char\""
						   " ORDER BY event_id LIMIT 1", lengthof(types), types, values) > 0)
		*state = is_text(0, 1, "i") ? NULL : found_state(cxt, 2);
	else
		told = false;
	SPI_finish();
	return told;
}

/* state_at(fsm, key, at) */
static Datum
state_at(FunctionCallInfo fcinfo, const char *key)
{
	PstFsm	   *fsm;
	Relation	rel;
	TimestampTz at;
	TimestampTz reach;
	bool		cut;
	char	   *state;

	key = open_history(fcinfo, key, &fsm, &rel);
	at = PG_GETARG_TIMESTAMPTZ(2);
	if (!fsm->logs[PST_STATE])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the states of \"%s\" are not logged", fsm->name),
				 errhint("Attach it with the type state among its types.")));
	reach = pst_log_reach(fsm, &cut);
	if (at < reach)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("the event log of \"%s\" reaches back to %s", fsm->name, timestamptz_to_str(reach)),
				 cut ? errhint("Events are kept for persistomata.retention.")
				 : errdetail("The table was attached then.")));
	if (!state_from_log(fsm, key, at, &state))
	{
		HeapTuple	tuple = pst_instance_read(fsm, rel, key);

		state = tuple ? pst_row_state(fsm, tuple) : NULL;
	}
	table_close(rel, NoLock);
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(state));
}

Datum
pst_state_at_text(PG_FUNCTION_ARGS)
{
	return state_at(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_state_at_bigint(PG_FUNCTION_ARGS)
{
	return state_at(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_state_at_uuid(PG_FUNCTION_ARGS)
{
	return state_at(fcinfo, pst_uuid_key(fcinfo));
}
