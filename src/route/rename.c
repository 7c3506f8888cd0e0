/*
 * rename.c
 *	  A server that is renamed takes its routes along.
 *
 * Routes know their server by name, as a dump has them.  Its worker does, too: two
 * of them would send the same at once if one went on under the old name while
 * another began under the new one.  So routes must be disabled before.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "commands/event_trigger.h"
#include "event/query.h"
#include "event/wake.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "route/edit.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pst_follow_servers);

static PstQuery enabled_query = {
	"SELECT name FROM persistomata.route WHERE server OPERATOR(pg_catalog.=) $1 AND enabled ORDER BY name LIMIT 1",
	1, {NAMEOID}, NULL
};

static PstQuery rename_query = {
	"UPDATE persistomata.route SET server = $2 WHERE server OPERATOR(pg_catalog.=) $1",
	2, {NAMEOID, NAMEOID}, NULL
};

static void
rename_server(const char *from, const char *to)
{
	NameData	names[2];
	Datum		args[2];
	PstOwnerRights rights;

	namestrcpy(&names[0], from);
	namestrcpy(&names[1], to);
	args[0] = NameGetDatum(&names[0]);
	args[1] = NameGetDatum(&names[1]);
	pst_owner_begin(&rights);
	if (pst_query_write(&enabled_query, args, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot rename server \"%s\" while routes send to it", from),
				 errdetail("Route \"%s\" does.", TextDatumGetCString(pst_result(0, 1, NULL))),
				 errhint("Disable them with persistomata.disable_route(), and enable them when it is renamed.")));
	pst_query_write(&rename_query, args, NULL);
	pst_owner_end(&rights);
	pst_routes_changed();
}

Datum
pst_follow_servers(PG_FUNCTION_ARGS)
{
	EventTriggerData *data = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("follow_servers() must be called as an event trigger")));
	if (IsA(data->parsetree, RenameStmt))
	{
		RenameStmt *statement = (RenameStmt *) data->parsetree;

		if (statement->renameType == OBJECT_FOREIGN_SERVER)
			rename_server(strVal(statement->object), statement->newname);
	}
	PG_RETURN_NULL();
}
