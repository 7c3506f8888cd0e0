/*
 * native.h
 *	  Events to one block of ClickHouse's Native format.
 *
 * Native is column-wise and says its number of rows first, so a body that is
 * cut short cannot parse: a row-wise format cut at the end of a row is taken
 * for a shorter, complete one.
 *
 * The caller describes each destination column once (pst_native_column), from
 * its name and its type in the destination's table, and encodes any number of
 * blocks with the result.  Values are written in the column's own type wherever
 * that is possible, so that neither the server's version nor its settings
 * decide what becomes of them.
 */
#ifndef PST_NATIVE_H
#define PST_NATIVE_H

#include "postgres.h"

#include "event/event.h"
#include "lib/stringinfo.h"

/* What kind of value a field of an event is. */
typedef enum PstNativeKind
{
	PST_KIND_TEXT,				/* a char * */
	PST_KIND_JSON,				/* a char * to JSON text */
	PST_KIND_TYPE,				/* PstEventType, by its name */
	PST_KIND_INT64,
	PST_KIND_INT32,
	PST_KIND_TIME,				/* int64 microseconds, whole or its seconds */
	PST_KIND_MICROS				/* the microseconds in its second */
} PstNativeKind;

typedef struct PstNativeField
{
	const char *name;
	PstNativeKind kind;
	size_t		offset;			/* in PstEvent */
} PstNativeField;

/* The bytes of one value. */
typedef enum PstNativeForm
{
	PST_NATIVE_TEXT,			/* String; an absent value is '' */
	PST_NATIVE_OBJECT,			/* String, for a column of type JSON; an absent value is '{}' */
	PST_NATIVE_FIXED,			/* FixedString */
	PST_NATIVE_INTEGER,			/* of any width, with or without sign */
	PST_NATIVE_ENUM,
	PST_NATIVE_UUID,
	PST_NATIVE_SECONDS,			/* DateTime */
	PST_NATIVE_TICKS,			/* DateTime64 */
	PST_NATIVE_DAYS				/* Date, Date32 */
} PstNativeForm;

#define PST_NATIVE_MAX_NAME 32
#define PST_NATIVE_MAX_COLUMNS 32
#define PST_NATIVE_MAX_BYTES (512 * 1024 * 1024)

typedef struct PstNativeMember
{
	const char *name;
	int			value;
} PstNativeMember;

typedef struct PstNativeColumn
{
	char		name[PST_NATIVE_MAX_NAME];
	const char *type;			/* as the block says it */
	const PstNativeField *field;	/* that fills it */
	PstNativeForm form;
	bool		nullable;		/* the block has a flag per row */
	bool		converted;		/* the server makes something else of what we write */
	bool		is_signed;		/* of an integer or a day */
	int			width;			/* bytes of each value, or 0 for text */
	int			scale;			/* digits after the point, of ticks */
	const PstNativeMember *members; /* of an enum, */
	int			nmembers;
} PstNativeColumn;

typedef enum PstNativeFit
{
	PST_NATIVE_FITS,
	PST_NATIVE_NO_FIELD,		/* an event has no such field: the column is left to its default */
	PST_NATIVE_UNFIT			/* no value of that field can stand in this column */
} PstNativeFit;

/*
 * Describe the column `name` of type `type`; what it needs is palloc'd.  If
 * casts is false the server does not convert a block's types (before 19.x), and
 * a type that we do not write ourselves is unfit.
 */
extern PstNativeFit pst_native_column(PstNativeColumn *column, const char *name,
									  const char *type, bool casts);

/* The field of an event that a column of this name is filled from, or NULL. */
extern const PstNativeField *pst_native_field(const char *name);

typedef enum PstNativeResult
{
	PST_NATIVE_WRITTEN,
	PST_NATIVE_TOO_LARGE,		/* more than PST_NATIVE_MAX_BYTES: send fewer at once */
	PST_NATIVE_MISFIT			/* a value cannot stand in its column */
} PstNativeResult;

typedef struct PstNativeMisfit
{
	int			row;			/* among rows[] */
	const PstNativeColumn *column;
} PstNativeMisfit;

/*
 * Append one block: the events that rows[0 .. nrows) name, in that order.
 * Nothing is appended unless it is written; *misfit is set if that is why not.
 */
extern PstNativeResult pst_native_block(StringInfo out,
										const PstNativeColumn *columns, int ncolumns,
										const PstEvent *events, const int *rows, int nrows,
										PstNativeMisfit *misfit);

/*
 * In native_value.c, within the room: one value of a column that is not text,
 * written to `at`.  False if it does not fit.
 */
extern bool pst_native_value(const PstNativeColumn *column, const PstEvent *event, char *at);

/* An event's text for a column of texts; rendered into buffer if need be; NULL: absent */
#define PST_NATIVE_RENDERED 48
extern const char *pst_native_text(const PstNativeColumn *column, const PstEvent *event,
								   char buffer[PST_NATIVE_RENDERED]);

/*
 * In native_reading.c: can the server be asked whether a column of this kind
 * still has what we wrote?  Not where it made something else of it.
 */
extern bool pst_native_is_exact(const PstNativeColumn *column);

/*
 * Append what an exact column's value reads as, once this event is in it: a text
 * of its own, which a reader gets from any server by the column's form.  False,
 * with nothing appended, if no value of the event can stand there.
 */
extern bool pst_native_reading(StringInfo out, const PstNativeColumn *column, const PstEvent *event);

#endif							/* PST_NATIVE_H */
