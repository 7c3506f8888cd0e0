/*
 * statediagram.c
 *	  Mermaid's state diagrams and PlantUML: a --> b : event.
 *
 * The two are close enough for one parser that takes what either has.  What
 * only concerns looks is passed over; what has a meaning that a machine cannot
 * have (nested and concurrent states, choices) is refused.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/entity.h"
#include "machine/parser.h"

#define EDGE_HINT "A transition reads: from --> to : event."

static bool
unexpected(PstParser *parser, const char *expected)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at, EDGE_HINT,
					"expected %s at %s", expected, pst_next_word(parser, parser->at));
	return false;
}

/* Past :::class, which only concerns looks. */
static void
skip_class(PstParser *parser)
{
	if (!pst_looking_at(parser, ":::"))
		return;
	parser->at += 3;
	parser->at += pst_name_length(parser->text, parser->at, parser->length);
}

static bool
refuse_pseudo_state(PstParser *parser, const char *mark)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
					"Draw the transitions from state to state, with guards where there is a choice.",
					"pseudo-state %s is not supported", mark);
	return false;
}

/* A state's name or [*]; its index goes to the list. */
static bool
parse_node(PstParser *parser, List **nodes)
{
	int			start = parser->at;
	int			length;

	if (pst_looking_at(parser, "[*]"))
	{
		parser->at += 3;
		*nodes = lappend_int(*nodes, PST_STAR);
		return true;
	}
	length = pst_scan_state_name(parser);
	if (pst_looking_at(parser, "[H"))
		return refuse_pseudo_state(parser, pst_looking_at(parser, "[H*]") ? "[H*]" : "[H]");
	if (length > 0)
	{
		*nodes = lappend_int(*nodes, pst_model_state(parser, start, length));
		skip_class(parser);
		return true;
	}
	if (pst_looking_at(parser, "=="))
		return refuse_pseudo_state(parser, "==");
	if (pst_peek(parser, 0) != '"')
		return unexpected(parser, "a state");
	pst_parser_find(parser, PST_SEVERITY_ERROR, "name", start,
					"Give it a short name first: state \"Long name\" as short.",
					"name of state is in quotes");
	return false;
}

/* Nodes with , or & between them. */
static bool
parse_nodes(PstParser *parser, List **nodes)
{
	*nodes = NIL;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		pst_blanks(parser);
		if (!parse_node(parser, nodes))
			return false;
		pst_blanks(parser);
		if (pst_peek(parser, 0) != ',' && pst_peek(parser, 0) != '&')
			return true;
		parser->at++;
	}
}

/* The length of the character code at the cursor, or 0. */
static int
code_length(const PstParser *parser)
{
	char		decoded[PST_ENTITY_ROOM];
	int			length;

	return pst_entity_decode(parser->machine->syntax, parser->text, parser->at, parser->length, decoded, &length);
}

/* At a comment, with a blank before it? */
static bool
at_comment(const PstParser *parser)
{
	if (strchr(" \t", parser->text[parser->at - 1]) == NULL)
		return false;
	if (parser->machine->syntax == PST_SYNTAX_PLANTUML)
		return parser->at == parser->comment;
	return pst_looking_at(parser, "%%");
}

/*
 * Moves to the end of a label or an action: the line's end, or a ; or comment
 * that is outside of SQL's quotes and brackets.
 */
static void
skip_sql_text(PstParser *parser)
{
	int			end = pst_line_end(parser);
	int			depth = 0;

	while (parser->at < end)
	{
		char		c = parser->text[parser->at];

		int			code = code_length(parser);

		if (code > 0)			/* the ; of #58; ends nothing */
		{
			parser->at += code;
			continue;
		}
		if (depth <= 0 && (c == ';' || at_comment(parser)))
			return;
		if (strchr("([{", c) != NULL)
			depth++;
		else if (strchr(")]}", c) != NULL)
			depth--;
		parser->at = pst_skip_sql(parser->text, parser->at, end);
	}
	parser->at = end;
}

/* Adds the transitions of a statement; without a label only those of * have an event. */
static bool
add_transitions(PstParser *parser, List *from, List *to, const PstLabel *label, int offset, int after)
{
	for (int i = 0; i < list_length(from) && !parser->full; i++)
	{
		for (int j = 0; j < list_length(to) && !parser->full; j++)
		{
			int			source = list_nth_int(from, i);
			int			target = list_nth_int(to, j);
			PstLabel	implied = {0};

			if (label == NULL)
			{
				if (source != PST_STAR && target != PST_STAR)
				{
					pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", after,
									"Write from --> to : event; an event that fires by itself ends in !.",
									"transition has no event");
					return false;
				}
				implied.event = pstrdup(source == PST_STAR ? PST_START_EVENT : PST_END_EVENT);
			}
			pst_model_transition(parser, source, target, label ? label : &implied, offset);
		}
	}
	return true;
}

