/*
 * reach.c
 *	  Does an expression run code that looks names up when it runs?
 *
 * Users' functions may, also those behind a domain's CHECK, a type's input and
 * output and an operator class; and so may those of PostgreSQL's own functions
 * that take a name as text, or give the number of what has that name.
 *
 * Takes no locks but those of looking at catalogs.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fsm/reach.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

/* Enums are compared, read and printed by PostgreSQL itself. */
static bool
is_users_type(Oid type)
{
	return type >= FirstNormalObjectId && !type_is_enum(type);
}

static bool
is_number_of_named(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return true;
		default:
			return false;
	}
}

static bool
looks_names_up(Oid function, void *context)
{
	Oid		   *arguments;
	int			n;

	if (function >= FirstNormalObjectId)
		return true;
	if (func_volatile(function) == PROVOLATILE_IMMUTABLE)
		return false;
	if (is_number_of_named(get_func_signature(function, &arguments, &n)))
		return true;
	for (int i = 0; i < n; i++)
		if (arguments[i] == TEXTOID || arguments[i] == NAMEOID || is_number_of_named(arguments[i]))
			return true;
	return false;
}

/* Values of users' types come into an expression in these ways. */
static bool
brings_users_type(Node *node)
{
	switch (nodeTag(node))
	{
		case T_Param:
			/* to read a domain's value runs nothing */
			return is_users_type(getBaseType(((Param *) node)->paramtype));
		case T_Const:
		case T_FuncExpr:
		case T_OpExpr:
		case T_CoerceViaIO:
		case T_CoerceToDomain:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_RowExpr:
		case T_ArrayExpr:
		case T_FieldSelect:
		case T_SubscriptingRef:
			return is_users_type(exprType(node));
		default:
			return false;
	}
}

static bool
walk(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (brings_users_type(node) || check_functions_in_node(node, looks_names_up, NULL))
		return true;
	return expression_tree_walker(node, walk, context);
}

bool
pst_looks_at_path(Node *expr)
{
	return walk(expr, NULL);
}
