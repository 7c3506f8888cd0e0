/*
 * member.c
 *	  The members of a JSON object whose values are strings, one by one.
 *
 * For what a sink copies out of an event's headers (a traceparent, say) into
 * its own.  The object is trusted to be JSON; of anything else, what follows
 * the first oddity is left out.
 */
#include "postgres.h"

#include "encode/encode.h"
#include "mb/pg_wchar.h"

static const char *
skip_space(const char *at)
{
	while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
		at++;
	return at;
}

/* Four hexadecimal digits, or -1. */
static int
hex4(const char *at)
{
	int			value = 0;

	for (int i = 0; i < 4; i++)
	{
		if (at[i] >= '0' && at[i] <= '9')
			value = value * 16 + at[i] - '0';
		else if ((at[i] | 0x20) >= 'a' && (at[i] | 0x20) <= 'f')
			value = value * 16 + (at[i] | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/* \uXXXX, perhaps a pair of them; returns the last byte read, or NULL. */
static const char *
take_unicode(const char *at, StringInfo out)
{
	unsigned char utf8[8] = {0};
	int			code = hex4(at + 1);

	if (code < 0)
		return NULL;
	at += 4;
	if (code >= 0xD800 && code <= 0xDBFF && at[1] == '\\' && at[2] == 'u')
	{
		int			low = hex4(at + 3);

		if (low >= 0xDC00 && low <= 0xDFFF)
		{
			code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
			at += 6;
		}
	}
	if (code == 0 || (code >= 0xD800 && code <= 0xDFFF))
		code = 0xFFFD;
	unicode_to_utf8(code, utf8);
	appendBinaryStringInfo(out, (char *) utf8, pg_utf_mblen(utf8));
	return at;
}

/* A string that begins at the quote; returns what follows it, or NULL. */
static const char *
take_string(const char *at, StringInfo out)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";

	resetStringInfo(out);
	for (at++; *at && *at != '"'; at++)
	{
		const char *which;

		if (*at != '\\')
		{
			appendStringInfoCharMacro(out, *at);
			continue;
		}
		at++;
		if (*at == 'u')
			at = take_unicode(at, out);
		else if (*at && (which = strchr(from, *at)) != NULL)
			appendStringInfoCharMacro(out, to[which - from]);
		else
			at = NULL;
		if (at == NULL)
			return NULL;
	}
	return *at == '"' ? at + 1 : NULL;
}

/* Skip a value that is no string: to the comma or brace that ends the member. */
static const char *
skip_value(const char *at)
{
	int			depth = 0;
	bool		quoted = false;

	for (; *at; at++)
	{
		if (quoted && *at == '\\' && at[1])
			at++;
		else if (*at == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (*at == '{' || *at == '[')
			depth++;
		else if (depth == 0 && (*at == ',' || *at == '}'))
			return at;
		else if (*at == '}' || *at == ']')
			depth--;
	}
	return NULL;
}

const char *
pst_next_member(const char *at, StringInfo name, StringInfo value)
{
	while (at != NULL)
	{
		at = skip_space(at);
		if (*at != '{' && *at != ',')
			return NULL;
		at = skip_space(at + 1);
		if (*at != '"' || (at = take_string(at, name)) == NULL)
			return NULL;
		at = skip_space(at);
		if (*at != ':')
			return NULL;
		at = skip_space(at + 1);
		if (*at == '"')
			return take_string(at, value);
		at = skip_value(at);
	}
	return NULL;
}
