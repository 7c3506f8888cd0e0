/*
 * clickhouse.h
 *	  What the files of the ClickHouse sink share.
 *
 *	clickhouse.c		the sink's ops: open, send, poll, verdicts, close
 *	clickhouse_ship.c	one shipment: which request comes next, and what its answer means
 *	clickhouse_request.c	the requests themselves
 *	clickhouse_group.c	a shipment's events by destination table
 *	clickhouse_piece.c	the blocks of one table: splitting, isolating, leaving out what landed
 *	clickhouse_table.c	the SQL of tables, and which columns a block has
 *	clickhouse_create.c	the tables that we make
 *	clickhouse_ask.c	what the tables hold
 *	clickhouse_content.c	what a row must hold, as a hash
 *	clickhouse_mark.c	the nonces of workers, in a table of ours
 *	clickhouse_call.c	one request at a time, over http.c
 *	clickhouse_error.c	what a server's exception means for us
 *
 * A sink has one request under way at a time, on one connection that is kept.
 */
#ifndef PST_CLICKHOUSE_H
#define PST_CLICKHOUSE_H

#include "postgres.h"

#include "encode/native.h"
#include "sink/holding.h"
#include "sink/http.h"
#include "sink/sink.h"

/* ----- clickhouse_call.c ----- */

/* What came back; valid until the next request begins. */
typedef struct PstChAnswer
{
	CURLcode	result;
	long		status;
	int			exception;		/* the server's exception code, or 0 */
	const char *text;			/* the body, NUL-terminated */
	size_t		length;
	bool		overflow;		/* the body was longer than what was asked for */
	bool		sent;			/* something of the request may have reached the server */
	const char *reason;			/* curl's words, if result is not CURLE_OK */
} PstChAnswer;

/* malloc'd; NULL if there is no memory; pst_http_destroy() frees it */
extern PstHttp *pst_ch_http_create(void);

/*
 * Begin a request: POST body (borrowed until its end, in this Content-Encoding,
 * NULL: none) to the peer's url with the given query string.  At most max_answer bytes of the
 * answer are kept.  False, with a reason in errbuf, if it cannot even begin.
 */
extern bool pst_ch_http_begin(PstHttp *http, const PstHttpPeer *peer,
							  const char *query, const StringInfo body, const char *encoding,
							  size_t max_answer, char *errbuf, size_t errlen);

/* Pack bytes with "gzip" or "zstd", in place of what `to` held; false if there is no memory. */
extern bool pst_ch_pack(StringInfo to, const StringInfo from, const char *encoding);

/* One step without waiting; true when *answer is there. */
extern bool pst_ch_http_step(PstHttp *http, PstChAnswer *answer);

/* Append name=value, percent-encoded, to a query string. */
extern void pst_ch_http_param(StringInfo query, const char *name, const char *value);

/* ----- clickhouse_error.c ----- */

typedef enum PstChClass
{
	PST_CH_FINE,
	PST_CH_RETRY,				/* down, busy, full */
	PST_CH_SPLIT,				/* too much at once: halves may pass */
	PST_CH_ROW,					/* the content of a row */
	PST_CH_TABLE,				/* the table is not there (any more) */
	PST_CH_RUNNING,				/* a query of that name still runs */
	PST_CH_SETTING,				/* does not know a setting: not the version that we think */
	PST_CH_CONFIG,				/* this table will not do until somebody mends it */
	PST_CH_DENIED				/* nothing will do: wrong password, not ClickHouse, … */
} PstChClass;

/* What an answer means.  Fills in the fault (all but in_doubt) unless it is fine. */
extern PstChClass pst_ch_classify(const PstChAnswer *answer, const PstHttpPeer *peer, PstFault *fault);

/* The row, from 0, that a message blames ("(at row N)"), or -1. */
extern int	pst_ch_blamed_row(const char *message);

