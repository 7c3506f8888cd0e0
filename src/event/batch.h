/*
 * batch.h
 *	  Reading the log in the order of positions.
 */
#ifndef PST_BATCH_H
#define PST_BATCH_H

#include "postgres.h"

#include "event/event.h"
#include "event/texts.h"

/* A place in the log, and the next stretch of it in memory. */
typedef struct PstReader PstReader;

typedef struct PstReadLimits
{
	int64		newest_cut;		/* read no later cut than this */
	int64		settings_before;	/* nor one that has seen these settings of routes */
	int64		to_position;	/* nor past this */
	int			max_rows;		/* wanted events */
	Size		max_bytes;		/* about */
	int			max_scanned;	/* events, wanted or not */
} PstReadLimits;

/*
 * Is an event wanted?  Asked before its jsonb columns are read, so args,
 * payload and headers are NULL.
 */
typedef bool (*PstWanted) (const PstEvent *event, void *arg);

/* What one read gave.  Its memory is the context's, which the owner resets. */
typedef struct PstBatch
{
	MemoryContext context;
	PstEvent   *events;			/* those wanted */
	int			nevents;
	int			allocated;
	int			expected;
	PstTexts	texts;
	Size		bytes;			/* about what it weighs in memory and on the wire */
	int64		from_position;	/* what it covers; nothing if to < from */
	int64		to_position;
	bool		more;			/* a limit ended it, not the end of the log */
	bool		new_settings;	/* the next cut has seen settings_before */
} PstBatch;

extern PstReader *pst_reader_create(MemoryContext parent);
extern void pst_reader_free(PstReader *reader);

/* The next read begins at this position or, if it is not kept, after it. */
extern void pst_reader_seek(PstReader *reader, int64 position);

/* Where the next read begins. */
extern int64 pst_reader_position(const PstReader *reader);

/* Needs a transaction without an active snapshot. */
extern void pst_reader_read(PstReader *reader, PstBatch *batch, const PstReadLimits *limits,
							PstWanted wanted, void *arg);

/* The reader's memory besides its batch, in bytes; for tests and views. */
extern Size pst_reader_memory(const PstReader *reader);

#endif							/* PST_BATCH_H */
