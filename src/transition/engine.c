/*
 * engine.c
 *	  Decides: guards in definition order, exit, transition and entry actions,
 *	  then hard hops, all on one row version.
 *
 * Takes no locks and writes nothing; the user code that it runs may do either.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "config/config.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "transition/engine.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

/* ---- the scene ---- */

void
pst_enter_scene(PstScene *scene, const PstFsm *fsm)
{
	scene->path_level = 0;
	scene->snapshot = fsm->needs_path;
	if (fsm->needs_path)
	{
		scene->path_level = pst_enter_path(fsm);
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
}

void
pst_leave_scene(PstScene *scene)
{
	if (scene->snapshot)
		PopActiveSnapshot();
	pst_leave_path(scene->path_level);
}

/* ---- errors in guards and actions ---- */

typedef struct SnippetPlace
{
	const char *what;
	const PstMachine *machine;
	const PstTransition *transition;	/* or NULL */
	int			state;
} SnippetPlace;

static void
snippet_context(void *arg)
{
	SnippetPlace *place = (SnippetPlace *) arg;

	if (place->transition)
		errcontext("%s of event \"%s\" in state \"%s\"", place->what, place->transition->event,
				   pst_machine_state_name(place->machine, place->transition->from));
	else
		errcontext("%s action of state \"%s\"", place->what,
				   pst_machine_state_name(place->machine, place->state));
}

static void
push_place(ErrorContextCallback *callback, SnippetPlace *place)
{
	callback->callback = snippet_context;
	callback->arg = place;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/* ---- moves ---- */

void
pst_move_init(PstMove *move, PstFsm *fsm, ParamListInfo row)
{
	memset(move, 0, sizeof(*move));
	move->fsm = fsm;
	move->row = row;
}

const char *
pst_move_state(const PstMove *move)
{
	return pst_machine_state_name(move->fsm->machine, move->state);
}

static void
add_hop(PstMove *move, int from, int to, const PstEdge *edge)
{
	PstHop	   *hop = palloc0(sizeof(PstHop));

	hop->from = from;
	hop->to = to;
	hop->edge = edge;
	move->hops = lappend(move->hops, hop);
	move->state = to;
	if (to >= PST_STAR)
	{
		ParamExternData *column = &move->row->params[move->fsm->state_att - 1];

		/* what comes next sees where we are */
		column->value = pst_state_datum(move->fsm, pst_move_state(move));
		column->isnull = false;
		move->changed = bms_add_member(move->changed, move->fsm->state_att);
	}
}

static bool
evaluate_guard(PstMove *move, const PstEdge *edge, ParamListInfo row, bool *isnull)
{
	ErrorContextCallback callback;
	SnippetPlace place = {"guard", move->fsm->machine, edge->transition, 0};
	Datum		value;

	*isnull = false;
	if (edge->guard == NULL)
		return true;
	push_place(&callback, &place);
	value = pst_evaluate(edge->guard, row, isnull);
	error_context_stack = callback.previous;
	return !*isnull && DatumGetBool(value);
}

static bool
guard_holds(PstMove *move, const PstEdge *edge, ParamListInfo row)
{
	bool		isnull;

	return evaluate_guard(move, edge, row, &isnull);
}

bool
pst_guard_holds(PstMove *move, const PstEdge *edge, bool *isnull)
{
	return evaluate_guard(move, edge, move->row, isnull);
}

/* ---- actions ---- */

static void
assign(PstMove *move, const PstAction *action)
{
	int			n = list_length(action->assignments);
	Datum	   *values = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc(sizeof(bool) * n);

	/* as in an UPDATE, every right side sees the row before the list */
	for (int i = 0; i < n; i++)
	{
		PstAssignment *assignment = list_nth(action->assignments, i);

		values[i] = pst_evaluate(assignment->value, move->row, &nulls[i]);
	}
	for (int i = 0; i < n; i++)
	{
		PstAssignment *assignment = list_nth(action->assignments, i);

		move->row->params[assignment->attnum - 1].value = values[i];
		move->row->params[assignment->attnum - 1].isnull = nulls[i];
		move->changed = bms_add_member(move->changed, assignment->attnum);
	}
}

static Datum
row_datum(PstFsm *fsm, ParamListInfo row)
{
	Datum	   *values = palloc(sizeof(Datum) * fsm->desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * fsm->desc->natts);

	for (int i = 0; i < fsm->desc->natts; i++)
	{
		values[i] = row->params[i].value;
		nulls[i] = row->params[i].isnull;
		if (fsm->generated && fsm->generated[i])
			values[i] = pst_evaluate(fsm->generated[i], row, &nulls[i]);
	}
	return pst_root_row(fsm, heap_form_tuple(fsm->desc, values, nulls));
}

/* f(row, args): the caller's right to it is the caller's affair, as in any call. */
static Datum
call_function(PstFsm *fsm, const PstAction *action, ParamListInfo row, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	flinfo;
	ParamExternData *args = &row->params[fsm->desc->natts];
	AclResult	acl = pst_may_call(action->function);
	Datum		result;

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, action->name);
	fmgr_info(action->function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = row_datum(fsm, row);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = args->value;
	fcinfo->args[1].isnull = args->isnull;
	if (flinfo.fn_strict && args->isnull)
	{
		*isnull = true;
		return (Datum) 0;
	}
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

void
pst_run_void_action(PstFsm *fsm, const PstAction *action, ParamListInfo row)
{
	bool		isnull;

	(void) call_function(fsm, action, row, &isnull);
}

/* The row that a function returns replaces ours, but for the key. */
static void
take_row(PstMove *move, const PstAction *action)
{
	PstFsm	   *fsm = move->fsm;
	bool		isnull;
	Datum		result = call_function(fsm, action, move->row, &isnull);
	HeapTuple	tuple;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("function %s returned NULL instead of a row", action->name)));
	tuple = pst_row_from_root(fsm, result);
	for (int i = 0; i < fsm->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, i);
		ParamExternData *column = &move->row->params[i];
		bool		null;
		Datum		value;

		if (att->attisdropped || att->attgenerated)
			continue;
		value = heap_getattr(tuple, i + 1, fsm->desc, &null);
		if (null == column->isnull &&
			(null || datum_image_eq(value, column->value, att->attbyval, att->attlen)))
			continue;
		for (int k = 0; k < fsm->nkeys; k++)
			if (fsm->keys[k] == att->attnum)
				ereport(ERROR,
						(errcode(PST_KEY_CHANGES),
						 errmsg("function %s changes the key of its row", action->name)));
		column->value = value;
		column->isnull = null;
		move->changed = bms_add_member(move->changed, att->attnum);
	}
}

