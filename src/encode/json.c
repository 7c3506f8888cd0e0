/*
 * json.c
 *	  The event as one JSON object, bare or in a CloudEvents 1.0 envelope.
 *
 * Every object has all its members, null where the event has nothing, so that
 * a consumer sees one shape.  args, payload and headers are JSON already and
 * are embedded as they stand.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "encode/encode.h"
#include "mb/pg_wchar.h"

/* Bytes that a JSON string cannot hold as they are: 'u' means \u00XX, 'm' the
 * first byte of a longer character (or an invalid byte), 0 none of these. */
static const char escapes[256] = {
	[0x00] = 'u', ['\x01'] = 'u', ['\x02'] = 'u', ['\x03'] = 'u', ['\x04'] = 'u', ['\x05'] = 'u',
	['\x06'] = 'u', ['\x07'] = 'u', ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\x0b'] = 'u',
	['\f'] = 'f', ['\r'] = 'r', [0x0e ... 0x1f] = 'u',
	['"'] = '"', ['\\'] = '\\', [0x7f] = 'u', [0x80 ... 0xff] = 'm',
};

/* Bytes of the character at p, or 0 if they are not UTF-8. */
static int
utf8_length(const unsigned char *p)
{
	int			len = pg_utf_mblen(p);

	for (int i = 1; i < len; i++)
		if (p[i] == 0)
			return 0;			/* cut off by the end of the string */
	return pg_utf8_islegal(p, len) ? len : 0;
}

/* Append a quoted string; a byte that is not UTF-8 becomes U+FFFD. */
static void
append_string(StringInfo out, const char *string)
{
	const unsigned char *at = (const unsigned char *) string;
	const unsigned char *clean = at;	/* begin of what is copied as it is */

	appendStringInfoCharMacro(out, '"');
	while (*at)
	{
		char		escape = escapes[*at];
		int			len;

		if (escape == 0)
		{
			at++;
			continue;
		}
		if (escape == 'm' && (len = utf8_length(at)) > 0)
		{
			at += len;
			continue;
		}
		pst_append(out, (const char *) clean, at - clean);
		if (escape == 'm')
			pst_append(out, "\xEF\xBF\xBD", 3);
		else if (escape == 'u')
			appendStringInfo(out, "\\u%04x", *at);
		else
		{
			appendStringInfoCharMacro(out, '\\');
			appendStringInfoCharMacro(out, escape);
		}
		clean = ++at;
	}
	pst_append(out, (const char *) clean, at - clean);
	appendStringInfoCharMacro(out, '"');
}

/* label is the member's name with what stands around it, as in ",\"key\":" */
#define append_label(out, label) pst_append(out, label, sizeof(label) - 1)

static void
append_string_or_null(StringInfo out, const char *string)
{
	if (string)
		append_string(out, string);
	else
		append_label(out, "null");
}

static void
append_json_or_null(StringInfo out, const char *json)
{
	if (json && *json)
		pst_append(out, json, strlen(json));
	else
		append_label(out, "null");
}

static void
append_uint64(StringInfo out, uint64 value)
{
	char		digits[24];
	char	   *at = digits + sizeof(digits);

	do
	{
		*--at = '0' + value % 10;
		value /= 10;
	} while (value > 0);
	pst_append(out, at, digits + sizeof(digits) - at);
}

static void
append_int64(StringInfo out, int64 value)
{
	if (value < 0)
		appendStringInfoCharMacro(out, '-');
	append_uint64(out, value < 0 ? -(uint64) value : (uint64) value);
}

/* Two digits. */
static void
append_pair(char *at, int value)
{
	at[0] = '0' + value / 10;
	at[1] = '0' + value % 10;
}

