/*
 * arrow.c
 *	  The arrows of state diagrams, as PlantUML has them: with directions and
 *	  styles, either way round.
 */
#include "postgres.h"

#include "machine/parser.h"

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

/* Past the shaft of an arrow: dashes, directions, [styles].  -1 if there is none. */
static int
skip_shaft(const PstParser *parser, int at, int end, bool *hidden)
{
	int			start = at;

	while (at < end)
	{
		int			length = 0;

		while (at + length < end && parser->text[at + length] >= 'a' && parser->text[at + length] <= 'z')
			length++;
		if (length > 0 && at > start && is_direction(parser->text + at, length))
			at += length;
		else if (parser->text[at] == '-')
			at++;
		else if (parser->text[at] == '[' && at > start)
		{
			const char *close = memchr(parser->text + at, ']', end - at);

			if (close == NULL)
				return -1;
			*hidden |= (int) (close - parser->text) - at == 7 && strncmp(parser->text + at, "[hidden", 7) == 0;
			at = (int) (close - parser->text) + 1;
		}
		else
			break;
	}
	return at > start && parser->text[at - 1] == '-' ? at : -1;
}

/* -->, ->, -up->, -[#red,dashed]->, x->, -->o, <--; moves past it, or not at all. */
bool
pst_accept_arrow(PstParser *parser, PstArrow *arrow)
{
	int			end = pst_line_end(parser);
	int			at = parser->at;

	memset(arrow, 0, sizeof(*arrow));
	arrow->reverse = pst_peek(parser, 0) == '<';
	if (arrow->reverse || (pst_peek(parser, 0) == 'x' && pst_peek(parser, 1) == '-'))
		at++;
	at = skip_shaft(parser, at, end, &arrow->hidden);
	if (at < 0)
		return false;
	if (!arrow->reverse)
	{
		if (at >= end || parser->text[at] != '>')
			return false;
		at++;
		if (at + 1 < end && parser->text[at] == 'o' && strchr(" \t", parser->text[at + 1]) != NULL &&
			pst_name_length(parser->text, pst_skip_blanks(parser->text, at + 1, end), end) > 0)
			at++;
	}
	parser->at = at;
	return true;
}
