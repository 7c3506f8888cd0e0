/*
 * log_probe.c
 *	  Appends to the event log from SQL: what an event costs without a
 *	  transition.
 *
 * What persistomata exports is looked up by name, so that this library can be
 * loaded before it.
 */
#include "postgres.h"

#include "event/append.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(log_append);

void		_PG_init(void);

static int64 (*draw_id) (void);
static void (*append) (const PstLogRow *, int);

void
_PG_init(void)
{
	draw_id = load_external_function("$libdir/persistomata", "pst_log_draw_id", true, NULL);
	append = load_external_function("$libdir/persistomata", "pst_log_append", true, NULL);
}

Datum
log_append(PG_FUNCTION_ARGS)
{
	PstLogRow	row = {
		.event_id = draw_id(),
		.type = PST_STATE,
		.binding = PG_GETARG_INT32(0),
		.machine = PG_GETARG_INT32(1),
		.key = text_to_cstring(PG_GETARG_TEXT_PP(2)),
		.event = text_to_cstring(PG_GETARG_TEXT_PP(3)),
		.from_state = text_to_cstring(PG_GETARG_TEXT_PP(4)),
		.to_state = text_to_cstring(PG_GETARG_TEXT_PP(5)),
		.args = PG_GETARG_DATUM(6),
		.payload = PG_GETARG_DATUM(7)
	};

	append(&row, 1);
	PG_RETURN_INT64(row.event_id);
}
