/*
 * clickhouse_ask.c
 *	  What do the tables hold of a run of events?
 *
 *		version? -> for each table: number and sum of hashes
 *					[they differ: each name, and how often]
 *				 -> after the last run, for each table: latest states behind?
 *					[some are: write them again]
 *
 * The sum is over sipHash64(name), which every version has and so have we.  A
 * table that is not there holds nothing.
 */
#include "postgres.h"

#include "sink/clickhouse.h"
#include "sink/siphash.h"
#include "utils/memutils.h"

#define SHORT_ANSWER (64 * 1024)
#define NAME_ANSWER 256			/* of a name and its number, generously */

static void next(PstChSink *sink);

static void
end(PstChSink *sink)
{
	sink->asking = false;
	sink->step = PST_CH_IDLE;
}

static void
fail(PstChSink *sink, PstVerdict verdict, const char *what)
{
	pst_ch_fault(&sink->fault, verdict, what);
	end(sink);
}

/* What all names of a shipment begin with: the id of the log. */
char *
pst_ch_log_prefix(const PstChSink *sink)
{
	const char *name = sink->shipment->events[0].name;

	return pnstrdup(name, strcspn(name, "-") + 1);
}

static void
ask_table(PstChSink *sink, bool names)
{
	const PstChGroup *group = &sink->groups[sink->group];
	const PstEvent *events = sink->shipment->events;
	char	   *prefix = pst_ch_log_prefix(sink);

	resetStringInfo(&sink->sql);
	pst_ch_sql_holds(&sink->sql, group->table, events[sink->rows[group->from]].position,
					 events[sink->rows[group->from + group->count - 1]].position, prefix, names);
	pfree(prefix);
	if (names)
		pst_ch_begin_sql(sink, PST_CH_ASK_NAMES, SHORT_ANSWER + 2 * (size_t) NAME_ANSWER * group->count);
	else
		pst_ch_begin_sql(sink, PST_CH_ASK_SUM, SHORT_ANSWER);
}

/* The next table that this sequence has asked, whose latest states are kept. */
static PstChTable *
next_latest(PstChTable *table)
{
	while (table && !(table->asked && table->latest))
		table = table->next;
	return table;
}

static void
ask_latest(PstChSink *sink, bool mend)
{
	resetStringInfo(&sink->sql);
	pst_ch_sql_behind(&sink->sql, sink->asked, mend);
	pst_ch_begin_sql(sink, mend ? PST_CH_REFILL : PST_CH_ASK_LATEST, SHORT_ANSWER);
}

static void
next(PstChSink *sink)
{
	if (sink->version == PST_CH_UNKNOWN)
		pst_ch_begin_version(sink);
	else if (sink->group < sink->ngroups && sink->tops)
		pst_ch_begin_ask_top(sink);
	else if (sink->group < sink->ngroups)
		ask_table(sink, false);
	else if (sink->asking_last && sink->asked)
		ask_latest(sink, false);
	else
		end(sink);
	/* a request that could not even begin has left its fault */
	if (sink->step == PST_CH_IDLE)
		end(sink);
}

/* In the memory of a shipment. */
static void
begin(PstChSink *sink, const PstShipment *shipment, bool last)
{
	sink->shipment = shipment;
	sink->verdicts = palloc0(sizeof(PstVerdict) * shipment->nevents);
	sink->nrefusals = 0;
	memset(&sink->fault, 0, sizeof(sink->fault));
	sink->asking = true;
	sink->asking_last = last;
	sink->tops = NULL;
	pst_ch_group(sink);
	sink->group = 0;
}

void
pst_ch_ask(PstSink *base, const PstShipment *shipment, bool first, bool last)
{
	PstChSink  *sink = (PstChSink *) base;
	MemoryContext before;

	MemoryContextReset(sink->scratch);
	before = MemoryContextSwitchTo(sink->scratch);
	begin(sink, shipment, last);
	pst_holding_begin(&sink->holding, sink->context, shipment);
	if (first)
		for (PstChTable *table = sink->tables; table != NULL; table = table->next)
			table->asked = false;
	for (int i = 0; i < sink->ngroups; i++)
		sink->groups[i].table->asked = true;
	sink->asked = next_latest(sink->tables);
	if (sink->open_error != NULL)
		fail(sink, PST_MISCONFIGURED, sink->open_error);
	else
		next(sink);
	MemoryContextSwitchTo(before);
}

/* Where the tables end: a table whose last event of this log is older than one that it took has lost that one. */
void
pst_ch_look(PstSink *base, const PstShipment *shipment)
{
	PstChSink  *sink = (PstChSink *) base;
	MemoryContext before;

	MemoryContextReset(sink->scratch);
	before = MemoryContextSwitchTo(sink->scratch);
	begin(sink, shipment, false);
	sink->tops = palloc0(sizeof(int64) * sink->ngroups);
	if (sink->open_error != NULL)
		fail(sink, PST_MISCONFIGURED, sink->open_error);
	else
		next(sink);
	MemoryContextSwitchTo(before);
}

