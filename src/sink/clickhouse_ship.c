/*
 * clickhouse_ship.c
 *	  One shipment: which request comes next, and what its answer means.
 *
 *		version? -> look at the table -> [create what is missing -> look]
 *				 -> [in doubt: does it still run? -> what landed?]
 *				 -> [in doubt since long ago: is anything there? -> what landed?]
 *				 -> insert -> next piece, next table, end
 *
 * next() picks the request from what is known, and each answer changes what is
 * known.  So an answer that shows that we were wrong (a dropped table, another
 * version) only makes us forget, and next() finds its way again.
 *
 * An insert that failed may have landed: the connection broke, the server gave
 * up waiting for a replica, or a view behind the table failed after the table
 * itself was written.  Nothing is sent a second time before it is known what is
 * there: we wait until nothing runs under the shipment's name, and ask for the
 * events that landed.  A token that the server remembers is a second defence,
 * for a repeat that overtakes the original or asks another replica.
 */
#include "postgres.h"

#include "sink/clickhouse.h"

#define RUNNING_PAUSE 250		/* ms until we ask again whether an insert still runs */
#define LATE_PAUSE 500			/* ms for a request that lies unread in the server's sockets to begin */
#define LATE_AT_MOST (60 * 60 * 1000)	/* ms after which no such request is left */
#define TOKEN_TRUST (15 * 60 * 1000)	/* ms for which a remembered token is relied on */
#define SILENCE (60 * 1000)		/* ms after which what the server holds may have changed unseen */
#define MAX_CREATIONS 8
#define MAX_STUMBLES 3

static void next(PstChSink *sink);

/* ----- ends ----- */

static bool
is_over(const PstChSink *sink)
{
	return sink->group >= sink->ngroups;
}

/* Keep the first fault; a doubt about any part is one about the shipment. */
static void
note_fault(PstChSink *sink, const PstFault *fault, bool in_doubt)
{
	in_doubt |= sink->fault.in_doubt;
	if (sink->fault.verdict == PST_VERDICT_NONE)
		sink->fault = *fault;
	sink->fault.in_doubt = in_doubt;
}

/* Every event of this group that is not settled gets this verdict. */
static void
settle_group(PstChSink *sink, int nth, PstVerdict verdict)
{
	const PstChGroup *group = &sink->groups[nth];

	for (int i = group->from; i < group->from + group->count; i++)
		if (sink->verdicts[sink->rows[i]] == PST_VERDICT_NONE)
			sink->verdicts[sink->rows[i]] = verdict;
}

static void
begin_group(PstChSink *sink)
{
	sink->give_up_at = 0;
	if (is_over(sink))
		sink->step = PST_CH_IDLE;
	else
		pst_ch_work_begin(sink);
}

/* This table's events end so; the other tables' may fare better. */
static void
end_group(PstChSink *sink, PstVerdict verdict)
{
	settle_group(sink, sink->group, verdict);
	sink->group++;
	begin_group(sink);
}

/* Nothing more will do now. */
static void
end_shipment(PstChSink *sink, PstVerdict verdict)
{
	for (; !is_over(sink); sink->group++)
		settle_group(sink, sink->group, verdict);
	sink->step = PST_CH_IDLE;
}

/* What the server is or has may be another thing the next time. */
static void
forget_server(PstChSink *sink)
{
	sink->version = PST_CH_UNKNOWN;
	sink->era++;
	for (PstChTable *table = sink->tables; table != NULL; table = table->next)
		table->ready = false;
}

/* May something of this shipment be there without our knowing? */
static bool
is_in_doubt(const PstChSink *sink)
{
	return sink->shipment->in_doubt || sink->work.doubt != PST_CH_NO_DOUBT;
}

void
pst_ch_fail(PstChSink *sink, PstVerdict verdict, const char *what)
{
	PstFault	fault;

	pst_ch_fault(&fault, verdict, what);
	note_fault(sink, &fault, is_in_doubt(sink));
	end_shipment(sink, verdict);
}

/* ----- which request is next ----- */

static void
pause_for(PstChSink *sink, int ms)
{
	sink->step = PST_CH_PAUSE;
	sink->resume_at = pst_ch_now_ms() + ms;
}

static PstChTable *
table_under_way(PstChSink *sink)
{
	return sink->groups[sink->group].table;
}

/* Does the server drop a block that it has already, so that a late one can do no harm? */
static bool
is_token_trusted(PstChSink *sink)
{
	const PstChTable *table = table_under_way(sink);
	int			age = sink->shipment->in_doubt_ms;

	return pst_ch_has_tokens(sink->version) && table->window > 0 && age < TOKEN_TRUST &&
		(table->window_seconds == 0 || age / 1000 < table->window_seconds / 2);
}

