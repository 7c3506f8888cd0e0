/*
 * report.c
 *	  Tells a user what is wrong with a definition, and where.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "machine/parser.h"

#define SHOWN_AFTER		30		/* characters of a long line that are shown after the place */

/*
 * The line from where it is to be shown, and a caret under the place.  A part of
 * a line begins, and ends, with dots.
 */
char *
pst_excerpt(const char *shown, const char *place, bool is_part)
{
	StringInfoData excerpt;
	StringInfoData caret;
	int			after = 0;

	initStringInfo(&excerpt);
	initStringInfo(&caret);
	if (is_part)
	{
		appendStringInfoString(&excerpt, "...");
		appendStringInfoString(&caret, "   ");
	}
	while (*shown != '\0' && *shown != '\n' && *shown != '\r' && after < SHOWN_AFTER)
	{
		int			length = pg_mblen(shown);

		appendBinaryStringInfo(&excerpt, shown, length);
		if (shown >= place)
			after++;
		else if (*shown == '\t')
			appendStringInfoChar(&caret, '\t');
		else
			appendStringInfoSpaces(&caret, Max(pg_dsplen(shown), 0));
		shown += length;
	}
	if (*shown != '\0' && *shown != '\n' && *shown != '\r')
		appendStringInfoString(&excerpt, "...");
	appendStringInfo(&excerpt, "\n%s^", caret.data);
	pfree(caret.data);
	return excerpt.data;
}

void
pst_machine_report(const PstFinding *finding)
{
	ereport(finding->severity == PST_SEVERITY_ERROR ? ERROR : WARNING,
			(errcode(finding->severity == PST_SEVERITY_ERROR
					 ? ERRCODE_INVALID_TEXT_REPRESENTATION : ERRCODE_WARNING),
			 errmsg("%s", finding->message),
			 errdetail("Line %d, column %d:\n%s", finding->line, finding->column, finding->excerpt),
			 errhint("%s", finding->hint)));
}