/* Fill in a fault in our own words. */
extern void pst_ch_fault(PstFault *fault, PstVerdict verdict, const char *what);

/* Copy the first line of a peer's message, cut at a character, with the secrets blotted out. */
extern void pst_ch_quote_peer(char *to, size_t size, const char *message, const PstHttpPeer *peer);

/* ----- clickhouse_table.c ----- */

/* A server's version, 100 × major + minor, and what follows from it. */
typedef int PstChVersion;

#define PST_CH_UNKNOWN 0
#define pst_ch_casts(version) ((version) >= 2208)	/* a block's types are converted */
#define pst_ch_has_datetime64(version) ((version) >= 2004)
#define pst_ch_has_tokens(version) ((version) >= 2202)	/* deduplication tokens, asynchronous inserts */
#define pst_ch_has_json(version) ((version) >= 2503)
#define pst_ch_has_zstd(version) ((version) >= 2202)	/* of requests */

/* How a table is made; SQL, or NULL for what is usual. */
typedef struct PstChDdl
{
	const char *engine;
	const char *latest_engine;
	const char *order_by;
	const char *partition_by;
	const char *ttl;
	const char *cluster;
} PstChDdl;

/* What we know about a destination table.  Kept as long as the sink. */
typedef struct PstChTable
{
	struct PstChTable *next;
	char	   *name;			/* the table of events */
	char	   *latest;			/* the table of the latest states, or NULL */
	bool		create;			/* make what is missing */
	bool		json;			/* … with JSON columns, where the server has them */
	bool		asked;			/* by a sequence of questions about what it holds, */
	bool		seen;			/* which read its columns, */
	bool		altered;		/* and found rows in it that are not as we wrote them */
	bool		plain;			/* its engine knows no PREWHERE */
	uint32		same_types;		/* columns that the table of latest states has likewise: see pst_ch_own_column */
	PstChDdl	ddl;			/* … and in this way */
	MemoryContext looked;		/* of what the columns need; reset when looked up */
	int			looks;			/* how often its columns were looked up */
	bool		ready;			/* looked up; the rest of the fields is valid */
	int			window;			/* blocks in which a token is remembered; 0: not at all */
	int			window_seconds; /* likewise by age; 0: no bound */
	int64		top;			/* no event of this log was there beyond, when it was asked … */
	int64		top_from;		/* … from here on … */
	int64		top_doubt;		/* … for this doubt; 0: never */
	int			ncolumns;
	PstNativeColumn columns[PST_NATIVE_MAX_COLUMNS];
} PstChTable;

typedef enum PstChMissing
{
	PST_CH_ALL_THERE,
	PST_CH_NO_EVENTS,			/* the table of events */
	PST_CH_NO_LATEST,			/* the table of the latest states */
	PST_CH_NO_FEED				/* the view that feeds it */
} PstChMissing;

extern PstChVersion pst_ch_parse_version(const char *text);
extern void pst_ch_quote_name(StringInfo sql, const char *name);
extern void pst_ch_quote_text(StringInfo sql, const char *text);

/* the statements */
extern void pst_ch_sql_look(StringInfo sql, const PstChTable *table, const char *database, PstChVersion version);
extern void pst_ch_sql_insert(StringInfo sql, const PstChTable *table);
extern void pst_ch_sql_landed(StringInfo sql, const PstChTable *table, int64 from, int64 to, const char *prefix);
/* how many rows, and the sum of their hashes; or each name with its columns' hashes, and how often */
extern void pst_ch_sql_holds(StringInfo sql, const PstChTable *table, int64 from, int64 to,
							 const char *prefix, bool names);
extern void pst_ch_sql_running(StringInfo sql, const char *name);
extern void pst_ch_sql_others(StringInfo sql, const PstChTable *table, const PstShipment *shipment,
							  int64 first, int64 last, const char *prefix);
/* the greatest position, not less than from, that is there of the log whose names begin so; 0: none */
extern void pst_ch_sql_top(StringInfo sql, const PstChTable *table, int64 from, const char *prefix);

