/*
 * trigger.c
 *	  The triggers of an FSM table.
 *
 * decide() runs BEFORE each row, last of the BEFORE triggers, under the row's
 * lock: it finds out what the write means, changes the row accordingly, draws
 * the event's id, and touches nothing else.  record() (record.c) runs AFTER each
 * row.  For an INSERT the ids are drawn there, when the key is surely ours.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "config/config.h"
#include "event/append.h"
#include "fmgr.h"
#include "transition/bulk.h"
#include "transition/decision.h"
#include "transition/fire.h"
#include "transition/idempotency.h"
#include "transition/trigger.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(pst_decide);
PG_FUNCTION_INFO_V1(pst_refuse_truncate);

bool
pst_is_our_trigger(const Trigger *trigger)
{
	bool		before = TRIGGER_FOR_BEFORE(trigger->tgtype);
	FmgrInfo	function;

	if (trigger->tgqual || trigger->tgnattr > 0 || !TRIGGER_FOR_ROW(trigger->tgtype) ||
		strcmp(trigger->tgname, before ? PST_DECIDE_TRIGGER : PST_RECORD_TRIGGER) != 0)
		return false;
	fmgr_info(trigger->tgfoid, &function);
	return function.fn_addr == (before ? pst_decide : pst_record);
}

/*
 * Only attach() makes these triggers: under another name or at another time one
 * would log what did not happen, or what has been logged.
 */
static TriggerData *
trigger_data(FunctionCallInfo fcinfo, const char *name)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("persistomata.%s() can only be called as a trigger", name)));
	return (TriggerData *) fcinfo->context;
}

TriggerData *
pst_row_trigger_data(FunctionCallInfo fcinfo, const char *name, const char *trigger, TriggerEvent timing)
{
	TriggerData *trigdata = trigger_data(fcinfo, name);

	if (strcmp(trigdata->tg_trigger->tgname, trigger) != 0 ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		(trigdata->tg_event & TRIGGER_EVENT_TIMINGMASK) != timing)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" may not call persistomata.%s()",
						trigdata->tg_trigger->tgname, name),
				 errdetail("Only the trigger \"%s\" that persistomata.attach() makes may do so.", trigger)));
	return trigdata;
}

/* The args of raw writes: what the session set. */
static Datum
session_args(bool *isnull)
{
	*isnull = pst_args == NULL || pst_args[0] == '\0';
	return *isnull ? (Datum) 0 : DirectFunctionCall1(jsonb_in, CStringGetDatum(pst_args));
}

/* ---- what a decision becomes ---- */

/* The tuple with what the move changed. */
static HeapTuple
moved_tuple(PstMove *move, HeapTuple tuple)
{
	int			n = bms_num_members(move->changed);
	int		   *columns;
	Datum	   *values;
	bool	   *nulls;
	int			column = -1;
	int			i = 0;

	if (n == 0)
		return tuple;
	columns = palloc(sizeof(int) * n);
	values = palloc(sizeof(Datum) * n);
	nulls = palloc(sizeof(bool) * n);
	while ((column = bms_next_member(move->changed, column)) >= 0)
	{
		columns[i] = column;
		values[i] = move->row->params[column - 1].value;
		nulls[i++] = move->row->params[column - 1].isnull;
	}
	return heap_modify_tuple_by_cols(tuple, move->fsm->desc, n, columns, values, nulls);
}

static void
fill_decision(PstDecision *decision, PstMove *move, const char *state, Datum args, bool args_null)
{
	MemoryContext old = MemoryContextSwitchTo(decision->cxt);
	ListCell   *lc;

	decision->type = PST_STATE;
	decision->nhops = list_length(move->hops);
	decision->hops = palloc(sizeof(PstHop) * Max(decision->nhops, 1));
	foreach(lc, move->hops)
		decision->hops[foreach_current_index(lc)] = *(PstHop *) lfirst(lc);
	decision->state = pstrdup(state);
	decision->void_actions = list_copy(move->void_actions);
	if (!args_null)
		decision->args = PointerGetDatum(PG_DETOAST_DATUM_COPY(args));
	decision->args_null = args_null;
	MemoryContextSwitchTo(old);
}

void
pst_draw_hop_ids(PstDecision *decision)
{
	for (int i = 0; i < decision->nhops; i++)
		decision->hops[i].event_id = pst_log_draw_id();
}

/* ---- decide ---- */

