/*
 * model.c
 *	  Builds the model of a machine from its definition.
 *
 * The notations' parsers call pst_model_state and pst_model_transition as they
 * read; what the text implies and what can be counted is added at the end.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "machine/parser.h"

int
pst_machine_state(const PstMachine *machine, const char *name)
{
	if (strcmp(name, "*") == 0)
		return PST_STAR;
	return pst_names_find(&machine->names, name, strlen(name));
}

const char *
pst_transition_kind_name(PstTransitionKind kind)
{
	static const char *const names[] = {"plain", "hard", "soft", "after", "every"};

	return names[kind];
}

bool
pst_transition_has_event(const PstTransition *transition)
{
	return transition->from != PST_STAR &&
		(transition->to != PST_STAR || strcmp(transition->event, PST_END_EVENT) != 0);
}

const char *
pst_machine_state_name(const PstMachine *machine, int state)
{
	if (state == PST_STAR)
		return "*";
	Assert(state >= 0 && state < machine->nstates);
	return machine->states[state].name;
}

/*
 * Refuses blanks and the like that nobody sees: a state called "ready" with one
 * behind it would be another than "ready".
 */
static void
check_visible(PstParser *parser, const char *name, int length, int offset)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		return;
	for (int at = 0; at < length; at += pg_mblen(name + at))
	{
		pg_wchar	c;

		if (!IS_HIGHBIT_SET(name[at]))
			continue;
		c = utf8_to_unicode((const unsigned char *) name + at);
		if ((c >= 0x80 && c <= 0xA0) || c == 0xAD || c == 0x1680 || (c >= 0x2000 && c <= 0x200B) ||
			(c >= 0x200E && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) || (c >= 0x205F && c <= 0x206F) ||
			c == 0x3000 || c == 0xFEFF)
		{
			pst_parser_find(parser, PST_SEVERITY_ERROR, "name", offset,
							"It may have come with a copied text: type the line anew.",
							"name of state has an invisible character");
			return;
		}
	}
}

static int
add_state(PstParser *parser, const char *name, int length, int offset)
{
	PstMachine *machine = parser->machine;
	PstState   *state;

	if (machine->nstates >= PST_MAX_STATES)
	{
		pst_parser_limit(parser, offset, "machine has too many states", "states", PST_MAX_STATES);
		return machine->nstates - 1;
	}
	check_visible(parser, name, length, offset);
	if (machine->nstates >= parser->states_room)
	{
		parser->states_room *= 2;
		machine->states = repalloc(machine->states, parser->states_room * sizeof(PstState));
	}
	state = &machine->states[machine->nstates];
	memset(state, 0, sizeof(*state));
	state->name = pnstrdup(name, length);
	state->offset = offset;
	pst_names_add(&machine->names, state->name, length, machine->nstates);
	return machine->nstates++;
}

/* The index of the state whose name, or alias, stands at an offset; a new one if needed. */
int
pst_model_state(PstParser *parser, int offset, int length)
{
	const char *name = parser->text + offset;
	int			target = pst_names_find(&parser->aliases, name, length);
	int			state;

	if (target >= 0)
	{
		name = parser->text + target;
		length = pst_state_name_length(parser, target);
	}
	if (length > PST_MAX_NAME)
	{
		pst_parser_find(parser, PST_SEVERITY_ERROR, "name", offset,
						psprintf("A name can have %d bytes.", PST_MAX_NAME), "name of state is too long");
		length = pg_mbcliplen(name, length, PST_MAX_NAME);
	}
	state = pst_names_find(&parser->machine->names, name, length);
	return state >= 0 ? state : add_state(parser, name, length, offset);
}

/* Adds a transition; the label's strings become the model's. */
void
pst_model_transition(PstParser *parser, int from, int to, const PstLabel *label, int offset)
{
	PstMachine *machine = parser->machine;
	PstTransition *transition;

	CHECK_FOR_INTERRUPTS();
	if (machine->ntransitions >= PST_MAX_TRANSITIONS)
	{
		pst_parser_limit(parser, offset, "machine has too many transitions", "transitions", PST_MAX_TRANSITIONS);
		return;
	}
	if (machine->ntransitions >= parser->transitions_room)
	{
		parser->transitions_room *= 2;
		machine->transitions = repalloc(machine->transitions,
										parser->transitions_room * sizeof(PstTransition));
	}
	transition = &machine->transitions[machine->ntransitions++];
	memset(transition, 0, sizeof(*transition));
	transition->from = from;
	transition->to = to;
	transition->event = label->event;
	transition->kind = label->kind;
	transition->guard = label->guard;
	transition->action = label->action;
	transition->timing = label->timing;
	transition->offset = offset;
}

/* Does the text at an offset begin with a word? */
static bool
begins_with(const PstParser *parser, int at, const char *word)
{
	return strncmp(parser->text + at, word, strlen(word)) == 0;
}

/*
 * What notation is a line without header in?  A flowchart's label stands
 * between pipes or within the arrow, a state diagram's after a colon.
 */
