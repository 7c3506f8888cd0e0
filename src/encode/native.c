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

typedef enum FieldKind
{
	FIELD_TEXT,					/* a char * */
	FIELD_JSON,					/* a char * to JSON text */
	FIELD_TYPE,					/* PstEventType, by its name */
	FIELD_INT64,
	FIELD_INT32,
	FIELD_TIME,					/* int64 microseconds, whole or its seconds */
	FIELD_TIME_MICROS			/* the microseconds in its second */
} FieldKind;

typedef struct Field
{
	const char *name;
	FieldKind	kind;
	size_t		offset;
} Field;

#define FIELD(kind, member) { #member, kind, offsetof(PstEvent, member) }

static const Field fields[] = {
	FIELD(FIELD_INT64, position),
	FIELD(FIELD_TEXT, name),
	FIELD(FIELD_INT64, event_id),
	FIELD(FIELD_TYPE, type),
	FIELD(FIELD_TEXT, machine),
	FIELD(FIELD_INT32, version),
	FIELD(FIELD_TEXT, fsm),
	FIELD(FIELD_TEXT, key),
	FIELD(FIELD_TEXT, event),
	FIELD(FIELD_TEXT, from_state),
	FIELD(FIELD_TEXT, to_state),
	FIELD(FIELD_JSON, args),
	FIELD(FIELD_JSON, payload),
	FIELD(FIELD_TEXT, reason),
	FIELD(FIELD_TIME, occurred_at),
	{"occurred_micros", FIELD_TIME_MICROS, offsetof(PstEvent, occurred_at)},
	FIELD(FIELD_INT64, xid),
	FIELD(FIELD_TEXT, actor),
	FIELD(FIELD_JSON, headers),
	FIELD(FIELD_TEXT, node),
	FIELD(FIELD_INT32, timeline),
};

/* One column of the block that is being made. */
typedef struct Lane
{
	const Field *field;
	PstNativeForm form;
	uint32	   *lengths;		/* of each row's text, or NULL for a column of numbers */
	size_t		size;			/* of all values */
	char	   *at;				/* where the next value goes */
	char	   *nulls;			/* where the next null flag goes */
} Lane;

/* ----- describing a column ----- */

