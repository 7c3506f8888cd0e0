/*
 * binding.c
 *	  The backend's cache of compiled bindings.
 *
 * Entries are built from persistomata.binding when a table is first used, under
 * the lock that the caller holds on the table (every statement that reaches the
 * triggers holds one; attach and detach take ShareRowExclusiveLock).  A relcache
 * invalidation of the table marks its entry; expressions know of invalidations
 * of what they use by themselves.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "executor/spi.h"
#include "fsm/fsm.h"
#include "machine/owner.h"
#include "parser/parse_func.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

typedef struct FsmEntry
{
	Oid			relid;			/* hash key */
	PstFsm	   *fsm;			/* NULL: not built */
} FsmEntry;

/* A row of persistomata.binding. */
typedef struct BindingRow
{
	int			id;
	Oid			root;
	char	   *fsm;
	int			machine;
	char	   *state_column;
	List	   *key_columns;
	List	   *payload_columns;
	List	   *types;
	char	   *enforce;
	char	   *search_path;
	bool		deletes_ended;
} BindingRow;

static HTAB *fsm_cache = NULL;
static List *retired_fsms = NIL;	/* in CacheMemoryContext */
static uint64 invalidations = 0;	/* whatever comes while one is built may be about it */

/* ---- invalidation ---- */

static void
invalidate_fsm(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	FsmEntry   *entry;

	invalidations++;
	hash_seq_init(&scan, fsm_cache);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->fsm && (relid == InvalidOid || entry->relid == relid || entry->fsm->root == relid))
			entry->fsm->valid = false;
}

/* A schema was renamed, perhaps: plans name their table with it. */
static void
invalidate_all(Datum arg, int cacheid, uint32 hashvalue)
{
	invalidate_fsm(arg, InvalidOid);
}

static void
create_cache(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(FsmEntry);
	ctl.hcxt = CacheMemoryContext;
	fsm_cache = hash_create("persistomata FSM tables", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(invalidate_fsm, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_all, (Datum) 0);
}

void
pst_fsm_invalidate(Oid relid)
{
	CacheInvalidateRelcacheByRelid(relid);
}

static void
free_action(PstAction *action)
{
	ListCell   *lc;

	foreach(lc, action->assignments)
		pst_expression_free(((PstAssignment *) lfirst(lc))->value);
}

static void
free_fsm(PstFsm *fsm)
{
	for (int i = 0; i < fsm->nedges; i++)
	{
		pst_expression_free(fsm->edges[i].guard);
		pst_expression_free(fsm->edges[i].timing);
		free_action(&fsm->edges[i].action);
	}
	for (int i = 0; i < fsm->machine->nstates; i++)
	{
		free_action(&fsm->entry[i]);
		free_action(&fsm->exit[i]);
	}
	if (fsm->generated)
		for (int i = 0; i < fsm->desc->natts; i++)
			pst_expression_free(fsm->generated[i]);
	if (fsm->fire_plan)
		SPI_freeplan(fsm->fire_plan);
	if (fsm->delete_plan)
		SPI_freeplan(fsm->delete_plan);
	MemoryContextDelete(fsm->cxt);
}

/* Whoever still uses a retired one does so in the transaction that retired it. */
static void
free_retired(void)
{
	ListCell   *lc;

	foreach(lc, retired_fsms)
	{
		PstFsm	   *fsm = (PstFsm *) lfirst(lc);

		if (fsm->retired != pst_my_lxid())
		{
			retired_fsms = foreach_delete_current(retired_fsms, lc);
			free_fsm(fsm);
		}
	}
}

static void
retire(FsmEntry *entry)
{
	MemoryContext old = MemoryContextSwitchTo(CacheMemoryContext);

	entry->fsm->retired = pst_my_lxid();
	retired_fsms = lappend(retired_fsms, entry->fsm);
	entry->fsm = NULL;
	MemoryContextSwitchTo(old);
}

static bool
action_valid(const PstAction *action)
{
	ListCell   *lc;

	/* one that was dropped may be there again, with another number */
	if (OidIsValid(action->function) && !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(action->function)))
		return false;
	foreach(lc, action->assignments)
		if (!pst_expression_valid(((PstAssignment *) lfirst(lc))->value))
			return false;
	return true;
}

