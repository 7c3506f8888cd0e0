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

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat/compat.h"
#include "executor/spi.h"
#include "fsm/fsm.h"
#include "machine/owner.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define TRUNCATE_TRIGGER "~persistomata truncate"

static const char *const event_types[] = {"init", "state", "value", "errored", "deleted"};

/* ---- may this table be attached? ---- */

static void
refuse_table(Relation rel, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot attach \"%s\" to a machine", RelationGetRelationName(rel)),
			 errdetail("%s", why),
			 hint ? errhint("%s", hint) : 0));
}

static void
check_table(Relation rel)
{
	char		kind = rel->rd_rel->relkind;

	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(kind), RelationGetRelationName(rel));
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		refuse_table(rel, "Only tables can be attached.",
					 kind == RELKIND_VIEW ? "Attach the table that the view shows." : NULL);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse_table(rel, "Temporary and unlogged tables would lose their state while the log keeps it.", NULL);
	if (IsCatalogRelation(rel))
		refuse_table(rel, "It is a system catalog.", NULL);
	if (rel->rd_rel->relispartition)
		refuse_table(rel, "It is a partition.", "Attach the partitioned table.");
	if (rel->rd_rel->relhasrules)
		refuse_table(rel, "It has rules, which rewrite what a write means.", "Use triggers instead.");
	if (kind == RELKIND_RELATION &&
		(has_superclass(RelationGetRelid(rel)) ||
		 find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL))
		refuse_table(rel, "It takes part in inheritance, where a key is not unique.",
					 "Use declarative partitioning.");
}

static Form_pg_attribute
find_column(Relation rel, const char *name, const char *what)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s\" does not exist", name, RelationGetRelationName(rel)),
			 errhint("Name the %s in the call of persistomata.attach().", what)));
}

static void
check_state_column(Relation rel, const char *name)
{
	Form_pg_attribute att = find_column(rel, name, "state_column");
	Oid			type = getBaseType(att->atttypid);

	if (type != TEXTOID && type != VARCHAROID && type != NAMEOID && !type_is_enum(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("state column \"%s\" is of type %s", name, format_type_be(att->atttypid)),
				 errdetail("A state column is text, varchar, name, an enum, or a domain over one of these.")));
	if (att->attgenerated)
		refuse_table(rel, "Its state column is generated.", NULL);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		PartitionKey key = RelationGetPartitionKey(rel);

		for (int i = 0; i < key->partnatts; i++)
			if (key->partattrs[i] == att->attnum)
				refuse_table(rel, "It is partitioned by its state: a transition would be a DELETE and an INSERT.",
							 "Partition it by its key.");
	}
}

/* ---- the key ---- */

static bool
index_serves_key(Relation rel, Form_pg_index index, HeapTuple tuple, List *columns)
{
	if (!index->indisunique || !index->indimmediate || !index->indisvalid ||
		!heap_attisnull(tuple, Anum_pg_index_indexprs, NULL) ||
		!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		return false;
	if (columns == NIL)
		return index->indisprimary;
	if (index->indnkeyatts != list_length(columns))
		return false;
	for (int i = 0; i < index->indnkeyatts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), index->indkey.values[i] - 1);
		bool		named = false;
		ListCell   *lc;

		foreach(lc, columns)
			named |= strcmp(lfirst(lc), NameStr(att->attname)) == 0;
		if (!named || !att->attnotnull)
			return false;
	}
	return true;
}

/* The columns of the key, in the index's order. */
static List *
choose_key(Relation rel, List *columns)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, columns)
		(void) find_column(rel, lfirst(lc), "key_columns");
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		if (result == NIL && index_serves_key(rel, index, tuple, columns))
			for (int i = 0; i < index->indnkeyatts; i++)
				result = lappend(result,
								 pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel),
															   index->indkey.values[i] - 1)->attname)));
		ReleaseSysCache(tuple);
	}
	if (result == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no key for its instances", RelationGetRelationName(rel)),
				 errdetail(columns ? "No plain unique index is on just these columns, all of them NOT NULL."
						   : "It has no primary key."),
				 errhint("Add a primary key, or name NOT NULL columns with a unique index as key_columns.")));
	return result;
}

static void
check_key(Relation rel, List *keys, const char *state_column)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		if (strcmp(lfirst(lc), state_column) == 0)
			refuse_table(rel, "The state column is part of the key, which never changes.",
						 "Name another unique index as key_columns.");
		if (find_column(rel, lfirst(lc), "key_columns")->attgenerated)
			refuse_table(rel, "A column of the key is generated.", NULL);
	}
}

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

		(void) find_column(rel, name[0] == '-' ? name + 1 : name, "payload_columns");
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