/* The civil date of a day counted from 1970-01-01 (proleptic Gregorian). */
static void
date_of_day(int64 day, int64 *year, int *month, int *mday)
{
	int64		from_march = day + 719468;	/* days since 0000-03-01 */
	int64		era = (from_march >= 0 ? from_march : from_march - 146096) / 146097;
	int			in_era = (int) (from_march - era * 146097);
	int			year_of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int			in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int			month_from_march = (5 * in_year + 2) / 153;

	*mday = in_year - (153 * month_from_march + 2) / 5 + 1;
	*month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
	*year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

/* ISO 8601 in UTC with microseconds: 2026-01-31T23:59:59.123456Z */
void
pst_encode_time(StringInfo out, int64 us_since_1970)
{
	int64		day = us_since_1970 / USECS_PER_DAY;
	int64		us = us_since_1970 % USECS_PER_DAY;
	int64		year;
	int			month;
	int			mday;
	int			seconds;
	char		rest[] = "-MM-DDTHH:MI:SS.UUUUUUZ";

	if (us < 0)
	{
		us += USECS_PER_DAY;
		day--;
	}
	date_of_day(day, &year, &month, &mday);
	seconds = (int) (us / USECS_PER_SEC);
	if (year < 1000 || year > 9999)
		appendStringInfo(out, "%04lld", (long long) year);
	else
		append_int64(out, year);
	append_pair(rest + 1, month);
	append_pair(rest + 4, mday);
	append_pair(rest + 7, seconds / 3600);
	append_pair(rest + 10, seconds / 60 % 60);
	append_pair(rest + 13, seconds % 60);
	us %= USECS_PER_SEC;
	append_pair(rest + 16, (int) (us / 10000));
	append_pair(rest + 18, (int) (us / 100 % 100));
	append_pair(rest + 20, (int) (us % 100));
	pst_append(out, rest, sizeof(rest) - 1);
}

void
pst_encode_json(StringInfo out, const PstEvent *event)
{
	append_label(out, "{\"name\":");
	append_string_or_null(out, event->name);
	append_label(out, ",\"position\":");
	append_int64(out, event->position);
	append_label(out, ",\"event_id\":");
	append_int64(out, event->event_id);
	append_label(out, ",\"type\":\"");
	appendStringInfoString(out, pst_event_type_name(event->type));
	append_label(out, "\",\"machine\":");
	append_string_or_null(out, event->machine);
	append_label(out, ",\"version\":");
	append_int64(out, event->version);
	append_label(out, ",\"fsm\":");
	append_string_or_null(out, event->fsm);
	append_label(out, ",\"key\":");
	append_string_or_null(out, event->key);
	append_label(out, ",\"event\":");
	append_string_or_null(out, event->event);
	append_label(out, ",\"from_state\":");
	append_string_or_null(out, event->from_state);
	append_label(out, ",\"to_state\":");
	append_string_or_null(out, event->to_state);
	append_label(out, ",\"args\":");
	append_json_or_null(out, event->args);
	append_label(out, ",\"payload\":");
	append_json_or_null(out, event->payload);
	append_label(out, ",\"reason\":");
	append_string_or_null(out, event->reason);
	append_label(out, ",\"occurred_at\":\"");
	pst_encode_time(out, event->occurred_at);
	append_label(out, "\",\"xid\":");
	append_uint64(out, event->xid);
	append_label(out, ",\"actor\":");
	append_string_or_null(out, event->actor);
	append_label(out, ",\"headers\":");
	append_json_or_null(out, event->headers);
	append_label(out, ",\"node\":");
	append_string_or_null(out, event->node);
	appendStringInfoCharMacro(out, '}');
}

/* Append text to a URI: what is not unreserved there is percent-encoded. */
static void
append_uri_part(StringInfo out, const char *text)
{
	for (const unsigned char *at = (const unsigned char *) text; *at; at++)
	{
		if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
			(*at >= '0' && *at <= '9') || strchr("-._~", *at) != NULL)
			appendStringInfoCharMacro(out, *at);
		else
			appendStringInfo(out, "%%%02X", *at);
	}
}

void
pst_encode_source(StringInfo out, const PstEvent *event)
{
	appendStringInfoCharMacro(out, '/');
	append_uri_part(out, event->node ? event->node : "-");
	appendStringInfoCharMacro(out, '/');
	append_uri_part(out, event->fsm ? event->fsm : "-");
}

/* The attributes of the distributed tracing extension, if the headers have them. */
static void
append_trace(StringInfo out, const char *headers)
{
	StringInfoData name;
	StringInfoData value;
	const char *at = headers;

	if (headers == NULL)
		return;
	initStringInfo(&name);
	initStringInfo(&value);
	while ((at = pst_next_member(at, &name, &value)) != NULL)
	{
		bool		parent = strcmp(name.data, "traceparent") == 0;

		if (value.len == 0 || (!parent && strcmp(name.data, "tracestate") != 0))
			continue;
		if (parent)
			append_label(out, ",\"traceparent\":");
		else
			append_label(out, ",\"tracestate\":");
		append_string(out, value.data);
	}
	pfree(name.data);
	pfree(value.data);
}

/*
 * The source is /node/fsm, the type persistomata.<type>; id, unique as it has
 * to be, is the event's name.  The data is the same object as without envelope.
 */
void
pst_encode_cloudevent(StringInfo out, const PstEvent *event)
{
	append_label(out, "{\"specversion\":\"1.0\",\"id\":");
	append_string(out, event->name ? event->name : "");
	append_label(out, ",\"source\":\"");
	pst_encode_source(out, event);
	append_label(out, "\",\"type\":\"persistomata.");
	appendStringInfoString(out, pst_event_type_name(event->type));
	append_label(out, "\",\"time\":\"");
	pst_encode_time(out, event->occurred_at);
	appendStringInfoCharMacro(out, '"');
	if (event->key && *event->key)	/* the specification has no empty subject */
	{
		append_label(out, ",\"subject\":");
		append_string(out, event->key);
	}
	append_trace(out, event->headers);
	append_label(out, ",\"datacontenttype\":\"application/json\",\"data\":");
	pst_encode_json(out, event);
	appendStringInfoCharMacro(out, '}');
}

void
pst_encode_event(StringInfo out, const PstEvent *event, const char *format)
{
	if (event->body)
		appendStringInfoString(out, event->body);
	else if (format && strcmp(format, "cloudevents") == 0)
		pst_encode_cloudevent(out, event);
	else
		pst_encode_json(out, event);
}
