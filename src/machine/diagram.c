/*
 * diagram.c
 *	  Prints a machine as a diagram: Mermaid, PlantUML or Graphviz.
 *
 * What is printed is accepted by the real Mermaid and PlantUML, and read in
 * again gives the same machine.  So labels stand in quotes or free of what the
 * notation takes for its own, and what a flowchart cannot say (entry and exit
 * actions, events at the start and the end) makes it a state diagram.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "compat/compat.h"
#include "machine/parser.h"

PG_FUNCTION_INFO_V1(pst_diagram);

typedef enum Format
{
	FORMAT_FLOWCHART,
	FORMAT_STATE_DIAGRAM,
	FORMAT_PLANTUML,
	FORMAT_DOT
} Format;

typedef struct Printer
{
	const PstMachine *machine;
	Format		format;
	Jsonb	   *counts;			/* of instances, by state; or NULL */
	StringInfoData out;
} Printer;

/* Is it a word that Mermaid's flowcharts do not take for the name of a node? */
static bool
is_reserved(const char *name)
{
	static const char *const words[] = {
		"end", "graph", "flowchart", "subgraph", "style", "linkStyle", "classDef", "class", "click",
		"call", "href", "interpolate"
	};

	for (int i = 0; i < (int) lengthof(words); i++)
	{
		if (strcmp(name, words[i]) == 0)
			return true;
	}
	return false;
}

/* Can a flowchart say all of it? */
static bool
fits_flowchart(const PstMachine *machine)
{
	if (machine->syntax != PST_SYNTAX_FLOWCHART)
		return false;
	for (int i = 0; i < machine->nstates; i++)
	{
		if (is_reserved(machine->states[i].name))
			return false;
	}
	return true;
}

/* The label's text: event[!|?] [guard] / action */
static char *
label_text(const PstTransition *transition)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, transition->event);
	if (transition->kind == PST_HARD)
		appendStringInfoChar(&text, '!');
	else if (transition->kind == PST_SOFT)
		appendStringInfoChar(&text, '?');
	if (transition->guard.text)
		appendStringInfo(&text, " [%s]", transition->guard.text);
	if (transition->action.text)
		appendStringInfo(&text, " / %s", transition->action.text);
	return text.data;
}

/*
 * Must a character be written as a code?  Besides what Mermaid itself would
 * take for syntax there is what a browser would take for HTML.
 */
static bool
needs_code(Format format, const char *text)
{
	switch (*text)
	{
		case '"':
		case '#':
		case ';':
		case '`':
			return true;
		case ':':
		case '\n':
			return format == FORMAT_STATE_DIAGRAM;
		case '<':
		case '&':
			return pst_is_name_byte(text[1]) || (text[1] != '\0' && strchr("/!?#", text[1]) != NULL);
		case '%':
			return text[1] == '%';
		default:
			return false;
	}
}

/* Codes for what Mermaid would not take as it stands. */
static void
print_mermaid_text(Printer *printer, const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (!needs_code(printer->format, text))
			appendStringInfoChar(&printer->out, *text);
		else if (*text == '"')
			appendStringInfoString(&printer->out, "#quot;");
		else if (*text == '<')
			appendStringInfoString(&printer->out, "#lt;");
		else if (*text == '&')
			appendStringInfoString(&printer->out, "#amp;");
		else
			appendStringInfo(&printer->out, "#%d;", *text);
	}
}

/*
 * PlantUML has no codes: a label is one line as it stands.  Line breaks of SQL
 * become spaces; in a string they cannot.
 */
static void
print_plantuml_text(Printer *printer, const char *text)
{
	int			length = strlen(text);
	int			next;

	for (int at = 0; at < length; at = next)
	{
		next = pst_skip_sql(text, at, length);
		if (text[at] == '\n' || text[at] == '\r')
			appendStringInfoChar(&printer->out, ' ');
		else if (text[at] == '-' && next > at + 1)
			continue;			/* a comment to the end of its line */
		else if (memchr(text + at, '\n', next - at) != NULL && text[at] != '/')
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("PlantUML cannot show a string that has line breaks"),
					 errhint("Use the format mermaid or dot.")));
		else if (text[at] == '/' && next > at + 1)
			continue;			/* a comment */
		else
			appendBinaryStringInfo(&printer->out, text + at, next - at);
	}
}

static void
print_dot_text(Printer *printer, const char *text)
{
	appendStringInfoChar(&printer->out, '"');
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(&printer->out, '\\');
		appendStringInfoChar(&printer->out, *text);
	}
	appendStringInfoChar(&printer->out, '"');
}

static void
print_text(Printer *printer, const char *text)
{
	if (printer->format == FORMAT_PLANTUML)
		print_plantuml_text(printer, text);
	else if (printer->format == FORMAT_DOT)
		print_dot_text(printer, text);
	else
		print_mermaid_text(printer, text);
}

/* A state's name with the number of its instances. */
static char *
counted_name(Printer *printer, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *count;

	count = getKeyJsonValueFromContainer(&printer->counts->root, name, strlen(name), &buffer);
	if (count == NULL || count->type != jbvNumeric)
		return psprintf("%s (0)", name);
	return psprintf("%s (%s)", name,
					DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(count->val.numeric))));
}

static const char *
node_name(const Printer *printer, int state)
{
	return state == PST_STAR ? "[*]" : printer->machine->states[state].name;
}

