/*
 * upgrade.c
 *	  upgrade(): moves a table and its instances to another version of its
 *	  machine.
 *
 * Takes ShareRowExclusiveLock, as attach() does: readers go on, writers wait,
 * and meet the new version when they go on.  A dry run only reads.  Instances in
 * a state that is renamed are moved as force() would move them, so each has its
 * event in the log.  Timers that the new version has, too, keep their time: they
 * are put aside under the negative number of the binding while all others are
 * armed, and then take their places again.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "compat/compat.h"
#include "event/progress.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "fsm/eligible.h"
#include "funcapi.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "transition/attempt.h"
#include "transition/fire.h"
#include "transition/instance.h"
#include "transition/timer.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

PG_FUNCTION_INFO_V1(pst_upgrade);

#define ROWS_AT_ONCE 1000

typedef struct Upgrade
{
	Relation	rel;
	PstFsm	   *fsm;			/* before */
	const PstMachineVersion *version;	/* after */
	int			nrenames;
	char	  **renames;		/* pairs: from, to */
	ReturnSetInfo *rsinfo;
	MemoryContext cxt;			/* of the call */
	int			obstacles;		/* problems that keep it from being done */
	char	   *first;			/* the first of them */
	/* while it is tried */
	PstFsm	   *trial;
	int			piece;
} Upgrade;

/* ---- what does not fit ---- */

static void
tell(Upgrade *u, const char *problem, const char *state, const char *event, int64 instances, const char *detail)
{
	Datum		values[5] = {0};
	bool		nulls[5] = {false};

	pst_put_text(values, nulls, 0, problem);
	pst_put_text(values, nulls, 1, state);
	pst_put_text(values, nulls, 2, event);
	values[3] = Int64GetDatum(instances);
	nulls[3] = instances < 0;
	pst_put_text(values, nulls, 4, detail);
	tuplestore_putvalues(u->rsinfo->setResult, u->rsinfo->setDesc, values, nulls);
}

/* A problem that keeps it from being done. */
static void
tell_obstacle(Upgrade *u, const char *problem, const char *state, const char *event, int64 instances,
			  const char *detail)
{
	tell(u, problem, state, event, instances, detail);
	if (u->obstacles++ == 0)
		u->first = MemoryContextStrdup(u->cxt, detail);
}

/* Where a state leads; itself if the map does not name it. */
static const char *
renamed(const Upgrade *u, const char *state)
{
	for (int i = 0; i < u->nrenames; i++)
		if (strcmp(u->renames[2 * i], state) == 0)
			return u->renames[2 * i + 1];
	return state;
}

static void
read_map(Upgrade *u, Jsonb *map)
{
	JsonbIterator *it = JsonbIteratorInit(&map->root);
	JsonbValue	v;
	JsonbIteratorToken token;
	bool		good = JB_ROOT_IS_OBJECT(map);

	u->renames = palloc(sizeof(char *) * 2 * (JB_ROOT_COUNT(map) + 1));
	while (good && (token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_KEY && token != WJB_VALUE)
			continue;
		good = v.type == jbvString;
		if (good)
			u->renames[2 * u->nrenames + (token == WJB_VALUE)] = pnstrdup(v.val.string.val, v.val.string.len);
		u->nrenames += token == WJB_VALUE;
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("state_map must be a JSON object of texts"),
				 errhint("Write it as {\"old state\": \"new state\"}.")));
}

static void
check_map(const Upgrade *u)
{
	for (int i = 0; i < u->nrenames; i++)
	{
		const char *to = u->renames[2 * i + 1];

		if (pst_machine_state(u->version->machine, to) < PST_STAR)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("version %d of machine \"%s\" has no state \"%s\"",
							u->version->version, u->version->name, to),
					 errdetail("state_map leads state \"%s\" there.", u->renames[2 * i])));
		if (u->fsm->enforce != PST_ENFORCE_LOG &&
			pst_machine_state(u->fsm->machine, u->renames[2 * i]) < PST_STAR)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("version %d of machine \"%s\" has no state \"%s\"",
							u->fsm->version->version, u->version->name, u->renames[2 * i]),
					 errdetail("state_map names it as an old state.")));
	}
}

static void
try_column(void *arg)
{
	Upgrade    *u = (Upgrade *) arg;

	pst_check_state_type(u->rel, NameStr(TupleDescAttr(u->fsm->desc, u->fsm->state_att - 1)->attname),
						 u->version->machine);
}

static void
try_piece(void *arg)
{
	Upgrade    *u = (Upgrade *) arg;

	pst_fsm_compile_piece(u->trial, u->piece);
}

/* Each guard, action and time that does not suit the table. */
static void
look_at_machine(Upgrade *u)
{
	ErrorData  *error = pst_attempt(try_column, u, false);

	if (error)
		tell_obstacle(u, "column", NULL, NULL, -1, error->message);
	u->trial = pst_fsm_trial(u->rel, u->version->number);
	for (u->piece = 0; u->piece < pst_fsm_pieces(u->trial); u->piece++)
	{
		const PstMachine *machine = u->version->machine;
		int			state = (u->piece - u->trial->nedges) / 2;
		const char *event = NULL;

		CHECK_FOR_INTERRUPTS();
		error = pst_attempt(try_piece, u, true);
		if (error == NULL)
			continue;
		if (u->piece < u->trial->nedges)
		{
			state = machine->transitions[u->piece].from;
			event = machine->transitions[u->piece].event;
		}
		tell_obstacle(u, "expression", pst_machine_state_name(machine, state), event, -1,
					  error->context ? psprintf("%s (%s)", error->message, error->context) : error->message);
	}
}

