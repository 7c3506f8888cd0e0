/*
 * model.c
 *	  Builds the model of a machine from its definition.
 *
 * The notations' parsers call pst_model_state and pst_model_transition as they
 * read; what the text implies and what can be counted is added at the end.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "machine/parser.h"

/* The bucket of a name, or the empty one where it would go. */
static int
find_bucket(const PstMachine *machine, const char *name, int length)
{
	uint32		at = hash_bytes((const unsigned char *) name, length);

	for (;; at++)
	{
		int			bucket = at & (machine->nbuckets - 1);
		int			state = machine->buckets[bucket];

		if (state < 0)
			return bucket;
		if (strncmp(machine->states[state].name, name, length) == 0 &&
			machine->states[state].name[length] == '\0')
			return bucket;
	}
}

static void
make_buckets(PstMachine *machine, int nbuckets)
{
	if (machine->buckets != NULL)
		pfree(machine->buckets);
	machine->nbuckets = nbuckets;
	machine->buckets = palloc(nbuckets * sizeof(int));
	for (int i = 0; i < nbuckets; i++)
		machine->buckets[i] = -1;
	for (int i = 0; i < machine->nstates; i++)
	{
		const char *name = machine->states[i].name;

		machine->buckets[find_bucket(machine, name, strlen(name))] = i;
	}
}

/* The index of a state by name, or -2. */
int
pst_model_lookup(const PstMachine *machine, const char *name, int length)
{
	int			state = machine->buckets[find_bucket(machine, name, length)];

	return state < 0 ? -2 : state;
}

int
pst_machine_state(const PstMachine *machine, const char *name)
{
	if (strcmp(name, "*") == 0)
		return PST_STAR;
	return pst_model_lookup(machine, name, strlen(name));
}

const char *
pst_transition_kind_name(PstTransitionKind kind)
{
	static const char *const names[] = {"plain", "hard", "soft", "after", "every"};

	return names[kind];
}

const char *
pst_machine_state_name(const PstMachine *machine, int state)
{
	if (state == PST_STAR)
		return "*";
	Assert(state >= 0 && state < machine->nstates);
	return machine->states[state].name;
}

/* The index of the state whose name stands at an offset; a new one if needed. */
int
pst_model_state(PstParser *parser, int offset, int length)
{
	PstMachine *machine = parser->machine;
	const char *name = parser->text + offset;
	int			bucket;
	PstState   *state;

	if (length > PST_MAX_NAME)
	{
		pst_parser_find(parser, PST_SEVERITY_ERROR, "name", offset, NULL, "name of state is too long");
		length = PST_MAX_NAME;
	}
	bucket = find_bucket(machine, name, length);
	if (machine->buckets[bucket] >= 0)
		return machine->buckets[bucket];

	if (machine->nstates >= PST_MAX_STATES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("machine has too many states"),
				 errdetail("A machine can have %d states.", PST_MAX_STATES)));
	if (machine->nstates >= parser->states_room)
	{
		parser->states_room *= 2;
		machine->states = repalloc(machine->states, parser->states_room * sizeof(PstState));
	}
	state = &machine->states[machine->nstates];
	memset(state, 0, sizeof(*state));
	state->name = pnstrdup(name, length);
	state->offset = offset;
	machine->buckets[bucket] = machine->nstates++;
	if (machine->nstates * 2 > machine->nbuckets)
		make_buckets(machine, machine->nbuckets * 2);
	return machine->nstates - 1;
}

/* Adds a transition; the label's strings become the model's. */
void
pst_model_transition(PstParser *parser, int from, int to, const PstLabel *label, int offset)
{
	PstMachine *machine = parser->machine;
	PstTransition *transition;

	CHECK_FOR_INTERRUPTS();
	if (machine->ntransitions >= PST_MAX_TRANSITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("machine has too many transitions"),
				 errdetail("A machine can have %d transitions.", PST_MAX_TRANSITIONS)));
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
	return PST_SYNTAX_STATE_DIAGRAM;
}

static PstSyntax
detect_syntax(PstParser *parser)
{
	PstSyntax	syntax = PST_SYNTAX_AUTO;

	while (syntax == PST_SYNTAX_AUTO && pst_skip_trivia(parser))
	{
		int			start = parser->at;

		pst_skip_line(parser);
		if (begins_with(parser, start, "@startuml"))
			syntax = PST_SYNTAX_PLANTUML;
		else if (begins_with(parser, start, "stateDiagram"))
			syntax = PST_SYNTAX_STATE_DIAGRAM;
		else
			syntax = guess_from_line(parser, start, parser->at);
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

	if (length > PST_MAX_DEFINITION)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("definition of machine is too long"),
				 errdetail("It has %zu bytes; a definition can have %d.", length, PST_MAX_DEFINITION)));

	machine->definition = pstrdup(definition);
	machine->syntax = syntax;
	parser.text = machine->definition;
	parser.length = (int) length;
	parser.machine = machine;
	parser.states_room = 16;
	parser.transitions_room = 16;
	machine->states = palloc(parser.states_room * sizeof(PstState));
	machine->transitions = palloc(parser.transitions_room * sizeof(PstTransition));
	make_buckets(machine, 32);

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
