/*
 * timer_run.c
 *	  Fires the timers that are due: what the scheduler does with them.
 *
 * One transaction a timer, and in it one subtransaction for all that is the
 * owner's: compiling the machine, guards, actions, triggers and constraints run
 * as the owner of the table, in a security-restricted operation and with all
 * constraints immediate, so that nothing of the owner's is left to run as the
 * worker; what it sets is set back.  Whatever goes wrong there is the timer's
 * own trouble.
 *
 * The timer is locked first, then the instance.  Writers of an instance do it
 * the other way round, so neither is waited for long: a timer that is locked is
 * being cancelled or changed, and is left for the next round; an instance that
 * is locked, for a second later.  Cuts are the scheduler's business, too.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "config/config.h"
#include "event/append.h"
#include "event/log.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "transition/attempt.h"
#include "transition/fire.h"
#include "transition/timer.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* How many are fired until the scheduler turns to its other business. */
#define TIMERS_AT_ONCE 100
/* Until it looks again at one that another session has locked. */
#define LOCKED_MS 100

/* A timer that is due, copied out of its row. */
typedef struct DueTimer
{
	int64		id;
	int			binding;
	Oid			relid;
	char	   *key;
	char	   *event;
	char	   *state;			/* NULL: a delayed event */
	bool		repeats;
	int			tries;
	Datum		args;			/* jsonb */
	bool		args_null;
} DueTimer;

/* One attempt at it. */
typedef struct TimerShot
{
	const DueTimer *timer;
	Oid			owner;
	bool		gone;			/* the table, or its binding */
	PstFsm	   *fsm;
	PstFiring	firing;
	void		(*part) (struct TimerShot *shot);	/* that is done now, as the owner */
	Datum		payload;		/* of an errored event */
} TimerShot;

static PstQuery due_query = {
	"SELECT t.id, t.binding, b.relid::pg_catalog.oid, t.key, t.event, t.state,"
	" t.every IS NOT NULL, t.tries, t.args"
	" FROM persistomata.timer_entry t"
	" JOIN persistomata.binding b ON b.id OPERATOR(pg_catalog.=) t.binding"
	" WHERE NOT t.parked AND t.due_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
	" AND b.relid IS NOT NULL ORDER BY t.due_at, t.id LIMIT 1000",
	0, {0}, NULL
};

static PstQuery next_query = {
	"SELECT due_at FROM persistomata.timer_entry WHERE NOT parked ORDER BY due_at LIMIT 1",
	0, {0}, NULL
};

static PstQuery lock_query = {
	"SELECT id FROM persistomata.timer_entry WHERE id OPERATOR(pg_catalog.=) $1 AND NOT parked"
	" AND due_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() FOR UPDATE SKIP LOCKED",
	1, {INT8OID}, NULL
};

static PstQuery done_query = {
	"DELETE FROM persistomata.timer_entry WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

/* The next tick after now: those that were missed are skipped. */
static PstQuery tick_query = {
	"UPDATE persistomata.timer_entry SET tries = 0, last_error = NULL, due_at ="
	" due_at OPERATOR(pg_catalog.+) (every OPERATOR(pg_catalog.*) (1::pg_catalog.float8 OPERATOR(pg_catalog.+)"
	" pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) due_at)"
	" OPERATOR(pg_catalog./) pg_catalog.date_part('epoch', every))))"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT8OID}, NULL
};

static PstQuery failed_query = {
	"UPDATE persistomata.timer_entry SET tries = tries OPERATOR(pg_catalog.+) 1, last_error = $2, parked = $4,"
	" due_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
	" pg_catalog.make_interval(secs => $3) WHERE id OPERATOR(pg_catalog.=) $1",
	4, {INT8OID, TEXTOID, FLOAT8OID, BOOLOID}, NULL
};

static PstQuery busy_query = {
	"UPDATE persistomata.timer_entry SET last_error = $2,"
	" due_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => 1)"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	2, {INT8OID, TEXTOID}, NULL
};

/* ---- what is due ---- */

static DueTimer *
copy_due(uint64 row, MemoryContext cxt)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	DueTimer   *timer = palloc0(sizeof(DueTimer));

	timer->id = DatumGetInt64(pst_result(row, 1, NULL));
	timer->binding = DatumGetInt32(pst_result(row, 2, NULL));
	timer->relid = DatumGetObjectId(pst_result(row, 3, NULL));
	timer->key = SPI_getvalue(tuple, desc, 4);
	timer->event = SPI_getvalue(tuple, desc, 5);
	timer->state = SPI_getvalue(tuple, desc, 6);
	timer->repeats = DatumGetBool(pst_result(row, 7, NULL));
	timer->tries = DatumGetInt32(pst_result(row, 8, NULL));
	timer->args = pst_result(row, 9, &timer->args_null);
	if (!timer->args_null)
		timer->args = PointerGetDatum(PG_DETOAST_DATUM_COPY(timer->args));
	MemoryContextSwitchTo(old);
	return timer;
}

