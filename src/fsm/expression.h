/*
 * expression.h
 *	  Guards, actions and times: SQL expressions of a machine, compiled against
 *	  the row type of an FSM table.
 *
 * A row under evaluation is a ParamListInfo: parameter n is the column with
 * attribute number n, the last one is args.  Expressions refer to the row by
 * these parameters only, so nothing of a statement around them can be captured.
 */
#ifndef PST_EXPRESSION_H
#define PST_EXPRESSION_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "machine/model.h"
#include "nodes/execnodes.h"
#include "nodes/params.h"
#include "utils/plancache.h"

/* What names in a snippet are resolved against. */
typedef struct PstScope
{
	TupleDesc	row;			/* of the FSM table */
	const char *relname;		/* tablename.column is accepted, */
	const char *schema;			/* and schema.tablename.column */
	const char *definition;		/* for the position of errors */
	const char *what;			/* "guard", "action", ...: for errors */
	int			offset;			/* of the snippet in the definition */
	const PstMachine *machine;	/* whose definition it is; NULL if it is no machine's */
	const PstSnippet *snippet;	/* likewise */
	int			shift;			/* characters that its parsed text has before it */
} PstScope;

typedef struct PstExpression
{
	Oid			type;
	bool		needs_path;		/* runs code that may look at search_path */
	bool		is_volatile;	/* may depend on more than the row and args */
	CachedPlanSource *plan;		/* if there are sub-selects: gives the value of type natural, */
	Oid			natural;		/* which is then the expression's only parameter */
	CachedExpression *cached;
	ExprState  *state;
	LocalTransactionId in_use;	/* by a call further up in this transaction */
} PstExpression;

/* One column = expression of a SET list. */
typedef struct PstAssignment
{
	AttrNumber	attnum;
	PstExpression *value;
} PstAssignment;

/*
 * Compile in the current memory context; the expression lives as long as it
 * does (see pst_expression_free for what lies elsewhere).  Mistakes are raised
 * with a position in the definition.
 */
extern PstExpression *pst_compile_guard(PstScope *scope, const char *text);
extern PstExpression *pst_compile_time(PstScope *scope, const char *text);
extern List *pst_compile_assignments(PstScope *scope, const char *text, AttrNumber state_att,
									 const AttrNumber *keys, int nkeys);

/* What a generated column is, over the other columns. */
extern PstExpression *pst_compile_generated(TupleDesc row, AttrNumber attnum);

/* Points errors in a snippet at the definition; pop it by callback->previous. */
extern void pst_push_snippet_errors(ErrorContextCallback *callback, PstScope *scope);

/* Is it still what the catalogs say? */
extern bool pst_expression_valid(const PstExpression *expression);
extern void pst_expression_free(PstExpression *expression);

/* Evaluate over a row, in the current memory context. */
extern Datum pst_evaluate(PstExpression *expression, ParamListInfo row, bool *isnull);

/* A row's parameters, from a tuple; args is jsonb or NULL.  In the current context. */
extern ParamListInfo pst_row_make(TupleDesc desc, HeapTuple tuple, Datum args, bool args_null);

#endif							/* PST_EXPRESSION_H */
