/*
 * code.c
 *	  What a route's owner brings along: a filter and an encoder.
 *
 * Both run while a parcel is read, in a read-only transaction of their own that
 * ends before the first byte is sent: as the route's owner, in a
 * security-restricted operation, under the search_path of create_route, with a
 * limit of time, and with all constraints immediate; what they set is given back.  Events are looked at in
 * one subtransaction; one that raises an error ends it, and the next event
 * begins another.  So an event costs a subtransaction only if it fails.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "compat/compat.h"
#include "event/log.h"
#include "event/utf8.h"
#include "fmgr.h"
#include "fsm/expression.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "route/code.h"
#include "route/eventrow.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/varlena.h"

/* As long may this many events take. */
#define TIMED_EVENTS 100
#define TIME_LIMIT_MS 10000

/* Compiled, for as long as the settings live. */
struct PstRouteCode
{
	MemoryContext context;
	TupleDesc	desc;			/* of persistomata.event */
	PstExpression *filter;		/* NULL: none, or it is a function */
	bool		is_function;
};

/* What one run works with. */
typedef struct Runner
{
	PstRouteSettings *settings;
	struct PstRouteCode *code;
	FmgrInfo	filter;			/* the function that it is, */
	bool		filters;		/* if it is one */
	FmgrInfo	encoder;
	bool		encodes;
	MemoryContext scratch;		/* of one event */
	MemoryContext results;
} Runner;

bool
pst_route_has_code(const PstRouteSettings *settings)
{
	return settings->filter != NULL || settings->encoder != NULL;
}

/* ---- compiling ---- */

static void
make_scope(PstScope *scope, TupleDesc desc, const char *text)
{
	memset(scope, 0, sizeof(*scope));
	scope->row = desc;
	scope->relname = "event";
	scope->schema = "persistomata";
	scope->definition = text;
	scope->what = "filter";
}

/* What the caches keep of an expression goes with the context that it is in. */
static void
free_filter(void *arg)
{
	pst_expression_free(((struct PstRouteCode *) arg)->filter);
}

/*
 * Compile, or compile anew what is not true any more; not a filter that is a
 * function.
 */
static struct PstRouteCode *
compile(PstRouteSettings *settings, bool is_function)
{
	struct PstRouteCode *code = settings->code;
	MemoryContext context;
	MemoryContext old;
	PstScope	scope;

	if (code && code->is_function == is_function && pst_expression_valid(code->filter))
		return code;
	if (code)
		MemoryContextDelete(code->context);
	settings->code = NULL;
	context = AllocSetContextCreate(CurrentMemoryContext, "persistomata route code", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	code = palloc0(sizeof(struct PstRouteCode));
	code->context = context;
	code->desc = pst_event_row_desc();
	code->is_function = is_function;
	if (settings->filter && !is_function)
	{
		MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

		callback->func = free_filter;
		callback->arg = code;
		MemoryContextRegisterResetCallback(context, callback);
		make_scope(&scope, code->desc, settings->filter);
		code->filter = pst_compile_guard(&scope, settings->filter);
	}
	MemoryContextSwitchTo(old);
	/* whole, it lives as long as the settings */
	MemoryContextSetParent(context, GetMemoryChunkContext(settings));
	settings->code = code;
	return code;
}

/*
 * The function f(persistomata.event) that a filter is the name of, or
 * InvalidOid: then it is an expression.  As the view has no boolean column, no
 * filter is both.  Throws if it may not be called, or gives no boolean.
 */
static Oid
find_filter(const char *text)
{
	List	   *names;
	List	   *parts = NIL;
	ListCell   *cell;
	Oid			type = pst_event_row_type();
	Oid			function;

	if (!SplitIdentifierString(pstrdup(text), '.', &names) || names == NIL || list_length(names) > 2)
		return InvalidOid;
	foreach(cell, names)
		parts = lappend(parts, makeString(lfirst(cell)));
	function = LookupFuncName(parts, 1, &type, true);
	if (!OidIsValid(function))
		return InvalidOid;
	if (get_func_rettype(function) != BOOLOID || get_func_retset(function) ||
		get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("function %s(persistomata.event) must return boolean", text)));
	if (pst_may_call(function) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, text);
	return function;
}

static char *
name_of_function(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

const char *
pst_filter_check(const char *text)
{
	Oid			function = find_filter(text);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persistomata filter",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	PstScope	scope;

	if (!OidIsValid(function))
	{
		make_scope(&scope, pst_event_row_desc(), text);
		pst_expression_free(pst_compile_guard(&scope, text));
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return OidIsValid(function) ? name_of_function(function) : text;
}

/* ---- the encoder ---- */

/* Throws unless there is such a function, which the current user may call. */
static Oid
find_encoder(const char *name)
{
	List	   *names = pst_qualified_name(name);
	Oid			type = pst_event_row_type();
	Oid			function = LookupFuncName(names, 1, &type, true);

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(persistomata.event) does not exist", name),
				 errhint("A route's format is json, cloudevents, or a function f(persistomata.event) that returns jsonb.")));
	if (get_func_rettype(function) != JSONBOID || get_func_retset(function) ||
		get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("function %s(persistomata.event) must return jsonb", name)));
	if (pst_may_call(function) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return function;
}

char *
pst_encoder_check(const char *name)
{
	return name_of_function(find_encoder(name));
}

