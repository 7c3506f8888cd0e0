/*
 * printer.c
 *	  Prints a machine as a diagram of Mermaid or PlantUML.
 *
 * What is printed is accepted by the real Mermaid and PlantUML, and read in
 * again gives the same machine: its states and transitions in their order,
 * guards and actions to the letter.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "machine/parser.h"
#include "machine/printer.h"

typedef struct Printer
{
	const PstMachine *machine;
	PstFormat	format;
	char	  **ids;			/* what the diagram calls each state by */
	bool		has_aliases;
	char	  **titles;
	bool		has_style;
	StringInfo	out;
} Printer;

/* ---- what to call a state ---- */

/* Is a name, up to its first character that words do not have, one of the notation's words? */
static bool
is_reserved(PstFormat format, const char *name)
{
	static const char *const flowchart_words[] = {
		"end", "graph", "flowchart", "subgraph", "style", "linkStyle", "classDef", "class", "click",
		"call", "href", "interpolate", NULL
	};
	static const char *const state_words[] = {
		"style", "classDef", "class", "click", "href", "default", "state", "note", "as", "scale", "accTitle", "accDescr",
		"stateDiagram", "root_start", "root_end", NULL
	};
	static const char *const plantuml_words[] = {
		"remove", "restore", "hide", "show", "skinparam", "note", "state", "title", "legend", "header", "footer",
		"caption", "scale", "end", "set", NULL
	};
	const char *const *word = format == PST_FORMAT_FLOWCHART ? flowchart_words :
		format == PST_FORMAT_STATE_DIAGRAM ? state_words : plantuml_words;
	int			length = strcspn(name, "-.!?");

	for (; *word != NULL; word++)
	{
		if ((int) strlen(*word) == length && pg_strncasecmp(name, *word, length) == 0)
			return true;
	}
	return false;
}

/*
 * Is a character beyond ASCII a letter to all that may read the diagram?  The
 * scripts that people most likely use; others get short names.
 */
static bool
is_letter(pg_wchar c)
{
	return (c >= 0xC0 && c <= 0x24F && c != 0xD7 && c != 0xF7) ||	/* Latin */
		(c >= 0x391 && c <= 0x3C9 && c != 0x3A2) || /* Greek */
		(c >= 0x400 && c <= 0x481) ||	/* Cyrillic */
		(c >= 0x5D0 && c <= 0x5EA) ||	/* Hebrew */
		(c >= 0x620 && c <= 0x64A) ||	/* Arabic */
		(c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) || /* Kana */
		(c >= 0x4E00 && c <= 0x9FA5) || /* Han */
		(c >= 0xAC00 && c <= 0xD7A3);	/* Hangul */
}

/* Can the diagram call a state by its name? */
static bool
takes_name(PstFormat format, const char *name)
{
	/* PlantUML takes "a.b" for a state within another */
	const char *marks = format == PST_FORMAT_FLOWCHART ? "-.!?" : format == PST_FORMAT_STATE_DIAGRAM ? ".!?" : "";

	if (is_reserved(format, name))
		return false;
	for (const char *at = name; *at != '\0'; at += pg_mblen(at))
	{
		if (!IS_HIGHBIT_SET(*at))
		{
			if (!pst_is_name_byte(*at) && strchr(marks, *at) == NULL)
				return false;
		}
		else if (GetDatabaseEncoding() != PG_UTF8 || !is_letter(utf8_to_unicode((const unsigned char *) at)))
			return false;
	}
	return true;
}

/* A short name that is no state's: the number in it is not another's. */
static char *
make_alias(const PstMachine *machine, int state)
{
	char	   *alias = psprintf("%s_%d", machine->states[state].name, state + 1);

	for (char *at = alias; *at != '\0'; at++)
	{
		if (!pst_is_name_byte(*at) || IS_HIGHBIT_SET(*at))
			*at = '_';
	}
	while (pst_machine_state(machine, alias) != PST_NO_NAME)
		alias = psprintf("s%s", alias);
	return alias;
}

static void
name_states(Printer *printer)
{
	const PstMachine *machine = printer->machine;

	printer->ids = palloc(Max(machine->nstates, 1) * sizeof(char *));
	for (int i = 0; i < machine->nstates; i++)
	{
		CHECK_FOR_INTERRUPTS();
		printer->ids[i] = machine->states[i].name;
		if (takes_name(printer->format, printer->ids[i]))
			continue;
		printer->ids[i] = make_alias(machine, i);
		printer->has_aliases = true;
	}
}

static const char *
state_id(const Printer *printer, int state)
{
	return state == PST_STAR ? "[*]" : printer->ids[state];
}

/* ---- labels ---- */

bool
pst_is_implied(const PstTransition *transition)
{
	return strcmp(transition->event, PST_START_EVENT) == 0 || strcmp(transition->event, PST_END_EVENT) == 0;
}

/* Does a text end within a comment to the end of its line, which what follows would be part of? */
static bool
ends_in_comment(const char *text)
{
	int			length = strlen(text);
	int			next;

	for (int at = 0; at < length; at = next)
	{
		next = pst_skip_sql(text, at, length);
		if (next == length)
			return text[at] == '-' && next > at + 1;
	}
	return false;
}

