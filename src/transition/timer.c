/*
 * timer.c
 *	  The rows of persistomata.timer_entry: time events, and events that fire_at()
 *	  delays.
 *
 * A time event is armed by the record trigger, in the transaction that enters
 * its state, and goes with the state; a delayed event has no state and goes with
 * the row.  Writers come here with the instance's row locked.  The table is
 * written as the extension's owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "event/query.h"
#include "machine/owner.h"
#include "transition/engine.h"
#include "transition/timer.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

static PstQuery cancel_state = {
	"DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) $1"
	" AND key OPERATOR(pg_catalog.=) $2 AND state IS NOT NULL",
	2, {INT4OID, TEXTOID}, NULL
};

static PstQuery cancel_instance = {
	"DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) $1"
	" AND key OPERATOR(pg_catalog.=) $2",
	2, {INT4OID, TEXTOID}, NULL
};

static PstQuery cancel_table = {
	"DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) $1"
	" AND ($2 OR state IS NOT NULL)",
	2, {INT4OID, BOOLOID}, NULL
};

static PstQuery insert_timer = {
	"INSERT INTO persistomata.timer_entry (binding, key, event, state, due_at, every, args)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
	7, {INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INTERVALOID, JSONBOID}, NULL
};

uint64
pst_timer_write(PstQuery *query, const Datum *args, const char *nulls, int64 *id)
{
	MemoryContext cxt = CurrentMemoryContext;
	PstIdentity save;
	uint64		processed;

	pst_become_owner(&save);
	SPI_connect();
	processed = pst_query_write(query, args, nulls);
	if (id && processed > 0)
		*id = DatumGetInt64(pst_result(0, 1, NULL));
	SPI_finish();
	pst_restore_identity(&save);
	MemoryContextSwitchTo(cxt);
	return processed;
}

static void
cancel(PstQuery *query, PstFsm *fsm, const char *key)
{
	Datum		args[] = {Int32GetDatum(fsm->binding), CStringGetTextDatum(key)};

	pst_timer_write(query, args, NULL, NULL);
}

void
pst_timers_cancel(PstFsm *fsm, const char *key)
{
	cancel(&cancel_instance, fsm, key);
}

void
pst_timers_cancel_all(int binding, bool delayed)
{
	Datum		args[] = {Int32GetDatum(binding), BoolGetDatum(delayed)};

	pst_timer_write(&cancel_table, args, NULL, NULL);
}

int64
pst_timer_add(PstFsm *fsm, const char *key, const char *event, TimestampTz at, Datum args, bool args_null)
{
	Datum		values[] = {
		Int32GetDatum(fsm->binding), CStringGetTextDatum(key), CStringGetTextDatum(event), (Datum) 0,
		TimestampTzGetDatum(at), (Datum) 0, args
	};
	char		nulls[] = "   n nn";
	int64		id = 0;

	if (!args_null)
		nulls[6] = ' ';
	pst_timer_write(&insert_timer, values, nulls, &id);
	return id;
}

/* The scheduler steps over the ticks that it missed: it needs steps. */
static void
check_step(const PstEdge *edge, Datum step)
{
	Datum		zero = DirectFunctionCall3(interval_in, CStringGetDatum("0"),
										   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	if (!DatumGetBool(DirectFunctionCall2(interval_gt, step, zero)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time event \"%s\" needs an interval above zero", edge->transition->event)));
}

static void
arm(PstFsm *fsm, const char *key, const PstEdge *edge, HeapTuple tuple)
{
	Datum		values[7] = {0};
	char		nulls[] = "      n";
	bool		isnull;
	bool		repeats = edge->transition->kind == PST_EVERY && edge->timing->type == INTERVALOID;
	TimestampTz now = GetCurrentTimestamp();
	Datum		time = pst_evaluate(edge->timing, pst_row_make(fsm->desc, tuple, (Datum) 0, true), &isnull);

	if (isnull)
		return;					/* no time, no timer */
	if (repeats)
		check_step(edge, time);
	else
		nulls[5] = 'n';
	values[0] = Int32GetDatum(fsm->binding);
	values[1] = CStringGetTextDatum(key);
	values[2] = CStringGetTextDatum(edge->transition->event);
	values[3] = CStringGetTextDatum(pst_machine_state_name(fsm->machine, edge->transition->from));
	values[4] = edge->timing->type == TIMESTAMPTZOID ? time :
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), time);
	values[5] = time;
	pst_timer_write(&insert_timer, values, nulls, NULL);
}

void
pst_timers_arm(PstFsm *fsm, const char *key, int state, HeapTuple tuple)
{
	PstScene	scene;

	pst_enter_scene(&scene, fsm);
	for (int i = 0; i < fsm->nedges; i++)
		if (fsm->edges[i].timing && fsm->edges[i].transition->from == state)
			arm(fsm, key, &fsm->edges[i], tuple);
	pst_leave_scene(&scene);
}

void
pst_timers_entered(PstFsm *fsm, const char *key, int state, HeapTuple tuple)
{
	cancel(&cancel_state, fsm, key);
	pst_timers_arm(fsm, key, state, tuple);
}
