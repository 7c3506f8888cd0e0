/*
 * clickhouse_piece.c
 *	  The blocks of one table: splitting, isolating, leaving out what landed.
 *
 * A group of events is sent as one block, the whole.  Only when the server
 * refuses it for its content, or for its size, is it cut: to halves, or around
 * the row that the server names, until the bad rows are alone.  When the first
 * rows found are refused and none has passed, one row from the far end is tried
 * alone: if that too is refused, it is the table that is wrong, not the rows.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

/* rows refused before any passed, that make us doubt the table */
#define SUSPICIOUS 3

PstChPiece *
pst_ch_top_piece(PstChSink *sink)
{
	Assert(sink->work.npieces > 0);
	return &sink->work.pieces[sink->work.npieces - 1];
}

static bool
push(PstChSink *sink, PstChPiece piece)
{
	PstChWork  *work = &sink->work;

	if (piece.count == 0)
		return true;
	if (work->npieces == PST_CH_MAX_PIECES)
		return false;
	work->pieces[work->npieces++] = piece;
	return true;
}

void
pst_ch_work_begin(PstChSink *sink)
{
	const PstChGroup *group = &sink->groups[sink->group];

	memset(&sink->work, 0, sizeof(sink->work));
	sink->work.blamed = -1;
	sink->work.looks = 2;
	if (sink->shipment->in_doubt)
		sink->work.doubt = sink->shipment->at_rest != 0 ? PST_CH_DOUBT_OLD : PST_CH_DOUBT_OPEN;
	push(sink, (PstChPiece) {.from = group->from, .count = group->count, .whole = true});
}

static const PstEvent *
event_at(const PstChSink *sink, int row)
{
	return &sink->shipment->events[sink->rows[row]];
}

/*
 * The name of a block, used as query_id and as token.  Two blocks of different
 * content must never share one (the second would be dropped in silence), so the
 * name of a part is bound to the positions in it.
 */
void
pst_ch_piece_name(StringInfo name, const PstChSink *sink, const PstChPiece *piece)
{
	const PstChGroup *group = &sink->groups[sink->group];
	uint64		hash = UINT64CONST(0xcbf29ce484222325);

	appendStringInfo(name, "%s/%s", sink->shipment->name, group->table->name);
	if (piece->whole)
		return;
	for (int i = 0; i < piece->count; i++)
	{
		uint64		position = (uint64) event_at(sink, piece->from + i)->position;

		for (int shift = 0; shift < 64; shift += 8)
			hash = (hash ^ ((position >> shift) & 0xFF)) * UINT64CONST(0x100000001b3);
	}
	appendStringInfo(name, "/" INT64_FORMAT "+%d-" "%08x%08x",
					 event_at(sink, piece->from)->position, piece->count,
					 (unsigned) (hash >> 32), (unsigned) hash);
}

void
pst_ch_piece_passed(PstChSink *sink)
{
	const PstChPiece *piece = pst_ch_top_piece(sink);

	for (int i = 0; i < piece->count; i++)
		sink->verdicts[sink->rows[piece->from + i]] = PST_DELIVERED;
	sink->work.passed += piece->count;
	sink->work.npieces--;
}

/* ----- what landed ----- */

/* The row of the piece with this position, or -1. */
static int
find_position(const PstChSink *sink, const PstChPiece *piece, int64 position)
{
	int			low = piece->from;
	int			high = piece->from + piece->count;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (event_at(sink, middle)->position < position)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < piece->from + piece->count && event_at(sink, low)->position == position)
		return low;
	return -1;
}

/* One row of the answer: a position and a name.  False if it cannot be read. */
static bool
take_landed(PstChSink *sink, const PstChPiece *piece, const char **at, const char *end)
{
	uint64		position = 0;
	size_t		length = 0;
	int			shift = 0;
	int			row;

	if (end - *at < 9)
		return false;
	for (int i = 0; i < 8; i++)
		position |= (uint64) (unsigned char) *(*at)++ << (8 * i);
	for (;;)
	{
		unsigned char byte;

		if (*at >= end || shift > 28)
			return false;
		byte = (unsigned char) *(*at)++;
		length |= (size_t) (byte & 0x7F) << shift;
		shift += 7;
		if (byte < 0x80)
			break;
	}
	if (length > (size_t) (end - *at))
		return false;

	/* positions come again (another log, another timeline); names do not */
	row = find_position(sink, piece, (int64) position);
	if (row >= 0 && strlen(event_at(sink, row)->name) == length &&
		memcmp(event_at(sink, row)->name, *at, length) == 0)
		sink->verdicts[sink->rows[row]] = PST_DELIVERED;
	*at += length;
	return true;
}