/*
 * Read the answer to pst_ch_sql_look.  Says what is missing; if nothing is,
 * the table is ready, unless it lacks what we cannot do without (false, with a
 * reason in errbuf).
 */
extern bool pst_ch_read_look(PstChTable *table, const PstChAnswer *answer, PstChVersion version,
							 PstChMissing *missing, char *errbuf, size_t errlen);

/* The view that feeds a table of latest states; palloc'd. */
extern char *pst_ch_feed_name(const PstChTable *table);

/* ----- clickhouse_create.c ----- */

extern void pst_ch_sql_create(StringInfo sql, const PstChTable *table, PstChMissing missing, PstChVersion version);
/* A column's number among those of the tables that we make, or -1. */
extern int	pst_ch_own_column(const char *name);
/* how many instances' latest states are behind the events; or mend them */
extern void pst_ch_sql_behind(StringInfo sql, const PstChTable *table, bool mend);
/*
 * how many instances' latest states are not as their last event says, of our log
 * and of those whose last event is in this run of positions; or mend them
 */
extern void pst_ch_sql_differ(StringInfo sql, const PstChTable *table, int64 from, int64 to,
							  const char *prefix, bool mend);

/* ----- clickhouse_content.c ----- */

/* Is what we write to this column compared with what is there? */
extern bool pst_ch_is_compared(const PstNativeColumn *column);
/* an SQL expression over a row, and the same of an event, which stands in such a row */
extern void pst_ch_sql_column_hash(StringInfo sql, const PstNativeColumn *column);
extern void pst_ch_sql_row_hash(StringInfo sql, const PstChTable *table);
extern uint64 pst_ch_column_hash(const PstNativeColumn *column, const PstEvent *event, StringInfo scratch);
extern uint64 pst_ch_row_hash(const PstChTable *table, const PstEvent *event, StringInfo scratch);

/* ----- clickhouse_ship.c ----- */

/* What the request under way is for. */
typedef enum PstChStep
{
	PST_CH_IDLE,				/* no shipment, or it has come to its end */
	PST_CH_ASK_VERSION,
	PST_CH_LOOK,				/* at the table */
	PST_CH_CREATE,				/* the table, or what belongs to it */
	PST_CH_ASK_RUNNING,			/* does the insert in doubt still run? */
	PST_CH_ASK_LANDED,			/* which events are there? */
	PST_CH_INSERT,
	PST_CH_PAUSE,				/* no request: a little wait before asking again */
	PST_CH_ASK_SUM,				/* what does the table hold: as a sum, */
	PST_CH_ASK_NAMES,			/* and by name; see clickhouse_ask.c */
	PST_CH_ASK_OTHERS,			/* names where no event of ours belongs */
	PST_CH_ASK_LATEST,			/* how many latest states are behind? */
	PST_CH_REFILL,				/* mend them */
	PST_CH_ASK_STATES,			/* how many latest states are not as their events say? */
	PST_CH_RESTORE,				/* mend them */
	PST_CH_ASK_TOP,				/* where does the table end? of a shipment in doubt, too */
	PST_CH_MARK_ASK,			/* whose is the newest nonce; see clickhouse_mark.c */
	PST_CH_MARK_CREATE,			/* the table of nonces */
	PST_CH_MARK_LEAVE			/* ours there */
} PstChStep;

typedef enum PstChDoubt
{
	PST_CH_NO_DOUBT,
	PST_CH_DOUBT_OLD,			/* nothing has run for long: perhaps nothing ever did */
	PST_CH_DOUBT_ENDED,			/* nothing runs any more: only ask what landed */
	PST_CH_DOUBT_OPEN			/* the server may still be at it */
} PstChDoubt;

/* The events of a shipment that go to one table: a run of PstChSink.rows. */
typedef struct PstChGroup
{
	PstChTable *table;
	int			from;
	int			count;
} PstChGroup;

