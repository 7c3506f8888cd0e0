/*
 * progress.c
 *	  What backends of this database tell about long work of theirs.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "compat/compat.h"
#include "event/progress.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(pst_live_progress);

static void
put_row(ReturnSetInfo *rsinfo, const PgBackendStatus *entry)
{
	static const char *const works[] = {"baseline", "snapshot", "truncate", "upgrade"};
	int64		what = entry->st_progress_param[PST_PROGRESS_WHAT];
	int64		total = entry->st_progress_param[PST_PROGRESS_TOTAL];
	Datum		values[6];
	bool		nulls[6] = {false};

	if (what < 0 || what >= (int64) lengthof(works))
		return;
	values[0] = Int32GetDatum(entry->st_procpid);
	values[1] = CStringGetTextDatum(works[what]);
	values[2] = ObjectIdGetDatum(entry->st_progress_command_target);
	values[3] = Int64GetDatum(entry->st_progress_param[PST_PROGRESS_DONE]);
	values[4] = Int64GetDatum(total);
	nulls[4] = total < 0;
	values[5] = TimestampTzGetDatum(entry->st_progress_param[PST_PROGRESS_STARTED_AT]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* live_progress(): of those backends whose pg_stat_activity the caller may see */
Datum
pst_live_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n = pgstat_fetch_stat_numbackends();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 1; i <= n; i++)
	{
		const PgBackendStatus *entry = pst_backend_status(i);

		if (entry && entry->st_progress_command == PST_PROGRESS_COMMAND && entry->st_databaseid == MyDatabaseId &&
			(has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
			 has_privs_of_role(GetUserId(), entry->st_userid)))
			put_row(rsinfo, entry);
	}
	return (Datum) 0;
}
