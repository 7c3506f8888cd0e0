/*
 * attach.c
 *	  Binds a table to a machine: checks the table, writes the binding, makes
 *	  the triggers.
 *
 * The caller holds ShareRowExclusiveLock on the table, so no writer is under
 * way.  The catalog is written as the extension's owner; the triggers are made
 * as the caller, who must own the table.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat/compat.h"
#include "executor/spi.h"
#include "fsm/eligible.h"
#include "fsm/fsm.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static const char *const event_types[] = {"init", "state", "value", "errored", "deleted"};

/* ---- what leaves the database ---- */

static bool
is_listed(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* All but bytea; or those named; or, if all names begin with -, all but those. */
static List *
choose_payload(Relation rel, List *wanted)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *excluded = NIL;
	List	   *included = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, wanted)
	{
		char	   *name = lfirst(lc);

		(void) pst_table_column(rel, name[0] == '-' ? name + 1 : name, "payload_columns");
		if (name[0] == '-')
			excluded = lappend(excluded, name + 1);
		else
			included = lappend(included, name);
	}
	if (included && excluded)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload_columns both names and excludes columns"),
				 errhint("Name the columns, or exclude some as \"-name\"; not both.")));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char	   *name = NameStr(att->attname);

		if (att->attisdropped)
			continue;
		if (included ? is_listed(included, name)
			: (att->atttypid != BYTEAOID && !is_listed(excluded, name)))
			result = lappend(result, pstrdup(name));
	}
	return result;
}

/* ---- the binding ---- */

static Datum
text_array(List *strings, Oid type)
{
	int			n = list_length(strings);
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = type == NAMEOID
			? DirectFunctionCall1(namein, CStringGetDatum(list_nth(strings, i)))
			: CStringGetTextDatum(list_nth(strings, i));
	return PointerGetDatum(type == NAMEOID
						   ? construct_array(elements, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR)
						   : construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

char *
pst_current_path(void)
{
	StringInfoData path;
	ListCell   *lc;

	initStringInfo(&path);
	foreach(lc, fetch_search_path(false))
	{
		char	   *schema = get_namespace_name(lfirst_oid(lc));

		if (schema && !isAnyTempNamespace(lfirst_oid(lc)))
			appendStringInfo(&path, "%s, ", quote_identifier(schema));
	}
	appendStringInfoString(&path, "pg_temp");
	return path.data;
}

static void
check_choice(const char *what, const char *value, const char *const *choices, int n)
{
	StringInfoData valid;

	initStringInfo(&valid);
	for (int i = 0; i < n; i++)
	{
		if (strcmp(value, choices[i]) == 0)
			return;
		appendStringInfo(&valid, "%s%s", i ? ", " : "", choices[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for %s: \"%s\"", what, value),
			 errhint("Valid values are: %s.", valid.data)));
}

static void
check_options(const PstAttachOptions *options)
{
	static const char *const enforce[] = {"all", "edges", "log"};
	static const char *const on_final[] = {"keep", "delete"};
	ListCell   *lc;

	check_choice("enforce", options->enforce, enforce, lengthof(enforce));
	check_choice("on_final", options->on_final, on_final, lengthof(on_final));
	foreach(lc, options->types)
		check_choice("types", lfirst(lc), event_types, lengthof(event_types));
}

static void
insert_binding(Relation rel, const PstAttachOptions *options, List *keys, List *payload, int machine)
{
	Oid			types[] = {OIDOID, TEXTOID, INT4OID, TEXTOID, NAMEARRAYOID, NAMEARRAYOID,
		TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[10];
	char		nulls[11] = "          ";
	PstIdentity save;

	values[0] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[1] = CStringGetTextDatum(psprintf("%s.%s", get_namespace_name(RelationGetNamespace(rel)),
											 RelationGetRelationName(rel)));
	values[2] = Int32GetDatum(machine);
	values[3] = CStringGetTextDatum(options->state_column);
	values[4] = text_array(keys, NAMEOID);
	values[5] = text_array(payload, NAMEOID);
	values[6] = text_array(options->types, TEXTOID);
	if (options->types == NIL)
		nulls[6] = 'n';
	values[7] = CStringGetTextDatum(options->enforce);
	values[8] = CStringGetTextDatum(options->on_final);
	values[9] = CStringGetTextDatum(pst_current_path());

	pst_become_owner(&save);
	SPI_connect();
	SPI_execute_with_args("INSERT INTO persistomata.binding (relid, fsm, machine, state_column,"
						  " key_columns, payload_columns, types, enforce, on_final, search_path)"
						  " VALUES ($1::pg_catalog.regclass, $2, $3, $4::pg_catalog.name, $5, $6, $7, $8, $9, $10)",
						  lengthof(types), types, values, nulls, false, 0);
	SPI_finish();
	pst_restore_identity(&save);
}

static char *
name_of(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

static char *
qualified_name(Relation rel)
{
	return name_of(RelationGetRelid(rel));
}

static void
make_triggers(Relation rel)
{
	char	   *table = qualified_name(rel);
	ListCell   *lc;

	SPI_connect();
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" BEFORE INSERT OR UPDATE OR DELETE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION persistomata.decide()",
						 PST_DECIDE_TRIGGER, table), false, 0);
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" AFTER INSERT OR UPDATE OR DELETE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION persistomata.record()",
						 PST_RECORD_TRIGGER, table), false, 0);
	SPI_finish();
	/* row triggers are cloned to partitions, statement triggers are not */
	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
		pst_fsm_guard_truncate(lfirst_oid(lc));
}