bool
pst_ch_piece_landed(PstChSink *sink, const PstChAnswer *answer)
{
	PstChPiece *piece = pst_ch_top_piece(sink);
	const char *at = answer->text;
	const char *end = at + answer->length;
	int			left = 0;

	if (answer->overflow)
		return false;
	while (at < end)
		if (!take_landed(sink, piece, &at, end))
			return false;

	for (int i = piece->from; i < piece->from + piece->count; i++)
		if (sink->verdicts[sink->rows[i]] != PST_DELIVERED)
			sink->rows[piece->from + left++] = sink->rows[i];
	if (left < piece->count)
	{
		/* what is left has another content, so another name */
		sink->duplicates += piece->count - left;
		sink->work.passed += piece->count - left;
		piece->count = left;
		piece->whole = false;
	}
	if (left == 0)
		sink->work.npieces--;
	return true;
}

/* ----- what is refused ----- */

bool
pst_ch_piece_split(PstChSink *sink)
{
	PstChPiece	piece = *pst_ch_top_piece(sink);
	int			half = piece.count / 2;

	if (piece.count < 2)
		return false;
	sink->work.npieces--;
	return push(sink, (PstChPiece) {.from = piece.from + half, .count = piece.count - half}) &&
		push(sink, (PstChPiece) {.from = piece.from, .count = half});
}

/* Note that the event of a row is refused. */
static void
refuse(PstChSink *sink, int row)
{
	PstChRefusal *refusal;

	/* 0, 1, 2, 4, 8, …: grow when full */
	if ((sink->nrefusals & (sink->nrefusals - 1)) == 0)
	{
		int			room = Max(1, sink->nrefusals * 2);

		sink->refusals = sink->refusals == NULL
			? palloc(sizeof(PstChRefusal) * room)
			: repalloc(sink->refusals, sizeof(PstChRefusal) * room);
	}
	refusal = &sink->refusals[sink->nrefusals++];
	refusal->event = sink->rows[row];
	refusal->fault = sink->work.blame;
	refusal->fault.verdict = PST_REJECTED;
	sink->verdicts[refusal->event] = PST_REJECTED;
	sink->work.isolated++;
}

void
pst_ch_take_back_refusals(PstChSink *sink)
{
	/* the group's are the last ones */
	for (; sink->work.isolated > 0; sink->work.isolated--)
		sink->verdicts[sink->refusals[--sink->nrefusals].event] = PST_VERDICT_NONE;
}

/* Put the last row of all that is left on top, alone. */
static bool
push_probe(PstChSink *sink)
{
	PstChPiece *bottom = &sink->work.pieces[0];
	int			row = bottom->from + bottom->count - 1;

	sink->work.probed = true;
	bottom->whole = false;
	if (--bottom->count == 0)
	{
		sink->work.npieces--;
		memmove(bottom, bottom + 1, sizeof(PstChPiece) * sink->work.npieces);
	}
	return push(sink, (PstChPiece) {.from = row, .count = 1, .probe = true});
}

/* The row at `at` of the top piece is refused; what stands around it goes on. */
static bool
isolate(PstChSink *sink, int at)
{
	PstChPiece	piece = *pst_ch_top_piece(sink);
	PstChWork  *work = &sink->work;

	if (piece.probe)
		return false;
	work->npieces--;
	refuse(sink, piece.from + at);
	/* in front of the row lies what the server read without complaint: keep it in one */
	if (!push(sink, (PstChPiece) {.from = piece.from + at + 1, .count = piece.count - at - 1}) ||
		!push(sink, (PstChPiece) {.from = piece.from, .count = at}))
		return false;
	if (work->isolated >= SUSPICIOUS && work->passed == 0 && !work->probed)
		return work->npieces > 0 && push_probe(sink);
	return true;
}

bool
pst_ch_piece_refused(PstChSink *sink)
{
	const PstChPiece *piece = pst_ch_top_piece(sink);
	int			blamed = sink->work.blamed;

	if (piece->count == 1)
		return isolate(sink, 0);
	if (blamed >= 0 && blamed < piece->count)
		return isolate(sink, blamed);
	return pst_ch_piece_split(sink);
}