/* Has the worker seen what this server holds?  If not, nothing is sent. */
static bool
is_seen(PstChSink *sink)
{
	if (sink->shipment->era == 0 || sink->shipment->era == sink->era)
		return true;
	pst_ch_fail(sink, PST_RETRY, "what the server holds is not known");
	sink->fault.unseen = true;
	return false;
}

static int64
first_position(const PstChSink *sink)
{
	return sink->shipment->events[sink->rows[sink->groups[sink->group].from]].position;
}

static bool
knows_top(PstChSink *sink)
{
	const PstChTable *table = table_under_way(sink);

	return table->top_doubt == sink->shipment->at_rest && first_position(sink) >= table->top_from;
}

/* The table ended before this shipment when we asked, and that was after all that is in doubt. */
static bool
is_beyond_top(PstChSink *sink)
{
	return knows_top(sink) && first_position(sink) > table_under_way(sink)->top;
}

static void
next(PstChSink *sink)
{
	PstChWork  *work = &sink->work;

	while (!is_over(sink) && work->npieces == 0)
	{
		sink->group++;
		begin_group(sink);
	}
	if (is_over(sink) || !is_seen(sink))
		return;
	if (work->doubt == PST_CH_DOUBT_OLD && is_beyond_top(sink))
		work->doubt = PST_CH_NO_DOUBT;
	if (sink->version == PST_CH_UNKNOWN)
		pst_ch_begin_version(sink);
	else if (work->missing != PST_CH_ALL_THERE)
		pst_ch_begin_create(sink);
	else if (!table_under_way(sink)->ready)
		pst_ch_begin_look(sink);
	else if (work->doubt == PST_CH_DOUBT_OPEN)
		pst_ch_begin_ask_running(sink);
	else if (work->doubt == PST_CH_DOUBT_OLD && !knows_top(sink))
		pst_ch_begin_ask_top(sink, first_position(sink));
	else if (work->doubt != PST_CH_NO_DOUBT)
		pst_ch_begin_ask_landed(sink);
	else
		pst_ch_begin_insert(sink);
}

/* ----- answers: what the server said when all is well ----- */

static void
after_version(PstChSink *sink, const PstChAnswer *answer)
{
	char		what[sizeof(sink->fault.what)];

	sink->version = pst_ch_parse_version(answer->text);
	if (sink->version != PST_CH_UNKNOWN && sink->packing != NULL &&
		strcmp(sink->packing, "zstd") == 0 && !pst_ch_has_zstd(sink->version))
	{
		snprintf(what, sizeof(what), "the server is ClickHouse %d.%d, and compression 'zstd' wants 22.2 or newer",
				 sink->version / 100, sink->version % 100);
		/* it may be another one the next time */
		sink->version = PST_CH_UNKNOWN;
		pst_ch_fail(sink, PST_MISCONFIGURED, what);
		return;
	}
	if (sink->version != PST_CH_UNKNOWN)
	{
		next(sink);
		return;
	}
	pst_ch_fail(sink, PST_MISCONFIGURED, "what answers at the url is not ClickHouse: it has no version");
	pst_ch_quote_peer(sink->fault.peer_said, sizeof(sink->fault.peer_said),
					  answer->text, &sink->peer);
}

/* This table will not do until somebody mends it. */
static void
table_will_not_do(PstChSink *sink, const char *what)
{
	PstFault	fault;

	pst_ch_fault(&fault, PST_MISCONFIGURED, what);
	note_fault(sink, &fault, is_in_doubt(sink));
	end_group(sink, PST_MISCONFIGURED);
	next(sink);
}

static void
after_look(PstChSink *sink, const PstChAnswer *answer)
{
	PstChTable *table = table_under_way(sink);
	PstChWork  *work = &sink->work;
	char		errbuf[sizeof(sink->fault.what)];

	if (!pst_ch_read_look(table, answer, sink->version, &work->missing, errbuf, sizeof(errbuf)))
		table_will_not_do(sink, errbuf);
	else if (work->missing == PST_CH_ALL_THERE)
		next(sink);
	else if (!table->create && work->missing != PST_CH_NO_EVENTS)
	{
		/* the latest states are not wanted that badly */
		work->missing = PST_CH_ALL_THERE;
		table->ready = true;
		next(sink);
	}
	else if (!table->create || work->creations == MAX_CREATIONS)
	{
		snprintf(errbuf, sizeof(errbuf), table->create
				 ? "table \"%s\" or what belongs to it was made, but is not to be seen"
				 : "there is no table \"%s\", and create_tables is off", table->name);
		table_will_not_do(sink, errbuf);
	}
	else
		next(sink);
}

static void
after_create(PstChSink *sink)
{
	sink->work.creations++;
	sink->work.missing = PST_CH_ALL_THERE;	/* look again */
	next(sink);
}

