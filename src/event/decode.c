/*
 * decode.c
 *	  Rows of the log to Events.
 *
 * The log stores numbers for what recurs: machine version, binding, timeline.
 * Their names are looked up once per process and number.  A machine version
 * never changes; a table may be renamed, so the names of bindings are looked up
 * anew after any relation has changed.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "event/decode.h"
#include "event/log.h"
#include "event/query.h"
#include "event/utf8.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_LOG_ID 32
#define MAX_PRINTED (1024 * 1024)	/* bytes of the buffer that is kept for printing JSON */

typedef enum NameKind
{
	NAME_MACHINE,
	NAME_BINDING,
	NAME_NODE
} NameKind;

typedef struct NameKey
{
	int			kind;
	int			number;
} NameKey;

typedef struct CachedName
{
	NameKey		key;
	char	   *text;
	int			version;		/* of a machine */
	Oid			relid;			/* of a binding */
	bool		stale;
} CachedName;

static HTAB *names = NULL;

static PstQuery machine_query = {
	"SELECT name, version FROM persistomata.machine_version WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static PstQuery binding_query = {
	"SELECT relid::pg_catalog.oid, fsm FROM persistomata.binding WHERE id OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static PstQuery node_query = {
	"SELECT name FROM persistomata.node WHERE timeline OPERATOR(pg_catalog.=) $1",
	1, {INT4OID}, NULL
};

static void
forget_bindings(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS seq;
	CachedName	   *name;

	hash_seq_init(&seq, names);
	while ((name = hash_seq_search(&seq)) != NULL)
		if (name->key.kind == NAME_BINDING)
			name->stale = true;
}

