/*
 * instance.c
 *	  Reads instances as the caller may see them, without a lock.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "transition/fire.h"
#include "transition/instance.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

char *
pst_instance_query(const PstFsm *fsm, Relation rel)
{
	StringInfoData sql;
	const char *separator = "SELECT ";

	initStringInfo(&sql);
	for (int i = 0; i < fsm->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(&sql, "%s%s", separator, quote_identifier(NameStr(att->attname)));
		separator = ", ";
	}
	appendStringInfo(&sql, " FROM %s",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)));
	return sql.data;
}

HeapTuple
pst_instance_tuple(const PstFsm *fsm, uint64 row)
{
	Datum	   *values = palloc0(sizeof(Datum) * fsm->desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * fsm->desc->natts);
	int			column = 0;

	memset(nulls, true, sizeof(bool) * fsm->desc->natts);
	for (int i = 0; i < fsm->desc->natts; i++)
		if (!TupleDescAttr(fsm->desc, i)->attisdropped)
			values[i] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, ++column, &nulls[i]);
	return heap_form_tuple(fsm->desc, values, nulls);
}

HeapTuple
pst_instance_read(PstFsm *fsm, Relation rel, const char *key)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	char	   *condition = pst_key_condition(fsm, types);
	char	   *sql = psprintf("%s WHERE %s", pst_instance_query(fsm, rel), condition);
	Datum	   *values = pst_key_datums(fsm, key);
	HeapTuple	result = NULL;

	SPI_connect();
	SPI_execute_with_args(sql, fsm->nkeys, types, values, NULL, false, 1);
	if (SPI_processed > 0)
	{
		MemoryContext spi = MemoryContextSwitchTo(cxt);

		result = pst_instance_tuple(fsm, 0);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

/* "SELECT key FROM t WHERE key = $1" */
static char *
key_query(const PstFsm *fsm, Oid *types)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < fsm->nkeys; i++)
		appendStringInfo(&sql, "%s%s", i ? ", " : "SELECT ",
						 quote_identifier(NameStr(TupleDescAttr(fsm->desc, fsm->keys[i] - 1)->attname)));
	appendStringInfo(&sql, " FROM %s WHERE %s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(fsm->root)),
												get_rel_name(fsm->root)),
					 pst_key_condition(fsm, types));
	return sql.data;
}

bool
pst_instance_exists(PstFsm *fsm, Datum *parts)
{
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	bool		result;

	SPI_connect();
	SPI_execute_with_args(key_query(fsm, types), fsm->nkeys, types, parts, NULL, false, 1);
	result = SPI_processed > 0;
	SPI_finish();
	return result;
}

char *
pst_instance_key(PstFsm *fsm, Datum *parts)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid		   *types = palloc(sizeof(Oid) * fsm->nkeys);
	char	   *result = NULL;

	if (!fsm->key_is_loose)
		return pst_key_text(fsm, parts);
	SPI_connect();
	SPI_execute_with_args(key_query(fsm, types), fsm->nkeys, types, parts, NULL, false, 1);
	if (SPI_processed > 0)
	{
		Datum	   *found = palloc(sizeof(Datum) * fsm->nkeys);
		bool		isnull;

		for (int i = 0; i < fsm->nkeys; i++)
			found[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		result = MemoryContextStrdup(cxt, pst_key_text(fsm, found));
	}
	SPI_finish();
	return result ? result : pst_key_text(fsm, parts);
}

void
pst_check_right_to_read(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security hides a part of table \"%s\"", RelationGetRelationName(rel)),
				 errdetail("The event log is read by those who may see the whole table.")));
}
