/*
 * create.c
 *	  create_machine and drop_machine: a machine's versions come and go.
 *
 * The catalog is written as the extension's owner; whose machine it is, is
 * judged by the user that calls.  That is why the functions switch the user
 * themselves and are not SECURITY DEFINER: there the caller could only be
 * guessed from the session, which within a superuser's REINDEX or within
 * another definer's function is somebody else.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "machine/catalog.h"
#include "machine/owner.h"
#include "machine/parser.h"

PG_FUNCTION_INFO_V1(pst_create_machine);
PG_FUNCTION_INFO_V1(pst_drop_machine);

static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* Reads with a snapshot that sees what others committed before our lock. */
static void
read_catalog(const char *query, int nargs, Oid *types, Datum *values)
{
	int			result;

	PushActiveSnapshot(GetLatestSnapshot());
	result = SPI_execute_with_args(query, nargs, types, values, NULL, true, 0);
	PopActiveSnapshot();
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
}

/* A column of the first row found; 0 if it is null. */
static Datum
found(int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
}

/*
 * Checks that the caller may change a machine of this name.  Returns its owner,
 * or InvalidOid if there is none yet, and its newest version.
 */
static Oid
check_owner(const char *name, Oid caller, int *newest)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	Oid			owner;

	read_catalog("SELECT version, persistomata.role_of(owner) FROM persistomata.machine_version"
				 " WHERE name OPERATOR(pg_catalog.=) $1 AND dropped_at IS NULL ORDER BY version DESC LIMIT 1",
				 1, types, values);
	*newest = 0;
	if (SPI_processed == 0)
		return InvalidOid;
	*newest = DatumGetInt32(found(1));
	owner = DatumGetObjectId(found(2));
	if (!superuser_arg(caller) && !has_privs_of_role(caller, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of machine \"%s\"", name)));
	return owner;
}

/* The version that has the same text, or 0. */
static int
find_same(const char *name, const PstMachine *machine)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		CStringGetTextDatum(name),
		CStringGetTextDatum(machine->definition),
		CStringGetTextDatum(pst_syntax_name(machine->syntax))
	};

	read_catalog("SELECT version FROM persistomata.machine_version"
				 " WHERE name OPERATOR(pg_catalog.=) $1"
				 " AND definition OPERATOR(pg_catalog.=) $2"
				 " AND syntax OPERATOR(pg_catalog.=) $3 AND dropped_at IS NULL"
				 " ORDER BY version DESC LIMIT 1", 3, types, values);
	return SPI_processed == 0 ? 0 : DatumGetInt32(found(1));
}

static void
insert_version(const char *name, int version, const PstMachine *machine, Oid owner)
{
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		CStringGetTextDatum(name),
		Int32GetDatum(version),
		CStringGetTextDatum(pst_syntax_name(machine->syntax)),
		CStringGetTextDatum(machine->definition),
		CStringGetTextDatum(pst_machine_state_name(machine, machine->entry)),
		CStringGetTextDatum(GetUserNameFromId(owner, false))
	};
	int			result;

	result = SPI_execute_with_args("INSERT INTO persistomata.machine_version"
								   " (name, version, syntax, definition, entry_state, owner)"
								   " VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.name)",
								   6, types, values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
}

/* Raises the first error, or all warnings. */
static void
report_findings(const List *findings, PstSeverity severity)
{
	ListCell   *cell;

	foreach(cell, findings)
	{
		PstFinding *finding = lfirst(cell);

		if (finding->severity == severity)
			pst_machine_report(finding);
	}
}

/* create_machine(name, definition, syntax) */
Datum
pst_create_machine(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0, "name");
	char	   *definition = text_argument(fcinfo, 1, "definition");
	PstSyntax	syntax = pst_syntax_of(text_argument(fcinfo, 2, "syntax"));
	Oid			caller = GetUserId();
	Oid			owner;
	PstIdentity save;
	PstMachine *machine;
	List	   *findings = NIL;
	int			newest;
	int			version;

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name of machine must not be empty")));
	if (strlen(name) > PST_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of machine is longer than %d bytes", PST_MAX_NAME)));
	machine = pst_machine_parse(definition, syntax, &findings);
	if (machine == NULL)
		report_findings(findings, PST_SEVERITY_ERROR);
	report_findings(findings, PST_SEVERITY_WARNING);

	/* Two sessions must not make one version, nor two owners of one name. */
	pst_machine_lock(name, ExclusiveLock);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	pst_become_owner(&save);
	owner = check_owner(name, caller, &newest);
	version = find_same(name, machine);
	if (version == 0)
	{
		version = newest + 1;
		insert_version(name, version, machine, OidIsValid(owner) ? owner : caller);
	}
	pst_restore_identity(&save);
	SPI_finish();
	PG_RETURN_INT32(version);
}

/* Refuses to drop a machine that a table is bound to. */
static void
check_unused(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	/* The table belongs to a room that builds on this one. */
	if (!OidIsValid(get_relname_relid("binding", get_namespace_oid("persistomata", false))))
		return;
	read_catalog("SELECT pg_catalog.format('Table %s uses version %s.',"
				 " b.relid::pg_catalog.regclass, v.version)"
				 " FROM persistomata.binding b, persistomata.machine_version v"
				 " WHERE v.id OPERATOR(pg_catalog.=) b.machine AND v.name OPERATOR(pg_catalog.=) $1"
				 " AND b.relid IS NOT NULL"
				 " ORDER BY v.version LIMIT 1", 1, types, values);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop machine \"%s\" because a table is attached to it", name),
				 errdetail("%s", TextDatumGetCString(found(1))),
				 errhint("Detach it first with persistomata.detach.")));
}

/*
 * Marks all versions as dropped; the log still names them.  It is done under
 * the snapshot that the checks have, not the transaction's: that one may be too
 * old to see a version, which would stay then.
 */
static void
mark_dropped(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	SPIPlanPtr	plan;
	int			result;

	plan = SPI_prepare("UPDATE persistomata.machine_version SET dropped_at = pg_catalog.now()"
					   " WHERE name OPERATOR(pg_catalog.=) $1 AND dropped_at IS NULL", 1, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	result = SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(), InvalidSnapshot, false, true, 0);
	if (result != SPI_OK_UPDATE)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(result));
	SPI_freeplan(plan);
}

/* drop_machine(name) */
Datum
pst_drop_machine(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0, "name");
	Oid			caller = GetUserId();
	PstIdentity save;
	int			newest;

	pst_machine_lock(name, ExclusiveLock);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	pst_become_owner(&save);
	if (!OidIsValid(check_owner(name, caller, &newest)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("machine \"%s\" does not exist", name)));
	check_unused(name);
	mark_dropped(name);
	pst_restore_identity(&save);
	SPI_finish();
	PG_RETURN_VOID();
}
