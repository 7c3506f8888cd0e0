/*
 * names.c
 *	  A hash of names, each with a number.
 *
 * It is part of a model's allocation tree and is never freed alone.  Names are
 * counted strings within texts that live as long.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "machine/names.h"

/* The bucket of a name, or the empty one where it would go. */
static int
find_bucket(const PstNames *names, const char *name, int length)
{
	uint32		at = hash_bytes((const unsigned char *) name, length);

	for (;; at++)
	{
		int			bucket = at & (names->nbuckets - 1);
		int			entry = names->buckets[bucket];

		if (entry < 0 || (names->entries[entry].length == length &&
						  memcmp(names->entries[entry].name, name, length) == 0))
			return bucket;
	}
}

/* Twice the buckets, at least two for each entry. */
static void
grow(PstNames *names)
{
	names->room = names->room == 0 ? 16 : names->room * 2;
	names->nbuckets = names->room * 2;
	if (names->entries == NULL)
	{
		names->entries = palloc(names->room * sizeof(PstName));
		names->buckets = palloc(names->nbuckets * sizeof(int));
	}
	else
	{
		names->entries = repalloc(names->entries, names->room * sizeof(PstName));
		names->buckets = repalloc(names->buckets, names->nbuckets * sizeof(int));
	}
	for (int i = 0; i < names->nbuckets; i++)
		names->buckets[i] = -1;
	for (int i = 0; i < names->n; i++)
		names->buckets[find_bucket(names, names->entries[i].name, names->entries[i].length)] = i;
}

int
pst_names_find(const PstNames *names, const char *name, int length)
{
	int			entry;

	if (names->n == 0)
		return PST_NO_NAME;
	entry = names->buckets[find_bucket(names, name, length)];
	return entry < 0 ? PST_NO_NAME : names->entries[entry].number;
}

void
pst_names_add(PstNames *names, const char *name, int length, int number)
{
	PstName    *entry;
	int			bucket;

	if (names->n >= names->room)
		grow(names);
	bucket = find_bucket(names, name, length);
	if (names->buckets[bucket] >= 0)
	{
		names->entries[names->buckets[bucket]].number = number;
		return;
	}
	entry = &names->entries[names->n];
	entry->name = name;
	entry->length = length;
	entry->number = number;
	names->buckets[bucket] = names->n++;
}
