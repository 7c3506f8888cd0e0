/*
 * record.c
 *	  The AFTER trigger of an FSM table: what was decided is recorded.
 *
 * record() runs AFTER each row, first of the AFTER triggers, or for fire() when
 * it has written the row itself: it holds the written row against the decision,
 * writes the log, arms timers and runs void actions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "event/append.h"
#include "fmgr.h"
#include "transition/bulk.h"
#include "transition/decision.h"
#include "transition/ending.h"
#include "transition/timer.h"
#include "transition/trigger.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(pst_record);

static void
refuse_difference(PstFsm *fsm, const char *state, const char *decided)
{
	PstRefusal	refusal;

	pst_refuse(&refusal, PST_ROW_DIFFERS,
			   "a trigger changed an instance of \"%s\" after its transition was decided", fsm->name);
	refusal.detail = psprintf("The row is in state \"%s\"; decided was \"%s\".", state, decided);
	refusal.hint = pstrdup("Triggers that set the state must run before the trigger \"~persistomata\".");
	pst_raise_refusal(&refusal);
}

/* A log row about this instance, with what all its types share. */
static PstLogRow
log_row(PstFsm *fsm, PstEventType type, const char *key)
{
	PstLogRow	row = {
		.type = type,
		.binding = fsm->binding,
		.machine = fsm->version->number,
		.key = key,
		.args_null = true,
		.payload_null = true
	};

	return row;
}

static void
log_hops(PstFsm *fsm, const char *key, PstDecision *decision, Datum payload,
		 const char *from, const char *to)
{
	PstLogRow  *rows = palloc(sizeof(PstLogRow) * decision->nhops);

	if (!fsm->logs[PST_STATE])
		return;
	for (int i = 0; i < decision->nhops; i++)
	{
		const PstHop *hop = &decision->hops[i];

		rows[i] = log_row(fsm, PST_STATE, key);
		rows[i].event_id = hop->event_id;
		rows[i].event = hop->edge ? hop->edge->transition->event : NULL;
		rows[i].from_state = hop->edge ? pst_machine_state_name(fsm->machine, hop->from) : from;
		rows[i].to_state = hop->edge ? pst_machine_state_name(fsm->machine, hop->to) : to;
		rows[i].reason = decision->reason;
		rows[i].args = decision->args;
		rows[i].args_null = decision->args_null;
		rows[i].payload = payload;
		rows[i].payload_null = false;
	}
	pst_log_append(rows, decision->nhops);
}

static void
run_void_actions(PstFsm *fsm, PstDecision *decision, HeapTuple tuple)
{
	PstScene	scene;
	ListCell   *lc;

	if (decision->void_actions == NIL)
		return;
	pst_enter_scene(&scene, fsm);
	foreach(lc, decision->void_actions)
		pst_run_void_action(fsm, lfirst(lc),
							pst_row_make(fsm->desc, tuple, decision->args, decision->args_null));
	pst_leave_scene(&scene);
}

static void
enter_state(PstFsm *fsm, const char *key, const char *state, HeapTuple tuple)
{
	if (fsm->has_timers)
		pst_timers_entered(fsm, key, pst_machine_state(fsm->machine, state), tuple);
}

void
pst_record_move(PstFsm *fsm, PstDecision *decision, const char *key, const char *from,
				const char *state, HeapTuple new)
{
	if (fsm->logs[PST_STATE])
		log_hops(fsm, key, decision, pst_row_payload(fsm, new), from, state);
	enter_state(fsm, key, state, new);
	run_void_actions(fsm, decision, new);
	pst_end_instance(fsm, state, new);
}

static void
log_value(PstFsm *fsm, const char *key, int64 event_id, const char *state, HeapTuple tuple)
{
	PstLogRow	row = log_row(fsm, PST_VALUE, key);

	if (!fsm->logs[PST_VALUE])
		return;
	row.event_id = event_id;
	row.from_state = row.to_state = state;
	row.payload = pst_row_payload(fsm, tuple);
	row.payload_null = false;
	pst_log_append(&row, 1);
}

