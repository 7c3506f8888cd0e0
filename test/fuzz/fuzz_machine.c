/*
 * fuzz_machine.c
 *	  Throws bytes at the parser of definitions and checks what it promises.
 *
 * The first byte chooses the syntax, the rest is the definition.
 */
#include "postgres.h"

#include "machine/model.h"
#include "server_stubs.h"

#define CHECK(condition) do { if (!(condition)) __builtin_trap(); } while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_snippet(const PstMachine *machine, const PstSnippet *snippet)
{
	int			length = strlen(machine->definition);
	int			place;

	if (snippet->text == NULL)
		return;
	CHECK(snippet->offset >= 0 && snippet->offset < length);
	place = pst_snippet_place(machine, snippet, strlen(snippet->text));
	CHECK(place > snippet->offset && place <= length);
}

static void
check_machine(const PstMachine *machine)
{
	CHECK(machine->syntax != PST_SYNTAX_AUTO);
	CHECK(machine->entry == PST_STAR || (machine->entry >= 0 && machine->entry < machine->nstates));
	CHECK(machine->transitions[machine->start].from == PST_STAR);
	for (int i = 0; i < machine->nstates; i++)
	{
		const PstState *state = &machine->states[i];

		CHECK(pst_machine_state(machine, state->name) == i);
		check_snippet(machine, &state->entry);
		check_snippet(machine, &state->exit);
		for (int j = 0; j < state->nleaving; j++)
			CHECK(machine->transitions[state->leaving[j]].from == i);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const PstTransition *transition = &machine->transitions[i];

		CHECK(transition->from >= PST_STAR && transition->from < machine->nstates);
		CHECK(transition->to >= PST_STAR && transition->to < machine->nstates);
		CHECK(transition->event[0] != '\0');
		check_snippet(machine, &transition->guard);
		check_snippet(machine, &transition->action);
		check_snippet(machine, &transition->timing);
	}
}

static void
check_findings(List *findings, const PstMachine *machine, int length)
{
	bool		failed = false;
	int			offset = 0;
	ListCell   *cell;

	foreach(cell, findings)
	{
		const PstFinding *finding = lfirst(cell);

		CHECK(finding->offset >= offset && finding->offset <= length);
		CHECK(finding->line >= 1 && finding->column >= 1 && finding->message[0] != '\0');
		offset = finding->offset;
		failed |= finding->severity == PST_SEVERITY_ERROR;
	}
	CHECK(failed == (machine == NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (setjmp(stub_error) == 0)
	{
		char	   *definition = pnstrdup((const char *) data + 1, size - 1);
		List	   *findings = NIL;
		PstMachine *machine = pst_machine_parse(definition, data[0] % (PST_SYNTAX_PLANTUML + 1), &findings);

		check_findings(findings, machine, strlen(definition));
		if (machine != NULL)
			check_machine(machine);
	}
	stub_free_all();
	return 0;
}
