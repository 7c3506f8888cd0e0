/*
 * model.h
 *	  The machine as a model: what a definition text means.
 *
 * A model is immutable and knows nothing of tables.  It is one allocation tree
 * in the memory context that was current when it was parsed; all strings in it
 * are NUL-terminated copies in the server's encoding.  Offsets are bytes into
 * the definition.
 */
#ifndef PST_MODEL_H
#define PST_MODEL_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

#include "machine/names.h"

#define PST_STAR		(-1)	/* the pseudo-state * as a state's number */

typedef enum PstSyntax
{
	PST_SYNTAX_AUTO,
	PST_SYNTAX_FLOWCHART,
	PST_SYNTAX_STATE_DIAGRAM,
	PST_SYNTAX_PLANTUML
} PstSyntax;

typedef enum PstTransitionKind
{
	PST_PLAIN,
	PST_HARD,					/* event! */
	PST_SOFT,					/* event? */
	PST_AFTER,					/* after (...) */
	PST_EVERY					/* every (...) */
} PstTransitionKind;

/* A piece of SQL in the definition: its text and where it stands. */
typedef struct PstSnippet
{
	char	   *text;			/* NULL: there is none */
	int			offset;			/* of its first byte in the definition */
} PstSnippet;

typedef struct PstTransition
{
	int			from;			/* index into states, or PST_STAR */
	int			to;				/* likewise */
	char	   *event;			/* without ! and ?; timers: "after (...)" as written, space normalised */
	PstTransitionKind kind;
	PstSnippet	guard;
	PstSnippet	action;
	PstSnippet	timing;			/* what stands in the parentheses of after and every */
	int			offset;			/* of the edge in the definition */
	bool		ambiguous;		/* same from, event and kind, another target, neither guarded */
} PstTransition;

typedef struct PstState
{
	char	   *name;
	bool		is_final;		/* may end here: no exits, or an edge to * */
	bool		has_exits;		/* to another state than * */
	PstSnippet	entry;			/* entry action */
	PstSnippet	exit;			/* exit action */
	int			offset;			/* where it is first named */
	int			nleaving;		/* the transitions that leave it (or stay), */
	int		   *leaving;		/* as indexes, in definition order */
} PstState;

typedef struct PstMachine
{
	char	   *definition;
	PstSyntax	syntax;			/* never AUTO */
	int			nstates;
	PstState   *states;			/* in the order of their first mention */
	int			entry;			/* index of the entry state; PST_STAR in a machine without states */
	int			start;			/* index of the transition from * */
	/*
	 * In definition order; the edges from and to * that the notation implies
	 * (events __start__ and __end__) come first and last.
	 */
	int			ntransitions;
	PstTransition *transitions;
	PstNames	names;			/* of the states: see pst_machine_state */
} PstMachine;

typedef enum PstSeverity
{
	PST_SEVERITY_ERROR,
	PST_SEVERITY_WARNING
} PstSeverity;

/* What is wrong with a definition. */
typedef struct PstFinding
{
	PstSeverity severity;
	const char *code;			/* "syntax", "no_entry", "unreachable", ... */
	int			offset;
	int			line;			/* from 1 */
	int			column;			/* from 1, in characters */
	char	   *excerpt;		/* the line, or what surrounds the place, and a caret below */
	char	   *message;
	char	   *hint;
} PstFinding;

/*
 * Parse and check a definition.  Appends PstFindings to *findings, in the
 * order of their offsets; returns NULL if one of them is an error.
 */
extern PstMachine *pst_machine_parse(const char *definition, PstSyntax syntax, List **findings);

/* Raise a finding: errors as ERROR (22P02) and warnings as WARNING, with line, column, the line and a caret. */
extern void pst_machine_report(const PstFinding *finding);

/* The index of a state by name, or -2 if there is none ("*" is PST_STAR). */
extern int	pst_machine_state(const PstMachine *machine, const char *name);

/*
 * The offset in the definition of the byte at a position of a snippet's text.
 * It is not simply a sum: #quot; in a label is one byte of the snippet.  Reads
 * the definition from there on.
 */
extern int	pst_snippet_place(const PstMachine *machine, const PstSnippet *snippet, int position);

/* "plain", "hard", "soft", "after", "every" */
extern const char *pst_transition_kind_name(PstTransitionKind kind);

/* Is it for an event to fire: neither the start, nor the end that a final state has by itself. */
extern bool pst_transition_has_event(const PstTransition *transition);

/* The name of a state by index; "*" for PST_STAR. */
extern const char *pst_machine_state_name(const PstMachine *machine, int state);

/* in catalog.c: machine versions in the catalog, cached by their number for the backend's life */
typedef struct PstMachineVersion
{
	int			number;			/* persistomata.machine_version.id */
	char	   *name;
	int			version;
	PstMachine *machine;
} PstMachineVersion;

/* Looks a version up by its number; throws if there is none.  Needs a transaction. */
extern const PstMachineVersion *pst_machine_version(int number);

/* The number of a machine's version (0: its newest); throws undefined_object if there is none. */
extern int	pst_machine_find(const char *name, int version);

/*
 * Locks a machine's name until the transaction ends: ShareLock keeps it from
 * being dropped while a table is bound to it.
 */
extern void pst_machine_lock(const char *name, LOCKMODE mode);

#endif							/* PST_MODEL_H */
