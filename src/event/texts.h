/*
 * texts.h
 *	  The texts of many events, one after another in large pieces of memory.
 *
 * An event has some ten short texts.  Allocated one by one, their headers and
 * roundings weigh as much as they do.
 */
#ifndef PST_TEXTS_H
#define PST_TEXTS_H

#include "postgres.h"

typedef struct PstTexts
{
	MemoryContext context;		/* of the pieces; the owner resets it */
	char	   *at;				/* what is free of the piece at hand */
	char	   *end;
	Size		bytes;			/* that were taken so far */
} PstTexts;

static inline void
pst_texts_begin(PstTexts *texts, MemoryContext context)
{
	texts->context = context;
	texts->at = texts->end = NULL;
	texts->bytes = 0;
}

/* A copy, with a NUL behind it. */
extern char *pst_texts_add(PstTexts *texts, const char *bytes, Size length);

/* Give back what was taken since *texts was *before. */
extern void pst_texts_take_back(PstTexts *texts, const PstTexts *before);

#endif							/* PST_TEXTS_H */