/* Past <<stereotypes>>, #colours and [[links]], which only concern looks. */
static void
skip_decoration(PstParser *parser)
{
	for (;;)
	{
		bool		link;

		pst_blanks(parser);
		skip_class(parser);
		link = pst_looking_at(parser, "[[");
		if (!link && !pst_looking_at(parser, "<<") && pst_peek(parser, 0) != '#')
			return;
		/* a ; may be part of a colour */
		while (parser->at < parser->length && pst_peek(parser, 0) != '\n' &&
			   (link || strchr(" \t\r{", pst_peek(parser, 0)) == NULL))
		{
			if (link && pst_looking_at(parser, "]]"))
			{
				parser->at += 2;
				break;
			}
			parser->at++;
		}
		pst_blanks(parser);
	}
}

/* At the end of a statement, or at a comment of PlantUML's before it? */
static bool
at_end(PstParser *parser)
{
	pst_line_end(parser);
	return pst_at_statement_end(parser) || at_comment(parser);
}

/* What follows the sources and the arrow: targets : label */
static bool
parse_transition(PstParser *parser, List *from, const PstArrow *arrow, int offset)
{
	List	   *to;
	PstLabel	label;
	int			start;
	int			after;
	bool		has_label = false;
	bool		good = true;

	pst_blanks(parser);
	if (!parse_nodes(parser, &to))
		return false;
	after = parser->at;
	skip_decoration(parser);
	if (pst_peek(parser, 0) == ':')
	{
		start = ++parser->at;
		skip_sql_text(parser);
		has_label = !pst_is_blank(parser, start, parser->at);
		if (has_label && !arrow->hidden)
			good = pst_label_parse(parser, start, parser->at, &label);
	}
	if (good && !arrow->hidden)
		good = add_transitions(parser, arrow->reverse ? to : from, arrow->reverse ? from : to,
							   has_label ? &label : NULL, offset, after);
	list_free(to);
	if (!at_end(parser))
		return unexpected(parser, "the end of the line");
	return true;
}

/*
 * Does a description look like a transition within the state?  Machines have
 * none, and passing one over silently would lose an action.
 */
static bool
looks_like_action(const char *text, int at, int end)
{
	int			length = pst_name_length(text, at, end);

	if (length == 0)
		return false;
	at += length;
	if (at < end && (text[at] == '!' || text[at] == '?'))
		at++;
	at = pst_skip_blanks(text, at, end);
	return at < end && (text[at] == '/' || text[at] == '[');
}

/* state : entry / action, state : exit / action, or words for the eye */
static bool
parse_description(PstParser *parser, int state)
{
	PstSnippet *slot = NULL;
	int			length;
	int			start;

	parser->at++;
	pst_blanks(parser);
	start = parser->at;
	length = pst_name_length(parser->text, start, parser->length);
	if (looks_like_action(parser->text, start, parser->length) && state != PST_STAR)
	{
		if (length == 5 && pg_strncasecmp(parser->text + start, "entry", 5) == 0)
			slot = &parser->machine->states[state].entry;
		else if (length == 4 && pg_strncasecmp(parser->text + start, "exit", 4) == 0)
			slot = &parser->machine->states[state].exit;
		else
			pst_parser_find(parser, PST_SEVERITY_WARNING, "ignored", start,
							"A state has actions at entry and at exit; for others draw a transition.",
							"\"%.*s\" within a state does nothing", length, parser->text + start);
	}
	if (slot == NULL)
	{
		pst_skip_line(parser);
		return true;
	}
	if (slot->text != NULL)
		pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", start, "Join the two in one list.",
						"repeated %.*s action of state \"%s\"", length, parser->text + start,
						parser->machine->states[state].name);
	start += length;
	skip_sql_text(parser);
	return pst_action_parse(parser, start, parser->at, slot);
}