void
pst_fsm_bind(Relation rel, const PstAttachOptions *options)
{
	List	   *keys;
	List	   *payload;
	int			number;
	const PstMachineVersion *version;
	StringInfoData columns;
	ListCell   *lc;

	pst_check_table(rel);
	check_options(options);
	if (pst_fsm_lookup(rel, true))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" is already bound to a machine", RelationGetRelationName(rel)),
				 errhint("Detach it first with persistomata.detach().")));
	/* nobody drops it while we bind to it */
	pst_machine_lock(options->machine, ShareLock);
	number = pst_machine_find(options->machine, 0);
	version = pst_machine_version(number);
	if (version->machine->entry == PST_STAR)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("machine \"%s\" has no states", options->machine),
				 errdetail("An instance of it would end as it begins.")));
	pst_check_state_column(rel, options->state_column);
	pst_check_state_type(rel, options->state_column, version->machine);
	keys = pst_choose_key(rel, options->key_columns);
	pst_check_key(rel, keys, options->state_column);
	payload = choose_payload(rel, options->payload_columns);
	pst_check_states(rel, options->state_column, keys, version->machine);

	insert_binding(rel, options, keys, payload, number);
	make_triggers(rel);
	pst_fsm_invalidate(RelationGetRelid(rel));
	CommandCounterIncrement();
	/* compiles guards and actions: a mistake in them undoes the whole */
	(void) pst_fsm_lookup(rel, false);

	initStringInfo(&columns);
	foreach(lc, payload)
		appendStringInfo(&columns, "%s%s", columns.len ? ", " : "", (char *) lfirst(lc));
	ereport(NOTICE,
			(errmsg("events of \"%s\" carry these columns: %s", RelationGetRelationName(rel), columns.data)));
}

/* Also what a restore has left without its binding. */
static bool
has_trigger_of_ours(Relation rel)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const char *name = rel->trigdesc->triggers[i].tgname;

		if (strcmp(name, PST_DECIDE_TRIGGER) == 0 || strcmp(name, PST_RECORD_TRIGGER) == 0 ||
			strcmp(name, PST_TRUNCATE_TRIGGER) == 0)
			return true;
	}
	return false;
}

static void
drop_triggers(Relation rel)
{
	char	   *table = qualified_name(rel);
	ListCell   *lc;

	SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", PST_DECIDE_TRIGGER, table), false, 0);
	SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", PST_RECORD_TRIGGER, table), false, 0);
	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
		SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", PST_TRUNCATE_TRIGGER,
							 name_of(lfirst_oid(lc))), false, 0);
}

int
pst_fsm_unbind(Relation rel)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(RelationGetRelid(rel))};
	bool		guarded = has_trigger_of_ours(rel);
	int			binding = 0;
	bool		isnull;
	PstIdentity save;

	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	SPI_connect();
	if (guarded)
		drop_triggers(rel);
	pst_become_owner(&save);
	SPI_execute_with_args("UPDATE persistomata.binding SET relid = NULL"
						  " WHERE relid::pg_catalog.oid OPERATOR(pg_catalog.=) $1 RETURNING id",
						  1, types, values, NULL, false, 0);
	if (SPI_processed > 0)
		binding = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	pst_restore_identity(&save);
	SPI_finish();
	if (binding == 0 && !guarded)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an FSM table", RelationGetRelationName(rel))));
	pst_fsm_invalidate(RelationGetRelid(rel));
	return binding;
}

void
pst_fsm_guard_truncate(Oid relid)
{
	SPI_connect();
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" BEFORE TRUNCATE ON %s"
						 " FOR EACH STATEMENT EXECUTE FUNCTION persistomata.refuse_truncate()",
						 PST_TRUNCATE_TRIGGER, name_of(relid)), false, 0);
	SPI_finish();
}

void
pst_fsm_rebind(Relation rel, const PstFsm *fsm, int machine)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(fsm->binding), Int32GetDatum(machine)};
	PstIdentity save;

	pst_become_owner(&save);
	SPI_connect();
	SPI_execute_with_args("UPDATE persistomata.binding SET machine = $2 WHERE id OPERATOR(pg_catalog.=) $1",
						  lengthof(types), types, values, NULL, false, 0);
	SPI_finish();
	pst_restore_identity(&save);
	pst_fsm_invalidate(RelationGetRelid(rel));
	CommandCounterIncrement();
}
