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
					"expected %s at %s", expected, pst_excerpt(parser, parser->at));
	return false;
}

/* The offset of the end of the cursor's line. */
static int
line_end(const PstParser *parser)
{
	const char *eol = memchr(parser->text + parser->at, '\n', parser->length - parser->at);

	return eol ? (int) (eol - parser->text) : parser->length;
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
	if (length > 0)
	{
		*nodes = lappend_int(*nodes, pst_model_state(parser, start, length));
		skip_class(parser);
		return true;
	}
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

/* Is it a direction of PlantUML's arrows, as in -left->? */
static bool
is_direction(const char *word, int length)
{
	static const char *const directions[] = {
		"left", "right", "up", "down", "l", "r", "u", "d", "le", "ri", "do"
	};

	for (int i = 0; i < (int) lengthof(directions); i++)
	{
		if ((int) strlen(directions[i]) == length && strncmp(word, directions[i], length) == 0)
			return true;
	}
	return false;
}

/* -->, ->, -up->, -[#red,dashed]->; moves past it, or not at all. */
static bool
accept_arrow(PstParser *parser)
{
	int			end = line_end(parser);
	int			at = parser->at;

	if (pst_peek(parser, 0) != '-')
		return false;
	while (at < end && parser->text[at] != '>')
	{
		int			length = 0;

		while (at + length < end && parser->text[at + length] >= 'a' && parser->text[at + length] <= 'z')
			length++;
		if (length > 0 && is_direction(parser->text + at, length))
			at += length;
		else if (parser->text[at] == '-')
			at++;
		else if (parser->text[at] == '[')
		{
			const char *close = memchr(parser->text + at, ']', end - at);

			if (close == NULL)
				return false;
			at = (int) (close - parser->text) + 1;
		}
		else
			return false;
	}
	if (at >= end || parser->text[at - 1] != '-')
		return false;
	parser->at = at + 1;
	return true;
}

/* The length of the character code at the cursor, or 0. */
static int
code_length(const PstParser *parser)
{
	char		decoded[PST_ENTITY_ROOM];
	int			length;

	if (parser->machine->syntax == PST_SYNTAX_PLANTUML)
		return 0;
	return pst_entity_decode(parser->text, parser->at, parser->length, decoded, &length);
}

/* At a comment of Mermaid's, with a blank before it? */
static bool
at_comment(const PstParser *parser)
{
	return parser->machine->syntax != PST_SYNTAX_PLANTUML && pst_looking_at(parser, "%%") &&
		strchr(" \t", parser->text[parser->at - 1]) != NULL;
}

/*
 * Moves to the end of a label or an action: the line's end, or a ; or comment
 * that is outside of SQL's quotes and brackets.
 */
static void
skip_sql_text(PstParser *parser)
{
	int			end = line_end(parser);
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

/* Is there anything but blanks between two offsets? */
static bool
is_blank(const PstParser *parser, int start, int end)
{
	return pst_skip_blanks(parser->text, start, end) >= end;
}

/* Adds the transitions of a statement; without a label only those of * have an event. */
static bool
add_transitions(PstParser *parser, List *from, List *to, const PstLabel *label, int offset, int after)
{
	for (int i = 0; i < list_length(from); i++)
	{
		for (int j = 0; j < list_length(to); j++)
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

/* What follows the sources and the arrow: targets : label */
static bool
parse_transition(PstParser *parser, List *from, int offset)
{
	List	   *to;
	PstLabel	label;
	int			start;
	int			after;
	bool		has_label = false;
	bool		good = true;

	if (!parse_nodes(parser, &to))
		return false;
	after = parser->at;
	if (pst_peek(parser, 0) == ':')
	{
		start = ++parser->at;
		skip_sql_text(parser);
		has_label = !is_blank(parser, start, parser->at);
		if (has_label)
			good = pst_label_parse(parser, start, parser->at, &label);
	}
	if (good)
		good = add_transitions(parser, from, to, has_label ? &label : NULL, offset, after);
	list_free(to);
	if (!pst_at_statement_end(parser))
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
		pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", start, NULL,
						"repeated %.*s action of state \"%s\"", length, parser->text + start,
						parser->machine->states[state].name);
	start += length;
	skip_sql_text(parser);
	return pst_action_parse(parser, start, parser->at, slot);
}

/* What may follow a state's declaration: <<stereotype>>, #color, {, : text */
static bool
parse_declared(PstParser *parser, int state)
{
	static const char *const known[] = {
		"<<choice>>", "<<fork>>", "<<join>>", "<<history>>", "<<history*>>", "<<start>>", "<<end>>",
		"[[choice]]", "[[fork]]", "[[join]]"
	};

	for (;;)
	{
		int			start = parser->at;

		pst_blanks(parser);
		skip_class(parser);
		for (int i = 0; i < (int) lengthof(known); i++)
		{
			if (!pst_looking_at(parser, known[i]))
				continue;
			pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
							"Draw the transitions from state to state, with guards where there is a choice.",
							"pseudo-state %s is not supported", known[i]);
			return false;
		}
		if (pst_looking_at(parser, "<<") || pst_peek(parser, 0) == '#')
		{
			while (!pst_at_statement_end(parser) && strchr(" \t{", pst_peek(parser, 0)) == NULL)
				parser->at++;
		}
		if (parser->at == start)
			break;
	}
	if (pst_peek(parser, 0) == '{')
	{
		pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
						"Draw its inner states beside the others.", "nested states are not supported");
		return false;
	}
	if (pst_peek(parser, 0) == ':')
		return parse_description(parser, state);
	if (!pst_at_statement_end(parser))
		return unexpected(parser, "the end of the line");
	return true;
}

/* Past a string in double quotes, or false. */
static bool
skip_string(PstParser *parser)
{
	int			end = line_end(parser);
	const char *close;

	if (pst_peek(parser, 0) != '"')
		return false;
	close = memchr(parser->text + parser->at + 1, '"', end - parser->at - 1);
	if (close == NULL)
		return false;
	parser->at = (int) (close - parser->text) + 1;
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
		if (!pst_at_keyword(parser, "as"))
		{
			parser->at = start;
			return parse_node(parser, &nodes);
		}
		parser->at += strlen("as");
		pst_blanks(parser);
	}
	if (!parse_node(parser, &nodes))
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
	bool		good;

	if (pst_at_keyword(parser, "state"))
		return parse_declaration(parser);
	if (!parse_nodes(parser, &from))
		return false;
	if (accept_arrow(parser))
		good = parse_transition(parser, from, offset);
	else if (list_length(from) == 1)
		good = parse_declared(parser, linitial_int(from));
	else
		good = unexpected(parser, "an arrow");
	list_free(from);
	return good;
}

