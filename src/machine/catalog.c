/*
 * catalog.c
 *	  Machine versions as they stand in the catalog, and the backend's cache of
 *	  them.
 *
 * A version never changes and its number is never used again, so that a cached
 * one needs no invalidation, unless the whole extension is dropped and created
 * anew.  The cache is left behind then, not freed: callers keep pointers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "machine/catalog.h"
#include "machine/owner.h"

typedef struct CacheEntry
{
	int			number;			/* the key */
	PstMachineVersion *version;
} CacheEntry;

static HTAB *cache = NULL;
static Oid	cache_installation = InvalidOid;

static const struct
{
	const char *name;
	PstSyntax	syntax;
}			syntaxes[] =
{
	{"auto", PST_SYNTAX_AUTO},
	{"mermaid", PST_SYNTAX_AUTO},
	{"flowchart", PST_SYNTAX_FLOWCHART},
	{"state_diagram", PST_SYNTAX_STATE_DIAGRAM},
	{"plantuml", PST_SYNTAX_PLANTUML}
};

PstSyntax
pst_syntax_of(const char *name)
{
	for (int i = 0; i < (int) lengthof(syntaxes); i++)
	{
		if (strcmp(syntaxes[i].name, name) == 0)
			return syntaxes[i].syntax;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown syntax \"%s\"", name),
			 errhint("Valid ones are auto, mermaid, flowchart, state_diagram and plantuml.")));
}

const char *
pst_syntax_name(PstSyntax syntax)
{
	for (int i = lengthof(syntaxes) - 1; i > 0; i--)
	{
		if (syntaxes[i].syntax == syntax)
			return syntaxes[i].name;
	}
	return "auto";
}

/*
 * Runs a query with up to two parameters as the extension's owner, under a
 * snapshot that sees all that is committed: the caller's may be older than
 * the machine that it meets.
 */
static void
run_query(const char *query, int nargs, Oid *types, Datum *values)
{
	PstIdentity caller;
	int			result;

	pst_become_owner(&caller);
	PushActiveSnapshot(GetLatestSnapshot());
	result = SPI_execute_with_args(query, nargs, types, values, NULL, true, 0);
	PopActiveSnapshot();
	pst_restore_identity(&caller);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
}

/* Makes a version from the row that SPI has found, in the current context. */
static PstMachineVersion *
make_version(int number, MemoryContext context)
{
	HeapTuple	tuple = SPI_tuptable->vals[0];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	char	   *name = SPI_getvalue(tuple, desc, 1);
	char	   *version = SPI_getvalue(tuple, desc, 2);
	char	   *syntax = SPI_getvalue(tuple, desc, 3);
	char	   *definition = SPI_getvalue(tuple, desc, 4);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PstMachineVersion *result = palloc0(sizeof(PstMachineVersion));
	List	   *findings = NIL;

	result->number = number;
	result->name = pstrdup(name);
	result->version = pg_strtoint32(version);
	result->machine = pst_machine_parse(definition, pst_syntax_of(syntax), &findings);
	MemoryContextSwitchTo(caller);
	if (result->machine == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("definition of machine \"%s\" version %s cannot be read any more", name, version)));
	return result;
}

static PstMachineVersion *
load_version(int number)
{
	MemoryContext context;
	PstMachineVersion *version = NULL;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(number)};

	/* A child of the current context until it is complete. */
	context = AllocSetContextCreate(CurrentMemoryContext, "persistomata machine", ALLOCSET_SMALL_SIZES);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_query("SELECT name, version, syntax, definition FROM persistomata.machine_version"
			  " WHERE id OPERATOR(pg_catalog.=) $1", 1, types, values);
	if (SPI_processed == 1)
		version = make_version(number, context);
	SPI_finish();
	if (version == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("machine version number %d does not exist", number)));
	MemoryContextSetParent(context, CacheMemoryContext);
	return version;
}

static void
make_cache(void)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(int);
	control.entrysize = sizeof(CacheEntry);
	control.hcxt = CacheMemoryContext;
	cache = hash_create("persistomata machines", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

const PstMachineVersion *
pst_machine_version(int number)
{
	Oid			installation = pst_installation();
	CacheEntry *entry;
	PstMachineVersion *version;

	if (cache == NULL || cache_installation != installation)
	{
		make_cache();
		cache_installation = installation;
	}
	entry = hash_search(cache, &number, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->version;
	version = load_version(number);
	entry = hash_search(cache, &number, HASH_ENTER, NULL);
	entry->version = version;
	return version;
}

int
pst_machine_find(const char *name, int version)
{
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	int			number = 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_query("SELECT id FROM persistomata.machine_version"
			  " WHERE name OPERATOR(pg_catalog.=) $1 AND dropped_at IS NULL"
			  " AND ($2 OPERATOR(pg_catalog.=) 0 OR version OPERATOR(pg_catalog.=) $2)"
			  " ORDER BY version DESC LIMIT 1", 2, types, values);
	if (SPI_processed == 1)
	{
		bool		isnull;

		number = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	if (number == 0 && version == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("machine \"%s\" does not exist", name),
				 errhint("Create it with persistomata.create_machine.")));
	if (number == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("machine \"%s\" has no version %d", name, version)));
	return number;
}

void
pst_machine_lock(const char *name, LOCKMODE mode)
{
	LockDatabaseObject(pst_installation(),
					   hash_bytes((const unsigned char *) name, strlen(name)), 0, mode);
}
