/*
 * clickhouse_mark.c
 *	  The nonces that tell copies of a cluster apart, in a table of ours.
 *
 *		version? -> [insert -> [no table: create -> insert]] -> select
 *
 * A nonce is a row, and the newest of a mark counts: so the order in which two
 * workers write does not matter, and none takes away what a newer one left.
 * Merges drop what is older.
 */
#include "postgres.h"

#include "sink/clickhouse.h"
#include "utils/memutils.h"

#define TABLE "persistomata_claim"
#define SHORT_ANSWER (64 * 1024)

static void next(PstChSink *sink);

static void
end(PstChSink *sink)
{
	sink->marking = false;
	sink->step = PST_CH_IDLE;
}

static void
ask_nonce(PstChSink *sink)
{
	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "SELECT nonce FROM " TABLE " WHERE mark = ");
	pst_ch_quote_text(&sink->sql, sink->shipment->mark);
	appendStringInfoString(&sink->sql, " ORDER BY timeline DESC, number DESC, nonce DESC LIMIT 1");
	pst_ch_begin_sql(sink, PST_CH_MARK_ASK, SHORT_ANSWER);
}

static void
leave_nonce(PstChSink *sink)
{
	int			timeline;
	int64		number;

	(void) pst_nonce_read(sink->shipment->nonce, &timeline, &number);
	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "INSERT INTO " TABLE " (mark, timeline, number, nonce, route) VALUES (");
	pst_ch_quote_text(&sink->sql, sink->shipment->mark);
	appendStringInfo(&sink->sql, ", %d, " INT64_FORMAT ", ", timeline, number);
	pst_ch_quote_text(&sink->sql, sink->shipment->nonce);
	appendStringInfoString(&sink->sql, ", ");
	pst_ch_quote_text(&sink->sql, sink->shipment->route);
	appendStringInfoChar(&sink->sql, ')');
	pst_ch_begin_write(sink, PST_CH_MARK_LEAVE);
}

static void
create_table(PstChSink *sink)
{
	const char *cluster = pst_option(sink->shipment->options, "cluster");

	resetStringInfo(&sink->sql);
	appendStringInfoString(&sink->sql, "CREATE TABLE IF NOT EXISTS " TABLE);
	if (cluster)
	{
		appendStringInfoString(&sink->sql, " ON CLUSTER ");
		pst_ch_quote_name(&sink->sql, cluster);
	}
	appendStringInfo(&sink->sql, " (mark String, timeline UInt32, number UInt64, nonce String, route String,"
					 " left_at DateTime DEFAULT now()) ENGINE = %sReplacingMergeTree(number) ORDER BY (mark, timeline)",
					 cluster ? "Replicated" : "");
	pst_ch_begin_sql(sink, PST_CH_MARK_CREATE, SHORT_ANSWER);
}

static void
next(PstChSink *sink)
{
	if (sink->version == PST_CH_UNKNOWN)
		pst_ch_begin_version(sink);
	else if (sink->leaving)
		leave_nonce(sink);
	else
		ask_nonce(sink);
	/* a request that could not even begin has left its fault */
	if (sink->step == PST_CH_IDLE)
		end(sink);
}

void
pst_ch_mark(PstSink *base, const PstShipment *shipment, bool leave)
{
	PstChSink  *sink = (PstChSink *) base;
	MemoryContext before;

	MemoryContextReset(sink->scratch);
	before = MemoryContextSwitchTo(sink->scratch);
	sink->shipment = shipment;
	sink->ngroups = sink->group = 0;
	memset(&sink->fault, 0, sizeof(sink->fault));
	sink->marking = true;
	sink->leaving = leave;
	sink->mark_made = false;
	sink->marked[0] = '\0';
	if (sink->open_error != NULL)
	{
		pst_ch_fault(&sink->fault, PST_MISCONFIGURED, sink->open_error);
		end(sink);
	}
	else
		next(sink);
	MemoryContextSwitchTo(before);
}

const char *
pst_ch_marked(const PstSink *base)
{
	const PstChSink *sink = (const PstChSink *) base;

	return sink->marked[0] != '\0' ? sink->marked : NULL;
}

void
pst_ch_mark_answered(PstChSink *sink, const PstChAnswer *answer)
{
	switch (sink->step)
	{
		case PST_CH_ASK_VERSION:
			sink->version = pst_ch_parse_version(answer->text);
			if (sink->version == PST_CH_UNKNOWN)
			{
				/* the shipment will say so */
				pst_ch_fault(&sink->fault, PST_MISCONFIGURED, "what answers at the url is not ClickHouse");
				end(sink);
				return;
			}
			break;
		case PST_CH_MARK_CREATE:
			sink->mark_made = true;
			break;
		case PST_CH_MARK_LEAVE:
			sink->leaving = false;
			break;
		default:
			strlcpy(sink->marked, answer->text, sizeof(sink->marked));
			sink->marked[strcspn(sink->marked, "\r\n")] = '\0';
			end(sink);
			return;
	}
	next(sink);
}

void
pst_ch_mark_failed(PstChSink *sink, PstChClass class, PstFault *fault)
{
	bool		missing = class == PST_CH_TABLE && fault->code == 60;
	bool		may_create = pst_option_bool(sink->base.ops, sink->shipment->options, "create_tables");

	if (missing && sink->step == PST_CH_MARK_ASK)
	{
		/* nothing was left there yet */
		end(sink);
		return;
	}
	if (missing && !sink->mark_made && may_create)
	{
		create_table(sink);
		if (sink->step == PST_CH_IDLE)
			end(sink);
		return;
	}
	sink->fault = *fault;
	/* without a database the shipment will say so */
	if (fault->code != 81 && (class == PST_CH_TABLE || class == PST_CH_CONFIG || class == PST_CH_ROW))
	{
		sink->fault.verdict = PST_REJECTED;
		strlcpy(sink->fault.what, missing ? "there is no table \"" TABLE "\", and create_tables is off" :
				"the table \"" TABLE "\" cannot be used", sizeof(sink->fault.what));
	}
	end(sink);
}