static void
after_ask_top(PstChSink *sink, const PstChAnswer *answer)
{
	PstChTable *table = table_under_way(sink);

	table->top = strtoll(answer->text, NULL, 10);
	table->top_from = first_position(sink);
	table->top_doubt = sink->shipment->at_rest;
	next(sink);
}

static void
after_ask_running(PstChSink *sink, const PstChAnswer *answer)
{
	if (strtol(answer->text, NULL, 10) == 0)
	{
		sink->work.doubt = PST_CH_DOUBT_ENDED;
		sink->give_up_at = 0;
		next(sink);
	}
	else if (pst_ch_now_ms() >= sink->give_up_at)
		pst_ch_fail(sink, PST_RETRY, "an earlier insert of this shipment still runs");
	else
		pause_for(sink, RUNNING_PAUSE);
}

/*
 * The server answered an insert with an error, and yet the events are there.
 * They are delivered, so this is no fault; but it is worth telling.
 */
static void
note_side_error(PstChSink *sink)
{
	if (sink->fault.verdict != PST_VERDICT_NONE)
		return;
	sink->fault = sink->work.blame;
	sink->fault.verdict = PST_VERDICT_NONE;
	strlcpy(sink->fault.what,
			"the events landed, but the server reported an error: a view behind the table may lack them",
			sizeof(sink->fault.what));
}

/* A piece was refused and nothing of it is there: make it smaller, or give up. */
static void
divide(PstChSink *sink, PstChClass class)
{
	PstChWork  *work = &sink->work;

	if (class == PST_CH_SPLIT && !pst_ch_piece_split(sink))
	{
		note_fault(sink, &work->blame, false);
		end_shipment(sink, PST_RETRY);
		return;
	}
	if (class == PST_CH_ROW && !pst_ch_piece_refused(sink))
	{
		work->blame.verdict = PST_MISCONFIGURED;
		if (work->blame.code != 0)
			strlcpy(work->blame.what, "the server refuses the first events one and all: the table does not fit",
					sizeof(work->blame.what));
		note_fault(sink, &work->blame, false);
		pst_ch_take_back_refusals(sink);
		end_group(sink, PST_MISCONFIGURED);
	}
	else if (work->isolated >= PST_CH_MAX_ISOLATED && work->isolated > work->passed)
	{
		/* nothing is kept as a dead letter: the whole comes again when the table is mended */
		work->blame.verdict = PST_MISCONFIGURED;
		strlcpy(work->blame.what, "the server refuses most of the events: the table does not fit",
				sizeof(work->blame.what));
		note_fault(sink, &work->blame, false);
		pst_ch_take_back_refusals(sink);
		end_group(sink, PST_MISCONFIGURED);
	}
	next(sink);
}

/*
 * A request that was sent just before the connection broke may lie unread in
 * the server's sockets: then nothing runs and nothing has landed, and yet it
 * comes.  So when something is missing we look twice, a while apart, unless a
 * token makes it harmless.
 */
static void
after_ask_landed(PstChSink *sink, const PstChAnswer *answer)
{
	PstChWork  *work = &sink->work;
	PstChClass	blame_class = work->blame_class;
	int			npieces = work->npieces;
	bool		look_again = blame_class == PST_CH_FINE && sink->shipment->in_doubt &&
		sink->shipment->in_doubt_ms < LATE_AT_MOST && work->looks > 1 && !is_token_trusted(sink);

	if (!pst_ch_piece_landed(sink, answer))
	{
		pst_ch_fail(sink, PST_RETRY, "the list of events that landed cannot be read");
		return;
	}
	work->doubt = PST_CH_NO_DOUBT;
	work->blame_class = PST_CH_FINE;
	if (work->npieces < npieces)
	{
		/* all of it is there */
		if (blame_class != PST_CH_FINE)
			note_side_error(sink);
		next(sink);
	}
	else if (look_again)
	{
		work->looks--;
		work->doubt = PST_CH_DOUBT_OPEN;
		pause_for(sink, LATE_PAUSE);
	}
	else if (blame_class == PST_CH_FINE)
		next(sink);
	else
		divide(sink, blame_class);
}

void
pst_ch_row_unfit(PstChSink *sink, int row, const char *what)
{
	pst_ch_fault(&sink->work.blame, PST_REJECTED, what);
	sink->work.blamed = row;
	divide(sink, PST_CH_ROW);
}

static void
after_success(PstChSink *sink, const PstChAnswer *answer)
{
	switch (sink->step)
	{
		case PST_CH_ASK_VERSION:
			after_version(sink, answer);
			break;
		case PST_CH_LOOK:
			after_look(sink, answer);
			break;
		case PST_CH_CREATE:
			after_create(sink);
			break;
		case PST_CH_ASK_RUNNING:
			after_ask_running(sink, answer);
			break;
		case PST_CH_ASK_TOP:
			after_ask_top(sink, answer);
			break;
		case PST_CH_ASK_LANDED:
			after_ask_landed(sink, answer);
			break;
		case PST_CH_INSERT:
			pst_ch_piece_passed(sink);
			next(sink);
			break;
		default:
			Assert(false);
			break;
	}
}

