/*
 * check.c
 *	  Looks for what is wrong with a machine's graph.
 *
 * Everything is a walk over arrays, without recursion, linear in the number of
 * transitions.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/parser.h"

/* Marks the states that can be reached from the entry; the others are errors. */
static bool *
check_reachable(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	bool	   *reached = palloc0((machine->nstates + 1) * sizeof(bool));
	int		   *queue = palloc((machine->nstates + 1) * sizeof(int));
	int			head = 0;
	int			tail = 0;

	if (machine->entry != PST_STAR)
	{
		reached[machine->entry] = true;
		queue[tail++] = machine->entry;
	}
	while (head < tail)
	{
		PstState   *state = &machine->states[queue[head++]];

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < state->nleaving; i++)
		{
			int			to = machine->transitions[state->leaving[i]].to;

			if (to == PST_STAR || reached[to])
				continue;
			reached[to] = true;
			queue[tail++] = to;
		}
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		if (!reached[i])
			pst_parser_find(parser, PST_SEVERITY_ERROR, "unreachable", machine->states[i].offset,
							"Draw a transition to it, or leave it out.",
							"state \"%s\" cannot be reached from the entry state \"%s\"",
							machine->states[i].name, pst_machine_state_name(machine, machine->entry));
	}
	pfree(queue);
	return reached;
}

/* Walks back from the final states; warns of those reached that it does not meet. */
static void
check_final(PstParser *parser, const bool *reached)
{
	PstMachine *machine = parser->machine;
	int		   *first = palloc0((machine->nstates + 2) * sizeof(int));
	int		   *sources = palloc(Max(machine->ntransitions, 1) * sizeof(int));
	bool	   *ends = palloc0((machine->nstates + 1) * sizeof(bool));
	int		   *queue = palloc((machine->nstates + 1) * sizeof(int));
	int			head = 0;
	int			tail = 0;

	/* The transitions by target, a counting sort: those of i from first[i + 1] on. */
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (machine->transitions[i].to != PST_STAR)
			first[machine->transitions[i].to + 1]++;
	}
	for (int i = 1; i <= machine->nstates; i++)
		first[i] += first[i - 1];
	first[machine->nstates + 1] = first[machine->nstates];
	for (int i = machine->ntransitions - 1; i >= 0; i--)
	{
		if (machine->transitions[i].to != PST_STAR)
			sources[--first[machine->transitions[i].to + 1]] = machine->transitions[i].from;
	}

	for (int i = 0; i < machine->nstates; i++)
	{
		ends[i] = machine->states[i].is_final;
		if (ends[i])
			queue[tail++] = i;
	}
	if (tail == 0 && machine->nstates > 0)
	{
		pst_parser_find(parser, PST_SEVERITY_WARNING, "no_final", machine->states[machine->entry].offset,
						"An instance of it never ends.", "machine has no final state");
		return;
	}
	while (head < tail)
	{
		int			state = queue[head++];

		CHECK_FOR_INTERRUPTS();
		for (int i = first[state + 1]; i < first[state + 2]; i++)
		{
			if (sources[i] == PST_STAR || ends[sources[i]])
				continue;
			ends[sources[i]] = true;
			queue[tail++] = sources[i];
		}
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		if (reached[i] && !ends[i])
			pst_parser_find(parser, PST_SEVERITY_WARNING, "no_way_to_final", machine->states[i].offset,
							"An instance that comes there never ends.",
							"there is no way from state \"%s\" to a final one", machine->states[i].name);
	}
}

/*
 * The first hard transition without guard that leaves a state, or NULL.  An
 * ambiguous one does not fire by itself.
 */
static PstTransition *
certain_hard(const PstMachine *machine, const PstState *state)
{
	for (int i = 0; i < state->nleaving; i++)
	{
		PstTransition *transition = &machine->transitions[state->leaving[i]];

		if (transition->kind == PST_HARD && transition->guard.text == NULL && !transition->ambiguous)
			return transition;
	}
	return NULL;
}

/* Warns of events that have no chance beside a hard one. */
static void
check_hard_alone(PstParser *parser)
{
	PstMachine *machine = parser->machine;

	for (int i = 0; i < machine->nstates; i++)
	{
		PstState   *state = &machine->states[i];
		PstTransition *hard = certain_hard(machine, state);

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; hard != NULL && j < state->nleaving; j++)
		{
			PstTransition *other = &machine->transitions[state->leaving[j]];

			/* guarded hard events that stand before it are asked first */
			if (other == hard || (other->kind == PST_HARD && other < hard))
				continue;
			pst_parser_find(parser, PST_SEVERITY_WARNING, "hard_beside_others", hard->offset,
							"It fires as soon as the state is entered: without a guard the others have no chance.",
							"hard event \"%s\" of state \"%s\" is not its only event",
							hard->event, state->name);
			break;
		}
	}
}

/* The transition that fires when a state is entered, whatever the row, or NULL. */
static PstTransition *
only_way_on(const PstMachine *machine, const PstState *state)
{
	PstTransition *hard = certain_hard(machine, state);

	for (int i = 0; i < state->nleaving; i++)
	{
		PstTransition *transition = &machine->transitions[state->leaving[i]];

		if (transition == hard)
			break;
		if (transition->kind == PST_HARD && !transition->ambiguous)
			return NULL;		/* a guarded one is asked first */
	}
	return hard;
}

/*
 * Warns of loops that nothing but the bound on chains would end.  Each state
 * has at most one such way on, so a walk along them either ends or comes back
 * to a state of the same walk.
 */
static void
check_hard_loops(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	int		   *walk = palloc0((machine->nstates + 1) * sizeof(int));

	for (int i = 0; i < machine->nstates; i++)
	{
		int			state = i;
		PstTransition *hard = NULL;

		CHECK_FOR_INTERRUPTS();
		while (state != PST_STAR && walk[state] == 0)
		{
			walk[state] = i + 1;
			hard = only_way_on(machine, &machine->states[state]);
			state = hard == NULL ? PST_STAR : hard->to;
		}
		if (state != PST_STAR && hard != NULL && walk[state] == i + 1)
			pst_parser_find(parser, PST_SEVERITY_WARNING, "hard_loop", hard->offset,
							"A chain longer than persistomata.max_chain is refused: put a guard on one of its events.",
							"hard events lead from state \"%s\" back to it",
							machine->states[state].name);
	}
	pfree(walk);
}

/* Checks a completed model. */
void
pst_machine_check(PstParser *parser)
{
	check_final(parser, check_reachable(parser));
	check_hard_alone(parser);
	check_hard_loops(parser);
}
