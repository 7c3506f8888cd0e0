/*
 * printer.h
 *	  A machine as text: Mermaid, PlantUML, Graphviz.
 */
#ifndef PST_PRINTER_H
#define PST_PRINTER_H

#include "lib/stringinfo.h"

#include "machine/model.h"

typedef enum PstFormat
{
	PST_FORMAT_FLOWCHART,
	PST_FORMAT_STATE_DIAGRAM,
	PST_FORMAT_PLANTUML
} PstFormat;

/* Mermaid's notation that has all that the machine has. */
extern PstFormat pst_mermaid_format(const PstMachine *machine);

/*
 * Appends a diagram that reads as the same machine.  The titles, one for each
 * state, are shown in place of the names; NULL for none.
 */
extern void pst_print_machine(StringInfo out, const PstMachine *machine, PstFormat format, char **titles);

/* The same for Graphviz, which cannot be read in again. */
extern void pst_print_dot(StringInfo out, const PstMachine *machine, const char *name, char **titles);

/* The text of a transition's label, decoded: event[!|?] [guard] / action */
extern char *pst_label_text(const PstTransition *transition);

/* An edge that the notation implies, without an event of the user's. */
extern bool pst_is_implied(const PstTransition *transition);

/*
 * In escape.c: what the notation would take for its own syntax becomes codes.
 * With style, one of Mermaid's words for it stands somewhere in the diagram.
 */
extern void pst_escape_text(StringInfo out, PstFormat format, const char *text, bool has_style);

#endif							/* PST_PRINTER_H */
