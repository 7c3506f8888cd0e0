/*
 * native.c
 *	  Events to one block of ClickHouse's Native format.
 *
 * The format is column after column, while events come one by one.  Reading
 * every event once per column would drag a whole shipment through the cache
 * twenty times, so both passes (measure, write) go strip by strip: for some
 * hundred events, which stay in the cache, every column in turn.  The first
 * pass finds each column's size and with it its place in the block; the second
 * writes all columns at their places side by side.  Nothing is allocated per
 * row and nothing is moved afterwards.
 */
#include "postgres.h"

#include "encode/native.h"

#include <string.h>

/* events of a strip: with their strings about the size of a second-level cache */
#define STRIP 256

/* One column of the block that is being made. */
typedef struct Lane
{
	const PstNativeColumn *column;
	uint32	   *lengths;		/* of each row's text, or NULL for a column of a fixed width */
	size_t		size;			/* of all values */
	char	   *at;				/* where the next value goes */
	char	   *nulls;			/* where the next null flag goes */
} Lane;

/* ----- values ----- */

static inline bool
is_text(const PstNativeColumn *column)
{
	return column->form == PST_NATIVE_TEXT || column->form == PST_NATIVE_OBJECT;
}

/* NULL: absent.  Most texts are the event's own, and spare a call. */
static inline const char *
text_of(const PstNativeColumn *column, const PstEvent *event, char *buffer)
{
	PstNativeKind kind = column->field->kind;

	if (kind == PST_KIND_TEXT || kind == PST_KIND_JSON)
		return *(char *const *) ((const char *) event + column->field->offset);
	return pst_native_text(column, event, buffer);
}

static inline const char *
absent_text(const PstNativeColumn *column)
{
	return column->form == PST_NATIVE_OBJECT ? "{}" : "";
}

static inline int
varint_size(size_t value)
{
	int			size = 1;

	for (; value >= 0x80; value >>= 7)
		size++;
	return size;
}

static inline char *
put_varint(char *at, size_t value)
{
	for (; value >= 0x80; value >>= 7)
		*at++ = (char) (value | 0x80);
	*at++ = (char) value;
	return at;
}

static inline char *
put_text(char *at, const char *text, size_t length)
{
	at = put_varint(at, length);
	memcpy(at, text, length);
	return at + length;
}

/* ----- first pass: sizes ----- */

static void
measure_strip(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	const char *before = NULL;	/* neighbours often share one string */
	size_t		length = 0;
	char		buffer[PST_NATIVE_RENDERED];

	for (int i = from; i < to; i++)
	{
		const char *text = text_of(lane->column, &events[rows[i]], buffer);

		if (text == NULL)
			text = absent_text(lane->column);
		if (text != before || text == buffer)
			length = strlen(text);
		before = text;
		lane->lengths[i] = (uint32) length;
		lane->size += varint_size(length) + length;
	}
}

static void
measure(Lane *lanes, int nlanes, const PstEvent *events, const int *rows, int nrows)
{
	for (int from = 0; from < nrows; from += STRIP)
	{
		int			to = Min(from + STRIP, nrows);

		for (int i = 0; i < nlanes; i++)
			if (lanes[i].lengths != NULL)
				measure_strip(&lanes[i], events, rows, from, to);
	}
	for (int i = 0; i < nlanes; i++)
		if (lanes[i].lengths == NULL)
			lanes[i].size = (size_t) lanes[i].column->width * nrows;
}

/* ----- second pass: bytes ----- */

static void
write_texts(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	char		buffer[PST_NATIVE_RENDERED];
	char	   *at = lane->at;

	for (int i = from; i < to; i++)
	{
		const char *text = text_of(lane->column, &events[rows[i]], buffer);

		if (lane->nulls != NULL)
			*lane->nulls++ = text == NULL;
		at = put_text(at, text == NULL ? absent_text(lane->column) : text, lane->lengths[i]);
	}
	lane->at = at;
}

