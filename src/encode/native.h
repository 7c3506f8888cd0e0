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
 * blocks with the result.
 */
#ifndef PST_NATIVE_H
#define PST_NATIVE_H

#include "postgres.h"

#include "event/event.h"
#include "lib/stringinfo.h"

/* The bytes of one value. */
typedef enum PstNativeForm
{
	PST_NATIVE_TEXT,			/* String; an absent value is '' */
	PST_NATIVE_NULLABLE_TEXT,	/* Nullable(String) */
	PST_NATIVE_OBJECT,			/* String; an absent value is '{}', for a column of type JSON */
	PST_NATIVE_UINT64,
	PST_NATIVE_UINT32,
	PST_NATIVE_SECONDS,			/* DateTime */
	PST_NATIVE_MICROSECONDS		/* DateTime64(6) */
} PstNativeForm;

#define PST_NATIVE_MAX_NAME 32
#define PST_NATIVE_MAX_TYPE 64
#define PST_NATIVE_MAX_COLUMNS 32
#define PST_NATIVE_MAX_BYTES (512 * 1024 * 1024)

typedef struct PstNativeColumn
{
	char		name[PST_NATIVE_MAX_NAME];
	char		type[PST_NATIVE_MAX_TYPE];	/* as the block says it */
	int			field;			/* of the event; private to native.c */
	PstNativeForm form;
} PstNativeColumn;

/*
 * Describe the column `name` of type `type`.  False if an event has no such
 * field: the column is then left to the table's own default.  If casts is
 * false the server does not convert a block's types (before 19.x), and a type
 * that we do not write ourselves is also refused, with *mismatch set.
 */
extern bool pst_native_column(PstNativeColumn *column, const char *name,
							  const char *type, bool casts, bool *mismatch);

/*
 * Append one block: the events that rows[0 .. nrows) name, in that order.
 * False, with nothing appended, if it would be larger than
 * PST_NATIVE_MAX_BYTES: send fewer at once.
 */
extern bool pst_native_block(StringInfo out,
							 const PstNativeColumn *columns, int ncolumns,
							 const PstEvent *events, const int *rows, int nrows);

#endif							/* PST_NATIVE_H */