/*
 * BEFORE said that nothing worth an event changes.  A trigger of the user's that
 * sorts after ours may have changed something since, and generated columns are
 * computed only now.
 */
static void
record_undecided(PstFsm *fsm, HeapTuple old, HeapTuple new, const char *from, const char *state)
{
	if (from == NULL || strcmp(from, state) != 0)
		refuse_difference(fsm, state, from ? from : "");
	if (pst_row_payload_differs(fsm, old, new))
		log_value(fsm, pst_row_key(fsm, new), pst_log_draw_id(), state, new);
}

static void
record_update(PstFsm *fsm, HeapTuple old, HeapTuple new)
{
	PstDecision *decision = pst_decision_take(fsm->relid, &old->t_self);
	char	   *from = pst_row_state(fsm, old);
	char	   *state = pst_row_state(fsm, new);
	char	   *key;

	if (pst_row_key_differs(fsm, old, new))
		pst_refuse_key_change(fsm, old, new);
	if (state == NULL)
		state = "";
	if (decision == NULL)
	{
		record_undecided(fsm, old, new, from, state);
		return;
	}
	if (strcmp(state, decision->state) != 0)
		refuse_difference(fsm, state, decision->state);
	key = pst_row_key(fsm, new);
	if (decision->type == PST_VALUE)
		log_value(fsm, key, decision->event_id, state, new);
	else
		pst_record_move(fsm, decision, key, from, state, new);
	pst_decision_drop(decision);
}

static void
record_insert(PstFsm *fsm, HeapTuple new)
{
	char	   *key = pst_row_key(fsm, new);
	char	   *state = pst_row_state(fsm, new);
	const char *entry = fsm->machine->states[fsm->machine->entry].name;
	PstDecision *decision = pst_decision_take_new(fsm->relid, key);
	PstLogRow	row = log_row(fsm, PST_INIT, key);

	if (state == NULL)
		state = "";
	if (fsm->enforce == PST_ENFORCE_LOG && decision == NULL)
		entry = state;
	if (strcmp(state, decision ? decision->state : entry) != 0)
		refuse_difference(fsm, state, decision ? decision->state : entry);
	row.event_id = pst_log_draw_id();
	row.from_state = "*";
	row.to_state = entry;
	row.payload = pst_row_payload(fsm, new);
	row.payload_null = false;
	if (fsm->logs[PST_INIT])
		pst_log_append(&row, 1);
	if (decision)
	{
		pst_draw_hop_ids(decision);
		log_hops(fsm, key, decision, row.payload, entry, state);
	}
	enter_state(fsm, key, state, new);
	if (decision)
		run_void_actions(fsm, decision, new);
	pst_end_instance(fsm, state, new);
	pst_decision_drop(decision);
}

static void
record_delete(PstFsm *fsm, HeapTuple old)
{
	PstDecision *decision = pst_decision_take(fsm->relid, &old->t_self);
	char	   *key = pst_row_key(fsm, old);
	PstLogRow	row = log_row(fsm, PST_DELETED, key);

	row.event_id = decision ? decision->event_id : pst_log_draw_id();
	row.from_state = pst_row_state(fsm, old);
	row.payload = pst_row_payload(fsm, old);
	row.payload_null = false;
	if (fsm->logs[PST_DELETED])
		pst_log_append(&row, 1);
	pst_timers_cancel(fsm, key);	/* delayed events, if no others */
	pst_decision_drop(decision);
}

Datum
pst_record(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = pst_row_trigger_data(fcinfo, "record", PST_RECORD_TRIGGER, TRIGGER_EVENT_AFTER);
	PstFsm	   *fsm = pst_fsm_lookup(trigdata->tg_relation, false);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		record_insert(fsm, trigdata->tg_trigtuple);
	else if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		record_update(fsm, trigdata->tg_trigtuple, trigdata->tg_newtuple);
	else
		record_delete(fsm, trigdata->tg_trigtuple);
	return PointerGetDatum(NULL);
}

/*
 * A statement trigger of the table and of each of its partitions.  One that was
 * left behind, on a partition that was detached, has nothing to say.
 */
