/*
 * complete.c
 *	  Completes a model: drops repeated edges, marks ambiguous ones, finds the
 *	  entry, adds the edges that a flowchart implies.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/parser.h"

static int
compare_ints(int a, int b)
{
	return a < b ? -1 : a > b;
}

/* strcmp() that takes NULL, and knows that a string equals itself. */
static int
compare_strings(const char *a, const char *b)
{
	if (a == b)
		return 0;
	if (a == NULL || b == NULL)
		return a == NULL ? -1 : 1;
	return strcmp(a, b);
}

/* Brings edges together that are alike; of these, the first in the text first. */
static int
compare_repeated(const PstTransition *a, const PstTransition *b)
{
	int			result = compare_ints(a->from, b->from);

	if (result == 0)
		result = compare_ints(a->to, b->to);
	if (result == 0)
		result = compare_ints(a->kind, b->kind);
	if (result == 0)
		result = compare_strings(a->event, b->event);
	if (result == 0)
		result = compare_strings(a->guard.text, b->guard.text);
	if (result == 0)
		result = compare_strings(a->action.text, b->action.text);
	return result;
}

/* Brings edges together between which only guards or the caller can choose. */
static int
compare_choices(const PstTransition *a, const PstTransition *b)
{
	int			result = compare_ints(a->from, b->from);

	if (result == 0)
		result = compare_ints(a->kind, b->kind);
	if (result == 0)
		result = compare_strings(a->event, b->event);
	if (result == 0)
		result = compare_ints(a->guard.text != NULL, b->guard.text != NULL);
	return result;
}

typedef int (*Comparison) (const PstTransition *, const PstTransition *);

static int
compare_pointers(const void *a, const void *b, void *comparison)
{
	const PstTransition *left = *(PstTransition *const *) a;
	const PstTransition *right = *(PstTransition *const *) b;
	int			result = ((Comparison) comparison) (left, right);

	return result != 0 ? result : left < right ? -1 : left > right;
}

/* The transitions in the order of a comparison. */
static PstTransition **
sort_transitions(PstMachine *machine, Comparison comparison)
{
	PstTransition **sorted = palloc(Max(machine->ntransitions, 1) * sizeof(PstTransition *));

	for (int i = 0; i < machine->ntransitions; i++)
		sorted[i] = &machine->transitions[i];
	qsort_arg(sorted, machine->ntransitions, sizeof(PstTransition *), compare_pointers, (void *) comparison);
	return sorted;
}

/* Drops edges that stand in the text before. */
static void
drop_repeated(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	PstTransition **sorted = sort_transitions(machine, compare_repeated);
	bool	   *repeated = palloc0(Max(machine->ntransitions, 1) * sizeof(bool));
	int			kept = 0;

	for (int i = 1; i < machine->ntransitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (compare_repeated(sorted[i - 1], sorted[i]) != 0)
			continue;
		repeated[sorted[i] - machine->transitions] = true;
		pst_parser_find(parser, PST_SEVERITY_WARNING, "repeated_edge", sorted[i]->offset,
						"It counts once.",
						"repeated transition from \"%s\" to \"%s\" on \"%s\"",
						pst_machine_state_name(machine, sorted[i]->from),
						pst_machine_state_name(machine, sorted[i]->to), sorted[i]->event);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (!repeated[i])
			machine->transitions[kept++] = machine->transitions[i];
	}
	machine->ntransitions = kept;
	pfree(sorted);
	pfree(repeated);
}

/* Lists, state by state, the transitions that leave it. */
static void
index_leaving(PstMachine *machine)
{
	int		   *room = palloc(Max(machine->ntransitions, 1) * sizeof(int));

	for (int i = 0; i < machine->nstates; i++)
	{
		machine->states[i].nleaving = 0;
		machine->states[i].has_exits = false;
		machine->states[i].is_final = false;
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		PstTransition *transition = &machine->transitions[i];

		if (transition->from == PST_STAR)
			continue;
		machine->states[transition->from].nleaving++;
		if (transition->to == PST_STAR)
			machine->states[transition->from].is_final = true;
		else
			machine->states[transition->from].has_exits = true;
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		PstState   *state = &machine->states[i];

		state->leaving = room;
		room += state->nleaving;
		if (state->nleaving == 0)
			state->is_final = true;
		state->nleaving = 0;
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		PstState   *state;

		if (machine->transitions[i].from == PST_STAR)
			continue;
		state = &machine->states[machine->transitions[i].from];
		state->leaving[state->nleaving++] = i;
	}
}

/*
 * Finds the state that no transition leads to.  If there is none, transitions
 * from a state to itself do not count.
 */