static void
run_action(PstMove *move, const PstAction *action, const char *what,
		   const PstTransition *transition, int state)
{
	ErrorContextCallback callback;
	SnippetPlace place = {what, move->fsm->machine, transition, state};

	if (action->kind == PST_ACTION_NONE)
		return;
	push_place(&callback, &place);
	switch (action->kind)
	{
		case PST_ACTION_ASSIGN:
			assign(move, action);
			break;
		case PST_ACTION_ROW:
			take_row(move, action);
			break;
		case PST_ACTION_VOID:
			move->void_actions = lappend(move->void_actions, unconstify(PstAction *, action));
			break;
		case PST_ACTION_NONE:
			break;
	}
	error_context_stack = callback.previous;
}

/* Take an edge: exit, transition and entry actions. */
static void
follow(PstMove *move, const PstEdge *edge, bool own_action)
{
	const PstTransition *transition = edge->transition;

	if (transition->from != PST_STAR)
		run_action(move, &move->fsm->exit[transition->from], "exit", NULL, transition->from);
	if (own_action)
		run_action(move, &edge->action, "action", transition, 0);
	add_hop(move, transition->from, transition->to, edge);
	if (transition->to != PST_STAR)
		run_action(move, &move->fsm->entry[transition->to], "entry", NULL, transition->to);
}