/* Rows in states that the new version lacks; between SPI_connect and SPI_finish. */
static void
look_at_rows(Upgrade *u)
{
	const char *state = quote_identifier(NameStr(TupleDescAttr(u->fsm->desc, u->fsm->state_att - 1)->attname));

	SPI_execute(psprintf("SELECT %s::pg_catalog.text, pg_catalog.count(*) FROM %s GROUP BY 1 ORDER BY 1", state,
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(u->rel)),
													RelationGetRelationName(u->rel))), false, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *from = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool		isnull;
		int64		n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));

		if (from == NULL || pst_machine_state(u->version->machine, renamed(u, from)) < PST_STAR)
			tell_obstacle(u, "state", from, NULL, n,
						  psprintf("version %d has no state \"%s\"", u->version->version,
								   from ? renamed(u, from) : "NULL"));
	}
}

static PstQuery timers_query = {
	"SELECT state, event, pg_catalog.count(*) FROM persistomata.timer_entry"
	" WHERE binding OPERATOR(pg_catalog.=) $1 GROUP BY 1, 2 ORDER BY 1, 2",
	1, {INT4OID}, NULL
};

static bool
has_time_event(const PstFsm *fsm, const char *state, const char *event)
{
	int			number = pst_machine_state(fsm->machine, state);

	for (int i = 0; i < fsm->nedges; i++)
		if (fsm->edges[i].transition->from == number && fsm->edges[i].transition->timing.text &&
			strcmp(fsm->edges[i].transition->event, event) == 0)
			return true;
	return false;
}

static bool
has_event(const PstFsm *fsm, const char *event)
{
	for (int i = 0; i < fsm->nedges; i++)
		if (pst_edge_offered(&fsm->edges[i], fsm->edges[i].transition->from, event))
			return true;
	return false;
}

/* Timers that will go, and delayed events that will be refused. */
static void
look_at_timers(Upgrade *u)
{
	Datum		arg = Int32GetDatum(u->fsm->binding);
	PstIdentity save;
	uint64		n;

	pst_become_owner(&save);
	n = pst_query_write(&timers_query, &arg, NULL);
	pst_restore_identity(&save);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *state = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		char	   *event = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		int64		timers = DatumGetInt64(pst_result(i, 3, NULL));

		if (state && !has_time_event(u->trial, renamed(u, state), event))
			tell(u, "timer", state, event, timers, "the new version does not have this time event there: it will not fire");
		if (state == NULL && !has_event(u->trial, event))
			tell(u, "delayed event", NULL, event, timers, "the new version does not have this event: it will be refused");
	}
}

/* ---- doing it ---- */

static PstQuery put_aside_query = {
	"UPDATE persistomata.timer_entry SET binding = OPERATOR(pg_catalog.-) binding"
	" WHERE binding OPERATOR(pg_catalog.=) $1 AND state IS NOT NULL",
	1, {INT4OID}, NULL
};

/* $2, $3: the renames; a timer's state before becomes its state after */
static PstQuery rename_query = {
	"UPDATE persistomata.timer_entry t SET state = m.to_state"
	" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS m(from_state, to_state)"
	" WHERE t.binding OPERATOR(pg_catalog.=) (OPERATOR(pg_catalog.-) $1) AND t.state OPERATOR(pg_catalog.=) m.from_state",
	3, {INT4OID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

/* One that was put aside takes the place of the one that was armed for the same. */
static PstQuery replace_query = {
	"WITH armed AS (DELETE FROM persistomata.timer_entry n USING persistomata.timer_entry o"
	" WHERE n.binding OPERATOR(pg_catalog.=) $1 AND o.binding OPERATOR(pg_catalog.=) (OPERATOR(pg_catalog.-) $1)"
	" AND n.key OPERATOR(pg_catalog.=) o.key AND n.event OPERATOR(pg_catalog.=) o.event"
	" AND n.state OPERATOR(pg_catalog.=) o.state RETURNING o.id)"
	" UPDATE persistomata.timer_entry t SET binding = $1 FROM armed WHERE t.id OPERATOR(pg_catalog.=) armed.id",
	1, {INT4OID}, NULL
};

static PstQuery forget_query = {
	"DELETE FROM persistomata.timer_entry WHERE binding OPERATOR(pg_catalog.=) (OPERATOR(pg_catalog.-) $1)",
	1, {INT4OID}, NULL
};

typedef void (*InstanceWork) (Upgrade *u, PstFsm *fsm, HeapTuple tuple);

/* For each row, in a scratch context. */
static void
each_instance(Upgrade *u, PstFsm *fsm, InstanceWork work)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata upgrade",
											  ALLOCSET_DEFAULT_SIZES);
	double		about = u->rel->rd_rel->reltuples;
	int64		done = 0;
	Portal		portal;
	uint64		n;

	SPI_connect();
	pst_progress_begin(PST_WORK_UPGRADE, RelationGetRelid(u->rel));
	portal = SPI_cursor_open_with_args(NULL, pst_instance_query(fsm, u->rel), 0, NULL, NULL, NULL, false, 0);
	do
	{
		SPITupleTable *rows;

		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		n = SPI_processed;
		rows = SPI_tuptable;
		for (uint64 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			CHECK_FOR_INTERRUPTS();
			SPI_tuptable = rows;
			work(u, fsm, pst_instance_tuple(fsm, i));
			MemoryContextSwitchTo(old);
			MemoryContextReset(cxt);
		}
		SPI_freetuptable(rows);
		done += n;
		pst_progress(done, about >= 0 ? Max((int64) about, done) : -1);
	} while (n > 0);
	SPI_cursor_close(portal);
	pst_progress_end();
	SPI_finish();
	MemoryContextDelete(cxt);
}

