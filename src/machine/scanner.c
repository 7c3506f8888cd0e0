/*
 * scanner.c
 *	  The bytes of a definition: names, blanks, comments, SQL tokens, findings.
 *
 * Nothing here recurses or looks at a byte more often than a small constant, so
 * that a megabyte of nonsense is refused in milliseconds.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "machine/parser.h"

/*
 * Notes a finding, unless there are more than anyone reads.  Its line and column are filled in by pst_parser_settle;
 * until then the line holds the order of its making.
 */
void
pst_parser_find(PstParser *parser, PstSeverity severity, const char *code,
				int offset, const char *hint, const char *format,...)
{
	PstFinding *finding;
	StringInfoData message;
	int			needed;

	/* The first error is what makes the parser fail: it is never left out. */
	if (parser->full)
		return;
	if (list_length(parser->findings) >= PST_MAX_FINDINGS &&
		(severity != PST_SEVERITY_ERROR || parser->failed))
		return;
	initStringInfo(&message);
	do
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(&message, needed);
	} while (needed > 0);

	finding = palloc0(sizeof(PstFinding));
	finding->severity = severity;
	finding->code = code;
	finding->offset = offset;
	finding->line = list_length(parser->findings);
	finding->message = pstrdup(message.data);
	finding->hint = pstrdup(hint);
	parser->findings = lappend(parser->findings, finding);
	if (severity == PST_SEVERITY_ERROR)
		parser->failed = true;
	pfree(message.data);
}

/* Notes that a limit is passed; nothing more is read. */
void
pst_parser_limit(PstParser *parser, int offset, const char *message, const char *what, int limit)
{
	/* the last finding may take the place of one that nobody reads */
	parser->failed = false;
	pst_parser_find(parser, PST_SEVERITY_ERROR, "limit", offset,
					psprintf("It can have %d %s.", limit, what), "%s", message);
	parser->failed = true;
	parser->full = true;
	parser->at = parser->length;
}

static int
compare_findings(const ListCell *a, const ListCell *b)
{
	const PstFinding *left = lfirst(a);
	const PstFinding *right = lfirst(b);

	if (left->offset != right->offset)
		return left->offset < right->offset ? -1 : 1;
	return left->line < right->line ? -1 : 1;
}

/* Sorts the findings by offset and gives them lines, columns and excerpts, in one pass. */
void
pst_parser_settle(PstParser *parser)
{
	const char *at = parser->text;
	const char *shown = at;		/* where an excerpt of this place begins */
	int			line = 1;
	int			column = 1;
	ListCell   *cell;

	list_sort(parser->findings, compare_findings);
	foreach(cell, parser->findings)
	{
		PstFinding *finding = lfirst(cell);
		const char *place = parser->text + finding->offset;

		CHECK_FOR_INTERRUPTS();
		while (at < place)
		{
			bool		ends = *at == '\n';

			at += pg_mblen(at);
			column = ends ? 1 : column + 1;
			line += ends ? 1 : 0;
			if (ends)
				shown = at;
			else if (column - 1 > PST_SHOWN_BEFORE)
				shown += pg_mblen(shown);
		}
		finding->line = line;
		finding->column = column;
		finding->excerpt = pst_excerpt(shown, at, column - 1 > PST_SHOWN_BEFORE);
	}
}

/* The next word or so from an offset on, for a message. */
char *
pst_next_word(const PstParser *parser, int at)
{
	int			end = at;

	while (end < parser->length && end - at < 30 &&
		   parser->text[end] != '\n' && parser->text[end] != '\r')
		end += pg_mblen(parser->text + end);
	while (end > at && (parser->text[end - 1] == ' ' || parser->text[end - 1] == '\t'))
		end--;
	if (end == at)
		return pstrdup("end of line");
	return psprintf("\"%.*s\"", end - at, parser->text + at);
}

/* Letters, digits and _; each byte of a character beyond ASCII is a letter. */
bool
pst_is_name_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '_' || IS_HIGHBIT_SET(c);
}

/*
 * The length of the name at an offset, or 0.  A - or . belongs to the name only
 * between two of its letters: in "a-->b" and "a-.->b" the arrow begins at once.
 */
int
pst_name_length(const char *text, int at, int end)
{
	int			from = at;

	while (at < end)
	{
		if (pst_is_name_byte(text[at]))
			at++;
		else if ((text[at] == '-' || text[at] == '.') && at > from &&
				 at + 1 < end && pst_is_name_byte(text[at + 1]))
			at++;
		else
			break;
	}
	return at - from;
}

