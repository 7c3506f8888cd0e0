/*
 * utf8.c
 *	  Between the database's encoding and UTF-8.
 *
 * One event whose text is no valid character must not keep those behind it from
 * being sent, so nothing here fails: PostgreSQL checks what comes into a
 * database, but not into one of SQL_ASCII, and not every character of every
 * encoding has its like in another.  The conversions are looked up once a
 * process, so that faults can be told outside of a transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "event/utf8.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define REPLACEMENT "\xEF\xBF\xBD"

typedef struct Conversion
{
	FmgrInfo	function;
	bool		found;
	int			from;
	int			to;
	const char *replacement;
} Conversion;

static Conversion outward = {.replacement = REPLACEMENT};
static Conversion inward = {.replacement = "?"};
static bool looked_up = false;

static void
look_up(Conversion *conversion, int from, int to)
{
	Oid			function = FindDefaultConversionProc(from, to);

	if (!OidIsValid(function))
		return;
	fmgr_info_cxt(function, &conversion->function, TopMemoryContext);
	conversion->from = from;
	conversion->to = to;
	conversion->found = true;
}

/* Is there a conversion to be made?  Looks both ways up as soon as that can be done. */
static bool
differs(const char *text)
{
	int			encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8)
		return false;
	if (encoding != PG_SQL_ASCII && !looked_up && IsTransactionState())
	{
		look_up(&outward, encoding, PG_UTF8);
		look_up(&inward, PG_UTF8, encoding);
		looked_up = true;
	}
	for (; *text; text++)
		if (IS_HIGHBIT_SET(*text))
			return true;
	return false;
}

/* Each byte that is none of ASCII, or of a legal character if those are kept, is replaced. */
static char *
replace_illegal(const char *text, bool keep_legal, const char *replacement)
{
	size_t		left = strlen(text);
	char	   *result = palloc(left * strlen(replacement) + 1);
	char	   *at = result;

	while (left > 0)
	{
		int			width = IS_HIGHBIT_SET(*text) ? pg_utf_mblen((const unsigned char *) text) : 1;

		if (IS_HIGHBIT_SET(*text) &&
			(!keep_legal || (size_t) width > left || !pg_utf8_islegal((const unsigned char *) text, width)))
		{
			strcpy(at, replacement);
			at += strlen(replacement);
			text++;
			left--;
			continue;
		}
		memcpy(at, text, width);
		at += width;
		text += width;
		left -= width;
	}
	*at = '\0';
	return result;
}

/* How many bytes of what cannot be converted are left out for one replacement. */
static int
width_of_refused(int encoding, const char *text, int left)
{
	int			width = pg_encoding_verifymbchar(encoding, text, left);

	return width > 0 ? width : 1;
}

static char *
convert(const Conversion *conversion, const char *text)
{
	int			left = strlen(text);
	char	   *result = palloc((Size) left * MAX_CONVERSION_GROWTH + 1);
	char	   *at = result;

	while (left > 0)
	{
		int			done = DatumGetInt32(FunctionCall6(unconstify(FmgrInfo *, &conversion->function),
													   Int32GetDatum(conversion->from),
													   Int32GetDatum(conversion->to),
													   CStringGetDatum(text), CStringGetDatum(at),
													   Int32GetDatum(left), BoolGetDatum(true)));
		int			width;

		at += strlen(at);
		text += done;
		left -= done;
		if (left <= 0)
			break;
		width = width_of_refused(conversion->from, text, left);
		strcpy(at, conversion->replacement);
		at += strlen(at);
		text += width;
		left -= width;
	}
	*at = '\0';
	return result;
}

char *
pst_to_utf8(const char *text)
{
	if (!differs(text))
		return unconstify(char *, text);
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return replace_illegal(text, true, REPLACEMENT);
	return outward.found ? convert(&outward, text) : replace_illegal(text, false, "?");
}

char *
pst_from_utf8(const char *text)
{
	if (!differs(text) || GetDatabaseEncoding() == PG_SQL_ASCII)
		return unconstify(char *, text);
	return inward.found ? convert(&inward, text) : replace_illegal(text, false, "?");
}