/* Returns the row whose value does not fit, or -1. */
static int
write_values(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	const PstNativeColumn *column = lane->column;
	char		buffer[PST_NATIVE_RENDERED];

	for (int i = from; i < to; i++)
	{
		const PstEvent *event = &events[rows[i]];

		if (lane->nulls != NULL)
		{
			bool		absent = text_of(column, event, buffer) == NULL;

			*lane->nulls++ = absent;
			if (absent)
				memset(lane->at, 0, column->width);
			else if (!pst_native_value(column, event, lane->at))
				return i;
		}
		else if (!pst_native_value(column, event, lane->at))
			return i;
		lane->at += column->width;
	}
	return -1;
}

/* False, with *misfit set, if a value does not fit. */
static bool
write_all(Lane *lanes, int nlanes, const PstEvent *events, const int *rows, int nrows,
		  PstNativeMisfit *misfit)
{
	for (int from = 0; from < nrows; from += STRIP)
	{
		int			to = Min(from + STRIP, nrows);

		for (int i = 0; i < nlanes; i++)
		{
			if (lanes[i].lengths != NULL)
				write_texts(&lanes[i], events, rows, from, to);
			else
				misfit->row = write_values(&lanes[i], events, rows, from, to);
			if (lanes[i].lengths == NULL && misfit->row >= 0)
			{
				misfit->column = lanes[i].column;
				return false;
			}
		}
	}
	return true;
}

/* ----- the block ----- */

/*
 * Give each lane its place in the block, and write the columns' heads there.
 * The block's end, or NULL, with nothing written, if it would be too large.
 */
static char *
lay_out(StringInfo out, Lane *lanes, int ncolumns, int nrows)
{
	size_t		total = 20;		/* two counts */
	char	   *at;

	for (int i = 0; i < ncolumns; i++)
		total += PST_NATIVE_MAX_NAME + strlen(lanes[i].column->type) + 10 + lanes[i].size +
			(lanes[i].column->nullable ? nrows : 0);
	if (total > PST_NATIVE_MAX_BYTES)
		return NULL;
	enlargeStringInfo(out, (int) total);

	at = out->data + out->len;
	at = put_varint(at, ncolumns);
	at = put_varint(at, nrows);
	for (int i = 0; i < ncolumns; i++)
	{
		const PstNativeColumn *column = lanes[i].column;

		at = put_text(at, column->name, strlen(column->name));
		at = put_text(at, column->type, strlen(column->type));
		if (column->nullable)
		{
			lanes[i].nulls = at;
			at += nrows;
		}
		lanes[i].at = at;
		at += lanes[i].size;
	}
	return at;
}

PstNativeResult
pst_native_block(StringInfo out, const PstNativeColumn *columns, int ncolumns,
				 const PstEvent *events, const int *rows, int nrows,
				 PstNativeMisfit *misfit)
{
	Lane		lanes[PST_NATIVE_MAX_COLUMNS];
	PstNativeResult result = PST_NATIVE_TOO_LARGE;
	uint32	   *lengths;
	int			ntexts = 0;
	char	   *end;

	Assert(ncolumns > 0 && ncolumns <= PST_NATIVE_MAX_COLUMNS && nrows > 0);
	for (int i = 0; i < ncolumns; i++)
		ntexts += is_text(&columns[i]);
	lengths = palloc(sizeof(uint32) * (size_t) Max(ntexts, 1) * nrows);

	memset(lanes, 0, sizeof(Lane) * ncolumns);
	ntexts = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		lanes[i].column = &columns[i];
		if (is_text(&columns[i]))
			lanes[i].lengths = lengths + (size_t) nrows * ntexts++;
	}

	measure(lanes, ncolumns, events, rows, nrows);
	end = lay_out(out, lanes, ncolumns, nrows);
	if (end != NULL)
		result = write_all(lanes, ncolumns, events, rows, nrows, misfit) ?
			PST_NATIVE_WRITTEN : PST_NATIVE_MISFIT;
	if (result == PST_NATIVE_WRITTEN)
	{
		out->len = (int) (end - out->data);
		out->data[out->len] = '\0';
	}
	pfree(lengths);
	return result;
}
