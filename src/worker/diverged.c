/*
 * diverged.c
 *	  What another primary had sent, and this log lacks.
 *
 * An asynchronous standby that is promoted may not have had the last events of
 * its primary, which the sinks have.  Their names are of an older timeline than
 * ours, and of no event of the log.  So what a sink holds beside what we look for
 * is compared with the log by name; only after a promotion are there any to compare.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "utils/array.h"
#include "worker/outlet.h"

/* So many positions before a promotion are looked at, too: a stream is read from the first event that we know in it. */
#define WINDOW 10000

#define IDS(slot) "SELECT event_id, timeline FROM persistomata.log_" #slot
#define UNION_ALL " UNION ALL "
#define ALL_IDS IDS(0) UNION_ALL IDS(1) UNION_ALL IDS(2) UNION_ALL IDS(3) UNION_ALL \
	IDS(4) UNION_ALL IDS(5) UNION_ALL IDS(6) UNION_ALL IDS(7)

/* What is older than all that is kept may have been ours. */
static PstQuery lacking_query = {
	"SELECT n.nth FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY n(event_id, timeline, nth)"
	" WHERE n.event_id OPERATOR(pg_catalog.>) (SELECT pg_catalog.min(k.event_id) FROM (" ALL_IDS ") k)"
	" AND NOT EXISTS (SELECT 1 FROM (" ALL_IDS ") l WHERE l.event_id OPERATOR(pg_catalog.=) n.event_id"
	" AND l.timeline OPERATOR(pg_catalog.=) n.timeline)",
	2, {INT8ARRAYOID, INT4ARRAYOID}, NULL
};

static PstQuery note_query = {
	"UPDATE persistomata.reconciliation_range SET diverged = pg_catalog.cardinality($3), diverged_names = ($3)[1:1000]"
	" WHERE run OPERATOR(pg_catalog.=) $1 AND from_position OPERATOR(pg_catalog.=) $2",
	3, {INT8OID, INT8OID, TEXTARRAYOID}, NULL
};

static PstQuery ask_query = {
	"INSERT INTO persistomata.reconciliation_run (route, asked_from) VALUES ($1, $2)",
	2, {INT4OID, INT8OID}, NULL
};

/* Is it of a timeline before ours? */
static bool
is_of_earlier(const char *name, int *timeline, int64 *event_id)
{
	return pst_event_name_read(name, timeline, event_id) && *timeline < (int) GetWALInsertionTimeLine();
}

/* Moves those of the names that the log lacks to the other list.  In SPI. */
static void
take_lacking(List **names, List **diverged)
{
	int			n = 0;
	Datum	   *ids = palloc(sizeof(Datum) * (list_length(*names) + 1));
	Datum	   *timelines = palloc(sizeof(Datum) * (list_length(*names) + 1));
	List	   *earlier = NIL;
	ListCell   *cell;
	Datum		args[2];
	uint64		rows;

	foreach(cell, *names)
	{
		int			timeline;
		int64		event_id;

		if (!is_of_earlier(lfirst(cell), &timeline, &event_id))
			continue;
		ids[n] = Int64GetDatum(event_id);
		timelines[n++] = Int32GetDatum(timeline);
		earlier = lappend(earlier, lfirst(cell));
	}
	if (n == 0)
		return;
	args[0] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(timelines, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	rows = pst_query_read(&lacking_query, args);
	for (uint64 row = 0; row < rows; row++)
	{
		char	   *name = list_nth(earlier, (int) DatumGetInt64(pst_result(row, 1, NULL)) - 1);

		*diverged = lappend(*diverged, name);
		*names = list_delete_ptr(*names, name);
	}
}

List *
pst_diverged_take(const PstHolding *holding, List **strays)
{
	const char *name = holding->others.data;
	List	   *others = NIL;
	List	   *diverged = NIL;

	for (int i = 0; i < holding->nothers; i++, name += strlen(name) + 1)
		others = lappend(others, pstrdup(name));
	take_lacking(strays, &diverged);
	take_lacking(&others, &diverged);
	return diverged;
}

void
pst_diverged_write(int64 run, int64 from_position, Datum names)
{
	Datum		args[3] = {Int64GetDatum(run), Int64GetDatum(from_position), names};

	CommandCounterIncrement();
	pst_query_write(&note_query, args, NULL);
}

void
pst_diverged_tell(const PstOutlet *outlet, int64 run, int64 diverged)
{
	if (diverged > 0)
		ereport(WARNING,
				(errmsg("server \"%s\" holds " INT64_FORMAT " events that this log lacks where route \"%s\" delivers",
						outlet->route->server, diverged, outlet->route->name),
				 errdetail("An earlier primary had sent them, and this one was promoted without them."),
				 errhint("Their names are in persistomata.reconciliation_detail, run " INT64_FORMAT ".", run)));
}

/*
 * A promotion leaves a wide gap in the positions (see event/cut.c): what stands in
 * the sink behind the last event before it is worth a look, once.
 */
void
pst_diverged_suspect(PstSinkWorker *worker, const PstParcel *parcel)
{
	const PstOutlet *outlet = parcel->outlet;
	int64		here = outlet->cursor.next_position;
	Datum		args[2];

	if (worker->ops->ask == NULL || parcel->letters || (here >> 32) == (parcel->shipment.to_position >> 32))
		return;
	pst_work_begin_sql("asking for a reconciliation");
	args[0] = Int32GetDatum(outlet->route->id);
	args[1] = Int64GetDatum(Max(here - WINDOW, 1));
	pst_query_write(&ask_query, args, NULL);
	pst_work_end_sql();
	worker->audits_due = true;
}