static bool
fsm_valid(const PstFsm *fsm)
{
	if (!fsm->valid)
		return false;
	for (int i = 0; i < fsm->nedges; i++)
		if (!pst_expression_valid(fsm->edges[i].guard) ||
			!pst_expression_valid(fsm->edges[i].timing) ||
			!action_valid(&fsm->edges[i].action))
			return false;
	for (int i = 0; i < fsm->machine->nstates; i++)
		if (!action_valid(&fsm->entry[i]) || !action_valid(&fsm->exit[i]))
			return false;
	return true;
}

/* ---- reading the catalog ---- */

static List *
array_strings(Datum value, bool isnull)
{
	List	   *result = NIL;
	Datum	   *elements;
	int			n;
	bool		names;

	if (isnull)
		return NIL;
	names = ARR_ELEMTYPE(DatumGetArrayTypeP(value)) == NAMEOID;
	if (names)
		deconstruct_array(DatumGetArrayTypeP(value), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
						  &elements, NULL, &n);
	else
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, names ? pstrdup(NameStr(*DatumGetName(elements[i])))
						 : TextDatumGetCString(elements[i]));
	return result;
}

/* Copies the binding's row into cxt; NULL if none of the relids is bound. */
static BindingRow *
read_binding(List *relids, MemoryContext cxt)
{
	BindingRow *row = NULL;
	Datum	   *oids = palloc(sizeof(Datum) * list_length(relids));
	ArrayType  *array;
	Oid			argtypes[1] = {OIDARRAYOID};
	Datum		args[1];
	PstIdentity save;

	for (int i = 0; i < list_length(relids); i++)
		oids[i] = ObjectIdGetDatum(list_nth_oid(relids, i));
	array = construct_array(oids, list_length(relids), OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	args[0] = PointerGetDatum(array);

	/* as with catalogs, what is committed counts, not what a transaction's snapshot shows */
	pst_become_owner(&save);
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT id, relid::pg_catalog.oid, fsm, machine, state_column::pg_catalog.text,"
						  " key_columns, payload_columns, types, enforce, search_path,"
						  " on_final OPERATOR(pg_catalog.=) 'delete'"
						  " FROM persistomata.binding"
						  " WHERE relid::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)",
						  1, argtypes, args, NULL, true, 1);
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(cxt);
		bool		isnull;
		Datum		types;

		row = palloc0(sizeof(BindingRow));
		row->id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		row->root = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		row->fsm = TextDatumGetCString(SPI_getbinval(tuple, desc, 3, &isnull));
		row->machine = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
		row->state_column = TextDatumGetCString(SPI_getbinval(tuple, desc, 5, &isnull));
		row->key_columns = array_strings(SPI_getbinval(tuple, desc, 6, &isnull), false);
		row->payload_columns = array_strings(SPI_getbinval(tuple, desc, 7, &isnull), false);
		types = SPI_getbinval(tuple, desc, 8, &isnull);
		row->types = array_strings(types, isnull);
		row->enforce = TextDatumGetCString(SPI_getbinval(tuple, desc, 9, &isnull));
		row->search_path = TextDatumGetCString(SPI_getbinval(tuple, desc, 10, &isnull));
		row->deletes_ended = DatumGetBool(SPI_getbinval(tuple, desc, 11, &isnull));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	PopActiveSnapshot();
	pst_restore_identity(&save);
	return row;
}

/* ---- compiling ---- */

static AttrNumber
column_number(const PstFsm *fsm, const char *column)
{
	for (int i = 0; i < fsm->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), column) == 0)
			return att->attnum;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of FSM table \"%s\" does not exist", column, fsm->name),
			 errdetail("Machine \"%s\" is bound to it.", fsm->version->name),
			 errhint("Rename the column back, or detach the table and attach it again.")));
}

/* Output that depends on the session's settings, or may. */
static bool
prints_by_settings(Oid type)
{
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case UUIDOID:
		case JSONOID:
		case JSONBOID:
			return false;
		default:
			return !type_is_enum(getBaseType(type));
	}
}

