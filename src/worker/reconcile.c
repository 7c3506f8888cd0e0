/*
 * reconcile.c
 *	  Comparing what a sink holds with the log.
 *
 * reconcile() only asks for it, by a row.  The worker that serves the sink does
 * the rest, a range at a time, whenever it has nothing to send: it reads the
 * range (a short transaction), asks the sink (no transaction), and writes what
 * it found (a short transaction).  So no snapshot is open while the sink thinks,
 * and what the worker itself has under way is never taken for missing.
 *
 * The range is read as if it were to be sent, through an outlet of its own; the
 * next one is read before a range is asked for, to know which is the last.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "event/query.h"
#include "event/wake.h"
#include "fmgr.h"
#include "route/edit.h"
#include "sink/holding.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/outlet.h"

#define KEPT_RUNS 20

PG_FUNCTION_INFO_V1(pst_reconcile);

struct PstAudit
{
	MemoryContext context;		/* of this struct and all it has */
	int64		run;
	PstOutlet  *outlet;			/* the route's own */
	PstOutlet	reading;		/* reads the same, and settles nothing */
	PstParcel	parcels[2];		/* the range to ask for, and the next */
	int64		to_position;
	bool		begun;			/* the sink was asked for a first range */
	bool		read_all;
	int			refilled;
	int64		covered;		/* up to here ranges were read */
	int64		diverged;
};

#define ACKS(slot) "(SELECT from_position FROM persistomata.ack_" #slot \
	" WHERE route OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $2 ORDER BY id LIMIT 1)"

static PstQuery first_query = {
	"SELECT LEAST(" ACKS(0) ", " ACKS(1) ", " ACKS(2) ", " ACKS(3) ", "
	ACKS(4) ", " ACKS(5) ", " ACKS(6) ", " ACKS(7) ")",
	2, {INT4OID, INT4OID}, NULL
};

static PstQuery find_query = {
	"SELECT id, asked_from, asked_to FROM persistomata.reconciliation_run"
	" WHERE route OPERATOR(pg_catalog.=) $1 AND finished_at IS NULL ORDER BY id LIMIT 1",
	1, {INT4OID}, NULL
};

