/*
 * paths.c
 *	  The straight paths through a machine: from start to end, no state twice.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "compat/compat.h"
#include "machine/model.h"

PG_FUNCTION_INFO_V1(pst_paths);

/* A depth-first walk with a stack of its own: a path can have 10,000 states. */
typedef struct Walk
{
	const PstMachine *machine;
	int			depth;
	int		   *states;			/* the path so far */
	int		   *next;			/* at each, which of its transitions comes next */
	const PstTransition **taken;	/* the transition that led to each */
	bool	   *on_path;
	int			found;
} Walk;

static void
push(Walk *walk, int state, const PstTransition *taken)
{
	walk->states[walk->depth] = state;
	walk->next[walk->depth] = 0;
	walk->taken[walk->depth] = taken;
	walk->on_path[state] = true;
	walk->depth++;
}

static Datum
text_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Puts the path out; the last transition, to *, may be implied. */
static void
put_path(Walk *walk, ReturnSetInfo *result, const PstTransition *last)
{
	int			n = walk->depth;
	Datum	   *states = palloc((n + 2) * sizeof(Datum));
	Datum	   *events = palloc((n + 1) * sizeof(Datum));
	int			nevents = 0;
	Datum		values[3];
	bool		nulls[3] = {false};

	states[0] = CStringGetTextDatum("*");
	for (int i = 0; i < n; i++)
	{
		states[i + 1] = CStringGetTextDatum(pst_machine_state_name(walk->machine, walk->states[i]));
		events[nevents++] = CStringGetTextDatum(walk->taken[i]->event);
	}
	if (last != NULL)
	{
		states[n + 1] = CStringGetTextDatum("*");
		events[nevents++] = CStringGetTextDatum(last->event);
	}
	values[0] = Int32GetDatum(++walk->found);
	values[1] = text_array(states, n + 1 + (last != NULL));
	values[2] = text_array(events, nevents);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
walk_machine(Walk *walk, ReturnSetInfo *result, int limit)
{
	const PstMachine *machine = walk->machine;

	while (walk->depth > 0 && walk->found < limit)
	{
		int			top = walk->depth - 1;
		const PstState *state = &machine->states[walk->states[top]];
		const PstTransition *transition;

		CHECK_FOR_INTERRUPTS();
		if (walk->next[top] == state->nleaving)
		{
			/* A sink of a state diagram ends without an edge to *. */
			if (state->nleaving == 0)
				put_path(walk, result, NULL);
			walk->on_path[walk->states[top]] = false;
			walk->depth--;
			continue;
		}
		transition = &machine->transitions[state->leaving[walk->next[top]++]];
		if (transition->to == PST_STAR)
			put_path(walk, result, transition);
		else if (!walk->on_path[transition->to])
			push(walk, transition->to, transition);
	}
}

/* paths(machine, version, max_paths) */
Datum
pst_paths(PG_FUNCTION_ARGS)
{
	int			number = pst_machine_find(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1));
	int			limit = PG_GETARG_INT32(2);
	const PstMachine *machine = pst_machine_version(number)->machine;
	const PstTransition *start = &machine->transitions[machine->start];
	Walk		walk = {0};

	InitMaterializedSRF(fcinfo, 0);
	walk.machine = machine;
	walk.states = palloc((machine->nstates + 1) * sizeof(int));
	walk.next = palloc((machine->nstates + 1) * sizeof(int));
	walk.taken = palloc((machine->nstates + 1) * sizeof(PstTransition *));
	walk.on_path = palloc0((machine->nstates + 1) * sizeof(bool));
	if (machine->entry == PST_STAR)
	{
		if (limit > 0)
			put_path(&walk, (ReturnSetInfo *) fcinfo->resultinfo, start);
		return (Datum) 0;
	}
	push(&walk, machine->entry, start);
	walk_machine(&walk, (ReturnSetInfo *) fcinfo->resultinfo, limit);
	return (Datum) 0;
}