/* False where the extension is gone: whoever calls finds that out, too. */
static bool
begin_transaction(void)
{
	StartTransactionCommand();
	if (OidIsValid(pst_extension_lock()))
		return true;
	CommitTransactionCommand();
	return false;
}

static List *
read_due(MemoryContext cxt)
{
	List	   *result = NIL;
	uint64		n;

	if (!begin_transaction())
		return NIL;
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	n = pst_query_read(&due_query, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		DueTimer   *timer = copy_due(i, cxt);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = lappend(result, timer);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return result;
}

/* Milliseconds until the next timer is due, or -1. */
static int64
next_due(void)
{
	int64		result = -1;

	if (!begin_transaction())
		return -1;
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (pst_query_read(&next_query, NULL) > 0)
		result = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												 DatumGetTimestampTz(pst_result(0, 1, NULL)));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return result;
}

/* ---- what becomes of one ---- */

static void
end_timer(const DueTimer *timer)
{
	Datum		id = Int64GetDatum(timer->id);

	pst_timer_write(&done_query, &id, NULL, NULL);
}

/* It has fired, or its guard did not hold, and a transition may have removed it. */
static void
settle(const DueTimer *timer)
{
	Datum		id = Int64GetDatum(timer->id);

	pst_timer_write(timer->repeats ? &tick_query : &done_query, &id, NULL, NULL);
}

/* Tried again after 1 s, 2 s, 4 s ... up to an hour; parked after timer_retries. */
static void
settle_failed(const DueTimer *timer, const char *error)
{
	Datum		args[] = {
		Int64GetDatum(timer->id), CStringGetTextDatum(error),
		Float8GetDatum(Min(3600.0, (double) (INT64CONST(1) << Min(timer->tries, 12)))),
		BoolGetDatum(timer->tries + 1 >= pst_timer_retries)
	};

	pst_timer_write(&failed_query, args, NULL, NULL);
}

static void
settle_busy(const DueTimer *timer, const char *error)
{
	Datum		args[] = {Int64GetDatum(timer->id), CStringGetTextDatum(error)};

	pst_timer_write(&busy_query, args, NULL, NULL);
}

/* ---- the owner's part ---- */

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

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * What the owner's code finds set: the path of attach, and not what the worker
 * has for itself.  Held until AtEOXact_GUC().
 */
static int
enter_settings(void)
{
	int			level = NewGUCNestLevel();

	set_local("lock_timeout", "50ms");
	set_local("row_security", "on");
	set_local("enable_seqscan", "on");
	set_local("enable_bitmapscan", "on");
	return level;
}

/* The owner must not keep the scheduler for ever. */
static void
begin_limit(void)
{
	if (pst_timer_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, pst_timer_timeout);
}

