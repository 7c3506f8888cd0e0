/*
 * native_value.c
 *	  One value of an event in the form of a ClickHouse column.
 *
 * Nothing is rounded into a range or cut to a width: what does not fit is said
 * not to fit.  Only a time is made coarser where the column is, and held to what
 * the column can say.
 */
#include "postgres.h"

#include <time.h>

#include "encode/native.h"

#define MICROS_PER_SECOND INT64CONST(1000000)
#define SECONDS_PER_DATE INT64CONST(86400)

static inline const void *
place_of(const PstNativeField *field, const PstEvent *event)
{
	return (const char *) event + field->offset;
}

/* NULL: absent */
static inline const char *
text_of(const PstNativeField *field, const PstEvent *event)
{
	if (field->kind == PST_KIND_TYPE)
		return pst_event_type_name(event->type);
	return *(char *const *) place_of(field, event);
}

static inline int64
number_of(const PstNativeField *field, const PstEvent *event)
{
	int64		value;

	if (field->kind == PST_KIND_INT32)
		return *(const int *) place_of(field, event);
	value = *(const int64 *) place_of(field, event);
	if (field->kind == PST_KIND_MICROS)
		value = ((value % MICROS_PER_SECOND) + MICROS_PER_SECOND) % MICROS_PER_SECOND;
	return value;
}

/* Divide, towards the past. */
static inline int64
floor_div(int64 value, int64 by)
{
	return value / by - (value % by < 0);
}

const char *
pst_native_text(const PstNativeColumn *column, const PstEvent *event,
				char buffer[PST_NATIVE_RENDERED])
{
	int64		value;
	time_t		seconds;
	struct tm	tm;

	switch (column->field->kind)
	{
		case PST_KIND_TEXT:
		case PST_KIND_JSON:
		case PST_KIND_TYPE:
			return text_of(column->field, event);
		case PST_KIND_INT64:
		case PST_KIND_INT32:
		case PST_KIND_MICROS:
			snprintf(buffer, PST_NATIVE_RENDERED, INT64_FORMAT, number_of(column->field, event));
			return buffer;
		case PST_KIND_TIME:
			break;
	}
	/* as ClickHouse writes a DateTime64(6) */
	value = number_of(column->field, event);
	seconds = (time_t) floor_div(value, MICROS_PER_SECOND);
	if (gmtime_r(&seconds, &tm) == NULL)
		return NULL;
	snprintf(buffer, PST_NATIVE_RENDERED, "%04d-%02d-%02d %02d:%02d:%02d.%06d",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			 (int) (value - (int64) seconds * MICROS_PER_SECOND));
	return buffer;
}

/* The wire is little-endian, whatever this machine is. */
static inline void
put_number(char *at, uint64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (char) (value >> (8 * i));
}

/* ----- integers ----- */

/* A whole number from a text, as its bits; false if it is none. */
static bool
read_integer(const char *text, uint64 *magnitude, bool *negative)
{
	char	   *end;

	*negative = *text == '-';
	if (*negative)
		text++;
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*magnitude = strtou64(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool
put_integer(const PstNativeColumn *column, const PstEvent *event, char *at)
{
	int			bits = column->width * 8;
	uint64		magnitude;
	uint64		most;
	bool		negative;

	if (column->field->kind == PST_KIND_TEXT || column->field->kind == PST_KIND_TYPE)
	{
		const char *text = text_of(column->field, event);

		if (text == NULL)
			text = "0";
		if (!read_integer(text, &magnitude, &negative))
			return false;
	}
	else
	{
		int64		value = number_of(column->field, event);

		negative = value < 0;
		magnitude = negative ? -(uint64) value : (uint64) value;
	}
	most = column->is_signed ? (UINT64CONST(1) << (bits - 1)) - (negative ? 0 : 1) :
		negative ? 0 : PG_UINT64_MAX >> (64 - bits);
	if (magnitude > most)
		return false;
	put_number(at, negative ? -magnitude : magnitude, column->width);
	return true;
}

/* ----- texts of a fixed width ----- */

static bool
put_fixed(const PstNativeColumn *column, const char *text, char *at)
{
	size_t		length = text != NULL ? strlen(text) : 0;

	if (length > (size_t) column->width)
		return false;
	memset(at, 0, column->width);
	if (length > 0)
		memcpy(at, text, length);
	return true;
}

/* An absent value is the member '', if there is one. */
static bool
put_enum(const PstNativeColumn *column, const char *text, char *at)
{
	if (text == NULL)
		text = "";
	for (int i = 0; i < column->nmembers; i++)
		if (strcmp(column->members[i].name, text) == 0)
		{
			put_number(at, (uint64) (int64) column->members[i].value, column->width);
			return true;
		}
	return false;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Two numbers of 64 bits, the upper one first, each little-endian. */
static bool
put_uuid(const char *text, char *at)
{
	uint64		half[2] = {0, 0};
	int			digits = 0;

	for (; text != NULL && *text != '\0'; text++)
	{
		int			value = hex_value(*text);

		if (*text == '-' && (digits == 8 || digits == 12 || digits == 16 || digits == 20))
			continue;
		if (value < 0 || digits == 32)
			return false;
		half[digits / 16] = half[digits / 16] << 4 | (uint64) value;
		digits++;
	}
	if (digits != 32 && digits != 0)
		return false;
	put_number(at, half[0], 8);
	put_number(at + 8, half[1], 8);
	return true;
}

/* ----- times ----- */

static void
put_seconds(int64 micros, char *at)
{
	int64		seconds = floor_div(micros, MICROS_PER_SECOND);

	put_number(at, (uint64) Min(Max(seconds, 0), (int64) PG_UINT32_MAX), 4);
}

static bool
put_ticks(const PstNativeColumn *column, int64 micros, char *at)
{
	int64		ticks = micros;

	for (int scale = column->scale; scale < 6; scale++)
		ticks = floor_div(ticks, 10);
	for (int scale = 6; scale < column->scale; scale++)
	{
		if (ticks > PG_INT64_MAX / 10 || ticks < PG_INT64_MIN / 10)
			return false;
		ticks *= 10;
	}
	put_number(at, (uint64) ticks, 8);
	return true;
}

static void
put_days(const PstNativeColumn *column, int64 micros, char *at)
{
	int64		days = floor_div(micros, MICROS_PER_SECOND * SECONDS_PER_DATE);

	if (!column->is_signed)
		days = Min(Max(days, 0), (int64) PG_UINT16_MAX);
	put_number(at, (uint64) days, column->width);
}

bool
pst_native_value(const PstNativeColumn *column, const PstEvent *event, char *at)
{
	switch (column->form)
	{
		case PST_NATIVE_INTEGER:
			return put_integer(column, event, at);
		case PST_NATIVE_ENUM:
			return put_enum(column, text_of(column->field, event), at);
		case PST_NATIVE_FIXED:
			return put_fixed(column, text_of(column->field, event), at);
		case PST_NATIVE_UUID:
			return put_uuid(text_of(column->field, event), at);
		case PST_NATIVE_SECONDS:
			put_seconds(number_of(column->field, event), at);
			return true;
		case PST_NATIVE_TICKS:
			return put_ticks(column, number_of(column->field, event), at);
		case PST_NATIVE_DAYS:
			put_days(column, number_of(column->field, event), at);
			return true;
		case PST_NATIVE_TEXT:
		case PST_NATIVE_OBJECT:
			break;
	}
	return false;
}
