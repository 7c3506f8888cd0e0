/*
 * log.c
 *	  The tables of the event log, by slot of the ring.
 *
 * Tables are found by name: the system caches make that cheap, and the extension
 * may have been dropped and created since.  What every event needs is kept until
 * one of these relations is changed or dropped.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type_d.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "event/log.h"
#include "event/query.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

static PstQuery ring_query = {
	"SELECT slot, turn, turned_at, first_cut, last_cut, closed_at"
	" FROM persistomata.ring"
	" WHERE turn OPERATOR(pg_catalog.>) 0"
	" ORDER BY turn",
	0, {0}, NULL
};

static PstQuery home_query = {
	"SELECT log_id, system_identifier, database FROM persistomata.log_home",
	0, {0}, NULL
};

Oid
pst_extension_oid(void)
{
	return get_extension_oid("persistomata", true);
}

Oid
pst_extension_lock(void)
{
	Oid			extension = pst_extension_oid();

	if (!OidIsValid(extension))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return pst_extension_oid();
}

Oid
pst_log_relation(const char *name)
{
	Oid			schema = get_namespace_oid("persistomata", true);
	Oid			relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"persistomata.%s\" does not exist", name),
				 errhint("Create the extension persistomata.")));
	return relation;
}

static Oid
numbered(const char *format, int slot)
{
	char		name[NAMEDATALEN];

	Assert(slot >= 0 && slot < PST_RING_SLOTS);
	snprintf(name, sizeof(name), "%s", format);
	*strchr(name, '#') = '0' + slot;
	return pst_log_relation(name);
}

/* ---- what every event needs ---- */

static Oid	kept_tables[PST_RING_SLOTS];
static Oid	kept_ring_slot;
static Oid	kept_event_id;

static void
forget_kept(Datum arg, Oid relid)
{
	bool		ours = relid == InvalidOid || relid == kept_ring_slot || relid == kept_event_id;

	for (int i = 0; i < PST_RING_SLOTS; i++)
		ours |= relid == kept_tables[i];
	if (!ours)
		return;
	memset(kept_tables, 0, sizeof(kept_tables));
	kept_ring_slot = kept_event_id = InvalidOid;
}

/* An invalidation that comes while looking up is about what was there before. */
static Oid
keep(Oid *kept, Oid found)
{
	static bool watching = false;

	if (!watching)
		CacheRegisterRelcacheCallback(forget_kept, (Datum) 0);
	watching = true;
	*kept = found;
	return found;
}

Oid
pst_log_table(int slot)
{
	Assert(slot >= 0 && slot < PST_RING_SLOTS);
	return OidIsValid(kept_tables[slot]) ? kept_tables[slot] : keep(&kept_tables[slot], numbered("log_#", slot));
}

Oid
pst_log_event_id(void)
{
	return OidIsValid(kept_event_id) ? kept_event_id : keep(&kept_event_id, pst_log_relation("event_id"));
}

static Oid
ring_slot(void)
{
	return OidIsValid(kept_ring_slot) ? kept_ring_slot : keep(&kept_ring_slot, pst_log_relation("ring_slot"));
}

Oid
pst_log_index(int slot)
{
	return numbered("log_#_xid_event_id_idx", slot);
}

Oid
pst_cut_table(int slot)
{
	return numbered("cut_#", slot);
}

Oid
pst_ack_table(int slot)
{
	return numbered("ack_#", slot);
}

void
pst_ring_read(PstRing *ring)
{
	uint64		rows;

	memset(ring, 0, sizeof(*ring));
	ring->current = pst_ring_current();
	rows = pst_query_read(&ring_query, NULL);
	if (rows == 0 || rows > PST_RING_SLOTS)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("persistomata.ring has " UINT64_FORMAT " live slots", rows)));
	for (uint64 i = 0; i < rows; i++)
	{
		PstSlot    *slot = &ring->live[i];
		bool		open;

		slot->slot = DatumGetInt32(pst_result(i, 1, NULL));
		slot->turn = DatumGetInt64(pst_result(i, 2, NULL));
		slot->turned_at = DatumGetInt64(pst_result(i, 3, NULL));
		slot->first_cut = DatumGetInt64(pst_result(i, 4, NULL));
		slot->last_cut = DatumGetInt64(pst_result(i, 5, &open));
		slot->closed = !open;
		slot->closed_at = DatumGetInt64(pst_result(i, 6, &open));
	}
	ring->nlive = (int) rows;
}

/* Not through pg_sequence_last_value(), which asks for rights that writers lack. */
int
pst_ring_to_write(bool *full)
{
	Relation	sequence = relation_open(ring_slot(), AccessShareLock);
	Buffer		buffer = ReadBuffer(sequence, 0);
	HeapTupleData tuple;
	Page		page;
	Form_pg_sequence_data data;
	int64		slot;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	slot = data->last_value;
	*full = !data->is_called;
	UnlockReleaseBuffer(buffer);
	relation_close(sequence, AccessShareLock);
	if (slot < 0 || slot >= PST_RING_SLOTS)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("persistomata.ring_slot is " INT64_FORMAT, slot)));
	return (int) slot;
}

int
pst_ring_current(void)
{
	bool		full;

	return pst_ring_to_write(&full);
}

void
pst_home_read(PstHome *home)
{
	char		system[32];

	memset(home, 0, sizeof(*home));
	if (pst_query_read(&home_query, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("persistomata.log_home has no row")));
	snprintf(system, sizeof(system), UINT64_FORMAT, GetSystemIdentifier());
	strlcpy(home->log_id, TextDatumGetCString(pst_result(0, 1, NULL)), sizeof(home->log_id));
	home->ours = strcmp(system, TextDatumGetCString(pst_result(0, 2, NULL))) == 0 &&
		DatumGetObjectId(pst_result(0, 3, NULL)) == MyDatabaseId;
}
