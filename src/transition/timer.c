/*
 * timer.c
 *	  Time events: rows of persistomata.timer_entry.
 *
 * A timer is armed by the record trigger, in the transaction that enters the
 * state, and goes with the state.  The scheduler fires what is due, one
 * transaction a timer, as the owner of the table, in a security-restricted
 * operation and with all constraints immediate, so that nothing of the owner's
 * is left to run as the worker.  Whether a timer is still armed is asked again
 * under the instance's row lock.  The table is written as the extension's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "config/config.h"
#include "event/append.h"
#include "executor/spi.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "transition/fire.h"
#include "transition/timer.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* The most timers that one call of pst_timers_run() fires. */
#define TIMERS_AT_ONCE 100

/* ---- arming ---- */

/* Run one statement on the timer table with the extension's rights. */
static uint64
execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	PstIdentity save;
	uint64		processed;

	pst_become_owner(&save);
	SPI_connect();
	SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	processed = SPI_processed;
	SPI_finish();
	pst_restore_identity(&save);
	return processed;
}

void
pst_timers_cancel(PstFsm *fsm, const char *key)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(fsm->binding), CStringGetTextDatum(key)};

	execute("DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) $1"
			" AND key OPERATOR(pg_catalog.=) $2", 2, types, values, NULL);
}

void
pst_timers_cancel_all(int binding)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(binding)};

	execute("DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) $1",
			1, types, values, NULL);
}

static void
arm(PstFsm *fsm, const char *key, const PstEdge *edge, HeapTuple tuple)
{
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INTERVALOID};
	Datum		values[6];
	char		nulls[7] = "      ";
	bool		isnull;
	TimestampTz now = GetCurrentTimestamp();
	Datum		time = pst_evaluate(edge->timing, pst_row_make(fsm->desc, tuple, (Datum) 0, true), &isnull);

	if (isnull)
		return;					/* no time, no timer */
	values[0] = Int32GetDatum(fsm->binding);
	values[1] = CStringGetTextDatum(key);
	values[2] = CStringGetTextDatum(edge->transition->event);
	values[3] = CStringGetTextDatum(pst_machine_state_name(fsm->machine, edge->transition->from));
	values[4] = edge->timing->type == TIMESTAMPTZOID ? time :
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), time);
	values[5] = time;
	if (edge->transition->kind != PST_EVERY || edge->timing->type != INTERVALOID)
		nulls[5] = 'n';
	execute("INSERT INTO persistomata.timer_entry (binding, key, event, state, due_at, every)"
			" VALUES ($1, $2, $3, $4, $5, $6)", 6, types, values, nulls);
}

void
pst_timers_entered(PstFsm *fsm, const char *key, int state, HeapTuple tuple)
{
	PstScene	scene;

	pst_timers_cancel(fsm, key);
	pst_enter_scene(&scene, fsm);
	for (int i = 0; i < fsm->nedges; i++)
		if (fsm->edges[i].timing && fsm->edges[i].transition->from == state)
			arm(fsm, key, &fsm->edges[i], tuple);
	pst_leave_scene(&scene);
}

bool
pst_timer_armed(int64 id)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(id)};

	return execute("SELECT FROM persistomata.timer_entry WHERE id OPERATOR(pg_catalog.=) $1",
				   1, types, values, NULL) > 0;
}

/* ---- firing ---- */

/* A timer that is due, copied out of its row. */
typedef struct DueTimer
{
	int64		id;
	int			binding;
	Oid			relid;
	char	   *key;
	char	   *event;
	char	   *state;
	bool		repeats;
	int			tries;
} DueTimer;

static List *
read_due(MemoryContext cxt)
{
	List	   *result = NIL;

	SPI_connect();
	SPI_execute("SELECT t.id, t.binding, b.relid::pg_catalog.oid, t.key, t.event, t.state,"
				" t.every IS NOT NULL, t.tries"
				" FROM persistomata.timer_entry t"
				" JOIN persistomata.binding b ON b.id OPERATOR(pg_catalog.=) t.binding"
				" WHERE NOT t.parked AND t.due_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
				" AND b.relid IS NOT NULL ORDER BY t.due_at, t.id LIMIT 100", true, TIMERS_AT_ONCE);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(cxt);
		DueTimer   *timer = palloc0(sizeof(DueTimer));
		bool		isnull;

		timer->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		timer->binding = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		timer->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
		timer->key = SPI_getvalue(tuple, desc, 4);
		timer->event = SPI_getvalue(tuple, desc, 5);
		timer->state = SPI_getvalue(tuple, desc, 6);
		timer->repeats = DatumGetBool(SPI_getbinval(tuple, desc, 7, &isnull));
		timer->tries = DatumGetInt32(SPI_getbinval(tuple, desc, 8, &isnull));
		result = lappend(result, timer);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

/*
 * What becomes of a timer that has fired and is still there (a transition has
 * removed it, or armed anew): a repeating one skips the ticks that it missed,
 * another is done.
 */
static void
settle(const DueTimer *timer)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(timer->id)};

	if (timer->repeats)
		execute("UPDATE persistomata.timer_entry SET tries = 0, last_error = NULL, due_at ="
				" due_at OPERATOR(pg_catalog.+) (every OPERATOR(pg_catalog.*) (1::pg_catalog.float8 OPERATOR(pg_catalog.+)"
				" pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) due_at)"
				" OPERATOR(pg_catalog./) pg_catalog.date_part('epoch', every))))"
				" WHERE id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL);
	else
		execute("DELETE FROM persistomata.timer_entry WHERE id OPERATOR(pg_catalog.=) $1",
				1, types, values, NULL);
}