static void
report_to_firing(PstFiring *firing, PstMove *move, PstDecision *decision)
{
	MemoryContext old = MemoryContextSwitchTo(firing->cxt);

	if (decision)
	{
		firing->outcome.status = PST_TRANSITIONED;
		firing->outcome.event_id = decision->hops[0].event_id;
		if (decision->hops[0].edge)
			firing->outcome.event = pstrdup(decision->hops[0].edge->transition->event);
		firing->outcome.to_state = pstrdup(pst_move_state(move));
	}
	else
	{
		firing->refusal = move->refusal;
		firing->refusal.message = pstrdup(move->refusal.message);
		if (move->refusal.detail)
			firing->refusal.detail = pstrdup(move->refusal.detail);
		if (move->refusal.hint)
			firing->refusal.hint = pstrdup(move->refusal.hint);
		firing->soft = move->soft;
		firing->outcome.status = PST_REFUSED;
		firing->outcome.to_state = firing->outcome.from_state;
		firing->outcome.reason = firing->refusal.message;
	}
	MemoryContextSwitchTo(old);
}

/* What the firing tells of the row, whatever comes of the event. */
static void
introduce_row(PstFiring *firing, PstFsm *fsm, HeapTuple old)
{
	MemoryContext cxt = MemoryContextSwitchTo(firing->cxt);
	char	   *from = pst_row_state(fsm, old);

	firing->outcome.from_state = from ? from : pstrdup("");
	firing->row_fsm = fsm;
	if (firing->keeps_row)
		firing->row = heap_copytuple(old);
	MemoryContextSwitchTo(cxt);
}

/* Where the event leads, or why it is refused. */
static void
move_firing(PstMove *move, PstFiring *firing)
{
	const char *from = firing->outcome.from_state;
	PstScene	scene;

	if (firing->reason)
		pst_move_by_force(move, from, firing->signal.to_state);
	else
	{
		pst_enter_scene(&scene, move->fsm);
		pst_move_by_event(move, from, &firing->signal);
		pst_leave_scene(&scene);
	}
}

HeapTuple
pst_decide_firing(PstFsm *fsm, PstFiring *firing, HeapTuple old, HeapTuple new, PstDecision *decision)
{
	bool		direct = decision != NULL;
	PstMove		move;

	firing->taken = true;
	introduce_row(firing, fsm, old);
	if (firing->idempotency_key && pst_idempotency_recall(firing))
		return NULL;
	pst_move_init(&move, fsm, pst_row_make(fsm->desc, new, firing->args, firing->args_null));
	move_firing(&move, firing);
	if (move.refusal.sqlstate)
	{
		report_to_firing(firing, &move, NULL);
		return NULL;
	}
	if (!direct)
		decision = pst_decision_keep(fsm->relid, &old->t_self);
	else
		decision->cxt = CurrentMemoryContext;
	fill_decision(decision, &move, pst_move_state(&move), firing->args, firing->args_null);
	if (firing->reason)
		decision->reason = MemoryContextStrdup(decision->cxt, firing->reason);
	if (!direct)
		pst_draw_hop_ids(decision);
	report_to_firing(firing, &move, decision);
	return moved_tuple(&move, new);
}

/* A raw write changes the state. */
static HeapTuple
decide_write(PstFsm *fsm, HeapTuple old, HeapTuple new, const char *from, const char *to)
{
	bool		args_null;
	Datum		args = session_args(&args_null);
	PstScene	scene;
	PstMove		move;
	PstDecision *decision;

	pst_move_init(&move, fsm, pst_row_make(fsm->desc, new, args, args_null));
	pst_enter_scene(&scene, fsm);
	pst_move_by_write(&move, from, to, pst_row_make(fsm->desc, old, args, args_null));
	pst_leave_scene(&scene);
	if (move.refusal.sqlstate)
		pst_raise_refusal(&move.refusal);
	decision = pst_decision_keep(fsm->relid, &old->t_self);
	fill_decision(decision, &move, move.state >= PST_STAR ? pst_move_state(&move) : (to ? to : ""),
				  args, args_null);
	pst_draw_hop_ids(decision);
	return moved_tuple(&move, new);
}

static void
decide_value(PstFsm *fsm, HeapTuple old, const char *state)
{
	PstDecision *decision = pst_decision_keep(fsm->relid, &old->t_self);

	decision->type = PST_VALUE;
	decision->event_id = pst_log_draw_id();
	decision->state = MemoryContextStrdup(decision->cxt, state ? state : "");
	decision->args_null = true;
}

void
pst_refuse_key_change(PstFsm *fsm, HeapTuple old, HeapTuple new)
{
	PstRefusal	refusal;

	pst_refuse(&refusal, PST_KEY_CHANGES, "the key of an instance of \"%s\" never changes", fsm->name);
	refusal.detail = psprintf("It would change from %s to %s.", pst_row_key(fsm, old), pst_row_key(fsm, new));
	refusal.hint = pstrdup("Delete the row and insert another.");
	pst_raise_refusal(&refusal);
}

