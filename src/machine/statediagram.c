/*
 * statediagram.c
 *	  Mermaid's state diagrams and PlantUML: a --> b : event.
 */
#include "postgres.h"

#include "machine/parser.h"

void
pst_statediagram_parse(PstParser *parser)
{
	pst_parser_find(parser, PST_SEVERITY_ERROR, "syntax", 0, NULL, "state diagrams are not read yet");
}