static Datum
call_with_row(Runner *runner, FmgrInfo *function, HeapTuple row, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = heap_copy_tuple_as_datum(row, runner->code->desc);
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

static char *
encode(Runner *runner, HeapTuple row)
{
	bool		isnull;
	Datum		result = call_with_row(runner, &runner->encoder, row, &isnull);
	Jsonb	   *jsonb;
	char	   *text;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the encoder returned NULL"),
				 errhint("Leave events out by a filter.")));
	jsonb = DatumGetJsonbP(result);
	text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	return MemoryContextStrdup(runner->results, pst_to_utf8(text));
}

/* ---- running ---- */

static bool
wanted(Runner *runner, HeapTuple row)
{
	TupleDesc	desc = runner->code->desc;
	Datum		args;
	Datum		value;
	bool		isnull;

	if (runner->filters)
	{
		value = call_with_row(runner, &runner->filter, row, &isnull);
		return !isnull && DatumGetBool(value);
	}
	if (runner->code->filter == NULL)
		return true;
	args = heap_getattr(row, PST_EVENT_ARGS, desc, &isnull);
	value = pst_evaluate(runner->code->filter, pst_row_make(desc, row, args, isnull), &isnull);
	return !isnull && DatumGetBool(value);
}

static PstCodeVerdict
look_at(Runner *runner, PstEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(runner->scratch);
	HeapTuple	row = pst_event_row(runner->code->desc, event);
	bool		pass = wanted(runner, row);

	if (pass && runner->encodes)
		event->body = encode(runner, row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(runner->scratch);
	return pass ? PST_CODE_WANTED : PST_CODE_UNWANTED;
}

static void
prepare(Runner *runner)
{
	Oid			filter = runner->settings->filter ? find_filter(runner->settings->filter) : InvalidOid;

	runner->filters = OidIsValid(filter);
	if (runner->filters)
		fmgr_info_cxt(filter, &runner->filter, CurrentMemoryContext);
	runner->code = compile(runner->settings, runner->filters);
	runner->encodes = runner->settings->encoder != NULL;
	if (runner->encodes)
		fmgr_info_cxt(find_encoder(runner->settings->encoder), &runner->encoder, CurrentMemoryContext);
}

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* What the transaction of user code is like. */
static void
restrict_transaction(const PstRouteSettings *settings)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(immediate);
	set_local("transaction_read_only", "on");
	set_local("search_path", settings->search_path);
	set_local("row_security", "on");
}

/* Errors of the moment, which another try may not have. */
static bool
is_of_the_moment(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
	}
	return false;
}

/* Errors that no event is to blame for. */
static bool
is_of_the_code(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INVALID_SCHEMA_NAME:
		case ERRCODE_INVALID_TRANSACTION_STATE:	/* it wants to write */
			return true;
	}
	return false;
}

/*
 * Look at events from the nth on, as the owner and in a subtransaction, until
 * one fails.  Returns the error, or NULL once all are done; *nth tells how far
 * it came (-1: not even to the first, the code does not compile).
 */
static ErrorData *
run_from(Runner *runner, Oid owner, PstEvent *events, int nevents, PstCodeRun *run, int *nth)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	volatile int at = *nth;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		Oid			user;
		int			sec_context;
		int			settings = NewGUCNestLevel();

		GetUserIdAndSecContext(&user, &sec_context);
		SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
		PushActiveSnapshot(GetTransactionSnapshot());
		enable_timeout_after(STATEMENT_TIMEOUT, TIME_LIMIT_MS);
		if (at < 0)
		{
			prepare(runner);
			at = 0;
		}
		for (; at < nevents; at++)
		{
			if (at % TIMED_EVENTS == 0)
				enable_timeout_after(STATEMENT_TIMEOUT, TIME_LIMIT_MS);
			run->verdicts[at] = look_at(runner, &events[at]);
		}
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;	/* it may have run out just now */
		PopActiveSnapshot();
		SetUserIdAndSecContext(user, sec_context);
		AtEOXact_GUC(false, settings);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextReset(runner->scratch);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = resources;
	*nth = at;
	return error;
}

PstCodeResult
pst_code_run(PstRouteSettings *settings, Oid owner, PstEvent *events, int nevents, PstCodeRun *run)
{
	Runner		runner = {.settings = settings, .results = CurrentMemoryContext};
	ErrorData  *error;
	int			nth = -1;

	memset(run, 0, sizeof(*run));
	run->verdicts = palloc0(sizeof(PstCodeVerdict) * Max(nevents, 1));
	run->reasons = palloc0(sizeof(char *) * Max(nevents, 1));
	runner.scratch = AllocSetContextCreate(CurrentMemoryContext, "persistomata one event", ALLOCSET_DEFAULT_SIZES);
	restrict_transaction(settings);
	while ((error = run_from(&runner, owner, events, nevents, run, &nth)) != NULL)
	{
		char	   *text = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);

		if (nth < 0 || is_of_the_code(error->sqlerrcode) || is_of_the_moment(error->sqlerrcode))
		{
			bool		moment = is_of_the_moment(error->sqlerrcode);

			run->trouble = psprintf("the route's own code: %s", text);
			return moment ? PST_CODE_WAIT : PST_CODE_WRONG;
		}
		run->verdicts[nth] = PST_CODE_FAILED;
		run->reasons[nth] = psprintf("the route's own code: %s", text);
		run->failed++;
		nth++;
	}
	MemoryContextDelete(runner.scratch);
	return PST_CODE_DONE;
}
