/*
 * flowchart.c
 *	  Mermaid's flowchart notation: a -->|event| b.
 *
 * Beyond Mermaid it takes what finitomata takes (targets as "b,c", blanks and
 * nothing but blanks between the parts, no header) and labels without quotes.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/parser.h"

#define EDGE_HINT "A transition reads: from -->|event| to."

/* Mermaid's two ways to write an edge, and what makes one neither of them. */
typedef enum Link
{
	LINK_NONE,
	LINK_ARROW,					/* -->, label in pipes may follow */
	LINK_TEXT					/* -- label --> */
} Link;

static bool
syntax_error(PstParser *parser, int offset, const char *hint, const char *message)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", offset, hint, "%s", message);
	return false;
}

static bool
unexpected(PstParser *parser, const char *expected)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at, EDGE_HINT,
					"expected %s at %s", expected, pst_next_word(parser, parser->at));
	return false;
}

/*
 * Past a node's shape, as in a[Text], a((Text)), a{"Text"}, a>Text]: what it
 * says is for the eye.  Only double quotes protect brackets in it.
 */
static bool
skip_shape(PstParser *parser, bool *has_shape)
{
	int			start = parser->at;
	int			depth = 0;

	if (strchr("[({>", pst_peek(parser, 0)) == NULL || pst_peek(parser, 0) == '\0')
		return true;
	*has_shape = true;
	for (; parser->at < parser->length; parser->at++)
	{
		char		c = pst_peek(parser, 0);

		if (c == '"')
		{
			const char *close = memchr(parser->text + parser->at + 1, '"',
									   parser->length - parser->at - 1);

			if (close == NULL)
				break;
			parser->at = close - parser->text;
		}
		else if (c == '\n')
			break;
		else if (strchr("[({", c) != NULL || parser->at == start)
			depth++;
		else if (strchr("])}", c) != NULL && --depth == 0)
		{
			parser->at++;
			return true;
		}
	}
	/* An open quote ends the search: the next one would read all of it again. */
	if (parser->at < parser->length && pst_peek(parser, 0) == '"')
		parser->at = parser->length;
	return syntax_error(parser, start, "A shape reads: state[text], state((text)) or state{text}; put text with brackets in double quotes.",
						"shape of a node is not closed");
}

/* Past :::class and @{ attributes } after a node. */
static void
skip_decoration(PstParser *parser, bool *has_shape)
{
	if (pst_looking_at(parser, ":::"))
	{
		*has_shape = true;
		parser->at += 3;
		parser->at += pst_name_length(parser->text, parser->at, parser->length);
	}
	else if (pst_looking_at(parser, "@{"))
	{
		int			close = pst_closing_bracket(parser->text, parser->at + 1, parser->length);

		*has_shape = true;
		parser->at = close < 0 ? parser->length : close + 1;
	}
}

/* A state's name and what adorns it; its index goes to the list. */
static bool
parse_node(PstParser *parser, List **nodes, bool *has_shape)
{
	int			start = parser->at;
	int			length = pst_scan_state_name(parser);

	if (length == 0)
	{
		if (pst_looking_at(parser, "[*]"))
		{
			pst_parser_find(parser, PST_SEVERITY_ERROR, "name", start,
							"The state that no transition leads to is the entry, one that none leaves is final; or use a state diagram.",
							"a flowchart has no [*]");
			return false;
		}
		return unexpected(parser, "a state");
	}
	if (!skip_shape(parser, has_shape))
		return false;
	skip_decoration(parser, has_shape);
	*nodes = lappend_int(*nodes, pst_model_state(parser, start, length));
	return true;
}

/* Nodes with , or & between them. */
static bool
parse_nodes(PstParser *parser, List **nodes, bool *has_shape)
{
	*nodes = NIL;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		pst_blanks(parser);
		if (!parse_node(parser, nodes, has_shape))
			return false;
		pst_blanks(parser);
		if (pst_peek(parser, 0) != ',' && pst_peek(parser, 0) != '&')
			return true;
		parser->at++;
	}
}

/* Past the shaft and the head of an arrow of one kind, or false. */
static bool
accept_arrow(PstParser *parser, char shaft)
{
	int			at = parser->at;
	int			shafts = 0;

	if (shaft == '.')			/* -.-> and longer */
	{
		if (parser->text[at] == '-')
			at++;
		for (; at < parser->length && parser->text[at] == '.'; at++)
			shafts += 2;
		if (at < parser->length && parser->text[at] == '-')
			at++;
		else
			return false;
	}
	else
	{
		for (; at < parser->length && parser->text[at] == shaft; at++)
			shafts++;
	}
	if (shafts < 2 || at >= parser->length || parser->text[at] != '>')
		return false;
	parser->at = at + 1;
	return true;
}