static PstQuery clear_query = {
	"DELETE FROM persistomata.reconciliation_range WHERE run OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

/* No range reaches back so far. */
static PstQuery prune_query = {
	"DELETE FROM persistomata.discarded_letter WHERE route OPERATOR(pg_catalog.=) $1 AND position OPERATOR(pg_catalog.<)"
	" (SELECT pg_catalog.min(first_position) FROM persistomata.cuts())",
	1, {INT4OID}, NULL
};

static PstQuery begin_query = {
	"UPDATE persistomata.reconciliation_run SET begun_at = pg_catalog.clock_timestamp(),"
	" from_position = $2, to_position = $3 WHERE id OPERATOR(pg_catalog.=) $1",
	3, {INT8OID, INT8OID, INT8OID}, NULL
};

/* What the sink refused is not missing, nor what was given up then. */
static PstQuery range_query = {
	"INSERT INTO persistomata.reconciliation_range (run, from_position, to_position, expected, found, unknown,"
	" missing, doubled, altered, missing_names, doubled_names, altered_names, altered_fields)"
	" SELECT $1, $2, $3, $4 OPERATOR(pg_catalog.-) (pg_catalog.cardinality($7) OPERATOR(pg_catalog.-) pg_catalog.cardinality(m.names)),"
	" $5, $6, pg_catalog.cardinality(m.names), pg_catalog.cardinality($8), pg_catalog.cardinality($10),"
	" m.names[1:1000], ($8)[1:1000], ($10)[1:1000], $11"
	" FROM (SELECT ARRAY(SELECT n.name FROM pg_catalog.unnest($7) WITH ORDINALITY n(name, nth)"
	" WHERE NOT EXISTS (SELECT 1 FROM persistomata.dead_letter_entry d WHERE d.route OPERATOR(pg_catalog.=) $9"
	" AND d.position OPERATOR(pg_catalog.>=) $2 AND d.position OPERATOR(pg_catalog.<=) $3"
	" AND d.name OPERATOR(pg_catalog.=) n.name)"
	" AND NOT EXISTS (SELECT 1 FROM persistomata.discarded_letter d WHERE d.route OPERATOR(pg_catalog.=) $9"
	" AND d.position OPERATOR(pg_catalog.>=) $2 AND d.position OPERATOR(pg_catalog.<=) $3"
	" AND d.name OPERATOR(pg_catalog.=) n.name) ORDER BY n.nth) AS names) m",
	11, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT4OID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

/* Missing in its place and there elsewhere: it was sent again, as a dead letter is. */
static PstQuery stray_query = {
	"UPDATE persistomata.reconciliation_range SET missing = missing OPERATOR(pg_catalog.-) 1,"
	" found = found OPERATOR(pg_catalog.+) 1, missing_names = pg_catalog.array_remove(missing_names, $2)"
	" WHERE run OPERATOR(pg_catalog.=) $1 AND $2 OPERATOR(pg_catalog.=) ANY (missing_names)",
	2, {INT8OID, TEXTOID}, NULL
};

static PstQuery finish_query = {
	"UPDATE persistomata.reconciliation_run SET finished_at = pg_catalog.clock_timestamp(), refilled = $2, error = $3"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	3, {INT8OID, INT4OID, TEXTOID}, NULL
};

static PstQuery ask_query = {
	"INSERT INTO persistomata.reconciliation_run (route, asked_from, asked_to) VALUES ($1, $2, $3) RETURNING id",
	3, {INT4OID, INT8OID, INT8OID}, NULL
};

static PstQuery forget_query = {
	"DELETE FROM persistomata.reconciliation_run WHERE route OPERATOR(pg_catalog.=) $1 AND id OPERATOR(pg_catalog.<) $2",
	2, {INT4OID, INT8OID}, NULL
};

static PstQuery oldest_kept_query = {
	"SELECT id FROM persistomata.reconciliation_run WHERE route OPERATOR(pg_catalog.=) $1 ORDER BY id DESC OFFSET $2 LIMIT 1",
	2, {INT4OID, INT8OID}, NULL
};

static PstQuery route_query = {
	"SELECT id, persistomata.role_of(owner), enabled FROM persistomata.route WHERE name OPERATOR(pg_catalog.=) $1",
	1, {TEXTOID}, NULL
};

/* ---- asking for it ---- */

/* reconcile(route, from_position, to_position) */
Datum
pst_reconcile(PG_FUNCTION_ARGS)
{
	PstOwnerRights rights;
	Datum		args[3];
	char		nulls[4] = "   ";
	char	   *name;
	int64		run;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pst_owner_begin(&rights);
	args[0] = PG_GETARG_DATUM(0);
	if (pst_query_write(&route_query, args, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("route \"%s\" does not exist", name)));
	pst_route_check_owner(&rights, DatumGetObjectId(pst_result(0, 2, NULL)), name);
	if (!DatumGetBool(pst_result(0, 3, NULL)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("route \"%s\" is disabled", name),
				 errdetail("What a sink holds is asked by the worker that serves it."),
				 errhint("Enable it with persistomata.enable_route().")));
	args[0] = pst_result(0, 1, NULL);
	for (int i = 1; i <= 2; i++)
	{
		args[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	pst_query_write(&ask_query, args, nulls);
	run = DatumGetInt64(pst_result(0, 1, NULL));
	args[1] = Int64GetDatum(KEPT_RUNS - 1);
	if (pst_query_write(&oldest_kept_query, args, NULL) > 0)
	{
		args[1] = pst_result(0, 1, NULL);
		pst_query_write(&forget_query, args, NULL);
	}
	pst_owner_end(&rights);
	pst_routes_changed();
	PG_RETURN_INT64(run);
}

/* ---- in the worker: beginning and ending ---- */

void
pst_audit_drop(PstSinkWorker *worker)
{
	if (worker->audit)
		MemoryContextDelete(worker->audit->context);
	worker->audit = NULL;
}

/* In SPI. */
static void
write_end(PstSinkWorker *worker, const char *error)
{
	Datum		args[3];
	char		nulls[4] = "   ";

	args[0] = Int64GetDatum(worker->audit->run);
	args[1] = Int32GetDatum(worker->audit->refilled);
	args[2] = error ? CStringGetTextDatum(error) : (Datum) 0;
	nulls[2] = error ? ' ' : 'n';
	pst_query_write(&finish_query, args, nulls);
}

static void
finish(PstSinkWorker *worker, const char *error)
{
	pst_work_begin_sql("ending a reconciliation");
	write_end(worker, error);
	pst_work_end_sql();
	pst_diverged_tell(worker->audit->outlet, worker->audit->run, worker->audit->diverged);
	pst_audit_drop(worker);
}

/* The run of positions that is compared: what is asked for, kept, and settled.  In SPI. */
static void
choose_range(PstAudit *audit, const Datum *asked, const bool *null)
{
	const PstCursor *cursor = &audit->outlet->cursor;
	int64		from = PG_INT64_MAX;
	Datum		args[3];
	bool		isnull;

	args[0] = Int32GetDatum(audit->outlet->route->id);
	args[1] = Int32GetDatum(cursor->generation);
	pst_query_read(&first_query, args);
	args[1] = pst_result(0, 1, &isnull);
	if (!isnull)
		from = DatumGetInt64(args[1]);
	/* nothing may be acknowledged in the table yet */
	from = Min(from, audit->outlet->acked_position);
	if (!null[0])
		from = Max(from, DatumGetInt64(asked[0]));
	audit->to_position = cursor->next_position - 1;
	if (!null[1])
		audit->to_position = Min(audit->to_position, DatumGetInt64(asked[1]));

	audit->covered = from - 1;
	audit->reading.cursor.next_position = from;
	pst_reader_seek(audit->reading.reader, from);
	pst_query_write(&prune_query, args, NULL);
	args[0] = Int64GetDatum(audit->run);
	pst_query_write(&clear_query, args, NULL);
	args[1] = Int64GetDatum(from);
	args[2] = Int64GetDatum(audit->to_position);
	pst_query_write(&begin_query, args, NULL);
}

static void
make_audit(PstSinkWorker *worker, PstOutlet *outlet, int64 run)
{
	MemoryContext context = AllocSetContextCreate(worker->context, "persistomata reconciliation",
												  ALLOCSET_DEFAULT_SIZES);
	PstAudit   *audit = MemoryContextAllocZero(context, sizeof(PstAudit));

	audit->context = context;
	audit->run = run;
	audit->outlet = outlet;
	audit->reading.route = outlet->route;
	audit->reading.context = context;
	audit->reading.settings_context = AllocSetContextCreate(context, "persistomata settings", ALLOCSET_SMALL_SIZES);
	audit->reading.reader = pst_reader_create(context);
	audit->reading.cursor = outlet->cursor;
	audit->reading.cursor.intent = false;
	audit->reading.cursor.settings = 0; /* from the first on */
	for (int i = 0; i < 2; i++)
		audit->parcels[i].batch.context = AllocSetContextCreate(context, "persistomata batch", ALLOCSET_DEFAULT_SIZES);
	worker->audit = audit;
}

/* Begin the oldest reconciliation that is asked for, if there is one. */
static void
find_audit(PstSinkWorker *worker)
{
	ListCell   *cell;

	pst_work_begin_sql("looking for reconciliations");
	foreach(cell, worker->outlets)
	{
		PstOutlet  *outlet = lfirst(cell);
		Datum		arg = Int32GetDatum(outlet->route->id);
		Datum		asked[2];
		bool		null[2];

		if (!outlet->cursor.begun || outlet->connection == NULL || pst_query_read(&find_query, &arg) == 0)
			continue;
		make_audit(worker, outlet, DatumGetInt64(pst_result(0, 1, NULL)));
		asked[0] = pst_result(0, 2, &null[0]);
		asked[1] = pst_result(0, 3, &null[1]);
		choose_range(worker->audit, asked, null);
		break;
	}
	if (worker->audit && worker->ops->ask == NULL)
	{
		write_end(worker, psprintf("a sink of kind \"%s\" cannot be asked what it holds", worker->ops->kind));
		pst_audit_drop(worker);
	}
	else if (worker->audit == NULL)
		worker->audits_due = false;
	pst_work_end_sql();
}

/* ---- a range ---- */

/* Read on into the second parcel; what is not settled yet stays out. */
static void
read_range(PstSinkWorker *worker, PstAudit *audit)
{
	PstParcel  *parcel = &audit->parcels[1];
	int			n = 0;

	if (pst_reader_position(audit->reading.reader) > audit->to_position ||
		!pst_parcel_read(worker, &audit->reading, parcel))
	{
		audit->read_all = true;
		return;
	}
	while (n < parcel->shipment.nevents && parcel->batch.events[n].position <= audit->to_position &&
		   parcel->batch.events[n].position >> 32 == parcel->batch.events[0].position >> 32)
		n++;
	/* no range goes on behind the gap that a promotion left: the gap is its end */
	if (n < parcel->shipment.nevents && parcel->batch.events[n].position <= audit->to_position)
	{
		parcel->shipment.to_position = parcel->batch.events[n].position - 1;
		pst_reader_seek(audit->reading.reader, parcel->batch.events[n].position);
		audit->reading.read_cut = 0;
	}
	parcel->shipment.nevents = n;
	parcel->shipment.to_position = Min(parcel->shipment.to_position, audit->to_position);
	audit->reading.cursor.next_position = parcel->shipment.to_position + 1;
	if (n == 0)
	{
		pst_parcel_drop(parcel);
		return;
	}
	/* where nothing was for this route, there may be what is not ours */
	parcel->shipment.from_position = audit->covered + 1;
	audit->covered = parcel->shipment.to_position;
	parcel->shipment.open_end = audit->to_position >= audit->outlet->cursor.next_position - 1;
}

static void
advance(PstAudit *audit)
{
	PstParcel	done = audit->parcels[0];

	audit->parcels[0] = audit->parcels[1];
	audit->parcels[0].shipment.name = audit->parcels[0].name;
	audit->parcels[1] = done;
	audit->parcels[1].outlet = NULL;
}

static Datum
text_array(Datum *texts, int n)
{
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Of the events that are held so often, and some more. */
static Datum
names_of(const PstShipment *shipment, const PstHolding *holding, int least, int most, List *more)
{
	int			n = 0;
	Datum	   *names = palloc(sizeof(Datum) * (shipment->nevents + list_length(more) + 1));
	ListCell   *cell;

	for (int i = 0; i < shipment->nevents; i++)
		if (holding->counts[i] >= least && holding->counts[i] <= most)
			names[n++] = CStringGetTextDatum(shipment->events[i].name);
	foreach(cell, more)
		names[n++] = CStringGetTextDatum(lfirst(cell));
	return text_array(names, n);
}

static Datum
altered_names(const PstShipment *shipment, const PstHolding *holding)
{
	int			n = 0;
	Datum	   *names = palloc(sizeof(Datum) * shipment->nevents);

	for (int i = 0; i < shipment->nevents; i++)
		if (holding->altered[i])
			names[n++] = CStringGetTextDatum(shipment->events[i].name);
	return text_array(names, n);
}

static Datum
altered_fields(const PstHolding *holding)
{
	Datum	   *fields = palloc(sizeof(Datum) * (holding->nfields + 1));
	const char *field = holding->fields.data;

	for (int i = 0; i < holding->nfields; i++, field += strlen(field) + 1)
		fields[i] = CStringGetTextDatum(field);
	return text_array(fields, holding->nfields);
}

/* Names that are held where they do not belong, but for those that are missing elsewhere.  In SPI. */
static List *
take_strays(PstAudit *audit, const PstHolding *holding)
{
	const char *name = holding->strays.data;
	List	   *doubled = NIL;

	for (int i = 0; i < holding->nstrays; i++, name += strlen(name) + 1)
	{
		Datum		args[2];

		args[0] = Int64GetDatum(audit->run);
		args[1] = CStringGetTextDatum(name);
		if (pst_query_write(&stray_query, args, NULL) == 0)
			doubled = lappend(doubled, pstrdup(name));
		CommandCounterIncrement();
	}
	return doubled;
}

/*
 * Which events a route with throttle 'last' left out was decided by shipments as
 * they came, and not by ranges: what such a route's sink has not got may never
 * have been sent.
 */
static void
write_range(PstAudit *audit, const PstParcel *parcel, const PstHolding *holding)
{
	const PstShipment *shipment = &parcel->shipment;
	bool		left_out = parcel->settings->throttle.last;
	int64		found = holding->nstrays;
	int64		unknown = 0;
	List	   *strays;
	List	   *diverged;
	Datum		args[11];

	for (int i = 0; i < shipment->nevents; i++)
	{
		found += Max(holding->counts[i], 0);
		unknown += holding->counts[i] == PST_HOLDING_UNKNOWN || (left_out && holding->counts[i] == 0);
	}
	pst_work_begin_sql("writing what a sink holds");
	strays = take_strays(audit, holding);
	diverged = pst_diverged_take(holding, &strays);
	found -= holding->nstrays - list_length(strays);
	args[0] = Int64GetDatum(audit->run);
	args[1] = Int64GetDatum(shipment->from_position);
	args[2] = Int64GetDatum(shipment->to_position);
	args[3] = Int64GetDatum((int64) shipment->nevents);
	args[4] = Int64GetDatum(found);
	args[5] = Int64GetDatum(unknown);
	args[6] = names_of(shipment, holding, 0, left_out ? -1 : 0, NIL);
	args[7] = names_of(shipment, holding, 2, INT_MAX, strays);
	args[8] = Int32GetDatum(audit->outlet->route->id);
	args[9] = altered_names(shipment, holding);
	args[10] = altered_fields(holding);
	pst_query_write(&range_query, args, NULL);
	if (diverged != NIL)
		pst_diverged_write(audit->run, shipment->from_position, names_of(shipment, holding, 1, 0, diverged));
	pst_work_end_sql();
	audit->diverged += list_length(diverged);
	audit->refilled += holding->refilled;
}

/* Ask the sink for the first parcel. */
static void
ask_range(PstSinkWorker *worker, PstAudit *audit)
{
	PstConnection *connection = audit->outlet->connection;
	PstParcel  *parcel = &audit->parcels[0];
	const PstHolding *holding;

	if (connection->sink == NULL)
	{
		pst_work_begin("opening a sink");
		pst_connection_open(worker, connection);
		pst_work_end();
	}
	parcel->shipment.nonce = worker->nonce;
	pst_worker_doing("comparing, waiting for the sink", false);
	pst_sink_ask(connection->sink, &parcel->shipment, !audit->begun, audit->parcels[1].outlet == NULL);
	audit->begun = true;
	if (!pst_await_sink(worker, connection->sink, false))
	{
		/* changed meanwhile: begin anew with what holds then */
		pst_connection_close(connection);
		pst_audit_drop(worker);
		return;
	}
	if (connection->sink->ops->fault(connection->sink)->verdict != PST_VERDICT_NONE)
	{
		finish(worker, pst_reason(connection->sink, -1));
		return;
	}
	holding = connection->sink->ops->held(connection->sink);
	write_range(audit, parcel, holding);
	pst_parcel_drop(parcel);
}

/* A step of a reconciliation; false if there is nothing to do now. */
bool
pst_audit_step(PstSinkWorker *worker)
{
	PstAudit   *audit = worker->audit;

	if (audit == NULL)
	{
		if (!worker->audits_due || worker->ops == NULL)
			return false;
		find_audit(worker);
		return worker->audits_due;
	}
	if (audit->outlet->connection->retry_at > GetCurrentTimestamp())
		return false;
	if (audit->parcels[0].outlet == NULL && audit->parcels[1].outlet != NULL)
		advance(audit);
	if (audit->parcels[1].outlet == NULL && !audit->read_all)
		read_range(worker, audit);
	else if (audit->parcels[0].outlet != NULL)
		ask_range(worker, audit);
	else
		finish(worker, NULL);
	return true;
}
