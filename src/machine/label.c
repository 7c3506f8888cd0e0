/*
 * label.c
 *	  The label of a transition: event[!|?] [guard] / action.
 *
 * Guards and actions are SQL.  They are only cut out here, with an eye to
 * SQL's quotes and brackets; whether they mean anything is seen when the
 * machine meets a table.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "machine/entity.h"
#include "machine/parser.h"

#define LABEL_HINT "A label reads: event[!|?] [guard] / action. " \
	"The name of an event has letters, digits, _, - and ., and no spaces."

/* A label's text as it reads once character codes are decoded. */
typedef struct LabelText
{
	PstParser  *parser;
	int			start;			/* in the definition */
	int			end;
	char	   *text;			/* NUL-terminated */
	int			length;
	int			at;
} LabelText;

static void
open_label(LabelText *label, PstParser *parser, int start, int end)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int at = start; at < end;)
	{
		char		decoded[PST_ENTITY_ROOM];
		int			length;
		int			taken = 0;

		if (parser->machine->syntax != PST_SYNTAX_PLANTUML)
			taken = pst_entity_decode(parser->text, at, end, decoded, &length);
		if (taken > 0)
			appendBinaryStringInfo(&text, decoded, length);
		else
			appendStringInfoCharMacro(&text, parser->text[at]);
		at += taken > 0 ? taken : 1;
	}
	label->parser = parser;
	label->start = start;
	label->end = end;
	label->text = text.data;
	label->length = text.len;
	label->at = 0;
}

static int
place(const LabelText *label, int position)
{
	if (label->length == label->end - label->start)
		return label->start + position;
	return pst_entity_place(label->parser->text, label->start, label->end, position);
}

static bool
complain(const LabelText *label, int position, const char *code, const char *message)
{
	pst_parser_find(label->parser, PST_SEVERITY_ERROR, code, place(label, position), LABEL_HINT, "%s", message);
	return false;
}

/* isspace() without the locale: a byte beyond ASCII is part of a character. */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * The length of a blank at a position: a space or a line break as the notations
 * write it into a label.
 */
static int
blank_length(const LabelText *label, int at)
{
	static const char *const breaks[] = {"<br/>", "<br>", "<br />"};

	if (is_space(label->text[at]))
		return 1;
	if (label->parser->machine->syntax == PST_SYNTAX_PLANTUML)
		return strncmp(label->text + at, "\\n", 2) == 0 ? 2 : 0;
	for (int i = 0; i < (int) lengthof(breaks); i++)
	{
		if (strncmp(label->text + at, breaks[i], strlen(breaks[i])) == 0)
			return strlen(breaks[i]);
	}
	return 0;
}

static void
skip_blanks(LabelText *label)
{
	int			length;

	while ((length = blank_length(label, label->at)) > 0)
		label->at += length;
}

/* Cuts out the text between two positions, without blanks around it. */
static void
cut_snippet(const LabelText *label, int from, int to, PstSnippet *snippet)
{
	int			length;

	while (from < to && (length = blank_length(label, from)) > 0)
		from += length;
	while (from < to)
	{
		for (length = 6; length > 0; length--)
		{
			if (to - length >= from && blank_length(label, to - length) == length)
				break;
		}
		if (length == 0)
			break;
		to -= length;
	}
	snippet->text = pnstrdup(label->text + from, Max(to - from, 0));
	snippet->offset = place(label, from);
}

/* A copy in which runs of blanks outside of quotes are one space. */
static char *
normalize_spaces(const char *text)
{
	StringInfoData result;
	int			length = strlen(text);
	int			at = 0;

	initStringInfo(&result);
	while (at < length)
	{
		int			next;

		if (is_space(text[at]))
		{
			appendStringInfoChar(&result, ' ');
			while (is_space(text[at]))
				at++;
			continue;
		}
		next = pst_skip_sql(text, at, length);
		appendBinaryStringInfo(&result, text + at, next - at);
		at = next;
	}
	return result.data;
}

/* The ( ... ) of a timer; the cursor is at the opening parenthesis. */
static bool
parse_timing(LabelText *text, PstLabel *label)
{
	int			close = pst_closing_bracket(text->text, text->at, text->length);

	if (close < 0)
		return complain(text, text->at, "syntax", "parenthesis is not closed");
	cut_snippet(text, text->at + 1, close, &label->timing);
	if (label->timing.text[0] == '\0')
		return complain(text, text->at, "syntax", "no interval within the parentheses");
	if (strlen(label->timing.text) > PST_MAX_TIMING)
		return complain(text, text->at, "name", "interval is too long");
	label->event = psprintf("%s (%s)", label->kind == PST_AFTER ? "after" : "every",
							normalize_spaces(label->timing.text));
	text->at = close + 1;
	return true;
}