static void
end_limit(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

static void
fire_due(TimerShot *shot, Relation rel)
{
	const DueTimer *timer = shot->timer;
	PstFiring  *firing = &shot->firing;

	shot->fsm = pst_fsm_lookup(rel, true);
	if (shot->fsm == NULL || shot->fsm->binding != timer->binding)
	{
		shot->gone = true;
		return;
	}
	set_local("search_path", shot->fsm->search_path);
	firing->fsm = shot->fsm;
	firing->key = timer->key;
	firing->signal.event = timer->event;
	firing->signal.expected_state = timer->state;
	firing->args = timer->args;
	firing->args_null = timer->args_null;
	firing->keeps_row = true;
	pst_fire(firing);
	/* an action may have deferred them again */
	pst_constraints_immediate();
}

static void
fire_part(TimerShot *shot)
{
	Relation	rel = try_table_open(shot->timer->relid, RowExclusiveLock);

	shot->gone = rel == NULL;
	if (rel == NULL)
		return;
	fire_due(shot, rel);
	table_close(rel, NoLock);
}

/* The types of the row's columns may bring code of the owner's along. */
static void
payload_part(TimerShot *shot)
{
	set_local("search_path", shot->firing.row_fsm->search_path);
	shot->payload = pst_row_payload(shot->firing.row_fsm, shot->firing.row);
	pst_constraints_immediate();
}

static void
run_part(void *arg)
{
	TimerShot  *shot = (TimerShot *) arg;
	int			level = enter_settings();
	Oid			user;
	int			sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(shot->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	shot->part(shot);
	SetUserIdAndSecContext(user, sec_context);
	AtEOXact_GUC(false, level);
}

static ErrorData *
attempt(TimerShot *shot, void (*part) (TimerShot *shot))
{
	ErrorData  *error;

	shot->part = part;
	begin_limit();
	error = pst_attempt_any(run_part, shot, true);
	end_limit();
	return error;
}

/* The errored event is the owner's, as the timer is. */
static void
log_errored(TimerShot *shot, const char *error)
{
	const DueTimer *timer = shot->timer;
	PstFiring  *firing = &shot->firing;
	PstFsm	   *fsm = firing->row ? firing->row_fsm : shot->fsm;
	const char *state = firing->row ? firing->outcome.from_state : timer->state;
	PstLogRow	row = {
		.type = PST_ERRORED,
		.key = timer->key,
		.event = timer->event,
		.from_state = state,
		.to_state = state,
		.args = timer->args,
		.args_null = timer->args_null,
		.reason = error
	};
	Oid			user;
	int			sec_context;

	if (fsm == NULL || !fsm->logs[PST_ERRORED])
		return;
	row.event_id = pst_log_draw_id();
	row.binding = fsm->binding;
	row.machine = fsm->version->number;
	row.payload_null = firing->row == NULL || attempt(shot, payload_part) != NULL;
	row.payload = shot->payload;
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(shot->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	pst_log_append(&row, 1);
	SetUserIdAndSecContext(user, sec_context);
}

/* ---- one timer ---- */

typedef enum TimerResult
{
	TIMER_FIRED,				/* or failed, or is void */
	TIMER_LOCKED,				/* or is no longer due */
	TIMER_BUSY					/* its instance is locked */
} TimerResult;

static TimerResult
settle_error(TimerShot *shot, const ErrorData *error)
{
	char	   *what = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);

	/* somebody holds the row or the table: no fault of the timer's */
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && !shot->firing.taken)
	{
		settle_busy(shot->timer, what);
		return TIMER_BUSY;
	}
	log_errored(shot, what);
	settle_failed(shot->timer, what);
	return TIMER_FIRED;
}

static char *
refusal_text(const PstFiring *firing)
{
	return psprintf("%s: %s", unpack_sql_state(firing->refusal.sqlstate), firing->refusal.message);
}

/*
 * A delayed event that is refused is an error; a time event's guard just does
 * not hold.  An instance that is not there would have taken its timers along:
 * the owner cannot see it.
 */
static void
settle_fired(TimerShot *shot)
{
	PstFiring  *firing = &shot->firing;

	if (!firing->taken)
	{
		log_errored(shot, refusal_text(firing));
		settle_failed(shot->timer, refusal_text(firing));
		return;
	}
	if (shot->timer->state == NULL && firing->refusal.sqlstate && !firing->soft)
		log_errored(shot, refusal_text(firing));
	settle(shot->timer);
}

/* With the timer locked. */
static TimerResult
shoot_and_settle(TimerShot *shot)
{
	ErrorData  *error;

	shot->owner = table_owner(shot->timer->relid);
	shot->gone = !OidIsValid(shot->owner);
	if (!shot->gone)
	{
		error = attempt(shot, fire_part);
		if (error)
			return settle_error(shot, error);
	}
	if (shot->gone)
		end_timer(shot->timer);
	else
		settle_fired(shot);
	return TIMER_FIRED;
}

static TimerResult
run_timer(const DueTimer *timer)
{
	TimerShot	shot = {.timer = timer};
	TimerResult result = TIMER_LOCKED;
	Datum		id = Int64GetDatum(timer->id);

	if (!begin_transaction())
		return TIMER_LOCKED;
	PushActiveSnapshot(GetTransactionSnapshot());
	pst_constraints_immediate();
	/* what a crash undoes, it undoes together with the timer's end: it fires again */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	if (pst_timer_write(&lock_query, &id, NULL, NULL) > 0)
		result = shoot_and_settle(&shot);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return result;
}

int64
pst_timers_run(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "persistomata due timers",
											  ALLOCSET_SMALL_SIZES);
	List	   *due = read_due(cxt);
	ListCell   *lc;
	int			fired = 0;
	bool		locked = false;
	int64		next;

	foreach(lc, due)
	{
		TimerResult result;

		CHECK_FOR_INTERRUPTS();
		result = run_timer(lfirst(lc));
		locked |= result == TIMER_LOCKED;
		if (result == TIMER_BUSY || (result == TIMER_FIRED && ++fired >= TIMERS_AT_ONCE))
			break;
	}
	MemoryContextDelete(cxt);
	next = next_due();
	return locked && next >= 0 ? Max(next, LOCKED_MS) : next;
}