/* ---- hard hops ---- */

static const PstEdge *
next_hard_edge(PstMove *move)
{
	for (int i = 0; i < move->fsm->nedges; i++)
	{
		const PstEdge *edge = &move->fsm->edges[i];

		if (edge->transition->from == move->state && edge->transition->kind == PST_HARD &&
			!edge->transition->ambiguous && guard_holds(move, edge, move->row))
			return edge;
	}
	return NULL;
}

static void
follow_chain(PstMove *move)
{
	const PstEdge *edge;

	while (move->state != PST_STAR && (edge = next_hard_edge(move)) != NULL)
	{
		if (list_length(move->hops) >= pst_max_chain)
		{
			pst_refuse(&move->refusal, PST_CHAIN_TOO_LONG,
					   "a chain of hard events is longer than %d", pst_max_chain);
			move->refusal.hint = pstrdup("Break the loop with a guard, or raise persistomata.max_chain.");
			return;
		}
		CHECK_FOR_INTERRUPTS();
		follow(move, edge, true);
	}
}

/* ---- by event ---- */

/* Users write event! and event? as the diagram does. */
static bool
is_event(const PstTransition *transition, const char *event)
{
	size_t		len = strlen(transition->event);

	if (strncmp(transition->event, event, len) != 0)
		return false;
	return event[len] == '\0' ||
		(event[len] == '!' && event[len + 1] == '\0' && transition->kind == PST_HARD) ||
		(event[len] == '?' && event[len + 1] == '\0' && transition->kind == PST_SOFT);
}

static bool
has_event(const PstMachine *machine, const char *event)
{
	for (int i = 0; i < machine->ntransitions; i++)
		if (pst_transition_has_event(&machine->transitions[i]) && is_event(&machine->transitions[i], event))
			return true;
	return false;
}

static bool
has_way_out(const PstMachine *machine, int state)
{
	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].from == state && pst_transition_has_event(&machine->transitions[i]))
			return true;
	return false;
}

/* "Events in this state: coin, off." */
static char *
events_hint(const PstMachine *machine, int state)
{
	StringInfoData hint;
	const char *last = "";

	initStringInfo(&hint);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		if (transition->from != state || !pst_transition_has_event(transition) || strcmp(last, transition->event) == 0)
			continue;
		appendStringInfo(&hint, "%s\"%s\"", hint.len ? ", " : "", transition->event);
		last = transition->event;
	}
	return hint.len ? psprintf("Events in this state: %s.", hint.data) : NULL;
}

static void
refuse_event(PstMove *move, const PstSignal *signal, const PstEdge *failed)
{
	const PstMachine *machine = move->fsm->machine;
	const char *state = pst_machine_state_name(machine, move->state);

	if (failed)
	{
		pst_refuse(&move->refusal, PST_GUARD_FAILED,
				   "the guard of event \"%s\" in state \"%s\" does not hold", signal->event, state);
		move->refusal.detail = psprintf("The guard is [%s].", failed->transition->guard.text);
		move->soft = failed->transition->kind == PST_SOFT;
	}
	else if (!has_event(machine, signal->event))
		pst_refuse(&move->refusal, PST_NO_TRANSITION,
				   "machine \"%s\" has no event \"%s\"", move->fsm->version->name, signal->event);
	else if (!has_way_out(machine, move->state))
		pst_refuse(&move->refusal, PST_ENDED, "the instance has ended in state \"%s\"", state);
	else if (signal->to_state)
		pst_refuse(&move->refusal, PST_NO_TRANSITION,
				   "no transition from \"%s\" to \"%s\" on event \"%s\"", state, signal->to_state, signal->event);
	else
		pst_refuse(&move->refusal, PST_NO_TRANSITION,
				   "no transition from \"%s\" on event \"%s\"", state, signal->event);
	if (!failed)
		move->refusal.hint = events_hint(machine, move->state);
}