/* Whether equal values may print differently, as 1.5 and 1.50 do. */
static bool
is_loose(Form_pg_attribute att)
{
	switch (getBaseType(att->atttypid))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case UUIDOID:
		case BYTEAOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return false;
		case TEXTOID:
		case VARCHAROID:
		case NAMEOID:
			return OidIsValid(att->attcollation) && !get_collation_isdeterministic(att->attcollation);
		default:
			return !type_is_enum(getBaseType(att->atttypid));
	}
}

static void
resolve_columns(PstFsm *fsm, BindingRow *row)
{
	ListCell   *lc;
	int			n = 0;

	fsm->state_att = column_number(fsm, row->state_column);
	fsm->state_type = TupleDescAttr(fsm->desc, fsm->state_att - 1)->atttypid;
	fsm->nkeys = list_length(row->key_columns);
	fsm->keys = palloc(sizeof(AttrNumber) * fsm->nkeys);
	fsm->in_payload = palloc0(sizeof(bool) * fsm->desc->natts);
	foreach(lc, row->key_columns)
		fsm->keys[n++] = column_number(fsm, lfirst(lc));
	foreach(lc, row->payload_columns)
		fsm->in_payload[column_number(fsm, lfirst(lc)) - 1] = true;
	for (int i = 0; i < fsm->desc->natts; i++)
	{
		Oid			type = TupleDescAttr(fsm->desc, i)->atttypid;

		/* times go into jsonb in UTC anyhow */
		if (fsm->in_payload[i] && type != DATEOID && type != TIMESTAMPOID && type != TIMESTAMPTZOID &&
			prints_by_settings(type))
			fsm->payload_by_settings = true;
	}
	for (int i = 0; i < fsm->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->keys[i] - 1);

		fsm->key_by_settings |= prints_by_settings(att->atttypid);
		fsm->key_is_loose |= is_loose(att);
	}
	pst_payload_order(fsm);
}

static PstScope
scope_of(const PstFsm *fsm, const char *what, const PstSnippet *snippet)
{
	PstScope	scope = {
		.row = fsm->desc,
		.relname = get_rel_name(fsm->root),
		.schema = get_namespace_name(get_rel_namespace(fsm->root)),
		.definition = fsm->machine->definition,
		.what = what,
		.offset = snippet->offset,
		.machine = fsm->machine,
		.snippet = snippet
	};

	return scope;
}

static void
note_expression(PstFsm *fsm, const PstExpression *expression)
{
	if (expression && expression->needs_path)
		fsm->needs_path = true;
	if (expression && expression->is_volatile)
		fsm->needs_lock = true;
}

static bool
is_function_name(const char *text)
{
	return text[strcspn(text, "=(,")] == '\0';
}

/* A function named in an action: f(row, args jsonb) that returns the row or void. */
static void
compile_function(PstFsm *fsm, PstAction *action, const char *text, PstScope *scope)
{
	Oid			row_type = get_rel_type_id(fsm->root);
	Oid			argtypes[2] = {row_type, JSONBOID};
	Oid			result;
	ErrorContextCallback callback;

	pst_push_snippet_errors(&callback, scope);
	action->name = pstrdup(text);
	action->function = LookupFuncName(pst_qualified_name(text), 2, argtypes, true);
	if (!OidIsValid(action->function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s, jsonb) does not exist", text, format_type_be(row_type)),
				 errhint("An action is a list of assignments, or a function of the row and args."),
				 errposition(1)));
	result = get_func_rettype(action->function);
	if (result == row_type)
		action->kind = PST_ACTION_ROW;
	else if (result == VOIDOID)
		action->kind = PST_ACTION_VOID;
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("function %s must return %s or void, not %s", text,
						format_type_be(row_type), format_type_be(result)),
				 errposition(1)));
	error_context_stack = callback.previous;
	fsm->needs_path = fsm->needs_lock = true;
}

