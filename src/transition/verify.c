/*
 * verify.c
 *	  verify(): replays the log of an FSM table, and compares it with the machine
 *	  and with the rows.
 *
 * One snapshot serves both sides.  The log is read in the order of its events;
 * what it says of each instance in the end is kept in a hash table of this call.
 * Then the table is read, as the caller.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "event/event.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "transition/history.h"
#include "transition/instance.h"
#include "transition/outcome.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pst_verify);

#define ROWS_AT_ONCE 1000

/* What the log says of an instance. */
typedef struct Replayed
{
	char	   *key;			/* the hash key: a pointer to it */
	char	   *state;			/* NULL: it was deleted */
	int64		event_id;		/* of the last event */
	uint64		payload;		/* its payload's hash */
	bool		has_payload;
	bool		seen;			/* its row was found */
} Replayed;

typedef struct Verifier
{
	PstFsm	   *fsm;
	Relation	rel;
	ReturnSetInfo *rsinfo;
	HTAB	   *instances;
	MemoryContext cxt;			/* of instances */
	bool		cut;			/* the log does not reach back to attach() */
	TimestampTz reach;
	uint64		unlogged;		/* rows that the log does not name */
} Verifier;

/* One row of the log. */
typedef struct LogEvent
{
	char	   *key;
	int64		event_id;
	PstEventType type;
	char	   *event;
	char	   *from_state;
	char	   *to_state;
	char	   *reason;
	int			machine;
	Jsonb	   *payload;
} LogEvent;

static uint32
hash_key(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return hash_bytes((const unsigned char *) text, strlen(text));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
create_instances(Verifier *v)
{
	HASHCTL		ctl = {0};

	v->cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata verify", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(char *);
	ctl.entrysize = sizeof(Replayed);
	ctl.hash = hash_key;
	ctl.match = compare_keys;
	ctl.hcxt = v->cxt;
	v->instances = hash_create("persistomata verify", 1024, &ctl,
							   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static void
report(Verifier *v, const char *key, const char *finding, int64 event_id,
	   const char *expected, const char *found)
{
	Datum		values[5] = {0};
	bool		nulls[5] = {false};

	pst_put_text(values, nulls, 0, key);
	pst_put_text(values, nulls, 1, finding);
	values[2] = Int64GetDatum(event_id);
	nulls[2] = event_id == 0;
	pst_put_text(values, nulls, 3, expected);
	pst_put_text(values, nulls, 4, found);
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
}

/* ---- the log ---- */

static uint64
hash_payload(const Jsonb *payload)
{
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), 0);
}

static bool
has_edge(const LogEvent *e)
{
	const PstMachine *machine = pst_machine_version(e->machine)->machine;

	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		if (strcmp(transition->event, e->event) == 0 && e->from_state && e->to_state &&
			strcmp(pst_machine_state_name(machine, transition->from), e->from_state) == 0 &&
			strcmp(pst_machine_state_name(machine, transition->to), e->to_state) == 0)
			return true;
	}
	return false;
}

/* Does an event follow from what came before it? */
static void
check_event(Verifier *v, const LogEvent *e, const Replayed *before)
{
	char	   *step = psprintf("%s: %s -> %s", e->event ? e->event : "no event",
								e->from_state ? e->from_state : "NULL", e->to_state ? e->to_state : "NULL");

	if (before && before->state && e->type == PST_INIT)
		report(v, e->key, "begun twice", e->event_id, before->state, "*");
	if (before && before->state == NULL && e->type != PST_INIT && v->fsm->logs[PST_INIT])
		report(v, e->key, "not begun", e->event_id, "init", pst_event_type_name(e->type));
	if (before && before->state && e->type != PST_INIT &&
		(e->from_state == NULL || strcmp(before->state, e->from_state) != 0))
		report(v, e->key, "order", e->event_id, before->state, e->from_state);
	if (e->type == PST_STATE &&
		(e->event ? !has_edge(e) : e->reason == NULL && v->fsm->enforce != PST_ENFORCE_LOG))
		report(v, e->key, "transition", e->event_id, NULL, step);
}

static void
replay(Verifier *v, const LogEvent *e)
{
	bool		found;
	Replayed   *instance = hash_search(v->instances, &e->key, HASH_ENTER, &found);

	if (!found)
	{
		memset(instance, 0, sizeof(*instance));
		instance->key = MemoryContextStrdup(v->cxt, e->key);
	}
	check_event(v, e, found ? instance : NULL);
	if (instance->state)
		pfree(instance->state);
	instance->state = e->type == PST_DELETED || e->to_state == NULL ? NULL
		: MemoryContextStrdup(v->cxt, e->to_state);
	instance->event_id = e->event_id;
	instance->has_payload = e->payload != NULL;
	if (e->payload)
		instance->payload = hash_payload(e->payload);
}

