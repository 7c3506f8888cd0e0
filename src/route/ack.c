/*
 * ack.c
 *	  Acknowledgements: how far routes have come, kept in the log's ring.
 *
 * Rows are only appended; the newest of a route's newest generation is its
 * cursor.  They go into the current slot by the writers' protocol: the slot's
 * number is read, its table locked, and the number read again until both agree.
 * Emptying a slot first copies what is still a cursor (ring.c).
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "event/log.h"
#include "event/query.h"
#include "event/utf8.h"
#include "route/ack.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static PstQuery insert_queries[PST_RING_SLOTS] = {{
	"INSERT INTO persistomata.ack_%d (id, route, generation, kind, from_position, to_position,"
	" settings, hash, sent, retried, duplicates, dead, coalesced, at)"
	" VALUES (pg_catalog.nextval('persistomata.ack_id'), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
	" pg_catalog.clock_timestamp())",
	12, {INT4OID, INT4OID, CHAROID, INT8OID, INT8OID, INT8OID, BYTEAOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID},
	NULL
}};

static PstQuery dead_query = {
	"INSERT INTO persistomata.dead_letter_entry (route, position, name, event, reason)"
	" VALUES ($1, $2, $3, $4::pg_catalog.jsonb, $5) ON CONFLICT (route, position, name) DO NOTHING",
	5, {INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID}, NULL
};

static int
lock_current_slot(void)
{
	int			slot = pst_ring_current();

	for (;;)
	{
		int			again;

		LockRelationOid(pst_ack_table(slot), RowExclusiveLock);
		again = pst_ring_current();
		if (again == slot)
			return slot;
		slot = again;
	}
}

void
pst_ack_write(const PstAck *ack)
{
	char		nulls[13] = "            ";
	Datum		args[12];

	args[0] = Int32GetDatum(ack->route);
	args[1] = Int32GetDatum(ack->generation);
	args[2] = CharGetDatum((char) ack->kind);
	args[3] = Int64GetDatum(ack->from_position);
	args[4] = Int64GetDatum(ack->to_position);
	args[5] = Int64GetDatum(ack->settings);
	if (ack->kind == PST_ACK_INTENT)
	{
		bytea	   *hash = palloc(VARHDRSZ + sizeof(uint64));

		SET_VARSIZE(hash, VARHDRSZ + sizeof(uint64));
		memcpy(VARDATA(hash), &ack->hash, sizeof(uint64));
		args[6] = PointerGetDatum(hash);
	}
	else
	{
		args[6] = (Datum) 0;
		nulls[6] = 'n';
	}
	args[7] = Int64GetDatum(ack->counts.sent);
	args[8] = Int64GetDatum(ack->counts.retried);
	args[9] = Int64GetDatum(ack->counts.duplicates);
	args[10] = Int64GetDatum(ack->counts.dead);
	args[11] = Int64GetDatum(ack->counts.coalesced);
	pst_query_write_slot(insert_queries, lock_current_slot(), args, nulls);
}

void
pst_dead_letter_write(int route, const PstEvent *event, const char *json, const char *reason)
{
	Datum		args[5];

	args[0] = Int32GetDatum(route);
	args[1] = Int64GetDatum(event->position);
	args[2] = CStringGetTextDatum(event->name);
	args[3] = CStringGetTextDatum(pst_from_utf8(json));
	args[4] = CStringGetTextDatum(reason);
	pst_query_write(&dead_query, args, NULL);
}

static uint64
hash_text(const char *text, uint64 seed)
{
	/* NULL is not the empty string */
	if (text == NULL)
		return seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	return hash_bytes_extended((const unsigned char *) text, (int) strlen(text), seed);
}

uint64
pst_event_hash(const PstEvent *event, uint64 seed)
{
	int64		numbers[] = {event->event_id, event->position, event->occurred_at, (int64) event->type};

	seed = hash_bytes_extended((const unsigned char *) numbers, sizeof(numbers), seed);
	seed = hash_text(event->key, seed);
	seed = hash_text(event->event, seed);
	seed = hash_text(event->from_state, seed);
	seed = hash_text(event->to_state, seed);
	seed = hash_text(event->args, seed);
	seed = hash_text(event->payload, seed);
	seed = hash_text(event->reason, seed);
	return hash_text(event->headers, seed);
}
