/*
 * parser.h
 *	  What the files of the parser share: the cursor over the definition, the
 *	  model under construction, labels.
 *
 * All offsets are bytes into the definition.  Every server encoding keeps
 * ASCII bytes to ASCII characters, so the parser looks at bytes and takes each
 * byte of a multibyte character for a letter.
 */
#ifndef PST_PARSER_H
#define PST_PARSER_H

#include "machine/model.h"

#define PST_MAX_DEFINITION	(1024 * 1024)	/* bytes */
#define PST_MAX_STATES		10000
#define PST_MAX_TRANSITIONS 100000
#define PST_MAX_NAME		255		/* bytes of a state's or an event's name */
#define PST_MAX_FINDINGS	1000
#define PST_SHOWN_BEFORE	60		/* characters of a long line that are shown before the place of a finding */
#define PST_MAX_TIMING		1000	/* bytes within the parentheses of a timer */

/* Events of the edges that a notation implies. */
#define PST_START_EVENT		"__start__"
#define PST_END_EVENT		"__end__"

typedef struct PstParser
{
	const char *text;
	int			length;
	int			at;				/* the cursor */
	int			line_from;		/* from here to its end the line is known: see pst_line_end */
	int			line_end;
	int			comment;		/* of PlantUML's, at the line's end */
	PstMachine *machine;
	int			states_room;	/* allocated elements */
	int			transitions_room;
	bool		reading;		/* the statements, once the notation is known */
	PstNames	aliases;		/* of states: the offset of the name that each stands for */
	PstNames	edges;			/* what a flowchart calls an edge by: e1@--> */
	PstNames	groups;			/* and its subgraphs: where they begin */
	int			lone_end;		/* where the first node ends that stands alone, without a shape */
	List	   *findings;
	bool		failed;			/* an error is among them */
	bool		full;			/* a limit is: it says nothing more */
} PstParser;

/* A transition's label: event[!|?] [guard] / action */
typedef struct PstLabel
{
	char	   *event;
	PstTransitionKind kind;
	PstSnippet	guard;
	PstSnippet	action;
	PstSnippet	timing;
} PstLabel;

/* What an arrow says besides that there is one. */
typedef struct PstArrow
{
	bool		reverse;		/* it points to what stands before it */
	bool		hidden;			/* it only arranges the states */
} PstArrow;

/* in scanner.c */
extern void pst_parser_find(PstParser *parser, PstSeverity severity, const char *code,
							int offset, const char *hint, const char *format,...) pg_attribute_printf(6, 7);
extern void pst_parser_limit(PstParser *parser, int offset, const char *message, const char *what, int limit);
extern void pst_parser_settle(PstParser *parser);
extern char *pst_next_word(const PstParser *parser, int at);
extern bool pst_is_name_byte(unsigned char c);
extern int	pst_name_length(const char *text, int at, int end);
extern int	pst_skip_blanks(const char *text, int at, int end);
extern bool pst_is_blank(const PstParser *parser, int start, int end);
extern int	pst_line_end(PstParser *parser);
extern bool pst_skip_description(PstParser *parser);
extern void pst_skip_line(PstParser *parser);
extern bool pst_looking_at(const PstParser *parser, const char *word);
extern bool pst_at_keyword(const PstParser *parser, const char *word);
extern bool pst_at_statement_end(const PstParser *parser);
extern bool pst_skip_trivia(PstParser *parser);
extern int	pst_skip_sql(const char *text, int at, int end);
extern int	pst_closing_bracket(const char *text, int at, int end);
extern int	pst_state_name_length(const PstParser *parser, int at);
extern int	pst_scan_state_name(PstParser *parser);

/* The byte at the cursor or ahead of it; NUL past the end. */
static inline char
pst_peek(const PstParser *parser, int ahead)
{
	return parser->at + ahead < parser->length ? parser->text[parser->at + ahead] : '\0';
}

/* Moves the cursor past blanks. */
static inline void
pst_blanks(PstParser *parser)
{
	parser->at = pst_skip_blanks(parser->text, parser->at, parser->length);
}

/* in arrow.c */
extern bool pst_accept_arrow(PstParser *parser, PstArrow *arrow);

/* in alias.c */
extern void pst_alias_read(PstParser *parser);

/* in label.c */
extern bool pst_label_parse(PstParser *parser, int start, int end, PstLabel *label);
extern bool pst_action_parse(PstParser *parser, int start, int end, PstSnippet *action);

/* in statelooks.c */
extern bool pst_statediagram_skip(PstParser *parser);

/* in flowchart.c and statediagram.c */
extern void pst_flowchart_parse(PstParser *parser);
extern void pst_statediagram_parse(PstParser *parser);

/* in model.c */
extern int	pst_model_state(PstParser *parser, int offset, int length);
extern void pst_model_transition(PstParser *parser, int from, int to, const PstLabel *label, int offset);

/* in report.c */
extern char *pst_excerpt(const char *shown, const char *place, bool is_part);

/* in complete.c */
extern void pst_machine_complete(PstParser *parser);

/* in check.c */
extern void pst_machine_check(PstParser *parser);

#endif							/* PST_PARSER_H */