/*
 * Takes an arrow, or the opening half of one that is split by its label.  The
 * shaft is what the other half is made of.
 */
static Link
accept_link(PstParser *parser, char *shaft)
{
	const char *half;

	/* an edge's id: e1@--> */
	if (pst_is_name_byte(pst_peek(parser, 0)))
	{
		int			length = pst_name_length(parser->text, parser->at, parser->length);

		if (pst_peek(parser, length) == '@')
		{
			pst_names_add(&parser->edges, parser->text + parser->at, length, parser->at);
			parser->at += length + 1;
		}
	}
	if (pst_peek(parser, 0) == '=')
		*shaft = '=';
	else
		*shaft = pst_looking_at(parser, "-.") ? '.' : '-';
	if (accept_arrow(parser, *shaft))
		return LINK_ARROW;
	half = *shaft == '=' ? "==" : *shaft == '.' ? "-." : "--";
	if (!pst_looking_at(parser, half) || pst_peek(parser, 2) == '-' || pst_peek(parser, 2) == '=')
		return LINK_NONE;
	parser->at += 2;
	return LINK_TEXT;
}

/*
 * A label in quotes: it may span lines, and ends at the quote that a | (or an
 * arrow, in the other way of writing) follows.
 */
static bool
parse_quoted(PstParser *parser, char shaft, int *start, int *end)
{
	int			open = parser->at;

	for (int at = open + 1; at < parser->length; at++)
	{
		if (parser->text[at] != '"')
			continue;
		parser->at = pst_skip_blanks(parser->text, at + 1, parser->length);
		if (shaft == '\0'
			? pst_peek(parser, 0) == '|' && pst_peek(parser, 1) != '|'
			: accept_arrow(parser, shaft))
		{
			if (shaft == '\0')
				parser->at++;
			*start = open + 1;
			*end = at;
			/* Mermaid's markdown strings: "`text`" */
			if (*end - *start >= 2 && parser->text[*start] == '`' && parser->text[*end - 1] == '`')
			{
				(*start)++;
				(*end)--;
			}
			return true;
		}
	}
	/* It swallows the rest, so that no text is searched twice for its end. */
	parser->at = parser->length;
	return syntax_error(parser, open, EDGE_HINT, "quoted label is not closed");
}

/*
 * A label without quotes, on one line: it ends at a single | outside of SQL's
 * quotes and brackets; in the other way of writing, at the arrow.
 */
static bool
parse_unquoted(PstParser *parser, char shaft, int *start, int *end)
{
	int			limit = pst_line_end(parser);
	int			depth = 0;

	*start = parser->at;
	while (parser->at < limit)
	{
		char		c = pst_peek(parser, 0);

		*end = parser->at;
		if (shaft == '\0' && c == '|')
		{
			if (pst_peek(parser, 1) == '|')
				parser->at++;
			else if (depth <= 0)
			{
				parser->at++;
				return true;
			}
			parser->at++;
			continue;
		}
		if (shaft != '\0' && depth <= 0 && (c == '-' || c == shaft) && accept_arrow(parser, shaft))
			return true;
		if (strchr("([{", c) != NULL)
			depth++;
		else if (strchr(")]}", c) != NULL)
			depth--;
		if (shaft != '\0' && c == '-')
			parser->at++;		/* no comment: --> may begin here */
		else
			parser->at = pst_skip_sql(parser->text, parser->at, limit);
	}
	return syntax_error(parser, *start, EDGE_HINT, "label is not closed");
}

/* The label's extent, after or within the link. */
static bool
parse_label_extent(PstParser *parser, Link link, char shaft, int *start, int *end)
{
	pst_blanks(parser);
	if (link == LINK_ARROW)
	{
		if (pst_peek(parser, 0) != '|')
		{
			pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->at,
							"Write from -->|event| to; an event that fires by itself ends in !.",
							"transition has no event");
			return false;
		}
		parser->at++;
		shaft = '\0';
		pst_blanks(parser);
	}
	if (pst_peek(parser, 0) == '"')
		return parse_quoted(parser, shaft, start, end);
	return parse_unquoted(parser, shaft, start, end);
}

/* An arrow and its label.  Good, if the label is. */
static bool
parse_link(PstParser *parser, int edges, PstLabel *label, bool *good)
{
	char		shaft;
	int			start = 0;
	int			end = 0;
	Link		link = accept_link(parser, &shaft);

	if (link == LINK_NONE)
		return unexpected(parser, edges == 0 ? "an arrow" : "the end of the line");
	if (!parse_label_extent(parser, link, shaft, &start, &end))
		return false;
	*good = pst_label_parse(parser, start, end, label);
	return true;
}