/* A run of rows to be sent as one block. */
typedef struct PstChPiece
{
	int			from;
	int			count;
	bool		whole;			/* the group as it is: its name is the one of earlier tries */
	bool		probe;			/* one row, sent to see whether any row passes */
} PstChPiece;

#define PST_CH_MAX_PIECES 64	/* a bisection of 2^31 rows needs fewer */
#define PST_CH_MAX_ISOLATED 100	/* rows refused, beyond which most must pass */

/* An event that was refused, and why. */
typedef struct PstChRefusal
{
	int			event;
	PstFault	fault;
} PstChRefusal;

/* What is under way with one group. */
typedef struct PstChWork
{
	PstChPiece	pieces[PST_CH_MAX_PIECES];	/* a stack; the top one is under way */
	int			npieces;
	int			isolated;		/* rows refused */
	int			passed;			/* rows accepted */
	int			creations;		/* statements sent to make tables */
	int			stumbles;		/* times that the server was not what we took it for */
	bool		probed;
	PstChDoubt	doubt;
	int			looks;			/* to be taken while a doubt is open */
	PstChMissing missing;		/* what is to be made next */
	PstChClass	blame_class;	/* of an insert that failed: PST_CH_ROW or PST_CH_SPLIT, else PST_CH_FINE */
	int			blamed;			/* the row that the server named, or -1 */
	PstFault	blame;			/* what it said */
} PstChWork;

/* The block of a shipment that is yet to come; see clickhouse_ahead.c. */
typedef struct PstChAhead
{
	StringInfoData body;
	uint64		serial;			/* of the shipment; 0: nothing is written */
	const PstChTable *table;
	int			looks;			/* at the table, by then */
} PstChAhead;

typedef struct PstChSink
{
	PstSink		base;
	MemoryContext context;		/* of the sink; NULL once closed */
	MemoryContext scratch;		/* of a shipment */
	PstHttpPeer	peer;
	const char *database;
	const char *open_error;		/* why this sink can never work, or NULL */
	PstHttp    *http;
	PstChVersion version;
	PstChTable *tables;
	StringInfoData sql;
	StringInfoData query;
	StringInfoData body;
	StringInfoData packed;		/* the body, compressed */
	const char *packing;		/* "gzip" or "zstd"; NULL: none */
	PstChAhead	ahead;

	/* the shipment under way */
	const PstShipment *shipment;
	PstVerdict *verdicts;		/* per event */
	PstChRefusal *refusals;
	int			nrefusals;
	PstFault	fault;
	int			duplicates;
	int		   *rows;			/* events by group, each group in order of position */
	PstChGroup *groups;
	int			ngroups;
	int			group;			/* the one under way */
	PstChWork	work;
	PstChStep	step;
	int64		resume_at;		/* end of a pause, monotonic ms */
	int64		give_up_at;		/* of waiting for an insert that still runs, or 0 */

	/* what is asked instead of sent */
	bool		asking;
	bool		asking_last;
	bool		asked_states;	/* the latest states of the one asked are not behind */
	int64		asked_from;		/* the first position of this sequence */
	PstChTable *asked;			/* whose latest states are looked at */
	int64	   *tops;			/* of each group the greatest position that is there, if that is asked; or NULL */
	int			era;			/* rises when the server or a table may be another than before */
	int64		spoken_at;		/* the last shipment, monotonic ms */
	PstHolding	holding;

	/* whose it is */
	bool		marking;
	bool		leaving;		/* our nonce is to be written yet */
	bool		mark_made;		/* their table was made now */
	char		marked[64];		/* the newest; empty: none */
} PstChSink;

extern void pst_ch_ship_begin(PstChSink *sink, const PstShipment *shipment);
extern PstSinkProgress pst_ch_ship_step(PstChSink *sink);