/* Declares the states that show more than their name. */
static void
print_states(Printer *printer)
{
	bool		has_actions = false;

	for (int i = 0; i < printer->machine->nstates; i++)
	{
		PstState   *state = &printer->machine->states[i];

		has_actions |= state->entry.text || state->exit.text;
	}
	if (printer->counts == NULL && !has_actions)
		return;
	for (int i = 0; i < printer->machine->nstates; i++)
	{
		const char *name = printer->machine->states[i].name;

		CHECK_FOR_INTERRUPTS();
		if (printer->counts == NULL)
			appendStringInfo(&printer->out, "  state %s\n", name);
		else if (printer->format == FORMAT_FLOWCHART)
			appendStringInfo(&printer->out, "  %s[\"%s\"]\n", name, counted_name(printer, name));
		else
			appendStringInfo(&printer->out, "  state \"%s\" as %s\n", counted_name(printer, name), name);
	}
}

/* state : entry / action */
static void
print_state_action(Printer *printer, const PstState *state, const char *when, const PstSnippet *action)
{
	if (action->text == NULL)
		return;
	appendStringInfo(&printer->out, "  %s : %s / ", state->name, when);
	print_text(printer, action->text);
	appendStringInfoChar(&printer->out, '\n');
}

/* Edges that the notation implies need no label, or no line. */
static bool
is_implied(const PstTransition *transition)
{
	return strcmp(transition->event, PST_START_EVENT) == 0 || strcmp(transition->event, PST_END_EVENT) == 0;
}

static void
print_transition(Printer *printer, const PstTransition *transition)
{
	bool		implied = is_implied(transition);

	if (printer->format == FORMAT_FLOWCHART)
	{
		if (implied)
			return;
		appendStringInfo(&printer->out, "  %s -->|\"", node_name(printer, transition->from));
		print_text(printer, label_text(transition));
		appendStringInfo(&printer->out, "\"| %s\n", node_name(printer, transition->to));
		return;
	}
	appendStringInfo(&printer->out, "  %s --> %s", node_name(printer, transition->from),
					 node_name(printer, transition->to));
	if (!implied)
	{
		appendStringInfoString(&printer->out, " : ");
		print_text(printer, label_text(transition));
	}
	appendStringInfoChar(&printer->out, '\n');
}

/* All but Graphviz's. */
static void
print_diagram(Printer *printer)
{
	static const char *const headers[] = {"flowchart LR\n", "stateDiagram-v2\n", "@startuml\n"};
	const PstMachine *machine = printer->machine;

	appendStringInfoString(&printer->out, headers[printer->format]);
	print_states(printer);
	for (int i = 0; i < machine->nstates; i++)
	{
		print_state_action(printer, &machine->states[i], "entry", &machine->states[i].entry);
		print_state_action(printer, &machine->states[i], "exit", &machine->states[i].exit);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		print_transition(printer, &machine->transitions[i]);
	}
	if (printer->format == FORMAT_PLANTUML)
		appendStringInfoString(&printer->out, "@enduml\n");
}

static void
print_dot_state(Printer *printer, const PstState *state)
{
	StringInfoData label;

	initStringInfo(&label);
	appendStringInfoString(&label, printer->counts ? counted_name(printer, state->name) : state->name);
	if (state->entry.text)
		appendStringInfo(&label, "\nentry / %s", state->entry.text);
	if (state->exit.text)
		appendStringInfo(&label, "\nexit / %s", state->exit.text);
	appendStringInfoString(&printer->out, "  ");
	print_dot_text(printer, state->name);
	appendStringInfoString(&printer->out, " [label=");
	print_dot_text(printer, label.data);
	appendStringInfoString(&printer->out, "];\n");
}

static void
print_dot(Printer *printer, const char *name)
{
	const PstMachine *machine = printer->machine;
	StringInfo	out = &printer->out;

	appendStringInfoString(out, "digraph ");
	print_dot_text(printer, name);
	appendStringInfoString(out, " {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n"
						   "  \"*\" [shape=point];\n");
	for (int i = 0; i < machine->nstates; i++)
		print_dot_state(printer, &machine->states[i]);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		CHECK_FOR_INTERRUPTS();
		if (is_implied(transition) && transition->to == PST_STAR)
			continue;
		appendStringInfoString(out, "  ");
		print_dot_text(printer, pst_machine_state_name(machine, transition->from));
		appendStringInfoString(out, " -> ");
		print_dot_text(printer, pst_machine_state_name(machine, transition->to));
		if (!is_implied(transition))
		{
			appendStringInfoString(out, " [label=");
			print_dot_text(printer, label_text(transition));
			appendStringInfoChar(out, ']');
		}
		appendStringInfoString(out, ";\n");
	}
	appendStringInfoString(out, "}\n");
}

static Format
format_of(const char *name, const PstMachine *machine)
{
	if (strcmp(name, "mermaid") == 0)
		return fits_flowchart(machine) ? FORMAT_FLOWCHART : FORMAT_STATE_DIAGRAM;
	if (strcmp(name, "plantuml") == 0)
		return FORMAT_PLANTUML;
	if (strcmp(name, "dot") == 0)
		return FORMAT_DOT;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown format \"%s\"", name),
			 errhint("Valid ones are mermaid, plantuml and dot.")));
}

/* machine_diagram(machine, version, format, counts) */
Datum
pst_diagram(PG_FUNCTION_ARGS)
{
	const PstMachineVersion *version;
	Printer		printer = {0};

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	}
	version = pst_machine_version(pst_machine_find(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1)));
	printer.machine = version->machine;
	printer.format = format_of(text_to_cstring(PG_GETARG_TEXT_PP(2)), version->machine);
	printer.counts = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	if (printer.counts != NULL && !JB_ROOT_IS_OBJECT(printer.counts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("counts must be a JSON object")));
	initStringInfo(&printer.out);
	if (printer.format == FORMAT_DOT)
		print_dot(&printer, version->name);
	else
		print_diagram(&printer);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(printer.out.data, printer.out.len));
}
