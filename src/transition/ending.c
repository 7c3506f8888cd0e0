/*
 * ending.c
 *	  on_final => 'delete': the row goes when its instance ends.
 *
 * Whoever may fire the last event need not be allowed to delete: the DELETE
 * runs as the owner of the table, as the cascades of foreign keys do, but under
 * the search_path of attach().  It is an ordinary one, with the table's
 * triggers, and ours log it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "transition/ending.h"
#include "transition/engine.h"
#include "transition/fire.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static bool
has_ended(const PstFsm *fsm, const char *name)
{
	int			state = pst_machine_state(fsm->machine, name);

	if (state < PST_STAR)
		return false;
	for (int i = 0; state != PST_STAR && i < fsm->nedges; i++)
		if (pst_edge_offered(&fsm->edges[i], state, NULL))
			return false;
	return true;
}

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* DELETE FROM t WHERE key = $1, prepared once per compiled binding. */
static SPIPlanPtr
delete_plan(PstFsm *fsm)
{
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	char	   *condition = pst_key_condition(fsm, types);
	char	   *sql;

	if (fsm->delete_plan)
		return fsm->delete_plan;
	sql = psprintf("DELETE FROM %s WHERE %s",
				   quote_qualified_identifier(get_namespace_name(get_rel_namespace(fsm->root)),
											  get_rel_name(fsm->root)), condition);
	fsm->delete_plan = SPI_prepare(sql, fsm->nkeys, types);
	if (fsm->delete_plan == NULL || SPI_keepplan(fsm->delete_plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return fsm->delete_plan;
}

static void
delete_row(PstFsm *fsm, HeapTuple tuple)
{
	Datum	   *key = palloc(sizeof(Datum) * fsm->nkeys);

	for (int i = 0; i < fsm->nkeys; i++)
	{
		bool		isnull;

		key[i] = heap_getattr(tuple, fsm->keys[i], fsm->desc, &isnull);
	}
	SPI_connect();
	SPI_execute_plan(delete_plan(fsm), key, NULL, false, 0);
	SPI_finish();
}

void
pst_end_instance(PstFsm *fsm, const char *state, HeapTuple tuple)
{
	Oid			user;
	int			sec_context;
	int			level;

	if (!fsm->deletes_ended || !has_ended(fsm, state))
		return;
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", fsm->search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner_of(fsm->root), sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	delete_row(fsm, tuple);
	SetUserIdAndSecContext(user, sec_context);
	AtEOXact_GUC(true, level);
}
