/*
 * diagram.c
 *	  What SQL calls to have a machine as a diagram.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "compat/compat.h"
#include "machine/printer.h"

PG_FUNCTION_INFO_V1(pst_diagram);

/* A state's name with the number of its instances. */
static char *
counted_name(Jsonb *counts, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *count;

	count = getKeyJsonValueFromContainer(&counts->root, name, strlen(name), &buffer);
	if (count == NULL || count->type != jbvNumeric)
		return psprintf("%s (0)", name);
	return psprintf("%s (%s)", name,
					DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(count->val.numeric))));
}

static char **
make_titles(const PstMachine *machine, Jsonb *counts)
{
	char	  **titles = palloc(Max(machine->nstates, 1) * sizeof(char *));

	if (!JB_ROOT_IS_OBJECT(counts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("counts must be a JSON object")));
	for (int i = 0; i < machine->nstates; i++)
	{
		CHECK_FOR_INTERRUPTS();
		titles[i] = counted_name(counts, machine->states[i].name);
	}
	return titles;
}

/* machine_diagram(machine, version, format, counts) */
Datum
pst_diagram(PG_FUNCTION_ARGS)
{
	const PstMachineVersion *version;
	const PstMachine *machine;
	char	   *format;
	char	  **titles = NULL;
	StringInfoData out;

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	}
	version = pst_machine_version(pst_machine_find(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1)));
	machine = version->machine;
	format = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		titles = make_titles(machine, PG_GETARG_JSONB_P(3));
	initStringInfo(&out);
	if (strcmp(format, "mermaid") == 0)
		pst_print_machine(&out, machine, pst_mermaid_format(machine), titles);
	else if (strcmp(format, "plantuml") == 0)
		pst_print_machine(&out, machine, PST_FORMAT_PLANTUML, titles);
	else if (strcmp(format, "dot") == 0)
		pst_print_dot(&out, machine, version->name, titles);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format \"%s\"", format),
				 errhint("Valid ones are mermaid, plantuml and dot.")));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