/* Is it after ( or every ( ? */
static bool
is_timer(LabelText *text, int length, PstTransitionKind *kind)
{
	int			after;

	if (length != 5)
		return false;
	if (pg_strncasecmp(text->text + text->at, "after", 5) == 0)
		*kind = PST_AFTER;
	else if (pg_strncasecmp(text->text + text->at, "every", 5) == 0)
		*kind = PST_EVERY;
	else
		return false;
	after = text->at;
	text->at += length;
	skip_blanks(text);
	if (text->text[text->at] == '(')
		return true;
	text->at = after;
	return false;
}

static bool
parse_event(LabelText *text, PstLabel *label)
{
	int			length;
	int			next;

	skip_blanks(text);
	if (text->at == text->length)
		return complain(text, 0, "syntax", "transition has no event");
	length = pst_name_length(text->text, text->at, text->length);
	if (length == 0)
	{
		if (strchr("[/!?", text->text[text->at]) != NULL)
			return complain(text, text->at, "syntax", "label has no event");
		return complain(text, text->at, "name", "unexpected character in name of event");
	}
	if (length > PST_MAX_NAME)
		return complain(text, text->at, "name", "name of event is too long");
	if (is_timer(text, length, &label->kind))
		return parse_timing(text, label);

	label->event = pnstrdup(text->text + text->at, length);
	if (strcmp(label->event, PST_START_EVENT) == 0 || strcmp(label->event, PST_END_EVENT) == 0)
		return complain(text, text->at, "name", "name of event is reserved");
	next = text->at + length;
	label->kind = text->text[next] == '!' ? PST_HARD : text->text[next] == '?' ? PST_SOFT : PST_PLAIN;
	if (label->kind != PST_PLAIN)
		next++;
	if (next < text->length && blank_length(text, next) == 0 && strchr("[/", text->text[next]) == NULL)
		return complain(text, next, "name", "unexpected character in name of event");
	text->at = next;
	return true;
}

static bool
parse_guard(LabelText *text, PstLabel *label)
{
	int			close;

	skip_blanks(text);
	if (text->text[text->at] != '[')
		return true;
	close = pst_closing_bracket(text->text, text->at, text->length);
	if (close < 0)
		return complain(text, text->at, "syntax", "guard is not closed");
	cut_snippet(text, text->at + 1, close, &label->guard);
	if (label->guard.text[0] == '\0')
		return complain(text, text->at, "syntax", "guard is empty");
	text->at = close + 1;
	return true;
}

static bool
parse_action(LabelText *text, PstSnippet *action)
{
	skip_blanks(text);
	if (text->at == text->length)
		return true;
	if (text->text[text->at] != '/')
		return complain(text, text->at, "syntax", "unexpected text in label");
	cut_snippet(text, text->at + 1, text->length, action);
	if (action->text[0] == '\0')
		return complain(text, text->at, "syntax", "action is empty");
	return true;
}

/*
 * Parses the label between two offsets.  False, and a finding, if it is none.
 */
bool
pst_label_parse(PstParser *parser, int start, int end, PstLabel *label)
{
	LabelText	text;
	bool		good;

	memset(label, 0, sizeof(*label));
	open_label(&text, parser, start, end);
	good = parse_event(&text, label) &&
		parse_guard(&text, label) &&
		parse_action(&text, &label->action);
	pfree(text.text);
	return good;
}

/*
 * Parses "/ action" between two offsets: what follows entry or exit.
 */
bool
pst_action_parse(PstParser *parser, int start, int end, PstSnippet *action)
{
	LabelText	text;
	bool		good;

	open_label(&text, parser, start, end);
	good = parse_action(&text, action);
	pfree(text.text);
	return good;
}

/*
 * The offset in the definition of the byte at a position of a snippet's text:
 * where an error within the snippet is shown.
 */
int
pst_snippet_place(const PstMachine *machine, const PstSnippet *snippet, int position)
{
	if (machine->syntax == PST_SYNTAX_PLANTUML)
		return snippet->offset + position;
	return pst_entity_place(machine->definition, snippet->offset, strlen(machine->definition), position);
}
