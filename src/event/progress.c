/*
 * progress.c
 *	  How far a backend is with long work on all rows of a table.
 */
#include "postgres.h"

#include "event/progress.h"
#include "utils/timestamp.h"

void
pst_progress_begin(PstLongWork what, Oid relid)
{
	const int	places[] = {PST_PROGRESS_WHAT, PST_PROGRESS_TOTAL, PST_PROGRESS_STARTED_AT};
	const int64 values[] = {what, -1, GetCurrentTimestamp()};

	pgstat_progress_start_command(PST_PROGRESS_COMMAND, relid);
	pgstat_progress_update_multi_param(lengthof(places), places, values);
}

void
pst_progress(int64 done, int64 total)
{
	const int	places[] = {PST_PROGRESS_DONE, PST_PROGRESS_TOTAL};
	const int64 values[] = {done, total};

	pgstat_progress_update_multi_param(lengthof(places), places, values);
}

void
pst_progress_end(void)
{
	pgstat_progress_end_command();
}
