/*
 * pending.c
 *	  Log rows that are gathered but not written yet.
 *
 * A statement may move many rows: their log rows are written several at a time.
 * They are written when the executor ends a query or begins another, before a
 * utility statement, when a subtransaction begins or ends, before commit and
 * PREPARE, and when there are many; with the command id that was in force when
 * the first was added.  So nobody can tell them from rows written at once.
 *
 * A subtransaction that begins while rows of its parent wait (a PL/pgSQL block
 * inside of a statement) writes them under its own xid, so that it can read
 * them; they are kept until it ends, and if it is rolled back, they wait again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "event/pending.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* So many rows or bytes are written at once. */
#define PENDING_ROWS 256
#define PENDING_BYTES (1024 * 1024)

typedef struct PendingRow
{
	HeapTuple	tuple;
	CommandId	cid;
	int			level;			/* of the (sub)transaction that it belongs to */
	int			written;		/* the deeper level that has written it, or 0 */
} PendingRow;

/*
 * In the order of adding.  Rows that a deeper level has written are kept as
 * long as that may be undone; there are few of them.
 */
static PendingRow *pending = NULL;
static int	npending = 0;
static int	nwaiting = 0;		/* of these, not written */
static int	allocated = 0;
static Size bytes = 0;			/* of what waits */
static MemoryContext pending_cxt = NULL;
static bool committing = false; /* our last chance is over: nothing waits any more */

static PstPendingWriter write_rows = NULL;
static ExecutorStart_hook_type previous_start = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* ---- the list ---- */

static void
forget_all(void)
{
	npending = nwaiting = 0;
	bytes = 0;
	MemoryContextReset(pending_cxt);
}

/* Keep those rows for which keep() is true, after it has changed them. */
static void
keep_rows(bool (*keep) (PendingRow *row, int level), int level)
{
	int			kept = 0;

	nwaiting = 0;
	for (int i = 0; i < npending; i++)
	{
		if (keep(&pending[i], level))
		{
			nwaiting += pending[i].written == 0;
			pending[kept++] = pending[i];
		}
		else
			heap_freetuple(pending[i].tuple);
	}
	npending = kept;
	if (npending == 0)
		forget_all();
}

/* A subtransaction's rows go, and its ancestors' wait again. */
static bool
keep_after_abort(PendingRow *row, int level)
{
	if (row->written >= level)
		row->written = 0;
	return row->level < level;
}

/* A subtransaction's work is its parent's now. */
static bool
keep_after_commit(PendingRow *row, int level)
{
	if (row->written == level)
		row->written = level - 1;
	if (row->level == level)
		row->level = level - 1;
	return row->written == 0 || row->level < row->written;
}

static bool
keep_after_write(PendingRow *row, int level)
{
	if (row->written == 0)
		row->written = level;
	return row->level < row->written;
}

/*
 * All under the command id of the first: a query that could tell it from
 * theirs would have begun in between, and then they would have been written.
 */
static void
write_waiting(void)
{
	HeapTuple	tuples[PENDING_ROWS];
	CommandId	cid = InvalidCommandId;
	int			n = 0;

	for (int i = 0; i < npending; i++)
	{
		if (pending[i].written != 0)
			continue;
		if (cid == InvalidCommandId)
			cid = pending[i].cid;
		tuples[n++] = pending[i].tuple;
		if (n == PENDING_ROWS)
		{
			write_rows(tuples, n, cid);
			n = 0;
		}
	}
	if (n > 0)
		write_rows(tuples, n, cid);
}

void
pst_pending_flush(void)
{
	bool		snapshot;

	/* what waits while a subtransaction is aborted is written when that is over */
	if (nwaiting == 0 || !IsTransactionState())
		return;
	/* at the end of a transaction there may be none, and TOAST wants one */
	snapshot = !HaveRegisteredOrActiveSnapshot();
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	write_waiting();
	if (snapshot)
		PopActiveSnapshot();
	keep_rows(keep_after_write, GetCurrentTransactionNestLevel());
	bytes = 0;
}

void
pst_pending_add(TupleDesc desc, Datum *values, bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(pending_cxt);
	PendingRow *row;

	if (npending == allocated)
	{
		int			more = Max(PENDING_ROWS, allocated * 2);

		pending = pending ? repalloc(pending, sizeof(PendingRow) * more) :
			MemoryContextAlloc(TopMemoryContext, sizeof(PendingRow) * more);
		allocated = more;
	}
	row = &pending[npending];
	row->tuple = heap_form_tuple(desc, values, nulls);
	row->cid = GetCurrentCommandId(true);
	row->level = GetCurrentTransactionNestLevel();
	row->written = 0;
	npending++;
	nwaiting++;
	bytes += row->tuple->t_len;
	MemoryContextSwitchTo(old);
	if (nwaiting >= PENDING_ROWS || bytes >= PENDING_BYTES || committing)
		pst_pending_flush();
}

/* ---- when to write ---- */

static void
at_start(QueryDesc *query, int eflags)
{
	pst_pending_flush();
	if (previous_start)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
at_finish(QueryDesc *query)
{
	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
	pst_pending_flush();
}

static void
at_utility(PlannedStmt *statement, const char *text, bool read_only_tree,
		   ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
		   DestReceiver *dest, QueryCompletion *completion)
{
	pst_pending_flush();
	if (previous_utility)
		previous_utility(statement, text, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, text, read_only_tree, context, params, environment, dest, completion);
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (npending == 0)
		return;
	switch (event)
	{
		case SUBXACT_EVENT_START_SUB:
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			pst_pending_flush();
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			keep_rows(keep_after_commit, level);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			keep_rows(keep_after_abort, level);
			break;
	}
}

static void
at_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			pst_pending_flush();
			committing = true;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (npending > 0)
				forget_all();
			committing = false;
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
pst_pending_init(PstPendingWriter writer)
{
	write_rows = writer;
	pending_cxt = AllocSetContextCreate(TopMemoryContext, "persistomata pending log rows",
										ALLOCSET_DEFAULT_SIZES);
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = at_start;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = at_finish;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = at_utility;
	RegisterSubXactCallback(at_subtransaction, NULL);
	RegisterXactCallback(at_transaction, NULL);
}
