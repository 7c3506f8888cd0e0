/*
 * outcome.c
 *	  Refusals and outcomes, as errors and as rows.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "transition/outcome.h"
#include "utils/builtins.h"

void
pst_refuse(PstRefusal *refusal, int sqlstate, const char *format,...)
{
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	refusal->sqlstate = sqlstate;
	refusal->message = message.data;
	refusal->detail = NULL;
	refusal->hint = NULL;
}

void
pst_raise_refusal(const PstRefusal *refusal)
{
	ereport(ERROR,
			(errcode(refusal->sqlstate),
			 errmsg_internal("%s", refusal->message),
			 refusal->detail ? errdetail_internal("%s", refusal->detail) : 0,
			 refusal->hint ? errhint("%s", refusal->hint) : 0));
}

static const char *
status_name(PstStatus status)
{
	static const char *const names[] = {"transitioned", "refused", "failed", "duplicate"};

	return names[status];
}

void
pst_put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

Datum
pst_outcome_datum(const PstOutcome *outcome, TupleDesc desc)
{
	Datum		values[6] = {0};
	bool		nulls[6] = {false};

	values[0] = Int64GetDatum(outcome->event_id);
	nulls[0] = outcome->event_id == 0;
	pst_put_text(values, nulls, 1, status_name(outcome->status));
	pst_put_text(values, nulls, 2, outcome->event);
	pst_put_text(values, nulls, 3, outcome->from_state);
	pst_put_text(values, nulls, 4, outcome->to_state);
	pst_put_text(values, nulls, 5, outcome->reason);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
