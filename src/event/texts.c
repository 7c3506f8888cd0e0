/*
 * texts.c
 *	  Memory for texts, see texts.h.
 */
#include "postgres.h"

#include "event/texts.h"
#include "utils/memutils.h"

#define PIECE (64 * 1024)

static char *
take_room(PstTexts *texts, Size length)
{
	char	   *room = texts->at;

	texts->bytes += length;
	if (length <= (Size) (texts->end - texts->at))
	{
		texts->at += length;
		return room;
	}
	/* what is long has a piece of its own */
	if (length > PIECE / 4)
		return MemoryContextAllocHuge(texts->context, length);
	room = MemoryContextAlloc(texts->context, PIECE);
	texts->at = room + length;
	texts->end = room + PIECE;
	return room;
}

char *
pst_texts_add(PstTexts *texts, const char *bytes, Size length)
{
	char	   *text = take_room(texts, length + 1);

	memcpy(text, bytes, length);
	text[length] = '\0';
	return text;
}

void
pst_texts_take_back(PstTexts *texts, const PstTexts *before)
{
	/* a piece that was begun since is kept: it is the emptier one */
	if (texts->end == before->end)
		texts->at = before->at;
	texts->bytes = before->bytes;
}
