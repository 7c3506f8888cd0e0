/*
 * alias.c
 *	  Short names of states that a notation cannot write.
 *
 * A comment says what a short name stands for: %% persistomata: end_1 is end.
 * That is how a diagram that we print shows a state called like a word of the
 * notation, or with characters that its names do not have.
 */
#include "postgres.h"

#include "machine/parser.h"

#define ALIAS "persistomata:"
#define ALIAS_HINT "Write: persistomata: short_name is name"

static void
complain(PstParser *parser, int offset, const char *hint, const char *message)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", offset, hint, "%s", message);
}

/*
 * Reads the comment at the cursor, which stays; does nothing if it is an
 * ordinary one.
 */
void
pst_alias_read(PstParser *parser)
{
	const char *text = parser->text;
	int			at = parser->at;
	int			alias;
	int			length;
	int			target;

	while (at < parser->length && strchr("%'#", text[at]) != NULL)
		at++;
	at = pst_skip_blanks(text, at, parser->length);
	if (strncmp(text + at, ALIAS, strlen(ALIAS)) != 0)
		return;
	alias = pst_skip_blanks(text, at + strlen(ALIAS), parser->length);
	length = pst_name_length(text, alias, parser->length);
	at = pst_skip_blanks(text, alias + length, parser->length);
	if (length == 0 || strncmp(text + at, "is", 2) != 0 || strchr(" \t", text[at + 2]) == NULL)
	{
		complain(parser, alias, ALIAS_HINT, "comment does not say what a short name stands for");
		return;
	}
	target = pst_skip_blanks(text, at + 2, parser->length);
	at = target + pst_state_name_length(parser, target);
	if (at == target || (text[pst_skip_blanks(text, at, parser->length)] != '\n' &&
						 text[pst_skip_blanks(text, at, parser->length)] != '\0'))
		complain(parser, target, ALIAS_HINT, "comment does not say what a short name stands for");
	else if (pst_names_find(&parser->machine->names, text + alias, length) >= 0)
		complain(parser, alias, "Put the comment before all that names the state.",
				 "short name is already used for a state");
	else
		pst_names_add(&parser->aliases, text + alias, length, target);
}