bool
pst_ch_lacks(const PstSink *base, int nth, int64 *top)
{
	const PstChSink *sink = (const PstChSink *) base;

	for (int i = 0; i < sink->ngroups; i++)
		for (int row = sink->groups[i].from; row < sink->groups[i].from + sink->groups[i].count; row++)
			if (sink->rows[row] == nth)
			{
				*top = sink->tops[i];
				return *top < sink->shipment->events[nth].position;
			}
	*top = 0;
	return false;
}

int
pst_ch_era(const PstSink *base)
{
	return ((const PstChSink *) base)->era;
}

/* ----- answers ----- */

static uint64
read_u64(const char *at)
{
	uint64		value = 0;

	for (int i = 0; i < 8; i++)
		value |= (uint64) (unsigned char) at[i] << (8 * i);
	return value;
}

/* All there, once each?  Then that is settled without the names. */
static bool
sum_fits(PstChSink *sink, const PstChAnswer *answer)
{
	const PstChGroup *group = &sink->groups[sink->group];
	uint64		sum = 0;

	for (int i = group->from; i < group->from + group->count; i++)
	{
		const char *name = sink->shipment->events[sink->rows[i]].name;

		sum += pst_siphash(name, strlen(name));
	}
	if (answer->length != 16 || read_u64(answer->text) != (uint64) group->count ||
		read_u64(answer->text + 8) != sum)
		return false;
	for (int i = group->from; i < group->from + group->count; i++)
		sink->holding.counts[sink->rows[i]] = 1;
	return true;
}

/* Each name and how often, as RowBinary.  False if it cannot be read. */
static bool
take_names(PstChSink *sink, const PstChAnswer *answer)
{
	const char *at = answer->text;
	const char *end_at = at + answer->length;

	if (answer->overflow)
		return false;
	while (at < end_at)
	{
		size_t		length = 0;
		int			shift = 0;
		unsigned char byte;
		uint64		count;

		do
		{
			if (at >= end_at || shift > 28)
				return false;
			byte = (unsigned char) *at++;
			length |= (size_t) (byte & 0x7F) << shift;
			shift += 7;
		} while (byte >= 0x80);
		if (length + 8 > (size_t) (end_at - at))
			return false;
		count = read_u64(at + length);
		/* other routes may share the table: their events are not ours to judge */
		if (pst_holding_find(&sink->holding, at, length) >= 0)
			pst_holding_add(&sink->holding, at, length, (int) Min(count, INT_MAX / 2));
		at += length + 8;
	}
	return true;
}

void
pst_ch_ask_answered(PstChSink *sink, const PstChAnswer *answer)
{
	switch (sink->step)
	{
		case PST_CH_ASK_VERSION:
			sink->version = pst_ch_parse_version(answer->text);
			if (sink->version == PST_CH_UNKNOWN)
				fail(sink, PST_MISCONFIGURED, "what answers at the url is not ClickHouse: it has no version");
			else
				next(sink);
			return;
		case PST_CH_ASK_SUM:
			if (!sum_fits(sink, answer))
			{
				ask_table(sink, true);
				return;
			}
			sink->group++;
			break;
		case PST_CH_ASK_NAMES:
			if (!take_names(sink, answer))
			{
				fail(sink, PST_RETRY, "the list of events that are held cannot be read");
				return;
			}
			sink->group++;
			break;
		case PST_CH_ASK_TOP:
			sink->spoken_at = pst_ch_now_ms();
			sink->tops[sink->group++] = strtoll(answer->text, NULL, 10);
			break;
		case PST_CH_ASK_LATEST:
			if (strtol(answer->text, NULL, 10) > 0)
			{
				sink->holding.refilled += (int) strtol(answer->text, NULL, 10);
				ask_latest(sink, true);
				return;
			}
			sink->asked = next_latest(sink->asked->next);
			break;
		default:
			sink->asked = next_latest(sink->asked->next);
	}
	next(sink);
}

/* Latest states are mended where the tables have our columns; others are their maker's. */
static bool
lacks_column(const PstFault *fault)
{
	/* NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER */
	return fault->code == 10 || fault->code == 16 || fault->code == 47;
}

void
pst_ch_ask_failed(PstChSink *sink, PstChClass class, PstFault *fault)
{
	/* a table that is not there holds nothing */
	if (class == PST_CH_TABLE && (sink->step == PST_CH_ASK_SUM || sink->step == PST_CH_ASK_NAMES || sink->step == PST_CH_ASK_TOP))
	{
		sink->group++;
		next(sink);
	}
	else if ((sink->step == PST_CH_ASK_LATEST || sink->step == PST_CH_REFILL) &&
			 (class == PST_CH_TABLE || lacks_column(fault)))
	{
		sink->asked = next_latest(sink->asked->next);
		next(sink);
	}
	else
	{
		sink->fault = *fault;
		end(sink);
	}
}

const PstHolding *
pst_ch_held(const PstSink *base)
{
	return &((const PstChSink *) base)->holding;
}
