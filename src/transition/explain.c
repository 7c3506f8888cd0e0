/*
 * explain.c
 *	  explain() and can(): what could happen to an instance now.
 *
 * A dry run: the row is read as the caller may see it, without a lock, and each
 * guard runs in a subtransaction of its own that is rolled back.
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "transition/attempt.h"
#include "transition/fire.h"
#include "transition/instance.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(pst_explain_text);
PG_FUNCTION_INFO_V1(pst_explain_bigint);
PG_FUNCTION_INFO_V1(pst_explain_uuid);
PG_FUNCTION_INFO_V1(pst_can_text);
PG_FUNCTION_INFO_V1(pst_can_bigint);
PG_FUNCTION_INFO_V1(pst_can_uuid);

/* ---- guards ---- */

/* What a guard says of the row. */
typedef struct Verdict
{
	PstMove    *move;
	const PstEdge *edge;
	bool		holds;
	bool		isnull;
	bool		failed;			/* it raised an error */
	const char *reason;			/* why the event cannot be fired as it is, or NULL */
} Verdict;

static void
guard_work(void *arg)
{
	Verdict    *verdict = (Verdict *) arg;
	PstScene	scene;

	pst_enter_scene(&scene, verdict->move->fsm);
	verdict->holds = pst_guard_holds(verdict->move, verdict->edge, &verdict->isnull);
	pst_leave_scene(&scene);
}

static void
judge(Verdict *verdict)
{
	ErrorData  *error = NULL;

	verdict->holds = true;
	verdict->reason = NULL;
	if (verdict->edge->guard)
		error = pst_attempt(guard_work, verdict, false);
	if (error)
	{
		verdict->holds = false;
		verdict->failed = true;
		verdict->reason = error->message;
	}
	else if (!verdict->holds)
		verdict->reason = verdict->isnull ? "the guard is NULL" : "the guard is false";
	else if (verdict->edge->transition->ambiguous && verdict->edge->action.kind != PST_ACTION_ROW)
		verdict->reason = "the event has several targets: name one as to_state";
}

/* ---- SQL ---- */

/* The instance of (fsm, key), its present state in the move. */
static void
open_instance(FunctionCallInfo fcinfo, const char *key, int args, PstMove *move, Relation *rel)
{
	PstFsm	   *fsm;
	HeapTuple	tuple;
	char	   *state;
	PstRefusal	refusal;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the FSM table and key of %s() must not be NULL",
						get_func_name(fcinfo->flinfo->fn_oid))));
	fsm = pst_fsm_open(PG_GETARG_OID(0), AccessShareLock, rel);
	key = pst_normal_key(fsm, key);
	tuple = pst_instance_read(fsm, *rel, key);
	if (tuple == NULL)
	{
		pst_refuse(&refusal, PST_NO_INSTANCE, "\"%s\" has no instance %s", fsm->name, key);
		pst_raise_refusal(&refusal);
	}
	pst_move_init(move, fsm, pst_row_make(fsm->desc, tuple,
										  PG_ARGISNULL(args) ? (Datum) 0 : PG_GETARG_DATUM(args),
										  PG_ARGISNULL(args)));
	state = pst_row_state(fsm, tuple);
	move->state = state ? pst_machine_state(fsm->machine, state) : -2;
}

static void
put_verdict(ReturnSetInfo *rsinfo, const Verdict *verdict)
{
	const PstTransition *transition = verdict->edge->transition;
	Datum		values[7] = {0};
	bool		nulls[7] = {false};

	pst_put_text(values, nulls, 0, transition->event);
	pst_put_text(values, nulls, 1, pst_transition_kind_name(transition->kind));
	pst_put_text(values, nulls, 2, pst_machine_state_name(verdict->move->fsm->machine, transition->to));
	pst_put_text(values, nulls, 3, transition->guard.text);
	pst_put_text(values, nulls, 4, transition->action.text);
	values[5] = BoolGetDatum(verdict->holds);
	pst_put_text(values, nulls, 6, verdict->reason);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
explain(FunctionCallInfo fcinfo, const char *key)
{
	PstMove		move;
	Relation	rel;

	InitMaterializedSRF(fcinfo, 0);
	open_instance(fcinfo, key, 2, &move, &rel);
	for (int i = 0; i < move.fsm->nedges; i++)
	{
		Verdict		verdict = {.move = &move, .edge = &move.fsm->edges[i]};

		CHECK_FOR_INTERRUPTS();
		if (!pst_edge_offered(verdict.edge, move.state, NULL))
			continue;
		judge(&verdict);
		put_verdict((ReturnSetInfo *) fcinfo->resultinfo, &verdict);
	}
	table_close(rel, NoLock);
	return (Datum) 0;
}

/* As fire() chooses: the first edge that holds; one that fails before it ends the search. */
static bool
event_passes(PstMove *move, const char *event)
{
	for (int i = 0; i < move->fsm->nedges; i++)
	{
		Verdict		verdict = {.move = move, .edge = &move->fsm->edges[i]};

		if (!pst_edge_offered(verdict.edge, move->state, event))
			continue;
		judge(&verdict);
		if (verdict.holds)
			return verdict.reason == NULL;
		if (verdict.failed)
			return false;
	}
	return false;
}

static Datum
can(FunctionCallInfo fcinfo, const char *key)
{
	PstMove		move;
	Relation	rel;
	bool		result;

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the event of can() must not be NULL")));
	open_instance(fcinfo, key, 3, &move, &rel);
	result = event_passes(&move, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	table_close(rel, NoLock);
	PG_RETURN_BOOL(result);
}

Datum
pst_explain_text(PG_FUNCTION_ARGS)
{
	return explain(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_explain_bigint(PG_FUNCTION_ARGS)
{
	return explain(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_explain_uuid(PG_FUNCTION_ARGS)
{
	return explain(fcinfo, pst_uuid_key(fcinfo));
}

Datum
pst_can_text(PG_FUNCTION_ARGS)
{
	return can(fcinfo, pst_text_key(fcinfo));
}

Datum
pst_can_bigint(PG_FUNCTION_ARGS)
{
	return can(fcinfo, pst_bigint_key(fcinfo));
}

Datum
pst_can_uuid(PG_FUNCTION_ARGS)
{
	return can(fcinfo, pst_uuid_key(fcinfo));
}