bool
pst_edge_offered(const PstEdge *edge, int state, const char *event)
{
	const PstTransition *transition = edge->transition;

	return transition->from == state && pst_transition_has_event(transition) &&
		(event == NULL || is_event(transition, event));
}

static bool
is_candidate(PstMove *move, const PstEdge *edge, const PstSignal *signal)
{
	if (!pst_edge_offered(edge, move->state, signal->event))
		return false;
	return signal->to_state == NULL ||
		strcmp(pst_machine_state_name(move->fsm->machine, edge->transition->to), signal->to_state) == 0;
}

/* The first edge in definition order whose guard holds. */
static const PstEdge *
choose_edge(PstMove *move, const PstSignal *signal)
{
	const PstEdge *failed = NULL;

	for (int i = 0; i < move->fsm->nedges; i++)
	{
		const PstEdge *edge = &move->fsm->edges[i];

		if (!is_candidate(move, edge, signal))
			continue;
		if (!guard_holds(move, edge, move->row))
		{
			if (failed == NULL)
				failed = edge;
			continue;
		}
		/* a row function chooses among the targets by setting the state */
		if (edge->transition->ambiguous && signal->to_state == NULL && edge->action.kind != PST_ACTION_ROW)
		{
			pst_refuse(&move->refusal, PST_AMBIGUOUS,
					   "event \"%s\" in state \"%s\" has several targets", signal->event, pst_move_state(move));
			move->refusal.hint = pstrdup("Name one as to_state.");
			return NULL;
		}
		return edge;
	}
	refuse_event(move, signal, failed);
	return NULL;
}

static char *
current_state_text(PstMove *move)
{
	PstFsm	   *fsm = move->fsm;
	ParamExternData *column = &move->row->params[fsm->state_att - 1];
	Oid			output;
	bool		varlena;

	if (column->isnull)
		return pstrdup("");
	getTypeOutputInfo(fsm->state_type, &output, &varlena);
	return OidOutputFunctionCall(output, column->value);
}

/*
 * The function of an ambiguous event has run and set the state: find the edge
 * of this event that leads there.
 */
static void
settle_ambiguous(PstMove *move, const PstSignal *signal, const PstEdge *edge)
{
	char	   *chosen;

	run_action(move, &move->fsm->exit[move->state], "exit", NULL, move->state);
	run_action(move, &edge->action, "action", edge->transition, 0);
	chosen = current_state_text(move);
	for (int i = 0; i < move->fsm->nedges; i++)
	{
		const PstEdge *other = &move->fsm->edges[i];
		int			to = other->transition->to;

		if (!is_candidate(move, other, signal) ||
			strcmp(pst_machine_state_name(move->fsm->machine, to), chosen) != 0)
			continue;
		add_hop(move, move->state, to, other);
		if (to != PST_STAR)
			run_action(move, &move->fsm->entry[to], "entry", NULL, to);
		return;
	}
	pst_refuse(&move->refusal, PST_NO_TRANSITION,
			   "function %s chose state \"%s\", which is no target of event \"%s\"",
			   edge->action.name, chosen, signal->event);
}

/* Find the state by name; refused if the machine does not have it. */
static bool
begin(PstMove *move, const char *from)
{
	move->state = from ? pst_machine_state(move->fsm->machine, from) : -2;
	if (move->state >= PST_STAR)
		return true;
	pst_refuse(&move->refusal, PST_NO_TRANSITION, "machine \"%s\" has no state \"%s\"",
			   move->fsm->version->name, from ? from : "NULL");
	return false;
}