/* The length of the name of a state at an offset, or 0.  As in finitomata, it may end in ! or ?. */
int
pst_state_name_length(const PstParser *parser, int at)
{
	int			length = pst_name_length(parser->text, at, parser->length);
	int			after = at + length;

	if (length > 0 && after < parser->length &&
		(parser->text[after] == '!' || parser->text[after] == '?'))
		length++;
	return length;
}

/* Takes the name of a state and returns its length, or 0. */
int
pst_scan_state_name(PstParser *parser)
{
	int			length = pst_state_name_length(parser, parser->at);

	parser->at += length;
	return length;
}

/* Past spaces and tabs, and the carriage return of a line's end. */
int
pst_skip_blanks(const char *text, int at, int end)
{
	while (at < end && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\f'))
		at++;
	return at;
}

/* Is there nothing but blanks between two offsets? */
bool
pst_is_blank(const PstParser *parser, int start, int end)
{
	return pst_skip_blanks(parser->text, start, end) >= end;
}

/* The comment of PlantUML's that a line ends with, between /' and '/; or the line's end. */
static int
find_comment(const char *text, int start, int end)
{
	int			close = end;

	while (close > start && pst_skip_blanks(text, close - 1, close) == close)
		close--;
	if (close - 4 < start || text[close - 2] != '\'' || text[close - 1] != '/')
		return end;
	for (int at = close - 4; at >= start && (text[at] != '\'' || text[at + 1] != '/'); at--)
	{
		if (text[at] == '/' && text[at + 1] == '\'')
			return at;
	}
	return end;
}

/* The offset of the end of the cursor's line; it is looked for once in each line. */
int
pst_line_end(PstParser *parser)
{
	const char *eol;

	if (parser->line_end > 0 && parser->at >= parser->line_from && parser->at <= parser->line_end)
		return parser->line_end;
	eol = memchr(parser->text + parser->at, '\n', parser->length - parser->at);
	parser->line_from = parser->at;
	parser->line_end = eol ? (int) (eol - parser->text) : parser->length;
	parser->comment = find_comment(parser->text, parser->line_from, parser->line_end);
	return parser->line_end;
}

/* Past accDescr { ... }, which Mermaid lets span lines; false if it is none. */
bool
pst_skip_description(PstParser *parser)
{
	int			at;
	const char *close;

	if (!pst_looking_at(parser, "accDescr"))
		return false;
	at = pst_skip_blanks(parser->text, parser->at + strlen("accDescr"), parser->length);
	if (parser->text[at] != '{')
		return false;
	close = memchr(parser->text + at, '}', parser->length - at);
	parser->at = close ? (int) (close - parser->text) + 1 : parser->length;
	return true;
}

/* Past the end of the current line. */
void
pst_skip_line(PstParser *parser)
{
	const char *eol = memchr(parser->text + parser->at, '\n', parser->length - parser->at);

	parser->at = eol ? (int) (eol - parser->text) + 1 : parser->length;
}

bool
pst_looking_at(const PstParser *parser, const char *word)
{
	int			length = strlen(word);

	return parser->length - parser->at >= length &&
		memcmp(parser->text + parser->at, word, length) == 0;
}

/*
 * Is the word at the cursor a keyword here?  States may be called like one, so
 * what follows must not make it the source of a transition or of a
 * description.
 */
bool
pst_at_keyword(const PstParser *parser, const char *word)
{
	int			length = strlen(word);
	int			after = parser->at + length;

	if (!pst_looking_at(parser, word) || pst_state_name_length(parser, parser->at) != length)
		return false;
	if (after < parser->length && strchr("[({>@", parser->text[after]) != NULL)
		return false;			/* the shape of a node called so */
	after = pst_skip_blanks(parser->text, after, parser->length);
	return after == parser->length || strchr("-=<,&:", parser->text[after]) == NULL;
}

/* At the end of a line or of the text, at a ; or at a comment? */
bool
pst_at_statement_end(const PstParser *parser)
{
	return parser->at >= parser->length ||
		parser->text[parser->at] == '\n' || parser->text[parser->at] == ';' ||
		pst_looking_at(parser, "%%");
}

/* Past the next closing mark, or to the end. */
static void
skip_past(PstParser *parser, const char *mark)
{
	const char *close = strstr(parser->text + parser->at + 2, mark);

	parser->at = close ? (int) (close - parser->text) + (int) strlen(mark) : parser->length;
}

/* At a comment that reaches to the end of its line, or at a fence of code? */
static bool
at_line_comment(const PstParser *parser)
{
	return pst_looking_at(parser, "%%") || pst_looking_at(parser, "'") || pst_looking_at(parser, "```") ||
		(pst_looking_at(parser, "#") && parser->machine->syntax != PST_SYNTAX_FLOWCHART &&
		 parser->machine->syntax != PST_SYNTAX_PLANTUML);
}

/*
 * Goes to the next statement: past blanks, empty lines, semicolons, comments of
 * all notations' kinds and code fences.  False at the text's end.
 */
bool
pst_skip_trivia(PstParser *parser)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		parser->at = pst_skip_blanks(parser->text, parser->at, parser->length);
		if (parser->at >= parser->length)
			return false;
		if (parser->text[parser->at] == '\n' || parser->text[parser->at] == ';')
			parser->at++;
		else if (pst_looking_at(parser, "%%{"))
			skip_past(parser, "}%%");
		else if (pst_looking_at(parser, "/'"))
			skip_past(parser, "'/");
		else if (at_line_comment(parser))
		{
			if (parser->reading)
				pst_alias_read(parser);
			pst_skip_line(parser);
		}
		else
			return true;
	}
}