static const Field *
find_field(const char *name)
{
	for (size_t i = 0; i < lengthof(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Does this column take NULL?  LowCardinality wraps Nullable, not the other way round. */
static bool
is_nullable(const char *type)
{
	return starts_with(type, "Nullable(") || starts_with(type, "LowCardinality(Nullable(");
}

/* The form in which a field goes to a column of this type, and that form's type. */
static PstNativeForm
choose_form(const Field *field, const char *type, const char **sent)
{
	switch (field->kind)
	{
		case FIELD_INT64:
			*sent = "UInt64";
			return PST_NATIVE_UINT64;
		case FIELD_INT32:
		case FIELD_TIME_MICROS:
			*sent = "UInt32";
			return PST_NATIVE_UINT32;
		case FIELD_TIME:
			if (starts_with(type, "DateTime64"))
			{
				*sent = starts_with(type, "DateTime64(6") ? type : "DateTime64(6)";
				return PST_NATIVE_MICROSECONDS;
			}
			*sent = starts_with(type, "DateTime(") ? type : "DateTime";
			return PST_NATIVE_SECONDS;
		case FIELD_TEXT:
		case FIELD_TYPE:
		case FIELD_JSON:
			break;
	}
	if (is_nullable(type))
	{
		*sent = "Nullable(String)";
		return PST_NATIVE_NULLABLE_TEXT;
	}
	*sent = "String";
	if (field->kind == FIELD_JSON &&
		(starts_with(type, "JSON") || starts_with(type, "Object(")))
		return PST_NATIVE_OBJECT;
	return PST_NATIVE_TEXT;
}

bool
pst_native_column(PstNativeColumn *column, const char *name, const char *type,
				  bool casts, bool *mismatch)
{
	const Field *field = find_field(name);
	const char *sent;

	*mismatch = false;
	if (field == NULL)
		return false;
	column->form = choose_form(field, type, &sent);
	if (strlen(sent) >= sizeof(column->type) ||
		(!casts && strcmp(sent, type) != 0))
	{
		*mismatch = true;
		return false;
	}
	column->field = (int) (field - fields);
	strlcpy(column->name, name, sizeof(column->name));
	strlcpy(column->type, sent, sizeof(column->type));
	return true;
}

/* ----- values ----- */

static inline const char *
text_of(const Field *field, const PstEvent *event)
{
	if (field->kind == FIELD_TYPE)
		return pst_event_type_name(event->type);
	return *(char *const *) ((const char *) event + field->offset);
}

static inline int64
number_of(const Field *field, const PstEvent *event)
{
	const char *at = (const char *) event + field->offset;

	if (field->kind == FIELD_INT32)
		return *(const int *) at;
	return *(const int64 *) at;
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

/* The wire is little-endian, whatever this machine is. */
static inline char *
put_number(char *at, uint64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (char) (value >> (8 * i));
	return at + bytes;
}

/* Seconds since 1970, held to what a DateTime can say. */
static inline uint32
seconds_of(int64 micros)
{
	int64		seconds = micros / 1000000;

	if (seconds < 0)
		return 0;
	return seconds > PG_UINT32_MAX ? PG_UINT32_MAX : (uint32) seconds;
}

/* ----- first pass: sizes ----- */

static void
measure_strip(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	const char *before = NULL;	/* neighbours often share one string */
	size_t		length = 0;
	const char *absent = lane->form == PST_NATIVE_OBJECT ? "{}" : "";

	for (int i = from; i < to; i++)
	{
		const char *text = text_of(lane->field, &events[rows[i]]);

		if (text == NULL)
			text = absent;
		if (text != before)
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
	{
		switch (lanes[i].form)
		{
			case PST_NATIVE_UINT64:
			case PST_NATIVE_MICROSECONDS:
				lanes[i].size = sizeof(uint64) * (size_t) nrows;
				break;
			case PST_NATIVE_UINT32:
			case PST_NATIVE_SECONDS:
				lanes[i].size = sizeof(uint32) * (size_t) nrows;
				break;
			case PST_NATIVE_NULLABLE_TEXT:
			case PST_NATIVE_TEXT:
			case PST_NATIVE_OBJECT:
				break;
		}
	}
}

/* ----- second pass: bytes ----- */

static void
write_texts(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	const char *absent = lane->form == PST_NATIVE_OBJECT ? "{}" : "";
	char	   *at = lane->at;

	for (int i = from; i < to; i++)
	{
		const char *text = text_of(lane->field, &events[rows[i]]);

		if (lane->nulls != NULL)
			*lane->nulls++ = text == NULL;
		at = put_text(at, text == NULL ? absent : text, lane->lengths[i]);
	}
	lane->at = at;
}

static void
write_numbers(Lane *lane, const PstEvent *events, const int *rows, int from, int to)
{
	char	   *at = lane->at;

	for (int i = from; i < to; i++)
	{
		int64		value = number_of(lane->field, &events[rows[i]]);

		if (lane->field->kind == FIELD_TIME_MICROS)
			value = ((value % 1000000) + 1000000) % 1000000;
		else if (lane->form == PST_NATIVE_SECONDS)
			value = seconds_of(value);
		at = put_number(at, (uint64) value,
						lane->form == PST_NATIVE_UINT64 ||
						lane->form == PST_NATIVE_MICROSECONDS ? 8 : 4);
	}
	lane->at = at;
}

static void
write_all(Lane *lanes, int nlanes, const PstEvent *events, const int *rows, int nrows)
{
	for (int from = 0; from < nrows; from += STRIP)
	{
		int			to = Min(from + STRIP, nrows);

		for (int i = 0; i < nlanes; i++)
			if (lanes[i].lengths != NULL)
				write_texts(&lanes[i], events, rows, from, to);
			else
				write_numbers(&lanes[i], events, rows, from, to);
	}
}

/* ----- the block ----- */

static bool
is_text(PstNativeForm form)
{
	return form == PST_NATIVE_TEXT || form == PST_NATIVE_NULLABLE_TEXT ||
		form == PST_NATIVE_OBJECT;
}

/*
 * Give each lane its place in the block, and write the columns' heads there.
 * False, with nothing written, if the block would be too large.
 */
static bool
lay_out(StringInfo out, Lane *lanes, const PstNativeColumn *columns, int ncolumns, int nrows)
{
	size_t		total = 20;		/* two counts */
	char	   *at;

	for (int i = 0; i < ncolumns; i++)
		total += PST_NATIVE_MAX_NAME + PST_NATIVE_MAX_TYPE + lanes[i].size +
			(lanes[i].form == PST_NATIVE_NULLABLE_TEXT ? nrows : 0);
	if (total > PST_NATIVE_MAX_BYTES)
		return false;
	enlargeStringInfo(out, (int) total);

	at = out->data + out->len;
	at = put_varint(at, ncolumns);
	at = put_varint(at, nrows);
	for (int i = 0; i < ncolumns; i++)
	{
		at = put_text(at, columns[i].name, strlen(columns[i].name));
		at = put_text(at, columns[i].type, strlen(columns[i].type));
		if (lanes[i].form == PST_NATIVE_NULLABLE_TEXT)
		{
			lanes[i].nulls = at;
			at += nrows;
		}
		lanes[i].at = at;
		at += lanes[i].size;
	}
	out->len = (int) (at - out->data);
	return true;
}

bool
pst_native_block(StringInfo out, const PstNativeColumn *columns, int ncolumns,
				 const PstEvent *events, const int *rows, int nrows)
{
	Lane		lanes[PST_NATIVE_MAX_COLUMNS];
	uint32	   *lengths;
	int			ntexts = 0;
	bool		fits;

	Assert(ncolumns > 0 && ncolumns <= PST_NATIVE_MAX_COLUMNS && nrows > 0);
	for (int i = 0; i < ncolumns; i++)
		ntexts += is_text(columns[i].form);
	lengths = palloc(sizeof(uint32) * (size_t) Max(ntexts, 1) * nrows);

	memset(lanes, 0, sizeof(Lane) * ncolumns);
	ntexts = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		lanes[i].field = &fields[columns[i].field];
		lanes[i].form = columns[i].form;
		if (is_text(columns[i].form))
			lanes[i].lengths = lengths + (size_t) nrows * ntexts++;
	}

	measure(lanes, ncolumns, events, rows, nrows);
	fits = lay_out(out, lanes, columns, ncolumns, nrows);
	if (fits)
	{
		write_all(lanes, ncolumns, events, rows, nrows);
		out->data[out->len] = '\0';
	}
	pfree(lengths);
	return fits;
}