static void
compile_action(PstFsm *fsm, PstAction *action, const PstSnippet *snippet)
{
	PstScope	scope = scope_of(fsm, "action", snippet);
	ListCell   *lc;

	if (snippet->text == NULL)
		return;
	if (is_function_name(snippet->text))
	{
		compile_function(fsm, action, snippet->text, &scope);
		return;
	}
	action->kind = PST_ACTION_ASSIGN;
	action->assignments = pst_compile_assignments(&scope, snippet->text, fsm->state_att,
												  fsm->keys, fsm->nkeys);
	foreach(lc, action->assignments)
		note_expression(fsm, ((PstAssignment *) lfirst(lc))->value);
}

static void
compile_edge(PstFsm *fsm, PstEdge *edge)
{
	const PstTransition *transition = edge->transition;
	PstScope	scope;

	if (transition->guard.text)
	{
		scope = scope_of(fsm, "guard", &transition->guard);
		edge->guard = pst_compile_guard(&scope, transition->guard.text);
		note_expression(fsm, edge->guard);
	}
	if (transition->timing.text)
	{
		scope = scope_of(fsm, "time event", &transition->timing);
		edge->timing = pst_compile_time(&scope, transition->timing.text);
		note_expression(fsm, edge->timing);
		fsm->has_timers = true;
	}
	compile_action(fsm, &edge->action, &transition->action);
}

int
pst_fsm_pieces(const PstFsm *fsm)
{
	return fsm->nedges + 2 * fsm->machine->nstates;
}

/* The edges, then each state's entry and exit. */
static void
compile_piece(PstFsm *fsm, int piece)
{
	int			state = (piece - fsm->nedges) / 2;
	const PstMachine *machine = fsm->machine;

	if (piece < fsm->nedges)
		compile_edge(fsm, &fsm->edges[piece]);
	else if ((piece - fsm->nedges) % 2 == 0)
		compile_action(fsm, &fsm->entry[state], &machine->states[state].entry);
	else
		compile_action(fsm, &fsm->exit[state], &machine->states[state].exit);
}

void
pst_fsm_compile_piece(PstFsm *fsm, int piece)
{
	bool		needs_path = fsm->needs_path;
	int			level;

	fsm->needs_path = true;		/* while compiling */
	level = pst_enter_path(fsm);
	fsm->needs_path = needs_path;
	compile_piece(fsm, piece);
	pst_leave_path(level);
}

/* For row functions, whose row is to be whole. */
static void
compile_generated(PstFsm *fsm)
{
	int			natts = fsm->desc->natts;

	for (int i = 0; i < natts; i++)
	{
		if (!TupleDescAttr(fsm->desc, i)->attgenerated)
			continue;
		if (fsm->generated == NULL)
			fsm->generated = palloc0(sizeof(PstExpression *) * natts);
		fsm->generated[i] = pst_compile_generated(fsm->desc, i + 1);
	}
}

static void
resolve_types(PstFsm *fsm, List *types)
{
	static const char *const names[] = {"init", "state", "value", "errored", "deleted"};

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		ListCell   *lc;
		bool		wanted = types == NIL;

		foreach(lc, types)
			wanted |= strcmp(lfirst(lc), names[i]) == 0;
		fsm->logs[(unsigned char) names[i][0]] = wanted;
	}
}

/* All but what is compiled. */
static PstFsm *
prepare_fsm(Relation rel, BindingRow *row, MemoryContext cxt)
{
	PstFsm	   *fsm = palloc0(sizeof(PstFsm));

	fsm->cxt = cxt;
	fsm->relid = RelationGetRelid(rel);
	fsm->root = row->root;
	fsm->binding = row->id;
	fsm->name = row->fsm;
	fsm->search_path = row->search_path;
	fsm->deletes_ended = row->deletes_ended;
	fsm->version = pst_machine_version(row->machine);
	fsm->machine = fsm->version->machine;
	fsm->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	fsm->enforce = strcmp(row->enforce, "all") == 0 ? PST_ENFORCE_ALL :
		strcmp(row->enforce, "edges") == 0 ? PST_ENFORCE_EDGES : PST_ENFORCE_LOG;
	resolve_types(fsm, row->types);
	resolve_columns(fsm, row);

	fsm->nedges = fsm->machine->ntransitions;
	fsm->edges = palloc0(sizeof(PstEdge) * (fsm->nedges + 1));
	for (int i = 0; i < fsm->nedges; i++)
		fsm->edges[i].transition = &fsm->machine->transitions[i];
	fsm->entry = palloc0(sizeof(PstAction) * fsm->machine->nstates);
	fsm->exit = palloc0(sizeof(PstAction) * fsm->machine->nstates);
	return fsm;
}