/* ----- answers: what went wrong ----- */

/* The insert was answered with an error: what of it is there nevertheless is asked next. */
static void
blame(PstChSink *sink, PstChClass class, const PstFault *fault, const PstChAnswer *answer)
{
	sink->work.doubt = PST_CH_DOUBT_ENDED;
	sink->work.blame_class = class;
	sink->work.blame = *fault;
	sink->work.blamed = pst_ch_blamed_row(answer->text);
	next(sink);
}

/*
 * The server is not what we took it for: forget and go on, but not for ever.
 * False if it has happened too often.
 */
static bool
stumble(PstChSink *sink, PstChClass class)
{
	if (sink->work.stumbles++ == MAX_STUMBLES)
		return false;
	switch (class)
	{
		case PST_CH_TABLE:
			table_under_way(sink)->ready = false;
			sink->era++;
			break;
		case PST_CH_SETTING:
			sink->version = PST_CH_UNKNOWN;
			break;
		case PST_CH_RUNNING:
			break;				/* wait for its end */
		default:
			return false;
	}
	if (sink->step == PST_CH_INSERT)
		sink->work.doubt = class == PST_CH_RUNNING ? PST_CH_DOUBT_OPEN : PST_CH_DOUBT_ENDED;
	next(sink);
	return true;
}

static void
after_failure(PstChSink *sink, PstChClass class, PstFault *fault, const PstChAnswer *answer)
{
	bool		inserting = sink->step == PST_CH_INSERT;
	bool		in_doubt = is_in_doubt(sink) || (inserting && answer->sent);

	if (answer->result != CURLE_OK)
		forget_server(sink);
	if (inserting && (class == PST_CH_ROW || class == PST_CH_SPLIT))
		blame(sink, class, fault, answer);
	else if (stumble(sink, class))
		;
	else if (class == PST_CH_CONFIG || class == PST_CH_TABLE || class == PST_CH_ROW)
	{
		/* a row cannot be at fault where none was sent */
		fault->verdict = PST_MISCONFIGURED;
		note_fault(sink, fault, in_doubt);
		end_group(sink, PST_MISCONFIGURED);
		next(sink);
	}
	else
	{
		note_fault(sink, fault, in_doubt);
		end_shipment(sink, fault->verdict);
	}
}

/* ----- the shipment ----- */

static void
on_answer(PstChSink *sink, const PstChAnswer *answer)
{
	PstFault	fault;
	PstChClass	class = pst_ch_classify(answer, &sink->peer, &fault);

	if (sink->marking)
	{
		if (answer->result != CURLE_OK)
			forget_server(sink);
		if (class == PST_CH_FINE)
			pst_ch_mark_answered(sink, answer);
		else
			pst_ch_mark_failed(sink, class, &fault);
		return;
	}
	if (sink->asking)
	{
		if (class == PST_CH_FINE)
			pst_ch_ask_answered(sink, answer);
		else
			pst_ch_ask_failed(sink, class, &fault);
		return;
	}
	if (class == PST_CH_FINE)
		after_success(sink, answer);
	else
		after_failure(sink, class, &fault, answer);
}

void
pst_ch_ship_begin(PstChSink *sink, const PstShipment *shipment)
{
	sink->shipment = shipment;
	sink->asking = sink->marking = false;
	sink->verdicts = palloc0(sizeof(PstVerdict) * shipment->nevents);
	sink->refusals = NULL;
	sink->nrefusals = 0;
	sink->duplicates = 0;
	memset(&sink->fault, 0, sizeof(sink->fault));
	sink->group = 0;
	if (pst_ch_now_ms() - sink->spoken_at > SILENCE)
		sink->era++;
	sink->spoken_at = pst_ch_now_ms();
	pst_ch_group(sink);
	begin_group(sink);
	if (sink->open_error != NULL)
		pst_ch_fail(sink, PST_MISCONFIGURED, sink->open_error);
	else
		next(sink);
}

PstSinkProgress
pst_ch_ship_step(PstChSink *sink)
{
	PstChAnswer answer;

	if (sink->step == PST_CH_PAUSE)
	{
		if (pst_ch_now_ms() >= sink->resume_at)
			next(sink);
	}
	else if (sink->step != PST_CH_IDLE && pst_ch_http_step(sink->http, &answer))
		on_answer(sink, &answer);
	return sink->step == PST_CH_IDLE ? PST_SINK_DONE : PST_SINK_BUSY;
}