static PstSyntax
guess_from_line(const PstParser *parser, int at, int end)
{
	int			arrow;

	for (arrow = at; arrow + 1 < end; arrow++)
	{
		if ((parser->text[arrow] == '-' || parser->text[arrow] == '=') &&
			strchr("->.=", parser->text[arrow + 1]) != NULL)
			break;
	}
	if (arrow + 1 >= end)
		return PST_SYNTAX_AUTO;
	while (arrow < end && strchr("-.=", parser->text[arrow]) != NULL)
		arrow++;
	if (arrow >= end || parser->text[arrow] != '>')
	{
		/* -- label -->, unless it is PlantUML's -[style]-> or -left-> */
		const char *colon = memchr(parser->text + at, ':', end - at);

		return colon != NULL ? PST_SYNTAX_STATE_DIAGRAM : PST_SYNTAX_FLOWCHART;
	}
	arrow = pst_skip_blanks(parser->text, arrow + 1, end);
	if (arrow < end && parser->text[arrow] == '|')
		return PST_SYNTAX_FLOWCHART;
	/* without a label it is neither, unless it is a start or an end */
	for (; at < end; at++)
	{
		if (parser->text[at] == ':' || begins_with(parser, at, "[*]"))
			return PST_SYNTAX_STATE_DIAGRAM;
	}
	return PST_SYNTAX_AUTO;
}

/* The notation of the statement, or the header, at the cursor. */
static PstSyntax
guess_syntax(const PstParser *parser, int end)
{
	if (pst_at_keyword(parser, "flowchart") || pst_at_keyword(parser, "flowchart-elk") ||
		pst_at_keyword(parser, "graph"))
		return PST_SYNTAX_FLOWCHART;
	if (pst_looking_at(parser, "@startuml"))
		return PST_SYNTAX_PLANTUML;
	if (pst_looking_at(parser, "stateDiagram"))
		return PST_SYNTAX_STATE_DIAGRAM;
	return guess_from_line(parser, parser->at, end);
}

static PstSyntax
detect_syntax(PstParser *parser)
{
	PstSyntax	syntax = PST_SYNTAX_AUTO;

	while (syntax == PST_SYNTAX_AUTO && pst_skip_trivia(parser))
	{
		syntax = guess_syntax(parser, pst_line_end(parser));
		pst_skip_line(parser);
	}
	parser->at = 0;
	return syntax == PST_SYNTAX_AUTO ? PST_SYNTAX_FLOWCHART : syntax;
}

/*
 * Mermaid's front matter: lines between two lines of ---, before all else.
 */
static void
skip_front_matter(PstParser *parser)
{
	if (pst_looking_at(parser, "\xEF\xBB\xBF"))
		parser->at += 3;		/* a byte order mark */
	while (parser->at < parser->length && strchr(" \t\r\n", parser->text[parser->at]) != NULL)
		parser->at++;
	if (pst_looking_at(parser, "---\n") || pst_looking_at(parser, "---\r\n"))
	{
		do
			pst_skip_line(parser);
		while (parser->at < parser->length && !pst_looking_at(parser, "---"));
		pst_skip_line(parser);
	}
}

static void
parse_text(PstParser *parser)
{
	PstMachine *machine = parser->machine;
	int			body;

	skip_front_matter(parser);
	body = parser->at;
	if (!pst_skip_trivia(parser))
	{
		pst_parser_find(parser, PST_SEVERITY_ERROR, "empty", 0,
						"Write at least one transition, as in a -->|event| b.", "definition is empty");
		return;
	}
	if (machine->syntax != PST_SYNTAX_FLOWCHART && begins_with(parser, parser->at, "@startuml"))
		machine->syntax = PST_SYNTAX_PLANTUML;
	parser->at = body;
	if (machine->syntax == PST_SYNTAX_AUTO)
		machine->syntax = detect_syntax(parser);
	parser->at = body;
	parser->reading = true;
	if (machine->syntax == PST_SYNTAX_FLOWCHART)
		pst_flowchart_parse(parser);
	else
		pst_statediagram_parse(parser);
}

PstMachine *
pst_machine_parse(const char *definition, PstSyntax syntax, List **findings)
{
	PstParser	parser = {0};
	PstMachine *machine = palloc0(sizeof(PstMachine));
	size_t		length = strlen(definition);

	machine->definition = pstrdup(definition);
	machine->syntax = syntax;
	parser.text = machine->definition;
	parser.length = (int) length;
	parser.machine = machine;
	parser.states_room = 16;
	parser.transitions_room = 16;
	machine->states = palloc(parser.states_room * sizeof(PstState));
	machine->transitions = palloc(parser.transitions_room * sizeof(PstTransition));

	if (length > PST_MAX_DEFINITION)
		pst_parser_limit(&parser, pg_mbcliplen(definition, parser.length, PST_MAX_DEFINITION), "definition of machine is too long", "bytes", PST_MAX_DEFINITION);
	else
		parse_text(&parser);
	/* Of half a graph nothing can be said. */
	if (!parser.failed)
		pst_machine_complete(&parser);
	if (!parser.failed)
		pst_machine_check(&parser);
	pst_parser_settle(&parser);
	*findings = list_concat(*findings, parser.findings);
	return parser.failed ? NULL : machine;
}
