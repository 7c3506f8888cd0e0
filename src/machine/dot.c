/*
 * dot.c
 *	  Prints a machine for Graphviz.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/printer.h"

/* A quoted string; in labels & would begin an entity of HTML. */
static void
print_quoted(StringInfo out, const char *text)
{
	appendStringInfoChar(out, '"');
	for (; *text != '\0'; text++)
	{
		if (*text == '&')
			appendStringInfoString(out, "&amp;");
		else
		{
			if (*text == '"' || *text == '\\')
				appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *text);
		}
	}
	appendStringInfoChar(out, '"');
}

static void
print_state(StringInfo out, const PstState *state, const char *title)
{
	StringInfoData label;

	initStringInfo(&label);
	appendStringInfoString(&label, title);
	if (state->entry.text)
		appendStringInfo(&label, "\nentry / %s", state->entry.text);
	if (state->exit.text)
		appendStringInfo(&label, "\nexit / %s", state->exit.text);
	appendStringInfoString(out, "  ");
	print_quoted(out, state->name);
	appendStringInfoString(out, " [label=");
	print_quoted(out, label.data);
	appendStringInfoString(out, "];\n");
	pfree(label.data);
}

static void
print_transition(StringInfo out, const PstMachine *machine, const PstTransition *transition)
{
	appendStringInfoString(out, "  ");
	print_quoted(out, pst_machine_state_name(machine, transition->from));
	appendStringInfoString(out, " -> ");
	print_quoted(out, pst_machine_state_name(machine, transition->to));
	if (!pst_is_implied(transition))
	{
		appendStringInfoString(out, " [label=");
		print_quoted(out, pst_label_text(transition));
		appendStringInfoChar(out, ']');
	}
	appendStringInfoString(out, ";\n");
}

void
pst_print_dot(StringInfo out, const PstMachine *machine, const char *name, char **titles)
{
	appendStringInfoString(out, "digraph ");
	print_quoted(out, name);
	appendStringInfoString(out, " {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n"
						   "  \"*\" [shape=point];\n");
	for (int i = 0; i < machine->nstates; i++)
		print_state(out, &machine->states[i], titles ? titles[i] : machine->states[i].name);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		CHECK_FOR_INTERRUPTS();
		if (!pst_is_implied(transition) || transition->to != PST_STAR)
			print_transition(out, machine, transition);
	}
	appendStringInfoString(out, "}\n");
}