/* Past a string or a quoted identifier that opens at an offset. */
static int
skip_quoted(const char *text, int at, int end)
{
	char		quote = text[at];
	bool		escapes = quote == '\'' && at > 0 && (text[at - 1] == 'E' || text[at - 1] == 'e') &&
		(at == 1 || !pst_is_name_byte(text[at - 2]));

	for (at++; at < end; at++)
	{
		if (escapes && text[at] == '\\')
			at++;
		else if (text[at] == quote)
		{
			if (at + 1 >= end || text[at + 1] != quote)
				return at + 1;
			at++;
		}
	}
	return end;
}

/* Past a dollar-quoted string, or past the $ that opens none. */
static int
skip_dollar_quoted(const char *text, int at, int end)
{
	int			tag = 1;

	if (at > 0 && pst_is_name_byte(text[at - 1]))
		return at + 1;
	while (at + tag < end && pst_is_name_byte(text[at + tag]))
		tag++;
	if (at + tag >= end || text[at + tag] != '$' || (text[at + 1] >= '0' && text[at + 1] <= '9'))
		return at + 1;
	tag++;
	for (int close = at + tag; close + tag <= end; close++)
	{
		if (text[close] == '$' && memcmp(text + close, text + at, tag) == 0)
			return close + tag;
	}
	return end;
}

/* Past a comment, which nests. */
static int
skip_comment(const char *text, int at, int end)
{
	int			depth = 0;

	while (at + 1 < end)
	{
		if (text[at] == '/' && text[at + 1] == '*')
			depth++;
		else if (text[at] == '*' && text[at + 1] == '/')
			depth--;
		else
		{
			at++;
			continue;
		}
		at += 2;
		if (depth == 0)
			return at;
	}
	return end;
}

/*
 * Past one token of SQL: a string, a quoted identifier, a comment or any other
 * single byte.  One that is not closed reaches to the end.
 */
int
pst_skip_sql(const char *text, int at, int end)
{
	const char *eol;

	switch (text[at])
	{
		case '\'':
		case '"':
			return skip_quoted(text, at, end);
		case '$':
			return skip_dollar_quoted(text, at, end);
		case '/':
			if (at + 1 < end && text[at + 1] == '*')
				return skip_comment(text, at, end);
			break;
		case '-':
			if (at + 1 < end && text[at + 1] == '-')
			{
				eol = memchr(text + at, '\n', end - at);
				return eol ? (int) (eol - text) : end;
			}
			break;
		default:
			break;
	}
	return at + 1;
}

/* The offset of the bracket that closes the one at an offset, or -1. */
int
pst_closing_bracket(const char *text, int at, int end)
{
	char		open = text[at];
	char		close = open == '(' ? ')' : open == '[' ? ']' : '}';
	int			depth = 0;

	while (at < end)
	{
		if (text[at] == open)
			depth++;
		else if (text[at] == close && --depth == 0)
			return at;
		at = pst_skip_sql(text, at, end);
	}
	return -1;
}
