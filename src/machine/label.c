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

/* A label's text as it reads once character codes and line breaks are decoded. */
typedef struct LabelText
{
	PstParser  *parser;
	char	   *text;			/* NUL-terminated */
	int		   *places;			/* where each byte of it stands in the definition, and its end */
	int			length;
	int			at;
} LabelText;

/* isspace() without the locale: a byte beyond ASCII is part of a character. */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Decodes the codes between two offsets of a definition. */
static void
decode_entities(LabelText *label, const char *definition, PstSyntax syntax, int start, int end)
{
	StringInfoData text;

	/* what a code stands for is no longer than the code */
	label->places = palloc((end - start + 1) * sizeof(int));
	initStringInfo(&text);
	for (int at = start; at < end;)
	{
		char		decoded[PST_ENTITY_ROOM];
		int			length;
		int			taken = pst_entity_decode(syntax, definition, at, end, decoded, &length);

		if (taken == 0)
		{
			decoded[0] = definition[at];
			length = taken = 1;
		}
		for (int i = 0; i < length; i++)
			label->places[text.len + i] = at;
		appendBinaryStringInfo(&text, decoded, length);
		at += taken;
	}
	label->places[text.len] = end;
	label->text = text.data;
	label->length = text.len;
	label->at = 0;
}

/* The length of a line break as the notations write it into a label, or 0. */
static int
break_length(const char *text)
{
	static const char *const breaks[] = {"\\n", "<br/>", "<br>", "<br />"};

	if (text[0] != '\\' && text[0] != '<')
		return 0;
	for (int i = 0; i < (int) lengthof(breaks); i++)
	{
		if (strncmp(text, breaks[i], strlen(breaks[i])) == 0)
			return strlen(breaks[i]);
	}
	return 0;
}

/* The end of the token of SQL at a position; a break ends a comment to the end of its line. */
static int
token_end(const LabelText *label, int at)
{
	int			end = pst_skip_sql(label->text, at, label->length);

	if (label->text[at] != '-')
		return end;
	for (int i = at; i < end; i++)
	{
		if (break_length(label->text + i) > 0)
			return i;
	}
	return end;
}

/* Makes one byte of each line break that is outside of SQL's quotes, where it could be nothing else. */
static void
decode_breaks(LabelText *label)
{
	/* not in place: a token of SQL is told by what stands before it, too, which is no letter after a break */
	char	   *text = palloc(label->length + 1);
	int			to = 0;
	int			next;

	for (int at = 0; at < label->length; at = next)
	{
		int			length = break_length(label->text + at);

		if (length > 0)
		{
			next = at + length;
			label->places[to] = label->places[at];
			text[to++] = '\n';
			memset(label->text + at, '\n', length);
			continue;
		}
		next = token_end(label, at);
		memcpy(text + to, label->text + at, next - at);
		memmove(label->places + to, label->places + at, (next - at) * sizeof(int));
		to += next - at;
	}
	label->places[to] = label->places[label->length];
	text[to] = '\0';
	pfree(label->text);
	label->text = text;
	label->length = to;
}

static void
open_label(LabelText *label, PstParser *parser, int start, int end)
{
	label->parser = parser;
	decode_entities(label, parser->text, parser->machine->syntax, start, end);
	decode_breaks(label);
}

static void
close_label(LabelText *label)
{
	pfree(label->text);
	pfree(label->places);
}

static bool
complain(const LabelText *label, int position, const char *code, const char *message)
{
	pst_parser_find(label->parser, PST_SEVERITY_ERROR, code, label->places[position], LABEL_HINT, "%s", message);
	return false;
}

static void
skip_blanks(LabelText *label)
{
	while (is_space(label->text[label->at]))
		label->at++;
}

/* Cuts out the text between two positions, without blanks around it. */
static void
cut_snippet(const LabelText *label, int from, int to, PstSnippet *snippet)
{
	while (from < to && is_space(label->text[from]))
		from++;
	while (from < to && is_space(label->text[to - 1]))
		to--;
	snippet->text = pnstrdup(label->text + from, to - from);
	snippet->offset = label->places[from];
}

/* A copy in which runs of blanks and comments outside of quotes are one space. */
static char *
normalize_spaces(const char *text)
{
	StringInfoData result;
	int			length = strlen(text);
	int			at = 0;

	initStringInfo(&result);
	while (at < length)
	{
		int			next = pst_skip_sql(text, at, length);
		bool		is_comment = next > at + 1 && strchr("-/", text[at]) != NULL;

		if (!is_comment && !is_space(text[at]))
			appendBinaryStringInfo(&result, text + at, next - at);
		else if (result.len > 0 && result.data[result.len - 1] != ' ')
			appendStringInfoChar(&result, ' ');
		at = next;
	}
	while (result.len > 0 && result.data[result.len - 1] == ' ')
		result.data[--result.len] = '\0';
	return result.data;
}

/* The ( ... ) of a timer; the cursor is at the opening parenthesis. */
static bool
parse_timing(LabelText *text, PstLabel *label)
{
	int			close = pst_closing_bracket(text->text, text->at, text->length);
	char	   *interval;

	if (close < 0)
		return complain(text, text->at, "syntax", "parenthesis is not closed");
	cut_snippet(text, text->at + 1, close, &label->timing);
	if (strlen(label->timing.text) > PST_MAX_TIMING)
		return complain(text, text->at, "name", "interval is too long");
	interval = normalize_spaces(label->timing.text);
	if (interval[0] == '\0')
		return complain(text, text->at, "syntax", "no interval within the parentheses");
	label->event = psprintf("%s (%s)", label->kind == PST_AFTER ? "after" : "every", interval);
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
	if (next < text->length && !is_space(text->text[next]) && strchr("[/", text->text[next]) == NULL)
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
	/* a comment is none of it, either */
	if (text->text[text->at] != '/' || text->text[text->at + 1] == '*')
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
	close_label(&text);
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
	close_label(&text);
	return good;
}

/*
 * The offset in the definition of the byte at a position of a snippet's text:
 * where an error within the snippet is shown.
 */
int
pst_snippet_place(const PstMachine *machine, const PstSnippet *snippet, int position)
{
	LabelText	rest;
	int			place;

	decode_entities(&rest, machine->definition, machine->syntax, snippet->offset, strlen(machine->definition));
	decode_breaks(&rest);
	place = rest.places[Min(position, rest.length)];
	close_label(&rest);
	return place;
}
