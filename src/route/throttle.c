/*
 * throttle.c
 *	  How often, and how much, a route sends.
 *
 * "all 500ms" sends every event, in shipments that begin at least that far
 * apart; "last" sends of each instance only the last event of a shipment;
 * "last 1s" does both.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "route/route.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#define MOST_MS (24 * 60 * 60 * 1000)

static int
interval_ms(const char *text)
{
	Interval   *interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
																 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	int64		ms = interval->time / 1000;

	if (interval->month != 0 || interval->day != 0 || ms < 1 || ms > MOST_MS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a throttle must be from 1 millisecond to 24 hours, not \"%s\"", text)));
	return (int) ms;
}

PstThrottle
pst_throttle_parse(const char *text)
{
	PstThrottle throttle = {0};
	size_t		word = text ? strcspn(text, " ") : 0;

	if (text == NULL)
		return throttle;
	throttle.last = word == 4 && memcmp(text, "last", 4) == 0;
	if (!throttle.last && !(word == 3 && memcmp(text, "all", 3) == 0 && text[word] != '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid throttle of a route: \"%s\"", text),
				 errhint("It is \"all\" and an interval, as in \"all 500ms\", or \"last\" with or without one.")));
	if (text[word] != '\0')
		throttle.every_ms = interval_ms(text + word + strspn(text + word, " "));
	return throttle;
}

/* An instance: its table's name is shared by all events of the table. */
typedef struct Instance
{
	const char *fsm;
	const char *key;
} Instance;

static uint32
instance_hash(const void *key, Size size)
{
	const Instance *instance = key;

	return hash_combine(hash_bytes((const unsigned char *) instance->key, (int) strlen(instance->key)),
						hash_bytes((const unsigned char *) instance->fsm, (int) strlen(instance->fsm)));
}

static int
instance_match(const void *a, const void *b, Size size)
{
	const Instance *one = a;
	const Instance *other = b;

	return strcmp(one->key, other->key) != 0 || strcmp(one->fsm, other->fsm) != 0;
}

int
pst_coalesce(PstEvent *events, int *nevents)
{
	HASHCTL		ctl = {.keysize = sizeof(Instance), .entrysize = sizeof(Instance), .hash = instance_hash,
	.match = instance_match, .hcxt = CurrentMemoryContext};
	HTAB	   *seen;
	int			kept = *nevents;

	if (*nevents < 2)
		return 0;
	seen = hash_create("persistomata instances", *nevents, &ctl,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	/* from the end: the first one seen of an instance is its last */
	for (int i = *nevents - 1; i >= 0; i--)
	{
		Instance	instance = {events[i].fsm, events[i].key};
		bool		found;

		hash_search(seen, &instance, HASH_ENTER, &found);
		if (!found)
			events[--kept] = events[i];
	}
	hash_destroy(seen);
	memmove(events, events + kept, sizeof(PstEvent) * (*nevents - kept));
	*nevents -= kept;
	return kept;
}