static void
make_names(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(NameKey);
	ctl.entrysize = sizeof(CachedName);
	ctl.hcxt = TopMemoryContext;
	names = hash_create("persistomata names", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterSyscacheCallback(RELOID, forget_bindings, (Datum) 0);
}

/* A string for the outside, which is UTF-8 whatever the server's encoding is, kept with the other texts. */
static char *
keep_utf8(PstTexts *texts, const char *bytes, int length)
{
	char	   *text;
	char	   *converted;
	char	   *kept;

	if (GetDatabaseEncoding() == PG_UTF8)
		return pst_texts_add(texts, bytes, length);
	text = pnstrdup(bytes, length);
	converted = pst_to_utf8(text);
	kept = pst_texts_add(texts, converted, strlen(converted));
	if (converted != text)
		pfree(converted);
	pfree(text);
	return kept;
}

static char *
look_up(NameKey key, int *version, Oid *relid)
{
	Datum		arg = Int32GetDatum(key.number);

	*version = 0;
	*relid = InvalidOid;
	switch ((NameKind) key.kind)
	{
		case NAME_MACHINE:
			if (pst_query_read(&machine_query, &arg) == 0)
				break;
			*version = DatumGetInt32(pst_result(0, 2, NULL));
			return TextDatumGetCString(pst_result(0, 1, NULL));
		case NAME_BINDING:
			if (pst_query_read(&binding_query, &arg) > 0)
			{
				bool		gone;
				Oid			relation = DatumGetObjectId(pst_result(0, 1, &gone));
				char	   *table = gone ? NULL : get_rel_name(relation);

				/* one that was dropped keeps its last name */
				if (table == NULL)
					return TextDatumGetCString(pst_result(0, 2, NULL));
				*relid = relation;
				return psprintf("%s.%s", get_namespace_name(get_rel_namespace(relation)), table);
			}
			break;
		case NAME_NODE:
			if (pst_query_read(&node_query, &arg) > 0)
				return TextDatumGetCString(pst_result(0, 1, NULL));
			break;
	}
	return NULL;
}

static const CachedName *
name_of(NameKind kind, int number)
{
	static CachedName *last[NAME_NODE + 1]; /* neighbours often share them; an entry stays where it is */
	NameKey		key = {kind, number};
	CachedName *name = last[kind];
	bool		found;

	if (name != NULL && name->key.number == number && !name->stale)
		return name;
	if (names == NULL)
		make_names();
	name = hash_search(names, &key, HASH_FIND, &found);
	if (!found || name->stale)
	{
		int			version;
		Oid			relid;
		char	   *text = look_up(key, &version, &relid);

		if (text == NULL)
			text = psprintf("%s %d", kind == NAME_MACHINE ? "machine" :
							kind == NAME_BINDING ? "binding" : "timeline", number);
		name = hash_search(names, &key, HASH_ENTER, &found);
		/* events of the batch in hand may still use the old text: it is not freed */
		if (!found || strcmp(name->text, text) != 0)
			name->text = MemoryContextStrdup(TopMemoryContext, pst_to_utf8(text));
		name->version = version;
		name->relid = relid;
		name->stale = false;
	}
	last[kind] = name;
	return name;
}

static char *
text_column(TupleTableSlot *row, int column, PstTexts *texts)
{
	Datum		value = row->tts_values[column - 1];
	text	   *plain;
	char	   *kept;

	if (row->tts_isnull[column - 1])
		return NULL;
	plain = DatumGetTextPP(value);
	kept = keep_utf8(texts, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	if ((Pointer) plain != DatumGetPointer(value))
		pfree(plain);
	return kept;
}

static char *
jsonb_column(TupleTableSlot *row, int column, PstTexts *texts)
{
	static StringInfoData printed = {0};	/* of the process: texts are copied from it */
	Datum		value = row->tts_values[column - 1];
	Jsonb	   *jsonb;
	char	   *kept;

	if (row->tts_isnull[column - 1])
		return NULL;
	if (printed.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&printed);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&printed);
	jsonb = DatumGetJsonbP(value);
	(void) JsonbToCString(&printed, &jsonb->root, VARSIZE(jsonb));
	kept = keep_utf8(texts, printed.data, printed.len);
	if ((Pointer) jsonb != DatumGetPointer(value))
		pfree(jsonb);
	/* one that was very long is not kept */
	if (printed.maxlen > MAX_PRINTED)
	{
		pfree(printed.data);
		printed.data = NULL;
	}
	return kept;
}

/* <log id>-<timeline>-<event id>; as psprintf would, at a tenth of the time */
static char *
make_name(const char *log_id, int timeline, int64 event_id, PstTexts *texts)
{
	char		name[MAX_LOG_ID + 2 + 20 + 12];
	int			length = strlen(log_id);
	char	   *at = name + length;

	Assert(length <= MAX_LOG_ID);
	memcpy(name, log_id, length);
	*at++ = '-';
	at += pg_ltoa(timeline, at);
	*at++ = '-';
	at += pg_lltoa(event_id, at);
	return pst_texts_add(texts, name, at - name);
}

void
pst_decode_head(TupleTableSlot *row, PstEvent *event, PstTexts *texts)
{
	const CachedName *machine;
	const CachedName *binding;

	slot_getallattrs(row);
	memset(event, 0, sizeof(*event));
	event->event_id = DatumGetInt64(row->tts_values[PST_LOG_EVENT_ID - 1]);
	event->xid = DatumGetUInt64(row->tts_values[PST_LOG_XID - 1]);
	event->occurred_at = DatumGetTimestampTz(row->tts_values[PST_LOG_OCCURRED_AT - 1]) +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	machine = name_of(NAME_MACHINE, DatumGetInt32(row->tts_values[PST_LOG_MACHINE - 1]));
	event->machine = machine->text;
	event->version = machine->version;
	binding = name_of(NAME_BINDING, DatumGetInt32(row->tts_values[PST_LOG_BINDING - 1]));
	event->fsm = binding->text;
	event->relid = binding->relid;
	event->timeline = DatumGetInt32(row->tts_values[PST_LOG_TIMELINE - 1]);
	event->node = name_of(NAME_NODE, event->timeline)->text;
	event->type = (PstEventType) DatumGetChar(row->tts_values[PST_LOG_TYPE - 1]);
	event->key = text_column(row, PST_LOG_KEY, texts);
	event->event = text_column(row, PST_LOG_EVENT, texts);
	event->from_state = text_column(row, PST_LOG_FROM_STATE, texts);
	event->to_state = text_column(row, PST_LOG_TO_STATE, texts);
	if (!row->tts_isnull[PST_LOG_ONLY_ROUTE - 1])
		event->only_route = DatumGetInt32(row->tts_values[PST_LOG_ONLY_ROUTE - 1]);
}

void
pst_decode_body(TupleTableSlot *row, const char *log_id, PstEvent *event, PstTexts *texts)
{
	event->name = make_name(log_id, event->timeline, event->event_id, texts);
	event->actor = text_column(row, PST_LOG_ACTOR, texts);
	event->reason = text_column(row, PST_LOG_REASON, texts);
	event->args = jsonb_column(row, PST_LOG_ARGS, texts);
	event->payload = jsonb_column(row, PST_LOG_PAYLOAD, texts);
	event->headers = jsonb_column(row, PST_LOG_HEADERS, texts);
}
