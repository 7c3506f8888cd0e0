/*
 * holding.c
 *	  What a sink holds of a run of events: how often each, and whether as it was sent.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "sink/holding.h"
#include "utils/memutils.h"

/* More strays than this are not worth naming. */

/* Where a name is, or belongs. */
static uint32
find_slot(const PstHolding *holding, const char *name, size_t length)
{
	uint32		at = hash_bytes((const unsigned char *) name, (int) length) & (holding->nslots - 1);

	while (holding->slots[at] != 0)
	{
		const char *there = holding->events[holding->slots[at] - 1].name;

		if (strncmp(there, name, length) == 0 && there[length] == '\0')
			break;
		at = (at + 1) & (holding->nslots - 1);
	}
	return at;
}

void
pst_holding_begin(PstHolding *holding, MemoryContext context, const PstShipment *shipment)
{
	MemoryContext before;

	if (holding->context)
		MemoryContextDelete(holding->context);
	memset(holding, 0, sizeof(*holding));
	holding->context = AllocSetContextCreate(context, "persistomata holding", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(holding->context);
	holding->events = shipment->events;
	holding->timeline = shipment->nonce ? atoi(shipment->nonce) : 0;
	holding->nevents = shipment->nevents;
	holding->counts = palloc0(sizeof(int) * shipment->nevents);
	holding->nslots = pg_nextpower2_32(2 * (uint32) shipment->nevents + 1);
	holding->slots = palloc0(sizeof(int) * holding->nslots);
	holding->altered = palloc0(sizeof(bool) * shipment->nevents);
	initStringInfo(&holding->fields);
	initStringInfo(&holding->strays);
	initStringInfo(&holding->others);
	for (int i = 0; i < shipment->nevents; i++)
	{
		const char *name = shipment->events[i].name;

		holding->slots[find_slot(holding, name, strlen(name))] = i + 1;
	}
	MemoryContextSwitchTo(before);
}

int
pst_holding_find(const PstHolding *holding, const char *name, size_t length)
{
	return holding->slots[find_slot(holding, name, length)] - 1;
}

/* Is it of the log whose events we ask for?  Its id is what names begin with. */
static bool
is_ours(const PstHolding *holding, const char *name, size_t length)
{
	const char *one = holding->events[0].name;
	size_t		id = strcspn(one, "-") + 1;

	return length > id && strncmp(one, name, id) == 0;
}

void
pst_holding_add(PstHolding *holding, const char *name, size_t length, int count)
{
	int			nth = pst_holding_find(holding, name, length);

	if (nth >= 0)
		holding->counts[nth] += count;
	else if (is_ours(holding, name, length) && holding->nstrays < PST_MAX_STRAYS)
	{
		holding->nstrays++;
		appendBinaryStringInfo(&holding->strays, name, (int) length);
		appendStringInfoChar(&holding->strays, '\0');
	}
}

void
pst_holding_add_other(PstHolding *holding, const char *name, size_t length)
{
	int			timeline;

	if (!is_ours(holding, name, length) || holding->nothers == PST_MAX_STRAYS ||
		sscanf(name + strcspn(name, "-"), "-%d-", &timeline) != 1 || timeline >= holding->timeline)
		return;
	holding->nothers++;
	appendBinaryStringInfo(&holding->others, name, (int) length);
	appendStringInfoChar(&holding->others, '\0');
}

void
pst_holding_alter(PstHolding *holding, int nth, const char *field)
{
	const char *known = holding->fields.data;

	holding->altered[nth] = true;
	for (int i = 0; i < holding->nfields; i++, known += strlen(known) + 1)
		if (strcmp(known, field) == 0)
			return;
	holding->nfields++;
	appendBinaryStringInfo(&holding->fields, field, (int) strlen(field) + 1);
}
