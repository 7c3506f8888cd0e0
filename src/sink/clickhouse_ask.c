/*
 * clickhouse_ask.c
 *	  What do the tables hold of a run of events?
 *
 *		version? -> for each table: its columns [once a sequence];
 *					number of rows, and sum of their hashes
 *					[they differ: each name, with its columns' hashes and how often]
 *				 -> after the last run, for each table: latest states behind?
 *					[some are: write them again]
 *					latest states other than their events say?
 *					[some are: write them again]
 *
 * A table that is not there holds nothing.  Latest states are mended from the
 * table of events, so one in which something was altered is no source for them:
 * there only what is behind is filled in.
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

/* Columns of a table that are compared. */
static int
count_compared(const PstChTable *table)
{
	int			n = 0;

	for (int i = 0; i < table->ncolumns; i++)
		n += pst_ch_is_compared(&table->columns[i]);
	return n;
}

static void
ask_table(PstChSink *sink, bool names)
{
	const PstChGroup *group = &sink->groups[sink->group];
	const PstEvent *events = sink->shipment->events;
	char	   *prefix = pst_ch_log_prefix(sink);
	size_t		each = NAME_ANSWER + sizeof(uint64) * count_compared(group->table);

	resetStringInfo(&sink->sql);
	pst_ch_sql_holds(&sink->sql, group->table, events[sink->rows[group->from]].position,
					 events[sink->rows[group->from + group->count - 1]].position, prefix, names);
	pfree(prefix);
	if (names)
		pst_ch_begin_sql(sink, PST_CH_ASK_NAMES, SHORT_ANSWER + 2 * each * group->count);
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
ask_states(PstChSink *sink, bool mend)
{
	char	   *prefix = pst_ch_log_prefix(sink);

	resetStringInfo(&sink->sql);
	pst_ch_sql_differ(&sink->sql, sink->asked, sink->asked_from, sink->shipment->to_position, prefix, mend);
	pfree(prefix);
	pst_ch_begin_sql(sink, mend ? PST_CH_RESTORE : PST_CH_ASK_STATES, SHORT_ANSWER);
}

/* From what is behind to what differs, and to the next table. */
static void
advance_latest(PstChSink *sink)
{
	sink->asked_states = !sink->asked_states && !sink->asked->altered;
	if (!sink->asked_states)
		sink->asked = next_latest(sink->asked->next);
}

/* An end of the run may lie in the gap that a promotion leaves, with what only an earlier primary had sent. */
static bool
ask_others(PstChSink *sink)
{
	const PstShipment *shipment = sink->shipment;
	const PstChGroup *group = &sink->groups[sink->group];
	int64		first = shipment->events[sink->rows[group->from]].position;
	int64		last = shipment->events[sink->rows[group->from + group->count - 1]].position;
	char	   *prefix;

	if (shipment->nonce == NULL || atoi(shipment->nonce) < 2 ||
		(shipment->from_position >> 32 == first >> 32 && shipment->to_position >> 32 == last >> 32 && !shipment->open_end))
		return false;
	prefix = pst_ch_log_prefix(sink);
	resetStringInfo(&sink->sql);
	pst_ch_sql_others(&sink->sql, group->table, shipment, first, last, prefix);
	pfree(prefix);
	pst_ch_begin_sql(sink, PST_CH_ASK_OTHERS, SHORT_ANSWER + (size_t) NAME_ANSWER * PST_MAX_STRAYS);
	return true;
}

static void
next(PstChSink *sink)
{
	if (sink->version == PST_CH_UNKNOWN)
		pst_ch_begin_version(sink);
	else if (sink->group < sink->ngroups && sink->tops)
		pst_ch_begin_ask_top(sink, 0);
	else if (sink->group < sink->ngroups && !sink->groups[sink->group].table->seen)
		pst_ch_begin_look(sink);
	else if (sink->group < sink->ngroups)
		ask_table(sink, false);
	else if (sink->asking_last && sink->asked && sink->asked_states)
		ask_states(sink, false);
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
	sink->marking = false;
	sink->asking_last = last;
	sink->asked_states = false;
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
	{
		sink->asked_from = shipment->from_position;
		for (PstChTable *table = sink->tables; table != NULL; table = table->next)
			table->asked = table->seen = table->altered = false;
	}
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

/* What columns the table has; false, with the fault, if it will not do. */
static bool
take_look(PstChSink *sink, const PstChAnswer *answer)
{
	PstChTable *table = sink->groups[sink->group].table;
	PstChMissing missing = PST_CH_ALL_THERE;
	char		errbuf[sizeof(sink->fault.what)];

	if (!pst_ch_read_look(table, answer, sink->version, &missing, errbuf, sizeof(errbuf)))
	{
		fail(sink, PST_MISCONFIGURED, errbuf);
		return false;
	}
	table->seen = true;
	/* it holds nothing; a later run may find it made */
	if (missing == PST_CH_NO_EVENTS)
	{
		table->seen = false;
		sink->group++;
	}
	return true;
}

/* All there, once each, and as we sent it?  Then that is settled without the names. */
static bool
sum_fits(PstChSink *sink, const PstChAnswer *answer)
{
	const PstChGroup *group = &sink->groups[sink->group];
	uint64		sum = 0;
	StringInfoData scratch;

	if (answer->length != 16 || read_u64(answer->text) != (uint64) group->count)
		return false;
	initStringInfo(&scratch);
	for (int i = group->from; i < group->from + group->count; i++)
		sum += pst_ch_row_hash(group->table, &sink->shipment->events[sink->rows[i]], &scratch);
	pfree(scratch.data);
	if (read_u64(answer->text + 8) != sum)
		return false;
	for (int i = group->from; i < group->from + group->count; i++)
		sink->holding.counts[sink->rows[i]] = 1;
	return true;
}

/* Which columns of a row are not as we wrote them? */
static void
compare_row(PstChSink *sink, int nth, const char *hashes, StringInfo scratch)
{
	PstChTable *table = sink->groups[sink->group].table;

	for (int i = 0; i < table->ncolumns; i++)
	{
		const PstNativeColumn *column = &table->columns[i];

		if (!pst_ch_is_compared(column))
			continue;
		if (read_u64(hashes) != pst_ch_column_hash(column, &sink->shipment->events[nth], scratch))
		{
			pst_holding_alter(&sink->holding, nth, column->name);
			table->altered = true;
		}
		hashes += sizeof(uint64);
	}
}

/* The length of a String of RowBinary; moves *at behind it.  False at the end of the bytes. */
static bool
read_length(const char **at, const char *end_at, size_t *length)
{
	int			shift = 0;
	unsigned char byte;

	*length = 0;
	do
	{
		if (*at >= end_at || shift > 28)
			return false;
		byte = (unsigned char) *(*at)++;
		*length |= (size_t) (byte & 0x7F) << shift;
		shift += 7;
	} while (byte >= 0x80);
	return true;
}

/* Each name with its columns' hashes and how often, as RowBinary.  False if it cannot be read. */
static bool
take_names(PstChSink *sink, const PstChAnswer *answer)
{
	const char *at = answer->text;
	const char *end_at = at + answer->length;
	size_t		hashes = sizeof(uint64) * count_compared(sink->groups[sink->group].table);
	size_t		length;
	StringInfoData scratch;

	if (answer->overflow)
		return false;
	initStringInfo(&scratch);
	while (at < end_at)
	{
		int			nth;

		if (!read_length(&at, end_at, &length) || length + hashes + sizeof(uint64) > (size_t) (end_at - at))
			return false;
		nth = pst_holding_find(&sink->holding, at, length);
		/* other routes may share the table: their events are not ours to judge */
		if (nth >= 0)
		{
			pst_holding_add(&sink->holding, at, length,
							(int) Min(read_u64(at + length + hashes), INT_MAX / 2));
			compare_row(sink, nth, at + length, &scratch);
		}
		at += length + hashes + sizeof(uint64);
	}
	pfree(scratch.data);
	return true;
}

static bool
take_others(PstChSink *sink, const PstChAnswer *answer)
{
	const char *at = answer->text;
	const char *end_at = at + answer->length;
	size_t		length;

	if (answer->overflow)
		return false;
	for (; at < end_at; at += length)
	{
		if (!read_length(&at, end_at, &length) || length > (size_t) (end_at - at))
			return false;
		pst_holding_add_other(&sink->holding, at, length);
	}
	return true;
}

/* A number of latest states to be mended, if there are any. */
static long
take_count(PstChSink *sink, const PstChAnswer *answer)
{
	long		count = strtol(answer->text, NULL, 10);

	sink->holding.refilled += (int) count;
	return count;
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
		case PST_CH_LOOK:
			if (!take_look(sink, answer))
				return;
			break;
		case PST_CH_ASK_SUM:
			if (!sum_fits(sink, answer))
			{
				ask_table(sink, true);
				return;
			}
			if (ask_others(sink))
				return;
			sink->group++;
			break;
		case PST_CH_ASK_NAMES:
		case PST_CH_ASK_OTHERS:
			if (sink->step == PST_CH_ASK_NAMES ? !take_names(sink, answer) : !take_others(sink, answer))
			{
				fail(sink, PST_RETRY, "the list of events that are held cannot be read");
				return;
			}
			if (sink->step == PST_CH_ASK_NAMES && ask_others(sink))
				return;
			sink->group++;
			break;
		case PST_CH_ASK_TOP:
			sink->spoken_at = pst_ch_now_ms();
			sink->tops[sink->group++] = strtoll(answer->text, NULL, 10);
			break;
		case PST_CH_ASK_LATEST:
			if (take_count(sink, answer) > 0)
			{
				ask_latest(sink, true);
				return;
			}
			advance_latest(sink);
			break;
		case PST_CH_ASK_STATES:
			if (take_count(sink, answer) > 0)
			{
				ask_states(sink, true);
				return;
			}
			advance_latest(sink);
			break;
		default:
			advance_latest(sink);
	}
	next(sink);
}

/*
 * Latest states are mended where the tables have our columns, and are compared
 * where they can be read with FINAL; others are their maker's.
 */
static bool
is_of_another_make(const PstFault *fault)
{
	/* NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER, ILLEGAL_FINAL */
	return fault->code == 10 || fault->code == 16 || fault->code == 47 || fault->code == 181;
}

void
pst_ch_ask_failed(PstChSink *sink, PstChClass class, PstFault *fault)
{
	bool		of_events = sink->step == PST_CH_ASK_SUM || sink->step == PST_CH_ASK_NAMES ||
		sink->step == PST_CH_ASK_OTHERS || sink->step == PST_CH_ASK_TOP;
	bool		of_latest = sink->step == PST_CH_ASK_LATEST || sink->step == PST_CH_REFILL ||
		sink->step == PST_CH_ASK_STATES || sink->step == PST_CH_RESTORE;

	/* ILLEGAL_PREWHERE */
	if (of_events && fault->code == 182 && !sink->groups[sink->group].table->plain)
	{
		sink->groups[sink->group].table->plain = true;
		next(sink);
	}
	/* a table that is not there holds nothing */
	else if (of_events && class == PST_CH_TABLE)
	{
		sink->group++;
		next(sink);
	}
	else if (of_latest && (class == PST_CH_TABLE || is_of_another_make(fault)))
	{
		sink->asked_states = true;
		advance_latest(sink);
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