/* A state that the map renames: an event of its own, as force() makes it. */
static void
move_instance(Upgrade *u, PstFsm *fsm, HeapTuple tuple)
{
	char	   *state = pst_row_state(fsm, tuple);
	const char *to = renamed(u, state);
	PstFiring	firing = {0};

	if (strcmp(state, to) == 0)
	{
		int			number = pst_machine_state(fsm->machine, to);

		if (fsm->has_timers && number >= 0)
			pst_timers_arm(fsm, pst_row_key(fsm, tuple), number, tuple);
		return;
	}
	firing.fsm = fsm;
	firing.key = pst_row_key(fsm, tuple);
	firing.signal.to_state = to;
	firing.reason = psprintf("upgrade to version %d", u->version->version);
	firing.args_null = true;
	pst_fire(&firing);
	if (firing.refusal.sqlstate)
		pst_raise_refusal(&firing.refusal);
}

static Datum
text_array_of(const Upgrade *u, int side)
{
	Datum	   *texts = palloc(sizeof(Datum) * (u->nrenames + 1));

	for (int i = 0; i < u->nrenames; i++)
		texts[i] = CStringGetTextDatum(u->renames[2 * i + side]);
	return PointerGetDatum(construct_array(texts, u->nrenames, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
do_upgrade(Upgrade *u)
{
	Datum		args[] = {Int32GetDatum(u->fsm->binding), text_array_of(u, 0), text_array_of(u, 1)};
	PstFsm	   *fsm;

	pst_timer_write(&put_aside_query, args, NULL, NULL);
	pst_timer_write(&rename_query, args, NULL, NULL);
	pst_fsm_rebind(u->rel, u->fsm, u->version->number);
	fsm = pst_fsm_lookup(u->rel, false);
	if (fsm->has_timers || u->nrenames > 0)
		each_instance(u, fsm, move_instance);
	pst_timer_write(&replace_query, args, NULL, NULL);
	pst_timer_write(&forget_query, args, NULL, NULL);
}

/* ---- SQL ---- */

static void
check_owner(Relation rel)
{
	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security hides a part of table \"%s\"", RelationGetRelationName(rel))));
}

static void
refuse_upgrade(const Upgrade *u)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("\"%s\" does not fit version %d of machine \"%s\"",
					u->fsm->name, u->version->version, u->version->name),
			 errdetail_plural("There is %d problem; the first is: %s.", "There are %d problems; the first is: %s.",
							  u->obstacles, u->obstacles, u->first),
			 errhint("List them with dry_run => true; state_map renames states.")));
}

/* upgrade(fsm, version, state_map, dry_run) */
Datum
pst_upgrade(PG_FUNCTION_ARGS)
{
	bool		dry_run = PG_GETARG_BOOL(3);
	Upgrade		u = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo, .cxt = CurrentMemoryContext};

	InitMaterializedSRF(fcinfo, 0);
	u.fsm = pst_fsm_open(PG_GETARG_OID(0), dry_run ? AccessShareLock : ShareRowExclusiveLock, &u.rel);
	if (!dry_run)
		CheckTableNotInUse(u.rel, "upgrade");
	check_owner(u.rel);
	if (u.fsm->relid != u.fsm->root)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partition", RelationGetRelationName(u.rel)),
				 errhint("Upgrade the partitioned table.")));
	/* nobody drops it while we bind to it */
	pst_machine_lock(u.fsm->version->name, ShareLock);
	u.version = pst_machine_version(pst_machine_find(u.fsm->version->name, PG_GETARG_INT32(1)));
	read_map(&u, PG_GETARG_JSONB_P(2));
	check_map(&u);
	look_at_machine(&u);
	SPI_connect();
	look_at_rows(&u);
	look_at_timers(&u);
	SPI_finish();
	pst_fsm_trial_end(u.trial);
	if (!dry_run)
	{
		if (u.obstacles > 0)
			refuse_upgrade(&u);
		do_upgrade(&u);
	}
	table_close(u.rel, NoLock);
	return (Datum) 0;
}