/* Past e1@{ ... }, which says how an edge looks; false if it is none. */
static bool
skip_edge_attributes(PstParser *parser)
{
	int			length = pst_name_length(parser->text, parser->at, parser->length);
	bool		has_shape;

	if (length == 0 || pst_peek(parser, length) != '@' || pst_peek(parser, length + 1) != '{' ||
		pst_names_find(&parser->edges, parser->text + parser->at, length) < 0)
		return false;
	parser->at += length;
	skip_decoration(parser, &has_shape);
	return true;
}

/* Past ~~~, a link that only arranges the nodes. */
static bool
accept_invisible(PstParser *parser)
{
	if (!pst_looking_at(parser, "~~~"))
		return false;
	while (pst_peek(parser, 0) == '~')
		parser->at++;
	return true;
}

/* nodes link nodes link nodes ... */
static bool
parse_statement(PstParser *parser)
{
	List	   *from;
	int			edges = 0;
	int			offset = parser->at;
	bool		has_shape = false;

	if (skip_edge_attributes(parser))
		return true;
	if (!parse_nodes(parser, &from, &has_shape))
		return false;
	while (!pst_at_statement_end(parser))
	{
		List	   *to;
		PstLabel	label;
		bool		good = false;
		int			next;

		if (!accept_invisible(parser) && !parse_link(parser, edges, &label, &good))
			return false;
		pst_blanks(parser);
		next = parser->at;
		if (!parse_nodes(parser, &to, &has_shape))
			return false;
		for (int i = 0; good && i < list_length(from) && !parser->full; i++)
		{
			for (int j = 0; j < list_length(to) && !parser->full; j++)
				pst_model_transition(parser, list_nth_int(from, i), list_nth_int(to, j), &label, offset);
		}
		list_free(from);
		from = to;
		offset = next;
		edges++;
	}
	list_free(from);
	if (edges == 0 && !has_shape && parser->lone_end == 0)
		parser->lone_end = parser->at;
	return true;
}

/* Remembers the name of the subgraph at the cursor, if it has one. */
static void
note_group(PstParser *parser)
{
	int			start = pst_skip_blanks(parser->text, parser->at + strlen("subgraph"), parser->length);
	int			length = pst_name_length(parser->text, start, parser->length);
	int			after = pst_skip_blanks(parser->text, start + length, parser->length);

	if (length > 0 && strchr("[\n;", parser->text[after]) != NULL)
		pst_names_add(&parser->groups, parser->text + start, length, start);
}

/* A transition cannot lead to a group of states, or from it. */
static void
check_groups(PstParser *parser)
{
	for (int i = 0; i < parser->groups.n; i++)
	{
		PstName    *group = &parser->groups.entries[i];

		if (pst_names_find(&parser->machine->names, group->name, group->length) >= 0)
			pst_parser_find(parser, PST_SEVERITY_ERROR, "name", group->number,
							"Nested states are not supported: draw the transitions to the states within.",
							"subgraph \"%.*s\" is used as a state", group->length, group->name);
	}
}

/* A line that says nothing about states: the header, looks, grouping. */
static bool
skip_other_line(PstParser *parser)
{
	static const char *const words[] = {
		"flowchart-elk", "flowchart", "graph", "direction", "subgraph", "end", "classDef", "class", "style",
		"linkStyle", "click", "title", "accTitle", "accDescr"
	};

	if (pst_skip_description(parser))
		return true;
	for (int i = 0; i < (int) lengthof(words); i++)
	{
		if (!pst_at_keyword(parser, words[i]))
			continue;
		if (i < 4)
		{
			/* headers and directions may be followed by ; and a statement */
			while (!pst_at_statement_end(parser))
				parser->at++;
		}
		else
		{
			if (strcmp(words[i], "subgraph") == 0)
				note_group(parser);
			pst_skip_line(parser);
		}
		return true;
	}
	if ((pst_looking_at(parser, "accTitle:") || pst_looking_at(parser, "accDescr:")))
	{
		pst_skip_line(parser);
		return true;
	}
	return false;
}

void
pst_flowchart_parse(PstParser *parser)
{
	while (pst_skip_trivia(parser))
	{
		if (skip_other_line(parser))
			continue;
		if (!parse_statement(parser))
			pst_skip_line(parser);
	}
	/* a word alone names a state among others; there must be others */
	if (parser->machine->ntransitions == 0 && parser->lone_end > 0)
		pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", parser->lone_end, EDGE_HINT, "expected an arrow at end of line");
	check_groups(parser);
}
