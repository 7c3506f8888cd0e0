/*
 * space.c
 *	  How much disk space the log takes, and what becomes of that.
 *
 * Whether the log is full is a bit that writers find where they look anyway: in
 * the sequence that tells the slot to write (is_called is false then).  So it
 * costs them nothing, needs no shared memory, and outlives a crash.  It is set
 * under the cutters' lock, as the slot is.
 */
#include "postgres.h"

#include "config/config.h"
#include "event/cut.h"
#include "event/log.h"
#include "event/space.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#define MB (INT64CONST(1024) * 1024)

static int64
total_size(Oid relation)
{
	return DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(relation)));
}

int64
pst_log_bytes(void)
{
	int64		bytes = 0;

	for (int slot = 0; slot < PST_RING_SLOTS; slot++)
		bytes += total_size(pst_log_table(slot)) + total_size(pst_cut_table(slot)) +
			total_size(pst_ack_table(slot));
	return bytes;
}

/* The current slot cannot be emptied: within a limit it must stay a small part. */
int64
pst_turn_bytes(void)
{
	int64		bytes = pst_turn_size * MB;

	return pst_max_log_size > 0 ? Min(bytes, pst_max_log_size * MB / PST_RING_SLOTS) : bytes;
}

void
pst_ring_set(int slot, bool full)
{
	DirectFunctionCall3(setval3_oid, ObjectIdGetDatum(pst_log_relation("ring_slot")),
						Int64GetDatum(slot), BoolGetDatum(!full));
}

void
pst_log_set_full(bool full)
{
	bool		was;

	/* mostly it is so already */
	(void) pst_ring_to_write(&was);
	if (was == full)
		return;
	pst_cut_lock();
	PushActiveSnapshot(GetLatestSnapshot());
	pst_ring_set(pst_ring_to_write(&was), full);
	PopActiveSnapshot();
}

void
pst_log_refuse(void)
{
	if (pst_max_log_size == 0 || pst_log_full != PST_LOG_FULL_REFUSE)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the event log is full"),
			 errdetail("It has reached persistomata.max_log_size, %d MB.", pst_max_log_size),
			 errhint("persistomata.stat_ring shows what keeps it. Once there is space again, writes succeed by themselves.")));
}
