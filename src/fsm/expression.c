/*
 * expression.c
 *	  Compiles and evaluates the SQL expressions of a machine.
 *
 * Each snippet is parsed alone and must be exactly one expression (or SET
 * list); it is never pasted into another statement's text.  Column names become
 * parameters through the parser's hooks, as PL/pgSQL does with its variables.
 * A plain expression is kept as a CachedExpression and an ExprState; one with
 * sub-selects as a CachedPlanSource.  Both see the active snapshot: whoever
 * evaluates an expression that needs_path makes that a fresh one first.
 *
 * Nothing here takes locks beyond those of planning and running the expression.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "executor/executor.h"
#include "fsm/expression.h"
#include "fsm/reach.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parser.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* ---- positions of errors ---- */

/* The place in the definition that an error's position in the parsed text means. */
static const char *
error_place(const PstScope *scope, int position)
{
	const char *text = scope->snippet ? scope->snippet->text : scope->definition + scope->offset;
	const char *at = text;

	for (int i = 1 + scope->shift; i < position && *at != '\0'; i++)
		at += pg_mblen(at);
	if (scope->snippet == NULL)
		return at;
	/* what is written as a code in the definition is shorter in the snippet */
	return scope->definition + pst_snippet_place(scope->machine, scope->snippet, at - text);
}

/* Points an error's position in the snippet at the definition it stands in. */
static void
snippet_error(void *arg)
{
	PstScope   *scope = (PstScope *) arg;
	int			position = geterrposition();
	const char *at = error_place(scope, position);
	int			line = 1;
	const char *line_start = scope->definition;

	for (const char *p = scope->definition; p < at; p++)
		if (*p == '\n')
		{
			line++;
			line_start = p + 1;
		}
	if (position > 0)
	{
		errposition(0);
		internalerrquery(scope->definition);
		internalerrposition(pg_mbstrlen_with_len(scope->definition, at - scope->definition) + 1);
	}
	errcontext("%s in line %d, column %d of the definition", scope->what, line,
			   pg_mbstrlen_with_len(line_start, at - line_start) + 1);
}

void
pst_push_snippet_errors(ErrorContextCallback *callback, PstScope *scope)
{
	callback->callback = snippet_error;
	callback->arg = scope;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

/* ---- names ---- */

static Param *
make_param(int number, Oid type, int32 typmod, Oid collation, int location)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = typmod;
	param->paramcollid = collation;
	param->location = location;
	return param;
}

/* ---- generated columns ---- */

/*
 * A BEFORE trigger's row does not have them yet, and an action changes what they
 * come from: a reference to one is a reference to its expression.
 */
static Node *
vars_to_params(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a machine cannot use a generated column that is made from tableoid")));
		return (Node *) make_param(var->varattno, var->vartype, var->vartypmod, var->varcollid,
								   *(int *) context);
	}
	return expression_tree_mutator(node, vars_to_params, context);
}

static Node *
generation_expression(TupleDesc row, AttrNumber attnum, int location)
{
	for (int i = 0; i < row->constr->num_defval; i++)
		if (row->constr->defval[i].adnum == attnum)
			return vars_to_params(stringToNode(row->constr->defval[i].adbin), &location);
	elog(ERROR, "generation expression of column %d not found", attnum);
}

PstExpression *
pst_compile_generated(TupleDesc row, AttrNumber attnum)
{
	PstExpression *result = palloc0(sizeof(PstExpression));
	Node	   *expr = generation_expression(row, attnum, -1);

	result->type = result->natural = exprType(expr);
	result->cached = GetCachedExpression(expr);
	return result;
}

