/*
 * functions.c
 *	  What SQL can ask of a definition: validate, and the rows of the views.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "compat/compat.h"
#include "machine/catalog.h"

PG_FUNCTION_INFO_V1(pst_validate);
PG_FUNCTION_INFO_V1(pst_definition_states);
PG_FUNCTION_INFO_V1(pst_definition_transitions);

static void
put_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_text(Datum *value, bool *null, const char *text)
{
	*null = text == NULL;
	*value = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* validate(definition, syntax): all findings */
Datum
pst_validate(PG_FUNCTION_ARGS)
{
	char	   *definition = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PstSyntax	syntax = pst_syntax_of(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	List	   *findings = NIL;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	pst_machine_parse(definition, syntax, &findings);
	foreach(cell, findings)
	{
		PstFinding *finding = lfirst(cell);
		Datum		values[7];
		bool		nulls[7] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(finding->severity == PST_SEVERITY_ERROR ? "error" : "warning");
		values[1] = CStringGetTextDatum(finding->code);
		values[2] = Int32GetDatum(finding->line);
		values[3] = Int32GetDatum(finding->column);
		values[4] = CStringGetTextDatum(finding->message);
		values[5] = CStringGetTextDatum(finding->hint);
		values[6] = CStringGetTextDatum(finding->excerpt);
		put_row(fcinfo, values, nulls);
	}
	return (Datum) 0;
}

/* The model of a stored definition, which has been parsed before. */
static PstMachine *
parse_stored(FunctionCallInfo fcinfo)
{
	char	   *definition = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PstSyntax	syntax = pst_syntax_of(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	List	   *findings = NIL;
	PstMachine *machine = pst_machine_parse(definition, syntax, &findings);
	ListCell   *cell;

	if (machine != NULL)
		return machine;
	foreach(cell, findings)
	{
		PstFinding *finding = lfirst(cell);

		if (finding->severity == PST_SEVERITY_ERROR)
			pst_machine_report(finding);
	}
	return NULL;
}

Datum
pst_definition_states(PG_FUNCTION_ARGS)
{
	PstMachine *machine = parse_stored(fcinfo);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < machine->nstates; i++)
	{
		PstState   *state = &machine->states[i];
		Datum		values[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(state->name);
		values[1] = BoolGetDatum(i == machine->entry);
		values[2] = BoolGetDatum(state->is_final);
		put_text(&values[3], &nulls[3], state->entry.text);
		put_text(&values[4], &nulls[4], state->exit.text);
		put_row(fcinfo, values, nulls);
	}
	return (Datum) 0;
}

Datum
pst_definition_transitions(PG_FUNCTION_ARGS)
{
	PstMachine *machine = parse_stored(fcinfo);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		PstTransition *transition = &machine->transitions[i];
		Datum		values[6];
		bool		nulls[6] = {false};

		CHECK_FOR_INTERRUPTS();
		put_text(&values[0], &nulls[0], pst_machine_state_name(machine, transition->from));
		put_text(&values[1], &nulls[1], transition->event);
		put_text(&values[2], &nulls[2], pst_machine_state_name(machine, transition->to));
		put_text(&values[3], &nulls[3], pst_transition_kind_name(transition->kind));
		put_text(&values[4], &nulls[4], transition->guard.text);
		put_text(&values[5], &nulls[5], transition->action.text);
		put_row(fcinfo, values, nulls);
	}
	return (Datum) 0;
}
