/*
 * escape.c
 *	  Writes labels so that the real Mermaid and PlantUML show them as they are,
 *	  and so that they read as the same text.
 *
 * What the notation would take for its own syntax becomes a character code: of
 * Mermaid's own grammar, of HTML in the browser, of PlantUML's preprocessor and
 * of its Creole markup.
 */
#include "postgres.h"

#include "machine/parser.h"
#include "machine/printer.h"

/* Must Mermaid get a code for the character at a place of a text? */
static bool
mermaid_needs_code(PstFormat format, const char *text, bool has_style)
{
	switch (*text)
	{
		case '"':
		case '#':
		case ';':
		case '`':
		case '\\':
			return true;
		case ':':				/* in a flowchart only "style a:b#c;" is taken for what it looks like */
			return format == PST_FORMAT_STATE_DIAGRAM || has_style;
		case '\n':
			return format == PST_FORMAT_STATE_DIAGRAM;
		case '<':
		case '&':
			return pst_is_name_byte(text[1]) || (text[1] != '\0' && strchr("/!?#", text[1]) != NULL);
		case '%':
		case '$':				/* $$ is a formula */
			return text[1] == text[0];
		case '\t':
			return false;
		default:
			return (unsigned char) *text < ' ' || *text == 0x7F;
	}
}

static void
escape_mermaid(StringInfo out, PstFormat format, const char *text, bool has_style)
{
	for (; *text != '\0'; text++)
	{
		if (!mermaid_needs_code(format, text, has_style))
			appendStringInfoChar(out, *text);
		else if (*text == '"')
			appendStringInfoString(out, "#quot;");
		else if (*text == '<')
			appendStringInfoString(out, "#lt;");
		else if (*text == '&')
			appendStringInfoString(out, "#amp;");
		else
			appendStringInfo(out, "#%d;", *text);
	}
}

/* Must PlantUML get a code for the character at a position of a text? */
static bool
plantuml_needs_code(const char *text, int at)
{
	char		before = at > 0 ? text[at - 1] : '\0';
	char		after = text[at + 1];

	switch (text[at])
	{
		case '\\':
		case ';':
		case '~':
		case '%':
			return true;
		case '<':
			return pst_is_name_byte(after) || (after != '\0' && strchr("/&$#:^!", after) != NULL);
		case '&':
			return after == '#';
		case '\'':				/* a comment opens and closes by / and ' */
			return before == '/' || after == '/';
		case '*':
		case '_':
		case '/':
		case '-':
		case '"':
		case '[':
		case ']':
			return before == text[at];
		default:
			return (unsigned char) text[at] < ' ' || text[at] == 0x7F;
	}
}

/* A line break of SQL becomes one of PlantUML's; within SQL's quotes that would be another text. */
static void
escape_plantuml(StringInfo out, const char *text)
{
	int			length = strlen(text);
	int			next;

	for (int at = 0; at < length; at = next)
	{
		next = pst_skip_sql(text, at, length);
		if (text[at] == '\n')
		{
			appendStringInfoString(out, "\\n");
			continue;
		}
		for (int i = at; i < next; i++)
		{
			if (plantuml_needs_code(text, i))
				appendStringInfo(out, "<U+%04X>", (unsigned char) text[i]);
			else
				appendStringInfoChar(out, text[i]);
		}
	}
}

void
pst_escape_text(StringInfo out, PstFormat format, const char *text, bool has_style)
{
	if (format == PST_FORMAT_PLANTUML)
		escape_plantuml(out, text);
	else
		escape_mermaid(out, format, text, has_style);
}
