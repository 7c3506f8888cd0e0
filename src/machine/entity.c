/*
 * entity.c
 *	  The notations' character codes: #quot; #59; #x3b; and their kin in Mermaid,
 *	  <U+003B> in PlantUML.
 *
 * They are how a label holds what the notation would take for its own syntax.
 * What is no code is left as it stands: # and < are also operators of SQL.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "machine/entity.h"

#define MAX_CODE 10				/* bytes between # and ; */

static const struct
{
	const char *name;
	char		character;
}			entities[] =
{
	{"quot", '"'}, {"apos", '\''}, {"amp", '&'}, {"lt", '<'}, {"gt", '>'},
	{"nbsp", ' '}, {"num", '#'}, {"semi", ';'}, {"colon", ':'}, {"comma", ','},
	{"period", '.'}, {"lpar", '('}, {"rpar", ')'}, {"lsqb", '['}, {"lbrack", '['},
	{"rsqb", ']'}, {"rbrack", ']'}, {"lcub", '{'}, {"lbrace", '{'}, {"rcub", '}'},
	{"rbrace", '}'}, {"vert", '|'}, {"verbar", '|'}, {"percnt", '%'}, {"excl", '!'},
	{"quest", '?'}, {"equals", '='}, {"plus", '+'}, {"ast", '*'}, {"sol", '/'},
	{"bsol", '\\'}, {"dollar", '$'}, {"commat", '@'}, {"lowbar", '_'}, {"Hat", '^'},
	{"grave", '`'}, {"Tab", '\t'}, {"NewLine", '\n'}
};

/* The character of a number in some base, or 0. */
static pg_wchar
character_of(const char *digits, int length, uint32 base)
{
	uint32		value = 0;

	for (int i = 0; i < length; i++)
	{
		char		c = pg_ascii_tolower(digits[i]);
		uint32		digit = c >= '0' && c <= '9' ? c - '0' :
			c >= 'a' && c <= 'f' ? 10 + c - 'a' : 99;

		if (digit >= base)
			return 0;
		value = value * base + digit;
		if (value > 0x10FFFF)
			return 0;
	}
	if (!is_valid_unicode_codepoint(value) ||
		is_utf16_surrogate_first(value) || is_utf16_surrogate_second(value))
		return 0;
	return value;
}

/* The character that a code of Mermaid's names, or 0. */
static pg_wchar
mermaid_character(const char *code, int length)
{
	for (int i = 0; i < (int) lengthof(entities); i++)
	{
		if (strncmp(entities[i].name, code, length) == 0 && entities[i].name[length] == '\0')
			return (unsigned char) entities[i].character;
	}
	if (length > 1 && (code[0] == 'x' || code[0] == 'X'))
		return character_of(code + 1, length - 1, 16);
	return character_of(code, length, 10);
}

int
pst_entity_decode(PstSyntax syntax, const char *text, int at, int end, char *decoded, int *length)
{
	bool		plantuml = syntax == PST_SYNTAX_PLANTUML;
	const char *opening = plantuml ? "<U+" : "#";
	char		closing = plantuml ? '>' : ';';
	int			start = at + strlen(opening);
	int			close = start;
	pg_wchar	character;

	if (start >= end || strncmp(text + at, opening, start - at) != 0)
		return 0;
	while (close < end && close - start < MAX_CODE && text[close] != closing && text[close] != opening[0])
		close++;
	if (close >= end || text[close] != closing)
		return 0;
	character = plantuml ? character_of(text + start, close - start, 16)
		: mermaid_character(text + start, close - start);
	if (character == 0)
		return 0;
	StaticAssertStmt(PST_ENTITY_ROOM > MAX_UNICODE_EQUIVALENT_STRING, "no room for a character");
	pg_unicode_to_server(character, (unsigned char *) decoded);
	*length = strlen(decoded);
	return close + 1 - at;
}