static HeapTuple
decide_update(PstFsm *fsm, HeapTuple old, HeapTuple new)
{
	PstFiring  *firing = NULL;
	char	   *from;
	char	   *to;

	if (pst_row_key_differs(fsm, old, new))
		pst_refuse_key_change(fsm, old, new);
	if (pst_firing_any(fsm))
		firing = pst_firing_for(fsm, pst_row_key(fsm, old));
	if (firing)
		return pst_decide_firing(fsm, firing, old, new, NULL);

	from = pst_row_state(fsm, old);
	to = pst_row_state(fsm, new);
	if (from && to && strcmp(from, to) == 0)
	{
		if (pst_row_payload_differs(fsm, old, new))
			decide_value(fsm, old, to);
		else
			pst_decision_forget(fsm->relid, &old->t_self);
		return new;
	}
	return decide_write(fsm, old, new, from, to);
}

static HeapTuple
decide_insert(PstFsm *fsm, HeapTuple new)
{
	const PstMachine *machine = fsm->machine;
	const char *entry = machine->states[machine->entry].name;
	char	   *state = pst_row_state(fsm, new);
	bool		args_null;
	Datum		args = session_args(&args_null);
	PstScene	scene;
	PstMove		move;

	if (fsm->enforce == PST_ENFORCE_LOG && state != NULL)
	{
		pst_decision_forget_new(fsm->relid, pst_row_key(fsm, new));
		return new;
	}
	if (state != NULL && strcmp(state, entry) != 0)
	{
		PstRefusal	refusal;

		pst_refuse(&refusal, PST_NOT_ENTRY, "a new instance of \"%s\" cannot begin in state \"%s\"",
				   fsm->name, state);
		refusal.hint = psprintf("Leave the state out, or insert the entry state \"%s\".", entry);
		pst_raise_refusal(&refusal);
	}

	pst_move_init(&move, fsm, pst_row_make(fsm->desc, new, args, args_null));
	move.row->params[fsm->state_att - 1].value = pst_state_datum(fsm, entry);
	move.row->params[fsm->state_att - 1].isnull = false;
	move.changed = bms_add_member(move.changed, fsm->state_att);
	pst_enter_scene(&scene, fsm);
	pst_move_by_birth(&move);
	pst_leave_scene(&scene);
	if (move.refusal.sqlstate)
		pst_raise_refusal(&move.refusal);
	if (move.hops != NIL || move.void_actions != NIL)
		fill_decision(pst_decision_keep_new(fsm->relid, pst_row_key(fsm, new)),
					  &move, pst_move_state(&move), args, args_null);
	else
		pst_decision_forget_new(fsm->relid, pst_row_key(fsm, new));
	return moved_tuple(&move, new);
}

static void
decide_delete(PstFsm *fsm, HeapTuple old)
{
	PstDecision *decision = pst_decision_keep(fsm->relid, &old->t_self);

	decision->type = PST_DELETED;
	decision->event_id = pst_log_draw_id();
	decision->args_null = true;
}

Datum
pst_decide(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = pst_row_trigger_data(fcinfo, "decide", PST_DECIDE_TRIGGER, TRIGGER_EVENT_BEFORE);
	PstFsm	   *fsm = pst_fsm_lookup(trigdata->tg_relation, false);
	HeapTuple	result = trigdata->tg_trigtuple;

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		result = decide_insert(fsm, trigdata->tg_trigtuple);
	else if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		result = decide_update(fsm, trigdata->tg_trigtuple, trigdata->tg_newtuple);
	else
		decide_delete(fsm, trigdata->tg_trigtuple);
	return PointerGetDatum(result);
}

Datum
pst_refuse_truncate(PG_FUNCTION_ARGS)
{
	Relation	rel = trigger_data(fcinfo, "refuse_truncate")->tg_relation;
	PstFsm	   *fsm = pst_fsm_lookup(rel, !pst_fsm_is_guarded(rel));

	if (fsm == NULL)
		return PointerGetDatum(NULL);
	if (!pst_allow_truncate)
		ereport(ERROR,
				(errcode(PST_TRUNCATE),
				 errmsg("cannot truncate FSM table \"%s\"", RelationGetRelationName(rel)),
				 errdetail("Its instances would go without an event."),
				 errhint("Delete the rows, or set persistomata.allow_truncate, which logs each as deleted.")));
	if (rel->rd_rel->relkind == RELKIND_RELATION)
		pst_log_all_rows(rel, PST_DELETED, "truncate", true);
	return PointerGetDatum(NULL);
}