void
pst_move_by_event(PstMove *move, const char *from, const PstSignal *signal)
{
	const PstEdge *edge;

	if (!begin(move, from))
		return;
	if (signal->expected_state && strcmp(signal->expected_state, from) != 0)
	{
		pst_refuse(&move->refusal, PST_OTHER_STATE,
				   "the instance is in state \"%s\", not \"%s\"", from, signal->expected_state);
		return;
	}
	if (move->state == PST_STAR)
	{
		pst_refuse(&move->refusal, PST_ENDED, "the instance has ended");
		return;
	}
	edge = choose_edge(move, signal);
	if (edge == NULL)
		return;
	if (edge->transition->ambiguous && signal->to_state == NULL)
		settle_ambiguous(move, signal, edge);
	else
		follow(move, edge, true);
	if (move->refusal.sqlstate == 0)
		follow_chain(move);
}

/* ---- by a raw write ---- */

static void
refuse_write(PstMove *move, const char *from, const char *to, const PstEdge *failed)
{
	if (failed)
	{
		pst_refuse(&move->refusal, PST_GUARD_FAILED,
				   "the guard of the transition from \"%s\" to \"%s\" does not hold", from, to);
		move->refusal.detail = psprintf("The guard of event \"%s\" is [%s].",
										failed->transition->event, failed->transition->guard.text);
		move->refusal.hint = pstrdup("Guards of raw writes see the row before; their args are the setting persistomata.args.");
		return;
	}
	pst_refuse(&move->refusal, PST_NO_TRANSITION, "no transition from \"%s\" to \"%s\"", from, to);
	if (strcmp(to, "NULL") != 0 && pst_machine_state(move->fsm->machine, to) < PST_STAR)
		move->refusal.detail = psprintf("Machine \"%s\" has no state \"%s\".",
										move->fsm->version->name, to);
}

static const PstEdge *
choose_edge_to(PstMove *move, int target, ParamListInfo before, const PstEdge **failed)
{
	for (int i = 0; i < move->fsm->nedges; i++)
	{
		const PstEdge *edge = &move->fsm->edges[i];

		if (edge->transition->from != move->state || edge->transition->to != target ||
			!pst_transition_has_event(edge->transition))
			continue;
		if (move->fsm->enforce != PST_ENFORCE_ALL || guard_holds(move, edge, before))
			return edge;
		if (*failed == NULL)
			*failed = edge;
	}
	return NULL;
}

void
pst_move_by_write(PstMove *move, const char *from, const char *to, ParamListInfo before)
{
	const PstEdge *edge = NULL;
	const PstEdge *failed = NULL;
	int			target = to ? pst_machine_state(move->fsm->machine, to) : -2;
	bool		lenient = move->fsm->enforce == PST_ENFORCE_LOG;

	move->state = from ? pst_machine_state(move->fsm->machine, from) : -2;
	if (move->state >= PST_STAR && target >= PST_STAR)
		edge = choose_edge_to(move, target, before, &failed);
	if (edge == NULL && !lenient)
	{
		refuse_write(move, from ? from : "NULL", to ? to : "NULL", failed);
		return;
	}
	if (move->fsm->enforce != PST_ENFORCE_ALL)
	{
		add_hop(move, move->state, target, edge);
		return;
	}
	/* the event's own action runs only through fire() */
	follow(move, edge, edge->transition->kind == PST_HARD);
	follow_chain(move);
}

void
pst_move_by_force(PstMove *move, const char *from, const char *to)
{
	int			target = pst_machine_state(move->fsm->machine, to);

	if (target < PST_STAR)
	{
		pst_refuse(&move->refusal, PST_NO_TRANSITION, "machine \"%s\" has no state \"%s\"",
				   move->fsm->version->name, to);
		return;
	}
	add_hop(move, from ? pst_machine_state(move->fsm->machine, from) : -2, target, NULL);
}

void
pst_move_by_birth(PstMove *move)
{
	move->state = move->fsm->machine->entry;
	if (move->fsm->enforce != PST_ENFORCE_ALL)
		return;
	run_action(move, &move->fsm->entry[move->state], "entry", NULL, move->state);
	follow_chain(move);
}
