/*
 * memory.c
 *	  The smallest sink there can be: it delivers into a list of names.
 *
 * It takes one event a poll, refuses one whose key is "bad", and knows what it
 * has taken before.
 */
#include "postgres.h"

#include <limits.h>

#include "memory.h"

#define MAX_NAMES 1000

typedef struct Memory
{
	PstSink		base;
	int			limit;
	const PstShipment *shipment;
	int			done;
	int			duplicates;
	PstVerdict *verdicts;
	PstFault	fault;
} Memory;

static char names[MAX_NAMES][64];
static int	nnames = 0;

static const PstOptionDef options[] = {
	{"limit", PST_OPTION_SERVER, PST_OPTION_INT, "1000", 1, MAX_NAMES, NULL},
	{"token", PST_OPTION_MAPPING, PST_OPTION_TEXT, NULL, 0, 0, NULL},
	{NULL, PST_OPTION_SERVER, PST_OPTION_TEXT, NULL, 0, 0, NULL}
};

static PstSink *
memory_open(const PstSinkSettings *settings)
{
	Memory	   *memory = palloc0(sizeof(Memory));
	const char *limit = NULL;

	for (const PstOption *option = settings->options; option->name; option++)
		if (strcmp(option->name, "limit") == 0)
			limit = option->value;
	memory->base.ops = &memory_sink;
	memory->limit = limit ? atoi(limit) : MAX_NAMES;
	return &memory->base;
}

static void
memory_send(PstSink *sink, const PstShipment *shipment)
{
	Memory	   *memory = (Memory *) sink;

	memory->shipment = shipment;
	memory->done = memory->duplicates = 0;
	memset(&memory->fault, 0, sizeof(memory->fault));
	memory->verdicts = palloc0(shipment->nevents * sizeof(PstVerdict));
}

static PstVerdict
take(Memory *memory, const PstEvent *event)
{
	if (event->key && strcmp(event->key, "bad") == 0)
		return PST_REJECTED;
	for (int i = 0; i < nnames; i++)
		if (strcmp(names[i], event->name) == 0)
		{
			memory->duplicates++;
			return PST_DELIVERED;
		}
	if (nnames >= memory->limit)
	{
		memory->fault.verdict = PST_RETRY;
		strlcpy(memory->fault.what, "full", sizeof(memory->fault.what));
		return PST_RETRY;
	}
	strlcpy(names[nnames++], event->name, sizeof(names[0]));
	return PST_DELIVERED;
}

static PstSinkProgress
memory_poll(PstSink *sink)
{
	Memory	   *memory = (Memory *) sink;
	int			nth = memory->done++;

	memory->verdicts[nth] = take(memory, &memory->shipment->events[nth]);
	return memory->done < memory->shipment->nevents ? PST_SINK_BUSY : PST_SINK_DONE;
}

static void
memory_wants(const PstSink *sink, PstWants *wants)
{
	wants->timeout_ms = 0;
}

static PstVerdict
memory_verdict(const PstSink *sink, int nth)
{
	return ((const Memory *) sink)->verdicts[nth];
}

static const PstFault *
memory_event_fault(const PstSink *sink, int nth)
{
	return NULL;
}

static const PstFault *
memory_fault(const PstSink *sink)
{
	return &((const Memory *) sink)->fault;
}

static int
memory_duplicates(const PstSink *sink)
{
	return ((const Memory *) sink)->duplicates;
}

static void
memory_nothing(PstSink *sink)
{
}

const PstSinkOps memory_sink = {
	.kind = "memory",
	.options = options,
	.max_rows = 10,
	.max_bytes = INT_MAX,
	.open = memory_open,
	.send = memory_send,
	.poll = memory_poll,
	.wants = memory_wants,
	.verdict = memory_verdict,
	.event_fault = memory_event_fault,
	.fault = memory_fault,
	.duplicates = memory_duplicates,
	.idle = memory_nothing,
	.close = memory_nothing,
};