static Form_pg_attribute
find_column(const PstScope *scope, const char *name)
{
	for (int i = 0; i < scope->row->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(scope->row, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att;
	}
	return NULL;
}

static Node *
column_node(const PstScope *scope, const char *name, int location)
{
	Form_pg_attribute att = find_column(scope, name);

	if (att == NULL)
		return NULL;
	if (att->attgenerated)
		return generation_expression(scope->row, att->attnum, location);
	return (Node *) make_param(att->attnum, att->atttypid, att->atttypmod, att->attcollation, location);
}

/*
 * Resolves column, tablename.column, schema.tablename.column and args, when
 * nothing inside a sub-select has claimed the name.
 */
static Node *
resolve_column(ParseState *pstate, ColumnRef *cref, Node *var)
{
	PstScope   *scope = (PstScope *) pstate->p_ref_hook_state;
	int			nfields = list_length(cref->fields);
	const char *names[3] = {NULL};

	if (var != NULL || nfields < 1 || nfields > 3)
		return NULL;
	for (int i = 0; i < nfields; i++)
	{
		Node	   *field = list_nth(cref->fields, i);

		if (!IsA(field, String))
			return NULL;
		names[i] = strVal(field);
	}

	if (nfields == 1 && strcmp(names[0], "args") == 0)
		return (Node *) make_param(scope->row->natts + 1, JSONBOID, -1, InvalidOid, cref->location);
	if (nfields == 2 && strcmp(names[0], scope->relname) != 0)
		return NULL;
	if (nfields == 3 && (strcmp(names[0], scope->schema) != 0 || strcmp(names[1], scope->relname) != 0))
		return NULL;
	return column_node(scope, names[nfields - 1], cref->location);
}

static void
setup_parser(ParseState *pstate, void *arg)
{
	pstate->p_post_columnref_hook = resolve_column;
	pstate->p_ref_hook_state = arg;
}

/* ---- compiling ---- */

/* Plans a sub-select's expression as a statement of its own. */
static void
compile_plan(PstExpression *result, PstScope *scope, Node *raw, const char *text)
{
	RawStmt    *statement = makeNode(RawStmt);
	SelectStmt *select = makeNode(SelectStmt);
	ResTarget  *target = makeNode(ResTarget);
	MemoryContext cxt = CurrentMemoryContext;
	PstScope   *kept;
	List	   *queries;

	/* the hooks run again whenever the plan is revalidated */
	kept = palloc(sizeof(PstScope));
	*kept = *scope;
	kept->row = CreateTupleDescCopyConstr(scope->row);
	kept->relname = pstrdup(scope->relname);
	kept->schema = pstrdup(scope->schema);

	target->val = raw;
	target->location = -1;
	select->targetList = list_make1(target);
	statement->stmt = (Node *) select;

	result->plan = CreateCachedPlan(statement, text, CMDTAG_SELECT);
	queries = pg_analyze_and_rewrite_withcb(statement, text, setup_parser, kept, NULL);
	CompleteCachedPlan(result->plan, queries, NULL, NULL, 0, setup_parser, kept,
					   CURSOR_OPT_PARALLEL_OK, true);
	SaveCachedPlan(result->plan);
	MemoryContextSwitchTo(cxt);
}

/*
 * Analyze one raw expression and compile it to the type wanted (InvalidOid:
 * whatever it is).
 */
static PstExpression *
compile_expression(PstScope *scope, Node *raw, const char *text, Oid type, int32 typmod)
{
	PstExpression *result = palloc0(sizeof(PstExpression));
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expr;
	Oid			natural;

	pstate->p_sourcetext = text;
	setup_parser(pstate, scope);
	expr = transformExpr(pstate, copyObject(raw), EXPR_KIND_SELECT_TARGET);
	if (pstate->p_hasAggs || pstate->p_hasWindowFuncs || pstate->p_hasTargetSRFs)
		ereport(ERROR,
				(errcode(ERRCODE_GROUPING_ERROR),
				 errmsg("aggregates, window functions and set-returning functions are not allowed in a %s",
						scope->what),
				 errhint("Use a sub-select."),
				 parser_errposition(pstate, exprLocation(expr))));
	natural = exprType(expr);
	if (pstate->p_hasSubLinks)
	{
		/* the plan gives the value; what is left is to bring it to the type wanted */
		compile_plan(result, scope, raw, text);
		expr = (Node *) make_param(1, natural, exprTypmod(expr), exprCollation(expr), exprLocation(expr));
	}
	if (type == BOOLOID)
		expr = coerce_to_boolean(pstate, expr, scope->what);
	else if (OidIsValid(type))
	{
		Oid			from = exprType(expr);
		Node	   *coerced = coerce_to_target_type(pstate, expr, from, type, typmod,
													COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);

		if (coerced == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("a value of type %s cannot be assigned to a column of type %s",
							format_type_be(from), format_type_be(type)),
					 errhint("Cast the value."),
					 parser_errposition(pstate, exprLocation(expr))));
		expr = coerced;
	}
	else
		expr = coerce_to_common_type(pstate, expr,
									 exprType(expr) == UNKNOWNOID ? TEXTOID : exprType(expr),
									 scope->what);
	assign_expr_collations(pstate, expr);
	result->type = exprType(expr);

	result->natural = natural;
	result->needs_path = pstate->p_hasSubLinks || pst_looks_at_path(expr);
	result->is_volatile = result->needs_path || contain_volatile_functions(expr);
	result->cached = GetCachedExpression(expr);
	free_parsestate(pstate);
	return result;
}