/* Tried again after 1 s, 2 s, 4 s ... up to an hour; parked after timer_retries. */
static void
settle_failed(const DueTimer *timer, const char *error)
{
	Oid			types[] = {INT8OID, TEXTOID, FLOAT8OID, BOOLOID};
	Datum		values[4];

	values[0] = Int64GetDatum(timer->id);
	values[1] = CStringGetTextDatum(error);
	values[2] = Float8GetDatum(Min(3600.0, (double) (INT64CONST(1) << Min(timer->tries, 12))));
	values[3] = BoolGetDatum(timer->tries + 1 >= pst_timer_retries);
	execute("UPDATE persistomata.timer_entry SET tries = tries OPERATOR(pg_catalog.+) 1, last_error = $2, parked = $4,"
			" due_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
			" pg_catalog.make_interval(secs => $3) WHERE id OPERATOR(pg_catalog.=) $1",
			4, types, values, NULL);
}

static void
log_errored(PstFsm *fsm, const DueTimer *timer, const char *error)
{
	PstLogRow	row = {
		.event_id = pst_log_draw_id(),
		.type = PST_ERRORED,
		.binding = fsm->binding,
		.machine = fsm->version->number,
		.key = timer->key,
		.event = timer->event,
		.from_state = timer->state,
		.to_state = timer->state,
		.args_null = true,
		.payload_null = true,
		.reason = error
	};

	if (fsm->logs[PST_ERRORED])
		pst_log_append(&row, 1);
}

static void
set_constraints_immediate(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	statement->constraints = NIL;
	statement->deferred = false;
	AfterTriggerSetState(statement);
}

static Oid
table_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Send the event, as the table's owner.  Throws what guards and actions throw. */
static void
fire_as_owner(PstFsm *fsm, const DueTimer *timer, Oid owner)
{
	PstFiring	firing = {0};
	Oid			user;
	int			sec_context;

	firing.fsm = fsm;
	firing.key = timer->key;
	firing.signal.event = timer->event;
	firing.signal.expected_state = timer->state;
	firing.args_null = true;
	firing.timer_id = timer->id;
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	pst_fire(&firing);
	SetUserIdAndSecContext(user, sec_context);
}

/* Errors that are not the timer's: they end the worker's transaction. */
static bool
is_our_trouble(int sqlstate)
{
	int			class = ERRCODE_TO_CATEGORY(sqlstate);

	return class == ERRCODE_OPERATOR_INTERVENTION || class == ERRCODE_SYSTEM_ERROR ||
		class == ERRCODE_INTERNAL_ERROR || class == ERRCODE_INSUFFICIENT_RESOURCES;
}

/* Fires in a subtransaction; an error undoes what it did and is kept. */
static void
try_timer(PstFsm *fsm, const DueTimer *timer, Oid owner)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		fire_as_owner(fsm, timer, owner);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = resources;

	if (error == NULL)
		settle(timer);
	else if (is_our_trouble(error->sqlerrcode))
		ReThrowError(error);
	else
	{
		char	   *what = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);

		log_errored(fsm, timer, what);
		settle_failed(timer, what);
	}
}

static void
run_timer(const DueTimer *timer)
{
	Relation	rel;
	PstFsm	   *fsm = NULL;
	Oid			owner;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	set_constraints_immediate();
	owner = table_owner(timer->relid);
	rel = OidIsValid(owner) ? try_table_open(timer->relid, RowExclusiveLock) : NULL;
	if (rel)
		fsm = pst_fsm_lookup(rel, true);
	if (fsm && fsm->binding == timer->binding)
		try_timer(fsm, timer, owner);
	else
		settle(timer);
	if (rel)
		table_close(rel, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Milliseconds until the next timer is due, or -1. */
static int64
next_due(void)
{
	int64		result = -1;

	SPI_connect();
	SPI_execute("SELECT due_at FROM persistomata.timer_entry WHERE NOT parked ORDER BY due_at LIMIT 1", true, 1);
	if (SPI_processed > 0)
	{
		bool		isnull;
		TimestampTz due = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
															SPI_tuptable->tupdesc, 1, &isnull));

		result = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);
	}
	SPI_finish();
	return result;
}

int64
pst_timers_run(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "persistomata due timers",
											  ALLOCSET_SMALL_SIZES);
	List	   *due;
	ListCell   *lc;
	int64		wait;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	due = read_due(cxt);
	PopActiveSnapshot();
	CommitTransactionCommand();

	foreach(lc, due)
	{
		CHECK_FOR_INTERRUPTS();
		run_timer(lfirst(lc));
	}
	MemoryContextDelete(cxt);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	wait = next_due();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return wait;
}
