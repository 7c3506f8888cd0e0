/*
 * statelooks.c
 *	  What in a state diagram is only for the eye: notes, titles, colours.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "machine/parser.h"

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
	int			end = pst_line_end(parser);

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
		int			end = pst_line_end(parser);
		int			at = parser->at + strlen(words[i]);

		if (!pst_at_keyword(parser, words[i]))
			continue;
		if (i == 0)				/* note left of a : words; note "words" as n */
			one_line = memchr(parser->text + at, ':', end - at) != NULL ||
				parser->text[pst_skip_blanks(parser->text, at, end)] == '"';
		else
			one_line = i != 2 && !pst_is_blank(parser, at, end);
		if (one_line)
			pst_skip_line(parser);
		else
		{
			char	   *mark = psprintf("end %s", words[i]);
			char	   *joined = psprintf("end%s", words[i]);

			skip_block(parser, mark, joined);
			pfree(mark);
			pfree(joined);
		}
		return true;
	}
	return false;
}

/* Past a line, or lines, that say nothing about states: headers, looks.  False if it does say something. */
bool
pst_statediagram_skip(PstParser *parser)
{
	static const char *const words[] = {
		"stateDiagram-v2", "stateDiagram", "direction", "hide", "show", "remove", "scale", "skinparam", "skin",
		"left", "top", "right", "center", "classDef", "class", "style", "click", "accTitle", "accDescr",
		"mainframe", "allow_mixing", "set", "page", "newpage", "rotate", "ratio", "sprite"
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
	if (pst_skip_description(parser))
		return true;
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