/* The only thing that a snippet may be: one expression and no other clause. */
static Node *
parse_expression(PstScope *scope, const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = NULL;
	ResTarget  *target;

	if (list_length(statements) == 1)
		select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (select == NULL || !IsA(select, SelectStmt) || select->op != SETOP_NONE ||
		list_length(select->targetList) != 1 || select->distinctClause || select->intoClause ||
		select->fromClause || select->whereClause || select->groupClause ||
		select->havingClause || select->windowClause || select->valuesLists ||
		select->sortClause || select->limitOffset || select->limitCount ||
		select->lockingClause || select->withClause)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a %s must be one SQL expression", scope->what),
				 errhint("Put a query in parentheses, as a sub-select.")));
	target = linitial_node(ResTarget, select->targetList);
	return target->val;
}

PstExpression *
pst_compile_guard(PstScope *scope, const char *text)
{
	ErrorContextCallback callback;
	PstExpression *result;

	pst_push_snippet_errors(&callback, scope);
	result = compile_expression(scope, parse_expression(scope, text), text, BOOLOID, -1);
	error_context_stack = callback.previous;
	return result;
}

/*
 * What stands in after ( ): an interval as PostgreSQL reads it, such as
 * 30 minutes, or an expression that gives an interval or a timestamptz.
 */
PstExpression *
pst_compile_time(PstScope *scope, const char *text)
{
	ErrorContextCallback callback;
	PstExpression *result;

	pst_push_snippet_errors(&callback, scope);
	if (text[strspn(text, "0123456789.")] == ' ' && text[0] >= '0' && text[0] <= '9')
	{
		Node	   *literal = (Node *) makeNode(A_Const);

		((A_Const *) literal)->val.sval.type = T_String;
		((A_Const *) literal)->val.sval.sval = pstrdup(text);
		((A_Const *) literal)->location = 0;
		result = compile_expression(scope, literal, text, INTERVALOID, -1);
	}
	else
	{
		result = compile_expression(scope, parse_expression(scope, text), text, InvalidOid, -1);
		if (result->type != INTERVALOID && result->type != TIMESTAMPTZOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("a time event needs an interval or a timestamptz, not %s",
							format_type_be(result->type)),
					 errposition(1)));
	}
	error_context_stack = callback.previous;
	return result;
}

static void
check_assigned_column(PstScope *scope, ResTarget *target, AttrNumber attnum,
					  AttrNumber state_att, const AttrNumber *keys, int nkeys)
{
	bool		reserved = attnum == state_att;

	for (int i = 0; i < nkeys; i++)
		reserved |= keys[i] == attnum;
	if (reserved)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an action may not set column \"%s\"", target->name),
				 errdetail("The key of an instance never changes, and only events change its state.")));
	if (TupleDescAttr(scope->row, attnum - 1)->attgenerated)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("an action may not set the generated column \"%s\"", target->name)));
}

List *
pst_compile_assignments(PstScope *scope, const char *text, AttrNumber state_att,
						const AttrNumber *keys, int nkeys)
{
	/* only the SET list of this statement is used; any other clause is refused */
	static const char prefix[] = "UPDATE x SET ";
	ErrorContextCallback callback;
	char	   *statement_text = psprintf("%s%s", prefix, text);
	PstScope	shifted = *scope;
	List	   *statements;
	UpdateStmt *update = NULL;
	List	   *result = NIL;
	ListCell   *lc;

	shifted.shift = (int) sizeof(prefix) - 1;
	pst_push_snippet_errors(&callback, &shifted);
	statements = raw_parser(statement_text, RAW_PARSE_DEFAULT);
	if (list_length(statements) == 1)
		update = (UpdateStmt *) linitial_node(RawStmt, statements)->stmt;
	if (update == NULL || !IsA(update, UpdateStmt) || update->whereClause || update->fromClause ||
		pst_update_returns(update) || update->withClause || update->relation->alias)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("an action must be a list of assignments, or the name of a function"),
				 errhint("Write it as in an UPDATE: column = expression, ...")));

	foreach(lc, update->targetList)
	{
		ResTarget  *target = lfirst_node(ResTarget, lc);
		PstAssignment *assignment = palloc0(sizeof(PstAssignment));
		Form_pg_attribute column = find_column(scope, target->name);

		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of relation \"%s\" does not exist", target->name, scope->relname),
					 errposition(pg_mbstrlen_with_len(statement_text, target->location) + 1)));
		if (target->indirection || IsA(target->val, MultiAssignRef) || IsA(target->val, SetToDefault))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an action must assign whole columns, one by one"),
					 errposition(pg_mbstrlen_with_len(statement_text, target->location) + 1)));
		assignment->attnum = column->attnum;
		check_assigned_column(scope, target, assignment->attnum, state_att, keys, nkeys);
		assignment->value = compile_expression(&shifted, target->val, statement_text,
											   column->atttypid,
											   column->atttypmod);
		result = lappend(result, assignment);
	}
	error_context_stack = callback.previous;
	return result;
}

