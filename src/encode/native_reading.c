/*
 * native_reading.c
 *	  What a ClickHouse column reads as, once an event stands in it.
 *
 * For comparing: a text that we make of the event and a reader makes of the
 * column.  A number is its digits, a time the count of its units since 1970, a
 * UUID in lower case; where a column takes NULL, "=" stands before a value, and
 * "N" for none.
 */
#include "postgres.h"

#include "encode/native.h"
#include "utils/builtins.h"

bool
pst_native_is_exact(const PstNativeColumn *column)
{
	return !column->converted;
}

/* The value of these bytes of the wire, which is little-endian. */
static int64
number_at(const char *at, int width, bool is_signed)
{
	uint64		value = 0;

	for (int i = 0; i < width; i++)
		value |= (uint64) (unsigned char) at[i] << (8 * i);
	if (is_signed && width < 8 && (value >> (8 * width - 1)) & 1)
		value |= PG_UINT64_MAX << (8 * width);
	return (int64) value;
}

/* Two halves, each with its lowest byte first. */
static void
append_uuid(StringInfo out, const char *at)
{
	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			appendStringInfoChar(out, '-');
		appendStringInfo(out, "%02x", (unsigned char) at[(i & 8) + 7 - (i & 7)]);
	}
}

static bool
append_value(StringInfo out, const PstNativeColumn *column, const PstEvent *event, const char *text)
{
	char		bytes[16];
	char		digits[24];
	int			length;

	switch (column->form)
	{
		case PST_NATIVE_TEXT:
		case PST_NATIVE_OBJECT:
			appendStringInfoString(out, text ? text : "");
			return true;
		case PST_NATIVE_FIXED:
			if (text && strlen(text) > (size_t) column->width)
				return false;
			appendStringInfoString(out, text ? text : "");
			return true;
		case PST_NATIVE_ENUM:
			if (!pst_native_value(column, event, bytes))
				return false;
			appendStringInfoString(out, text ? text : "");
			return true;
		case PST_NATIVE_UUID:
			if (!pst_native_value(column, event, bytes))
				return false;
			append_uuid(out, bytes);
			return true;
		case PST_NATIVE_INTEGER:
		case PST_NATIVE_SECONDS:
		case PST_NATIVE_TICKS:
		case PST_NATIVE_DAYS:
			break;
	}
	if (!pst_native_value(column, event, bytes))
		return false;
	if (column->is_signed || column->form == PST_NATIVE_TICKS)
		length = pg_lltoa(number_at(bytes, column->width, true), digits);
	else
		length = pg_ulltoa_n((uint64) number_at(bytes, column->width, false), digits);
	appendBinaryStringInfo(out, digits, length);
	return true;
}

bool
pst_native_reading(StringInfo out, const PstNativeColumn *column, const PstEvent *event)
{
	char		buffer[PST_NATIVE_RENDERED];
	const char *text = pst_native_text(column, event, buffer);
	int			before = out->len;

	Assert(pst_native_is_exact(column));
	if (column->nullable)
		appendStringInfoChar(out, text ? '=' : 'N');
	if ((column->nullable && text == NULL) || append_value(out, column, event, text))
		return true;
	out->len = before;
	out->data[before] = '\0';
	return false;
}