char *
pst_label_text(const PstTransition *transition)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, transition->event);
	if (transition->kind == PST_HARD)
		appendStringInfoChar(&text, '!');
	else if (transition->kind == PST_SOFT)
		appendStringInfoChar(&text, '?');
	if (transition->guard.text)
	{
		appendStringInfoString(&text, " [");
		appendStringInfoString(&text, transition->guard.text);
		appendStringInfoString(&text, ends_in_comment(transition->guard.text) ? "\n]" : "]");
	}
	if (transition->action.text)
	{
		appendStringInfoString(&text, " / ");
		appendStringInfoString(&text, transition->action.text);
	}
	return text.data;
}

/* ---- states ---- */

/* Would the transitions alone name all states in their order? */
static bool
are_named_in_order(const Printer *printer)
{
	const PstMachine *machine = printer->machine;
	int			named = 0;

	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		if (printer->format == PST_FORMAT_FLOWCHART && pst_is_implied(transition))
			continue;
		if (transition->from > named || transition->to > Max(named, transition->from + 1))
			return false;
		named = Max(named, Max(transition->from, transition->to) + 1);
	}
	return named == machine->nstates;
}

static bool
needs_declarations(const Printer *printer)
{
	if (printer->titles != NULL || printer->has_aliases || !are_named_in_order(printer))
		return true;
	for (int i = 0; i < printer->machine->nstates; i++)
	{
		if (printer->machine->states[i].entry.text || printer->machine->states[i].exit.text)
			return true;
	}
	return false;
}

/* Says what the diagram calls by another name. */
static void
print_aliases(Printer *printer)
{
	const PstMachine *machine = printer->machine;
	const char *mark = printer->format == PST_FORMAT_PLANTUML ? "'" : "%%";

	for (int i = 0; printer->has_aliases && i < machine->nstates; i++)
	{
		if (printer->ids[i] != machine->states[i].name)
			appendStringInfo(printer->out, "%s persistomata: %s is %s\n", mark,
							 printer->ids[i], machine->states[i].name);
	}
}

static void
print_states(Printer *printer)
{
	const PstMachine *machine = printer->machine;

	if (!needs_declarations(printer))
		return;
	print_aliases(printer);
	for (int i = 0; i < machine->nstates; i++)
	{
		const char *name = machine->states[i].name;
		const char *title = printer->titles ? printer->titles[i] : name;

		CHECK_FOR_INTERRUPTS();
		if (printer->format == PST_FORMAT_FLOWCHART)
			appendStringInfo(printer->out, "  %s[\"%s\"]\n", printer->ids[i], title);
		else if (title == name && printer->ids[i] == name)
			appendStringInfo(printer->out, "  state %s\n", name);
		else
			appendStringInfo(printer->out, "  state \"%s\" as %s\n", title, printer->ids[i]);
	}
}

/* state : entry / action */
static void
print_state_action(Printer *printer, int state, const char *when, const PstSnippet *action)
{
	if (action->text == NULL)
		return;
	appendStringInfo(printer->out, "  %s : %s / ", printer->ids[state], when);
	pst_escape_text(printer->out, printer->format, action->text, printer->has_style);
	appendStringInfoChar(printer->out, '\n');
}

/* ---- all of it ---- */

static void
print_transition(Printer *printer, const PstTransition *transition)
{
	bool		flowchart = printer->format == PST_FORMAT_FLOWCHART;
	bool		implied = pst_is_implied(transition);
	char	   *label;

	if (flowchart && implied)
		return;
	appendStringInfo(printer->out, flowchart ? "  %s -->|\"" : "  %s --> ", state_id(printer, transition->from));
	if (!flowchart)
		appendStringInfo(printer->out, implied ? "%s" : "%s : ", state_id(printer, transition->to));
	if (!implied)
	{
		label = pst_label_text(transition);
		pst_escape_text(printer->out, printer->format, label, printer->has_style);
		pfree(label);
	}
	if (flowchart)
		appendStringInfo(printer->out, "\"| %s", state_id(printer, transition->to));
	appendStringInfoChar(printer->out, '\n');
}

static void
print_all(Printer *printer)
{
	static const char *const headers[] = {"flowchart LR\n", "stateDiagram-v2\n", "@startuml\n"};
	const PstMachine *machine = printer->machine;

	appendStringInfoString(printer->out, headers[printer->format]);
	print_states(printer);
	for (int i = 0; i < machine->nstates; i++)
	{
		print_state_action(printer, i, "entry", &machine->states[i].entry);
		print_state_action(printer, i, "exit", &machine->states[i].exit);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		print_transition(printer, &machine->transitions[i]);
	}
	if (printer->format == PST_FORMAT_PLANTUML)
		appendStringInfoString(printer->out, "@enduml\n");
}

void
pst_print_machine(StringInfo out, const PstMachine *machine, PstFormat format, char **titles)
{
	Printer		printer = {.machine = machine, .format = format, .titles = titles, .out = out};
	int			start = out->len;

	name_states(&printer);
	print_all(&printer);
	if (strstr(out->data + start, "style") == NULL && strstr(out->data + start, "classDef") == NULL)
		return;
	/* Mermaid would look for styles there: once more, so that it finds none */
	out->len = start;
	out->data[start] = '\0';
	printer.has_style = true;
	print_all(&printer);
}

/* A flowchart has no actions of states, and no events at its start and end. */
PstFormat
pst_mermaid_format(const PstMachine *machine)
{
	return machine->syntax == PST_SYNTAX_FLOWCHART ? PST_FORMAT_FLOWCHART : PST_FORMAT_STATE_DIAGRAM;
}
