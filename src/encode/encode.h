/*
 * encode.h
 *	  Events to bytes.  Pure: no I/O, no catalogs, no settings.
 *
 * Results are appended to a StringInfo of the caller's.
 */
#ifndef PST_ENCODE_H
#define PST_ENCODE_H

#include "postgres.h"

#include "event/event.h"
#include "lib/stringinfo.h"

/* appendBinaryStringInfo without a call: an event is some sixty of these. */
static inline void
pst_append(StringInfo out, const char *bytes, int len)
{
	if (unlikely(len >= out->maxlen - out->len))
		enlargeStringInfo(out, len);
	memcpy(out->data + out->len, bytes, len);
	out->len += len;
	out->data[out->len] = '\0';
}

/* in json.c: the event as one JSON object, under the names of the log's fields */
extern void pst_encode_json(StringInfo out, const PstEvent *event);

/* in json.c: the event as a CloudEvents 1.0 structured envelope */
extern void pst_encode_cloudevent(StringInfo out, const PstEvent *event);

/* in json.c: the source attribute of that, a URI reference */
extern void pst_encode_source(StringInfo out, const PstEvent *event);

/* in json.c: a time as ISO 8601 in UTC, with microseconds */
extern void pst_encode_time(StringInfo out, int64 us_since_1970);

/* dispatches on a route's format, "json" or "cloudevents"; an event that has a body has its own */
extern PGDLLEXPORT void pst_encode_event(StringInfo out, const PstEvent *event, const char *format);

/*
 * in member.c: the next member of a JSON object whose value is a string.  Begin
 * with the object, go on with what is returned, until that is NULL.
 */
extern const char *pst_next_member(const char *at, StringInfo name, StringInfo value);

/*
 * in template.c: an address template, with {machine} {type} {event} {key}
 * {from} {to} {fsm} replaced; an absent field becomes "-"; "{{" and "}}" are
 * single braces.
 */
extern PGDLLEXPORT void pst_encode_address(StringInfo out, const char *template, const PstEvent *event);

/* false, with the unknown field's name in *unknown, if the template has one */
extern bool pst_check_template(const char *template, char **unknown);

#endif							/* PST_ENCODE_H */
