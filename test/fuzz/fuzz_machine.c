/*
 * fuzz_machine.c
 *	  Throws bytes at the parser of definitions and checks what it promises; and
 *	  that what is printed of a machine reads as the same machine.
 *
 * The first byte chooses the syntax, the rest is the definition.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "machine/printer.h"
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
		CHECK(finding->hint[0] != '\0' && strchr(finding->excerpt, '^') != NULL);
		offset = finding->offset;
		failed |= finding->severity == PST_SEVERITY_ERROR;
	}
	CHECK(failed == (machine == NULL));
}

static void
check_same_text(const char *a, const char *b)
{
	CHECK((a == NULL) == (b == NULL));
	CHECK(a == NULL || strcmp(a, b) == 0);
}

static void
check_same(const PstMachine *a, const PstMachine *b)
{
	CHECK(a->nstates == b->nstates && a->ntransitions == b->ntransitions && a->entry == b->entry);
	for (int i = 0; i < a->nstates; i++)
	{
		check_same_text(a->states[i].name, b->states[i].name);
		check_same_text(a->states[i].entry.text, b->states[i].entry.text);
		check_same_text(a->states[i].exit.text, b->states[i].exit.text);
		CHECK(a->states[i].is_final == b->states[i].is_final);
	}
	for (int i = 0; i < a->ntransitions; i++)
	{
		const PstTransition *left = &a->transitions[i];
		const PstTransition *right = &b->transitions[i];

		CHECK(left->from == right->from && left->to == right->to && left->kind == right->kind);
		CHECK(left->ambiguous == right->ambiguous);
		check_same_text(left->event, right->event);
		check_same_text(left->guard.text, right->guard.text);
		check_same_text(left->action.text, right->action.text);
	}
}

/* What is printed reads as the same machine, the notation found by itself; and prints as the same text. */
static void
check_round_trip(const PstMachine *machine, PstFormat format, bool with_titles)
{
	char	  **titles = NULL;
	StringInfoData first;
	StringInfoData second;
	PstMachine *again;
	List	   *findings = NIL;

	if (with_titles)
	{
		titles = palloc((machine->nstates + 1) * sizeof(char *));
		for (int i = 0; i < machine->nstates; i++)
			titles[i] = psprintf("%s (%d)", machine->states[i].name, i);
	}
	initStringInfo(&first);
	initStringInfo(&second);
	pst_print_machine(&first, machine, format, titles);
	again = pst_machine_parse(first.data, PST_SYNTAX_AUTO, &findings);
	CHECK(again != NULL);
	check_same(machine, again);
	if (!with_titles)
	{
		pst_print_machine(&second, again, format, titles);
		check_same_text(first.data, second.data);
	}
}

static bool
is_utf8(const char *text)
{
	int			length = strlen(text);

	return pg_encoding_verifymbstr(PG_UTF8, text, length) == length;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *definition;

	if (size == 0)
		return 0;
	definition = pnstrdup((const char *) data + 1, size - 1);
	if (setjmp(stub_error) == 0 && is_utf8(definition))
	{
		List	   *findings = NIL;
		PstMachine *machine = pst_machine_parse(definition, data[0] % (PST_SYNTAX_PLANTUML + 1), &findings);

		check_findings(findings, machine, strlen(definition));
		if (machine != NULL)
		{
			check_machine(machine);
			check_round_trip(machine, pst_mermaid_format(machine), false);
			check_round_trip(machine, PST_FORMAT_STATE_DIAGRAM, data[0] >= 128);
			check_round_trip(machine, PST_FORMAT_PLANTUML, data[0] >= 128);
		}
	}
	stub_free_all();
	return 0;
}