static PstFsm *
compile_fsm(Relation rel, BindingRow *row, MemoryContext cxt)
{
	PstFsm	   *fsm = prepare_fsm(rel, row, cxt);
	int			level;

	fsm->needs_path = true;		/* while compiling */
	level = pst_enter_path(fsm);
	fsm->needs_path = false;
	for (int i = 0; i < pst_fsm_pieces(fsm); i++)
		compile_piece(fsm, i);
	compile_generated(fsm);
	pst_leave_path(level);
	return fsm;
}

/*
 * The new context hangs from the caller's until all is well, so that an error
 * in a definition leaves nothing behind but what the caches themselves hold.
 */
static PstFsm *
build_fsm(Relation rel)
{
	List	   *relids = list_make1_oid(RelationGetRelid(rel));
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata FSM table",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	BindingRow *row;
	PstFsm	   *fsm = NULL;
	uint64		before = invalidations;

	if (rel->rd_rel->relispartition)
		relids = list_concat(relids, get_partition_ancestors(RelationGetRelid(rel)));
	row = read_binding(relids, cxt);
	if (row)
	{
		old = MemoryContextSwitchTo(cxt);
		fsm = compile_fsm(rel, row, cxt);
		/* readers hold no lock that keeps others from binding it anew meanwhile */
		fsm->valid = invalidations == before;
		MemoryContextSwitchTo(old);
		MemoryContextSetParent(cxt, CacheMemoryContext);
	}
	else
		MemoryContextDelete(cxt);
	return fsm;
}

PstFsm *
pst_fsm_trial(Relation rel, int machine)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "persistomata trial",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	BindingRow *row = read_binding(list_make1_oid(RelationGetRelid(rel)), cxt);
	PstFsm	   *fsm;

	row->machine = machine;
	fsm = prepare_fsm(rel, row, cxt);
	MemoryContextSwitchTo(old);
	return fsm;
}

void
pst_fsm_trial_end(PstFsm *fsm)
{
	free_fsm(fsm);
}

/* ---- lookups ---- */

PstFsm *
pst_fsm_lookup(Relation rel, bool missing_ok)
{
	Oid			relid = RelationGetRelid(rel);
	FsmEntry   *entry;
	PstFsm	   *fsm;
	bool		found;

	if (fsm_cache == NULL)
		create_cache();
	entry = hash_search(fsm_cache, &relid, HASH_ENTER, &found);
	if (!found)
		entry->fsm = NULL;
	if (entry->fsm && fsm_valid(entry->fsm))
		return entry->fsm;

	free_retired();
	if (entry->fsm)
		retire(entry);
	fsm = build_fsm(rel);
	if (fsm == NULL && !missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has the triggers of an FSM table but is bound to no machine",
						RelationGetRelationName(rel)),
				 errhint("Attach it again with persistomata.attach(), or drop its triggers with persistomata.detach().")));
	/* building may have looked up others and so moved the entry */
	entry = hash_search(fsm_cache, &relid, HASH_ENTER, &found);
	entry->fsm = fsm;
	return fsm;
}

PstFsm *
pst_fsm_open(Oid relid, LOCKMODE lockmode, Relation *rel)
{
	PstFsm	   *fsm;

	*rel = table_open(relid, lockmode);
	fsm = pst_fsm_lookup(*rel, true);
	if (fsm == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an FSM table", RelationGetRelationName(*rel)),
				 errhint("Bind it to a machine with persistomata.attach().")));
	return fsm;
}

int
pst_enter_path(const PstFsm *fsm)
{
	int			level;

	if (!fsm->needs_path)
		return 0;
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", fsm->search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
pst_leave_path(int level)
{
	if (level > 0)
		AtEOXact_GUC(true, level);
}