static void
take_event(LogEvent *e, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Datum		payload;

	e->key = SPI_getvalue(tuple, desc, 1);
	e->event_id = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	e->type = (PstEventType) DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull));
	e->event = SPI_getvalue(tuple, desc, 4);
	e->from_state = SPI_getvalue(tuple, desc, 5);
	e->to_state = SPI_getvalue(tuple, desc, 6);
	e->reason = SPI_getvalue(tuple, desc, 7);
	e->machine = DatumGetInt32(SPI_getbinval(tuple, desc, 8, &isnull));
	payload = SPI_getbinval(tuple, desc, 9, &isnull);
	e->payload = isnull ? NULL : DatumGetJsonbP(payload);
}

typedef void (*RowWork) (Verifier *v, uint64 row);

/* Read a query to its end under the active snapshot, in memory that is freed row by row. */
static void
each_row(Verifier *v, const char *sql, int nargs, Oid *types, Datum *values, bool as_owner, RowWork work)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata verify row",
											  ALLOCSET_DEFAULT_SIZES);
	PstIdentity save;
	Portal		portal;
	uint64		n;

	if (as_owner)
		pst_become_owner(&save);
	portal = SPI_cursor_open_with_args(NULL, sql, nargs, types, values, NULL, true, 0);
	if (as_owner)
		pst_restore_identity(&save);
	do
	{
		if (as_owner)
			pst_become_owner(&save);
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		if (as_owner)
			pst_restore_identity(&save);
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			CHECK_FOR_INTERRUPTS();
			work(v, i);
			MemoryContextSwitchTo(old);
			MemoryContextReset(cxt);
		}
		SPI_freetuptable(SPI_tuptable);
	} while (n > 0);
	SPI_cursor_close(portal);
	MemoryContextDelete(cxt);
}

static void
replay_row(Verifier *v, uint64 row)
{
	LogEvent	e;

	take_event(&e, row);
	replay(v, &e);
}

/* ---- the table ---- */

static void
compare_row(Verifier *v, uint64 row)
{
	PstFsm	   *fsm = v->fsm;
	HeapTuple	tuple = pst_instance_tuple(fsm, row);
	char	   *key = pst_row_key(fsm, tuple);
	char	   *state = pst_row_state(fsm, tuple);
	Replayed   *instance = hash_search(v->instances, &key, HASH_FIND, NULL);

	if (instance == NULL)
	{
		if (v->cut)
			v->unlogged++;
		else
			report(v, key, "unlogged", 0, NULL, state);
		return;
	}
	instance->seen = true;
	if (instance->state == NULL)
		report(v, key, "deleted", instance->event_id, NULL, state);
	else if (strcmp(state ? state : "", instance->state) != 0)	/* the log has "" for NULL */
		report(v, key, "state", instance->event_id, instance->state, state);
	else if (fsm->logs[PST_VALUE] && fsm->logs[PST_INIT] && instance->has_payload &&
			 instance->payload != hash_payload(DatumGetJsonbP(pst_row_payload(fsm, tuple))))
		report(v, key, "payload", instance->event_id, NULL, NULL);
}

static void
report_missing(Verifier *v)
{
	HASH_SEQ_STATUS scan;
	Replayed   *instance;

	if (!v->fsm->logs[PST_DELETED])
		return;					/* nothing tells of their end */
	hash_seq_init(&scan, v->instances);
	while ((instance = hash_seq_search(&scan)) != NULL)
		if (instance->state && !instance->seen)
			report(v, instance->key, "missing", instance->event_id, instance->state, NULL);
}

static void
compare(Verifier *v)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(v->fsm->binding)};

	SPI_connect();
	each_row(v, "SELECT key, event_id, type, event, from_state, to_state, reason, machine, payload"
			 " FROM persistomata.log_row WHERE binding OPERATOR(pg_catalog.=) $1"
			 " AND type OPERATOR(pg_catalog.<>) 'e'::\"char\" ORDER BY event_id",
			 1, types, values, true, replay_row);
	each_row(v, pst_instance_query(v->fsm, v->rel), 0, NULL, NULL, false, compare_row);
	SPI_finish();
	report_missing(v);
}

/* verify(fsm) */
Datum
pst_verify(PG_FUNCTION_ARGS)
{
	Verifier	v = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	v.fsm = pst_fsm_open(PG_GETARG_OID(0), AccessShareLock, &v.rel);
	pst_check_right_to_read(v.rel);
	if (!v.fsm->logs[PST_STATE])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the states of \"%s\" are not logged", v.fsm->name),
				 errhint("Attach it with the type state among its types.")));
	v.reach = pst_log_reach(v.fsm, &v.cut);
	create_instances(&v);
	compare(&v);
	if (v.cut)
		ereport(NOTICE,
				(errmsg("the event log reaches back to %s", timestamptz_to_str(v.reach)),
				 errdetail("It says nothing of " UINT64_FORMAT " instances, which have not changed since.", v.unlogged)));
	MemoryContextDelete(v.cxt);
	table_close(v.rel, NoLock);
	return (Datum) 0;
}