bool
pst_expression_valid(const PstExpression *expression)
{
	/* a cached plan revalidates itself */
	return expression == NULL || expression->cached == NULL || expression->cached->is_valid;
}

void
pst_expression_free(PstExpression *expression)
{
	if (expression == NULL)
		return;
	if (expression->cached)
		FreeCachedExpression(expression->cached);
	if (expression->plan)
		DropCachedPlan(expression->plan);
}

/* ---- evaluating ---- */

ParamListInfo
pst_row_make(TupleDesc desc, HeapTuple tuple, Datum args, bool args_null)
{
	ParamListInfo row = makeParamList(desc->natts + 1);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		row->params[i].value = values[i];
		row->params[i].isnull = nulls[i];
		row->params[i].pflags = 0;
		row->params[i].ptype = att->attisdropped ? InvalidOid : att->atttypid;
	}
	row->params[desc->natts].value = args;
	row->params[desc->natts].isnull = args_null;
	row->params[desc->natts].pflags = 0;
	row->params[desc->natts].ptype = JSONBOID;
	return row;
}

/* One value out of a planned sub-select. */
typedef struct ValueReceiver
{
	DestReceiver pub;
	MemoryContext cxt;
	bool		found;
	Datum		value;
	bool		isnull;
	int16		typlen;
	bool		typbyval;
} ValueReceiver;

static bool
receive_value(TupleTableSlot *slot, DestReceiver *self)
{
	ValueReceiver *receiver = (ValueReceiver *) self;
	MemoryContext old;

	receiver->value = slot_getattr(slot, 1, &receiver->isnull);
	old = MemoryContextSwitchTo(receiver->cxt);
	if (!receiver->isnull)
		receiver->value = datumCopy(receiver->value, receiver->typbyval, receiver->typlen);
	MemoryContextSwitchTo(old);
	receiver->found = true;
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
	ValueReceiver *receiver = (ValueReceiver *) self;

	receiver->typlen = TupleDescAttr(typeinfo, 0)->attlen;
	receiver->typbyval = TupleDescAttr(typeinfo, 0)->attbyval;
}

static void
receiver_noop(DestReceiver *self)
{
}

static Datum
evaluate_plan(PstExpression *expression, ParamListInfo row, bool *isnull)
{
	ValueReceiver receiver = {
		.pub = {
			.receiveSlot = receive_value,
			.rStartup = receiver_startup,
			.rShutdown = receiver_noop,
			.rDestroy = receiver_noop,
			.mydest = DestNone
		},
		.cxt = CurrentMemoryContext,
		.isnull = true
	};
	CachedPlan *plan;
	QueryDesc  *query;

	plan = GetCachedPlan(expression->plan, row, CurrentResourceOwner, NULL);
	query = CreateQueryDesc(linitial_node(PlannedStmt, plan->stmt_list),
							expression->plan->query_string,
							GetActiveSnapshot(), InvalidSnapshot,
							&receiver.pub, row, NULL, 0);
	ExecutorStart(query, 0);
	pst_executor_run(query, 1);
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
	ReleaseCachedPlan(plan, CurrentResourceOwner);
	*isnull = receiver.isnull;
	return receiver.value;
}

static Datum
evaluate_state(ExprState *state, ParamListInfo row, bool *isnull)
{
	ExprContext *econtext = makeNode(ExprContext);

	/* everything that the expression leaves behind is the caller's context's */
	econtext->ecxt_per_query_memory = CurrentMemoryContext;
	econtext->ecxt_per_tuple_memory = CurrentMemoryContext;
	econtext->ecxt_param_list_info = row;
	return ExecEvalExpr(state, econtext, isnull);
}

Datum
pst_evaluate(PstExpression *expression, ParamListInfo row, bool *isnull)
{
	LocalTransactionId lxid = pst_my_lxid();
	Datum		value;

	if (expression->plan)
	{
		Datum		natural = evaluate_plan(expression, row, isnull);

		row = makeParamList(1);
		row->params[0].value = natural;
		row->params[0].isnull = *isnull;
		row->params[0].ptype = expression->natural;
	}

	/*
	 * An ExprState is not reentrant; an expression that calls itself (by
	 * firing another instance) gets one of its own.
	 */
	if (expression->in_use == lxid)
		return evaluate_state(ExecInitExpr((Expr *) expression->cached->expr, NULL), row, isnull);

	if (expression->state == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(expression));

		expression->state = ExecInitExpr((Expr *) expression->cached->expr, NULL);
		MemoryContextSwitchTo(old);
	}
	expression->in_use = lxid;
	value = evaluate_state(expression->state, row, isnull);
	expression->in_use = InvalidLocalTransactionId;
	return value;
}
