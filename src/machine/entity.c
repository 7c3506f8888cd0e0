/*
 * entity.c
 *	  Mermaid's character codes: #quot; #59; #x3b; and their kin.
 *
 * They are how a label holds what Mermaid would take for its own syntax.  What
 * is no code is left as it stands: # is also an operator of SQL.
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

/* The code point of a numeric code, or 0. */
static pg_wchar
numeric_code(const char *code, int length)
{
	uint32		value = 0;
	uint32		base = 10;
	int			i = 0;

	if (length > 1 && (code[0] == 'x' || code[0] == 'X'))
	{
		base = 16;
		i = 1;
	}
	for (; i < length; i++)
	{
		char		c = pg_ascii_tolower(code[i]);
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

/*
 * Decodes the code at an offset into at most PST_ENTITY_ROOM bytes.  Returns
 * how many bytes of the text it takes; 0 if there is no code.
 */
int
pst_entity_decode(const char *text, int at, int end, char *decoded, int *length)
{
	int			close = at + 1;
	int			code;
	pg_wchar	point;

	if (at >= end || text[at] != '#')
		return 0;
	while (close < end && close - at <= MAX_CODE && text[close] != ';' && text[close] != '#')
		close++;
	if (close >= end || text[close] != ';')
		return 0;
	code = close - at - 1;
	for (int i = 0; i < (int) lengthof(entities); i++)
	{
		if (strncmp(entities[i].name, text + at + 1, code) == 0 && entities[i].name[code] == '\0')
		{
			decoded[0] = entities[i].character;
			*length = 1;
			return close + 1 - at;
		}
	}
	point = numeric_code(text + at + 1, code);
	if (point == 0)
		return 0;
	StaticAssertStmt(PST_ENTITY_ROOM > MAX_UNICODE_EQUIVALENT_STRING, "no room for a character");
	pg_unicode_to_server(point, (unsigned char *) decoded);
	*length = strlen(decoded);
	return close + 1 - at;
}

/* The offset into the text of the byte that stands at a position once decoded. */
int
pst_entity_place(const char *text, int start, int end, int position)
{
	int			at = start;

	while (position > 0 && at < end)
	{
		char		decoded[PST_ENTITY_ROOM];
		int			length = 1;
		int			taken = pst_entity_decode(text, at, end, decoded, &length);

		if (taken > 0 && length > position)
			break;
		at += taken > 0 ? taken : 1;
		position -= length;
	}
	return at;
}
