/*
 * report.c
 *	  Tells a user what is wrong with a definition, and where.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "machine/model.h"

#define SHOWN_BEFORE	60		/* characters of a long line before the place, */
#define SHOWN_AFTER		30		/* and after it */

/*
 * "Line N, column M:", the line, and a caret under the place.  Of a long line
 * only the surroundings are shown.
 */
char *
pst_machine_excerpt(const char *definition, int offset)
{
	StringInfoData excerpt;
	StringInfoData caret;
	const char *place = definition + offset;
	const char *start = definition;
	const char *shown;
	int			line = 1;
	int			column = 1;
	int			after = 0;

	for (const char *at = definition; at < place; at++)
	{
		if (*at == '\n')
		{
			line++;
			start = at + 1;
		}
	}
	for (const char *at = start; at < place; at += pg_mblen(at))
		column++;
	shown = start;
	for (int skipped = 0; skipped < column - 1 - SHOWN_BEFORE; skipped++)
		shown += pg_mblen(shown);

	initStringInfo(&excerpt);
	initStringInfo(&caret);
	appendStringInfo(&excerpt, "Line %d, column %d:\n", line, column);
	if (shown > start)
	{
		appendStringInfoString(&excerpt, "...");
		appendStringInfoString(&caret, "   ");
	}
	while (*shown != '\0' && *shown != '\n' && *shown != '\r' && after < SHOWN_AFTER)
	{
		int			length = pg_mblen(shown);

		appendBinaryStringInfo(&excerpt, shown, length);
		if (shown < place)
			appendStringInfoSpaces(&caret, *shown == '\t' ? 0 : Max(pg_dsplen(shown), 0));
		if (shown < place && *shown == '\t')
			appendStringInfoChar(&caret, '\t');
		if (shown >= place)
			after++;
		shown += length;
	}
	if (*shown != '\0' && *shown != '\n' && *shown != '\r')
		appendStringInfoString(&excerpt, "...");
	appendStringInfo(&excerpt, "\n%s^", caret.data);
	pfree(caret.data);
	return excerpt.data;
}

void
pst_machine_report(const PstFinding *finding, const char *definition)
{
	ereport(finding->severity == PST_SEVERITY_ERROR ? ERROR : WARNING,
			(errcode(finding->severity == PST_SEVERITY_ERROR
					 ? ERRCODE_INVALID_TEXT_REPRESENTATION : ERRCODE_WARNING),
			 errmsg("%s", finding->message),
			 errdetail("%s", pst_machine_excerpt(definition, finding->offset)),
			 finding->hint ? errhint("%s", finding->hint) : 0));
}