/* The search_path in force, as a list of quoted schemas, pg_temp last. */
static char *
current_path(void)
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
	if (strcmp(options->on_final, "delete") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("on_final => 'delete' is not supported yet"),
				 errhint("Ended instances keep their row, with the state *.")));
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
	values[9] = CStringGetTextDatum(current_path());

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
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static void
make_triggers(Relation rel)
{
	char	   *table = qualified_name(rel);

	SPI_connect();
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" BEFORE INSERT OR UPDATE OR DELETE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION persistomata.decide()",
						 PST_DECIDE_TRIGGER, table), false, 0);
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" AFTER INSERT OR UPDATE OR DELETE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION persistomata.record()",
						 PST_RECORD_TRIGGER, table), false, 0);
	SPI_execute(psprintf("CREATE TRIGGER \"%s\" BEFORE TRUNCATE ON %s"
						 " FOR EACH STATEMENT EXECUTE FUNCTION persistomata.refuse_truncate()",
						 TRUNCATE_TRIGGER, table), false, 0);
	SPI_finish();
}

/* Rows whose state is not one of the machine's are named, and nothing is done. */
static void
check_states(Relation rel, const char *state_column, const PstMachine *machine)
{
	List	   *states = list_make1("*");
	const char *column = quote_identifier(state_column);
	Oid			types[1] = {TEXTARRAYOID};
	Datum		values[1];

	for (int i = 0; i < machine->nstates; i++)
		states = lappend(states, machine->states[i].name);
	values[0] = text_array(states, TEXTOID);
	SPI_connect();
	SPI_execute_with_args(psprintf("SELECT %s::pg_catalog.text, pg_catalog.count(*) FROM %s"
								   " WHERE %s IS NULL OR NOT %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1)"
								   " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5",
								   column, qualified_name(rel), column, column),
						  1, types, values, NULL, true, 0);
	if (SPI_processed > 0)
	{
		StringInfoData detail;

		initStringInfo(&detail);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			char	   *state = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

			appendStringInfo(&detail, "%s%s row(s) in state %s", i ? ", " : "",
							 SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2),
							 state ? psprintf("\"%s\"", state) : "NULL");
		}
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("table \"%s\" has rows in states that the machine does not have",
						RelationGetRelationName(rel)),
				 errdetail("There are %s.", detail.data),
				 errhint("Update these rows first, or add the states to the machine.")));
	}
	SPI_finish();
}

/* Machine "name" has no state that its column's type cannot hold. */
static void
check_state_type(Relation rel, const char *state_column, const PstMachine *machine)
{
	Form_pg_attribute att = find_column(rel, state_column, "state_column");
	Oid			input;
	Oid			ioparam;

	getTypeInputInfo(att->atttypid, &input, &ioparam);
	for (int i = 0; i < machine->nstates; i++)
	{
		char	   *name = machine->states[i].name;
		Datum		value = OidInputFunctionCall(input, pstrdup(name), ioparam, att->atttypmod);
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(att->atttypid, &output, &varlena);
		if (strcmp(OidOutputFunctionCall(output, value), name) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
					 errmsg("state \"%s\" does not fit into column \"%s\" of type %s", name, state_column,
							format_type_with_typemod(att->atttypid, att->atttypmod))));
	}
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

	check_table(rel);
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
	check_state_column(rel, options->state_column);
	check_state_type(rel, options->state_column, version->machine);
	keys = choose_key(rel, options->key_columns);
	check_key(rel, keys, options->state_column);
	payload = choose_payload(rel, options->payload_columns);
	check_states(rel, options->state_column, version->machine);

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

void
pst_fsm_unbind(Relation rel)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(RelationGetRelid(rel))};
	char	   *table = qualified_name(rel);
	PstIdentity save;

	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	SPI_connect();
	SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", PST_DECIDE_TRIGGER, table), false, 0);
	SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", PST_RECORD_TRIGGER, table), false, 0);
	SPI_execute(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", TRUNCATE_TRIGGER, table), false, 0);
	pst_become_owner(&save);
	SPI_execute_with_args("UPDATE persistomata.binding SET relid = NULL"
						  " WHERE relid::pg_catalog.oid OPERATOR(pg_catalog.=) $1",
						  1, types, values, NULL, false, 0);
	pst_restore_identity(&save);
	SPI_finish();
	pst_fsm_invalidate(RelationGetRelid(rel));
}