static void
find_flowchart_entry(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	bool	   *by_any = palloc0(machine->nstates * sizeof(bool));
	bool	   *by_other = palloc0(machine->nstates * sizeof(bool));
	bool	   *targeted = by_other;
	int			found = 0;

	for (int i = 0; i < machine->ntransitions; i++)
	{
		by_any[machine->transitions[i].to] = true;
		if (machine->transitions[i].to != machine->transitions[i].from)
			by_other[machine->transitions[i].to] = true;
	}
	for (int i = 0; i < machine->nstates && targeted == by_other; i++)
	{
		if (!by_any[i])
			targeted = by_any;
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		if (targeted[i])
			continue;
		if (machine->states[i].nleaving == 0 && machine->nstates > 1)
			pst_parser_find(parser, PST_SEVERITY_ERROR, "unreachable", machine->states[i].offset,
							"Draw a transition to it, or leave it out.",
							"state \"%s\" has no transitions", machine->states[i].name);
		else if (found++ == 0)
			machine->entry = i;
		else
			pst_parser_find(parser, PST_SEVERITY_ERROR, "several_entries", machine->states[i].offset,
							"The entry of a flowchart is the only state that no transition leads to.",
							"several entry states: \"%s\" and \"%s\"",
							machine->states[machine->entry].name, machine->states[i].name);
	}
	if (found == 0)
		pst_parser_find(parser, PST_SEVERITY_ERROR, "no_entry", 0,
						"The entry of a flowchart is the only state that no transition leads to: add one, as in idle -->|start!| first.",
						"no entry state: each state is the target of a transition");
}

/* Finds the one transition from [*]. */
static void
find_diagram_entry(PstParser *parser)
{
	PstMachine *machine = parser->machine;

	machine->start = -1;
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (machine->transitions[i].from != PST_STAR)
			continue;
		if (machine->start < 0)
			machine->start = i;
		else
			pst_parser_find(parser, PST_SEVERITY_ERROR, "several_entries", machine->transitions[i].offset,
							"A machine has one transition from [*].",
							"several entry states: \"%s\" and \"%s\"",
							pst_machine_state_name(machine, machine->transitions[machine->start].to),
							pst_machine_state_name(machine, machine->transitions[i].to));
	}
	if (machine->start < 0)
		pst_parser_find(parser, PST_SEVERITY_ERROR, "no_entry", 0,
						"Add a transition from [*], as in [*] --> first.",
						"no entry state: there is no transition from [*]");
	else
		machine->entry = machine->transitions[machine->start].to;
}

/* Adds what a flowchart implies: __start__ first, __end__ last. */
static void
add_implied(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	PstTransition *transitions;
	int			n = 0;

	transitions = palloc0((machine->ntransitions + machine->nstates + 1) * sizeof(PstTransition));
	transitions[n].from = PST_STAR;
	transitions[n].to = machine->entry;
	transitions[n].event = pstrdup(PST_START_EVENT);
	transitions[n++].offset = machine->states[machine->entry].offset;
	memcpy(transitions + n, machine->transitions, machine->ntransitions * sizeof(PstTransition));
	n += machine->ntransitions;
	for (int i = 0; i < machine->nstates; i++)
	{
		if (machine->states[i].nleaving > 0)
			continue;
		transitions[n].from = i;
		transitions[n].to = PST_STAR;
		transitions[n].event = pstrdup(PST_END_EVENT);
		transitions[n++].offset = machine->states[i].offset;
	}
	pfree(machine->transitions);
	machine->transitions = transitions;
	machine->ntransitions = n;
	machine->start = 0;
}

/*
 * Marks the edges of one state between which only the caller can choose: the
 * same event, no guards, other targets.
 */
static void
mark_ambiguous(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	PstTransition **sorted = sort_transitions(machine, compare_choices);
	int			n = machine->ntransitions;

	for (int first = 0, next; first < n; first = next)
	{
		bool		ambiguous = false;

		CHECK_FOR_INTERRUPTS();
		for (next = first + 1; next < n && compare_choices(sorted[first], sorted[next]) == 0; next++)
			ambiguous |= sorted[next]->to != sorted[first]->to;
		if (!ambiguous || sorted[first]->guard.text != NULL || sorted[first]->from == PST_STAR)
			continue;
		for (int i = first; i < next; i++)
			sorted[i]->ambiguous = true;
		pst_parser_find(parser, PST_SEVERITY_WARNING, "ambiguous", sorted[first]->offset,
						sorted[first]->kind == PST_PLAIN || sorted[first]->kind == PST_SOFT
						? "Give fire() a to_state, or put guards on the transitions."
						: "It does not fire by itself: put guards on the transitions.",
						"event \"%s\" leads from state \"%s\" to several states",
						sorted[first]->event, pst_machine_state_name(machine, sorted[first]->from));
	}
	pfree(sorted);
}

/* Completes a model whose text had no errors. */
void
pst_machine_complete(PstParser *parser)
{
	PstMachine *machine = parser->machine;

	drop_repeated(parser);
	mark_ambiguous(parser);
	index_leaving(machine);
	if (machine->syntax != PST_SYNTAX_FLOWCHART)
		find_diagram_entry(parser);
	else
	{
		find_flowchart_entry(parser);
		if (!parser->failed)
		{
			add_implied(parser);
			index_leaving(machine);
		}
	}
}