/* Past the lines of a block up to the one that begins with a mark. */
static void
skip_block(PstParser *parser, const char *mark, const char *other_mark)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		pst_skip_line(parser);
		pst_blanks(parser);
	} while (parser->at < parser->length &&
			 !pst_looking_at(parser, mark) && !pst_looking_at(parser, other_mark));
	pst_skip_line(parser);
}

/* Past a line, and past the block that it opens with a { at its end. */
static void
skip_braced(PstParser *parser)
{
	int			end = line_end(parser);

	while (end > parser->at && strchr(" \t\r", parser->text[end - 1]) != NULL)
		end--;
	if (end > parser->at && parser->text[end - 1] == '{')
		skip_block(parser, "}", "}");
	else
		pst_skip_line(parser);
}

/*
 * Past notes, titles and the like.  They reach over lines if nothing is said
 * on the first.
 */
static bool
skip_words(PstParser *parser)
{
	static const char *const words[] = {"note", "title", "legend", "header", "footer", "caption"};

	for (int i = 0; i < (int) lengthof(words); i++)
	{
		bool		one_line;
		int			end = line_end(parser);
		int			at = parser->at + strlen(words[i]);

		if (!pst_at_keyword(parser, words[i]))
			continue;
		if (i == 0)				/* note left of a : words; note "words" as n */
			one_line = memchr(parser->text + at, ':', end - at) != NULL ||
				parser->text[pst_skip_blanks(parser->text, at, end)] == '"';
		else
			one_line = i != 2 && !is_blank(parser, at, end);
		if (one_line)
			pst_skip_line(parser);
		else
			skip_block(parser, psprintf("end %s", words[i]), psprintf("end%s", words[i]));
		return true;
	}
	return false;
}

/* A line that says nothing about states: headers, looks. */
static bool
skip_other_line(PstParser *parser)
{
	static const char *const words[] = {
		"stateDiagram-v2", "stateDiagram", "direction", "hide", "show", "remove", "scale", "skinparam", "skin",
		"left", "top", "classDef", "class", "style", "click", "accTitle", "accDescr", "mainframe", "allow_mixing", "set"
	};

	if (pst_looking_at(parser, "@enduml"))
	{
		parser->at = parser->length;
		return true;
	}
	if (pst_looking_at(parser, "<style>"))
	{
		skip_block(parser, "</style>", "</style>");
		return true;
	}
	if (pst_looking_at(parser, "@startuml") || pst_looking_at(parser, "!") ||
		pst_looking_at(parser, "accTitle:") || pst_looking_at(parser, "accDescr:"))
	{
		pst_skip_line(parser);
		return true;
	}
	for (int i = 0; i < (int) lengthof(words); i++)
	{
		if (!pst_at_keyword(parser, words[i]))
			continue;
		if (i < 3)				/* a ; and a statement may follow */
		{
			while (!pst_at_statement_end(parser))
				parser->at++;
		}
		else
			skip_braced(parser);
		return true;
	}
	return skip_words(parser);
}

/* The marks of regions, which are refused, and the end of a nested state, which was. */
static bool
refuse_region(PstParser *parser)
{
	int			end = line_end(parser);

	if (pst_peek(parser, 0) == '}')
	{
		if (!parser->failed)
			return false;
		parser->at++;
		return true;
	}
	if ((!pst_looking_at(parser, "--") && !pst_looking_at(parser, "||")) ||
		!is_blank(parser, parser->at + 2, end))
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
		if (skip_other_line(parser) || refuse_region(parser))
			continue;
		if (!parse_statement(parser))
			pst_skip_line(parser);
	}
}