/* A row of the top piece, from 0, cannot be written: nothing was sent. */
extern void pst_ch_row_unfit(PstChSink *sink, int row, const char *what);

/* A failure in our own words, which ends the shipment for now. */
extern void pst_ch_fail(PstChSink *sink, PstVerdict verdict, const char *what);

/* ----- clickhouse_ask.c ----- */

extern void pst_ch_ask(PstSink *base, const PstShipment *shipment, bool first, bool last);
extern const PstHolding *pst_ch_held(const PstSink *base);
extern void pst_ch_look(PstSink *base, const PstShipment *shipment);
extern bool pst_ch_lacks(const PstSink *base, int nth, int64 *top);
extern int	pst_ch_era(const PstSink *base);
/* what all names of a shipment begin with: the id of the log; to be freed */
extern char *pst_ch_log_prefix(const PstChSink *sink);
extern void pst_ch_ask_answered(PstChSink *sink, const PstChAnswer *answer);
/* likewise when it failed */
extern void pst_ch_ask_failed(PstChSink *sink, PstChClass class, PstFault *fault);

/* ----- clickhouse_mark.c ----- */

extern void pst_ch_mark(PstSink *base, const PstShipment *shipment, bool leave);
extern const char *pst_ch_marked(const PstSink *base);
extern void pst_ch_mark_answered(PstChSink *sink, const PstChAnswer *answer);
extern void pst_ch_mark_failed(PstChSink *sink, PstChClass class, PstFault *fault);

/* ----- clickhouse_request.c: each sets the sink's step, or fails ----- */

extern void pst_ch_begin_version(PstChSink *sink);
/* sink->sql, whose answer may be so long */
extern void pst_ch_begin_sql(PstChSink *sink, PstChStep step, size_t max_answer);
/* likewise, a small insert that is there when it is answered */
extern void pst_ch_begin_write(PstChSink *sink, PstChStep step);
extern void pst_ch_begin_look(PstChSink *sink);
extern void pst_ch_begin_create(PstChSink *sink);
extern void pst_ch_begin_ask_running(PstChSink *sink);
extern void pst_ch_begin_ask_top(PstChSink *sink, int64 from);
extern void pst_ch_begin_ask_landed(PstChSink *sink);
extern void pst_ch_begin_insert(PstChSink *sink);

/* ----- clickhouse_group.c ----- */

/* Sort the shipment's events by destination table, into rows and groups. */
extern void pst_ch_group(PstChSink *sink);

/* The table, if all events of a shipment go to one; else NULL. */
extern PstChTable *pst_ch_only_table(PstChSink *sink, const PstShipment *shipment);

/* ----- clickhouse_ahead.c ----- */

extern void pst_ch_prepare(PstSink *base, const PstShipment *next);
/* make what was written ahead the body, if it is the top piece's block */
extern bool pst_ch_take_ahead(PstChSink *sink);

/* ----- clickhouse_piece.c ----- */

/* Begin a group with one piece, all of it. */
extern void pst_ch_work_begin(PstChSink *sink);
extern PstChPiece *pst_ch_top_piece(PstChSink *sink);
extern void pst_ch_piece_name(StringInfo name, const PstChSink *sink, const PstChPiece *piece);
/* the top piece was accepted */
extern void pst_ch_piece_passed(PstChSink *sink);
/* take what the answer to pst_ch_sql_landed lists out of the top piece; false if it cannot be read */
extern bool pst_ch_piece_landed(PstChSink *sink, const PstChAnswer *answer);
/* the top piece was refused and did not land: split it, or refuse its row; false: it is the table */
extern bool pst_ch_piece_refused(PstChSink *sink);
extern bool pst_ch_piece_split(PstChSink *sink);
/* no event of this group is to blame after all */
extern void pst_ch_take_back_refusals(PstChSink *sink);

/* ----- clickhouse.c ----- */

extern int64 pst_ch_now_ms(void);

#endif							/* PST_CLICKHOUSE_H */
