/*
 * lifecycle.c
 *	  attach() and detach(): a table's life as an FSM table, and what is done
 *	  when it is altered.
 *
 * attach() and detach() take ShareRowExclusiveLock, as CREATE TRIGGER does:
 * readers go on, writers wait.  table_altered() relies on the lock of the DDL.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "compat/compat.h"
#include "fmgr.h"
#include "fsm/fsm.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "transition/bulk.h"
#include "transition/timer.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(pst_attach);
PG_FUNCTION_INFO_V1(pst_detach);
PG_FUNCTION_INFO_V1(pst_table_altered);

static List *
text_list(FunctionCallInfo fcinfo, int n)
{
	List	   *result = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(n))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column names and types must not be NULL")));
		result = lappend(result, TextDatumGetCString(elements[i]));
	}
	return result;
}

/* attach(fsm, machine, state_column, key_columns, payload_columns, types, enforce, on_final, baseline) */
Datum
pst_attach(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"fsm", "machine", "state_column", NULL, NULL, NULL,
	"enforce", "on_final", "baseline"};
	PstAttachOptions options;
	Relation	rel;

	for (int i = 0; i < (int) lengthof(names); i++)
		if (names[i] && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be NULL", names[i])));
	options.machine = text_to_cstring(PG_GETARG_TEXT_PP(1));
	options.state_column = NameStr(*PG_GETARG_NAME(2));
	options.key_columns = text_list(fcinfo, 3);
	options.payload_columns = text_list(fcinfo, 4);
	options.types = text_list(fcinfo, 5);
	options.enforce = text_to_cstring(PG_GETARG_TEXT_PP(6));
	options.on_final = text_to_cstring(PG_GETARG_TEXT_PP(7));

	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	pst_fsm_bind(rel, &options);
	pst_baseline(rel, PG_GETARG_BOOL(8));
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

Datum
pst_detach(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);

	CheckTableNotInUse(rel, "detach");
	/* nothing is compiled: a binding that no longer fits its table must not stay */
	pst_timers_cancel_all(pst_fsm_unbind(rel), true);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/*
 * Called as the extension's owner.  What can run the machine's code runs as the
 * table's owner and in a restricted operation, as an index's expressions do:
 * others alter tables too.
 */
static void
follow_table(Relation rel)
{
	List	   *adopted;
	ListCell   *lc;
	Oid			user;
	int			context;
	int			level = NewGUCNestLevel();

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, context | SECURITY_RESTRICTED_OPERATION);
	adopted = pst_fsm_altered(rel);
	foreach(lc, adopted)
	{
		Relation	part = table_open(lfirst_oid(lc), AccessShareLock);

		if (part->rd_rel->relkind == RELKIND_RELATION)
			pst_log_all_rows(part, PST_INIT, "baseline", true);
		table_close(part, NoLock);
	}
	AtEOXact_GUC(false, level);
	SetUserIdAndSecContext(user, context);
	foreach(lc, adopted)
		pst_fsm_guard_truncate(lfirst_oid(lc));
}

/* table_altered(oid): called by an event trigger after DDL */
Datum
pst_table_altered(PG_FUNCTION_ARGS)
{
	Relation	rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);

	if (rel == NULL)
		PG_RETURN_VOID();
	if (rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		follow_table(rel);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}
