/*
 * idempotency.c
 *	  Idempotency keys: rows of persistomata.idempotency.
 *
 * A key belongs to one instance.  It is looked up under the instance's row lock
 * with a fresh snapshot, so of two sessions with one key the second sees the
 * first's outcome; it is written by the transaction that moves the row, so it
 * goes when that is rolled back.  A refusal is not remembered.  The table is
 * read and written as the extension's owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "config/config.h"
#include "executor/spi.h"
#include "machine/owner.h"
#include "transition/idempotency.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* The most rows that one look removes: the scheduler has more to do. */
#define EXPIRE_AT_ONCE 10000

typedef enum OutcomeColumn
{
	OUT_EVENT_ID = 1, OUT_SENT, OUT_EVENT, OUT_FROM_STATE, OUT_TO_STATE
} OutcomeColumn;

/* One statement with the extension's rights, between SPI_connect and SPI_finish. */
static void
execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	PstIdentity save;

	pst_become_owner(&save);
	SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	pst_restore_identity(&save);
}

/* A column of the row that was found, in the firing's memory; NULL if NULL. */
static char *
found_text(PstFiring *firing, int column)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(firing->cxt, value) : NULL;
}

static void
refuse_other_event(PstFiring *firing, const char *event)
{
	MemoryContext old = MemoryContextSwitchTo(firing->cxt);

	pst_refuse(&firing->refusal, PST_OTHER_EVENT, "the idempotency key \"%s\" was used for event \"%s\"",
			   firing->idempotency_key, event);
	firing->outcome.status = PST_REFUSED;
	firing->outcome.to_state = firing->outcome.from_state;
	firing->outcome.reason = firing->refusal.message;
	MemoryContextSwitchTo(old);
}

static void
take_outcome(PstFiring *firing)
{
	PstOutcome *outcome = &firing->outcome;
	bool		isnull;

	outcome->status = PST_DUPLICATE;
	outcome->event_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
													OUT_EVENT_ID, &isnull));
	outcome->event = found_text(firing, OUT_EVENT);
	outcome->from_state = found_text(firing, OUT_FROM_STATE);
	outcome->to_state = found_text(firing, OUT_TO_STATE);
}

bool
pst_idempotency_recall(PstFiring *firing)
{
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[] = {
		Int32GetDatum(firing->fsm->binding), CStringGetTextDatum(firing->key),
		CStringGetTextDatum(firing->idempotency_key), Int32GetDatum(pst_idempotency_retention)
	};
	bool		found;

	SPI_connect();
	execute("SELECT event_id, sent, event, from_state, to_state FROM persistomata.idempotency"
			" WHERE binding OPERATOR(pg_catalog.=) $1 AND key OPERATOR(pg_catalog.=) $2"
			" AND idempotency_key OPERATOR(pg_catalog.=) $3"
			" AND used_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp()"
			" OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $4))",
			lengthof(types), types, values, NULL);
	found = SPI_processed > 0;
	if (found)
	{
		char	   *sent = found_text(firing, OUT_SENT);

		if (strcmp(sent, firing->signal.event) == 0)
			take_outcome(firing);
		else
			refuse_other_event(firing, sent);
	}
	SPI_finish();
	return found;
}

void
pst_idempotency_remember(PstFiring *firing)
{
	const PstOutcome *outcome = &firing->outcome;
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		Int32GetDatum(firing->fsm->binding), CStringGetTextDatum(firing->key),
		CStringGetTextDatum(firing->idempotency_key), Int64GetDatum(outcome->event_id),
		CStringGetTextDatum(firing->signal.event), CStringGetTextDatum(outcome->event),
		CStringGetTextDatum(outcome->from_state), CStringGetTextDatum(outcome->to_state)
	};

	SPI_connect();
	/* the key of an expired row is free again */
	execute("INSERT INTO persistomata.idempotency"
			" (binding, key, idempotency_key, event_id, sent, event, from_state, to_state)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
			" ON CONFLICT (binding, key, idempotency_key) DO UPDATE SET event_id = EXCLUDED.event_id,"
			" sent = EXCLUDED.sent, event = EXCLUDED.event, from_state = EXCLUDED.from_state,"
			" to_state = EXCLUDED.to_state, used_at = EXCLUDED.used_at",
			lengthof(types), types, values, NULL);
	SPI_finish();
}

void
pst_idempotency_expire(void)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(pst_idempotency_retention), Int32GetDatum(EXPIRE_AT_ONCE)};

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	execute("DELETE FROM persistomata.idempotency WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
			"SELECT ctid FROM persistomata.idempotency WHERE used_at OPERATOR(pg_catalog.<)"
			" (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))"
			" ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
			lengthof(types), types, values, NULL);
	PopActiveSnapshot();
	SPI_finish();
}