/* Does a stereotype say that it is no state? */
static const char *
pseudo_state(const PstParser *parser)
{
	static const char *const known[] = {
		"<<choice>>", "<<fork>>", "<<join>>", "<<history>>", "<<history*>>", "<<start>>", "<<end>>",
		"<<entryPoint>>", "<<exitPoint>>", "<<inputPin>>", "<<outputPin>>", "<<expansionInput>>",
		"<<expansionOutput>>", "[[choice]]", "[[fork]]", "[[join]]"
	};

	for (int i = 0; i < (int) lengthof(known); i++)
	{
		if (pst_looking_at(parser, known[i]))
			return known[i];
	}
	return NULL;
}

/* What may follow a state's declaration: <<stereotype>>, #color, {, : text */
static bool
parse_declared(PstParser *parser, int state)
{
	pst_blanks(parser);
	skip_class(parser);
	pst_blanks(parser);
	if (pseudo_state(parser) != NULL)
		return refuse_pseudo_state(parser, pseudo_state(parser));
	skip_decoration(parser);
	if (pst_peek(parser, 0) == '{' || pst_at_keyword(parser, "begin"))
	{
		pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
						"Draw its inner states beside the others.", "nested states are not supported");
		return false;
	}
	if (pst_peek(parser, 0) == ':')
		return parse_description(parser, state);
	if (!at_end(parser))
		return unexpected(parser, "the end of the line");
	return true;
}

/* Past a string in double quotes, or false. */
static bool
skip_string(PstParser *parser)
{
	int			end = pst_line_end(parser);
	const char *close;

	if (pst_peek(parser, 0) != '"')
		return false;
	close = memchr(parser->text + parser->at + 1, '"', end - parser->at - 1);
	if (close == NULL)
		return false;
	parser->at = (int) (close - parser->text) + 1;
	return true;
}

/* A name in quotes, which PlantUML takes where a state is declared; false if it is none. */
static bool
parse_quoted_name(PstParser *parser, List **nodes)
{
	int			start = parser->at + 1;
	int			length = pst_peek(parser, 0) == '"' ? pst_state_name_length(parser, start) : 0;

	if (length == 0 || pst_peek(parser, 1 + length) != '"')
		return false;
	*nodes = lappend_int(*nodes, pst_model_state(parser, start, length));
	parser->at = Max(parser->at, start + length + 1);
	return true;
}

/* state a, state "Words" as a, state a as "Words" */
static bool
parse_declaration(PstParser *parser)
{
	List	   *nodes = NIL;
	int			start;

	parser->at += strlen("state");
	pst_blanks(parser);
	start = parser->at;
	if (skip_string(parser))
	{
		pst_blanks(parser);
		if (pst_at_keyword(parser, "as"))
		{
			parser->at += strlen("as");
			pst_blanks(parser);
		}
		else
			parser->at = start;
	}
	if (!parse_quoted_name(parser, &nodes) && !parse_node(parser, &nodes))
		return false;
	pst_blanks(parser);
	if (pst_at_keyword(parser, "as"))
	{
		parser->at += strlen("as");
		pst_blanks(parser);
		if (!skip_string(parser))
			return unexpected(parser, "a text in quotes");
	}
	return parse_declared(parser, linitial_int(nodes));
}

static bool
parse_statement(PstParser *parser)
{
	List	   *from;
	int			offset = parser->at;
	PstArrow	arrow;
	bool		good;

	if (pst_at_keyword(parser, "state"))
		return parse_declaration(parser);
	if (!parse_nodes(parser, &from))
		return false;
	if (pst_accept_arrow(parser, &arrow))
		good = parse_transition(parser, from, &arrow, offset);
	else if (list_length(from) == 1)
		good = parse_declared(parser, linitial_int(from));
	else
		good = unexpected(parser, "an arrow");
	list_free(from);
	return good;
}

/* The marks of regions, which are refused, and the end of a nested state, which was. */
static bool
refuse_region(PstParser *parser)
{
	int			end = pst_line_end(parser);

	if (pst_peek(parser, 0) == '}')
	{
		if (!parser->failed)
			return false;
		parser->at++;
		return true;
	}
	if ((!pst_looking_at(parser, "--") && !pst_looking_at(parser, "||")) ||
		!pst_is_blank(parser, parser->at + 2, end))
		return false;
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
					"Make a machine of each region.", "concurrent regions are not supported");
	pst_skip_line(parser);
	return true;
}

void
pst_statediagram_parse(PstParser *parser)
{
	while (pst_skip_trivia(parser))
	{
		if (pst_statediagram_skip(parser) || refuse_region(parser))
			continue;
		if (!parse_statement(parser))
			pst_skip_line(parser);
	}
}
