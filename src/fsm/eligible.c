/*
 * eligible.c
 *	  May this table be an FSM table, by this state column and this key?
 *
 * Asked by attach(), and again whenever the table was altered.  The caller holds
 * a lock on the table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/catalog.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "compat/compat.h"
#include "fsm/eligible.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/syscache.h"

/* ---- may this table be attached? ---- */

static void
refuse_table(Relation rel, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" cannot be an FSM table", RelationGetRelationName(rel)),
			 errdetail("%s", why),
			 hint ? errhint("%s", hint) : 0));
}

void
pst_check_table_kind(Relation rel)
{
	char		kind = rel->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		refuse_table(rel, "Only tables can be attached.",
					 kind == RELKIND_VIEW ? "Attach the table that the view shows." : NULL);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse_table(rel, "Temporary and unlogged tables would lose their state while the log keeps it.", NULL);
	if (rel->rd_rel->relhasrules)
		refuse_table(rel, "It has rules, which rewrite what a write means.", "Use triggers instead.");
	if (kind == RELKIND_RELATION && !rel->rd_rel->relispartition &&
		(has_superclass(RelationGetRelid(rel)) ||
		 find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL))
		refuse_table(rel, "It takes part in inheritance, where a key is not unique.",
					 "Use declarative partitioning.");
}

void
pst_check_table(Relation rel)
{
	if (!pst_owns_table(RelationGetRelid(rel)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	pst_check_table_kind(rel);
	if (IsCatalogRelation(rel))
		refuse_table(rel, "It is a system catalog.", NULL);
	if (rel->rd_rel->relispartition)
		refuse_table(rel, "It is a partition.", "Attach the partitioned table.");
}

Form_pg_attribute
pst_table_column(Relation rel, const char *name, const char *what)
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

void
pst_check_state_column(Relation rel, const char *name)
{
	Form_pg_attribute att = pst_table_column(rel, name, "state_column");
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
List *
pst_choose_key(Relation rel, List *columns)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, columns)
		(void) pst_table_column(rel, lfirst(lc), "key_columns");
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

void
pst_check_key(Relation rel, List *keys, const char *state_column)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		if (strcmp(lfirst(lc), state_column) == 0)
			refuse_table(rel, "The state column is part of the key, which never changes.",
						 "Name another unique index as key_columns.");
		if (pst_table_column(rel, lfirst(lc), "key_columns")->attgenerated)
			refuse_table(rel, "A column of the key is generated.", NULL);
	}
}

/* ---- the states ---- */

/* Said of an error that the column's type or its domain raises. */
static void
state_context(void *arg)
{
	errcontext("state \"%s\" of the machine, put into the state column", (char *) arg);
}

static void
check_state_fits(Form_pg_attribute att, const char *name)
{
	ErrorContextCallback callback = {error_context_stack, state_context, unconstify(char *, name)};
	Oid			input;
	Oid			output;
	Oid			ioparam;
	bool		varlena;
	Datum		value;

	error_context_stack = &callback;
	getTypeInputInfo(att->atttypid, &input, &ioparam);
	value = OidInputFunctionCall(input, pstrdup(name), ioparam, att->atttypmod);
	getTypeOutputInfo(att->atttypid, &output, &varlena);
	if (strcmp(OidOutputFunctionCall(output, value), name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("state \"%s\" does not fit into column \"%s\" of type %s", name, NameStr(att->attname),
						format_type_with_typemod(att->atttypid, att->atttypmod))));
	error_context_stack = callback.previous;
}

/* The column's type holds every state, and the * of an instance that ends, if only until its row goes. */
void
pst_check_state_type(Relation rel, const char *state_column, const PstMachine *machine)
{
	Form_pg_attribute att = pst_table_column(rel, state_column, "state_column");
	bool		ends = false;

	for (int i = 0; i < machine->nstates; i++)
		check_state_fits(att, machine->states[i].name);
	for (int i = 0; i < machine->ntransitions; i++)
		ends |= machine->transitions[i].to == PST_STAR && pst_transition_has_event(&machine->transitions[i]);
	if (ends)
		check_state_fits(att, "*");
}
