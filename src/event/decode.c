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
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

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
	NameKey		key = {kind, number};
	CachedName	   *name;
	bool		found;

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
	return name;
}

static char *
text_column(TupleTableSlot *row, int column)
{
	if (row->tts_isnull[column - 1])
		return NULL;
	return pst_to_utf8(TextDatumGetCString(row->tts_values[column - 1]));
}

static char *
jsonb_column(TupleTableSlot *row, int column)
{
	static StringInfoData printed = {0};	/* of the process: texts are copied from it */
	Datum		value = row->tts_values[column - 1];
	Jsonb	   *jsonb;
	char	   *text;

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
	text = pst_to_utf8(printed.data);
	if (text == printed.data)
	{
		text = palloc(printed.len + 1);
		memcpy(text, printed.data, printed.len + 1);
	}
	if ((Pointer) jsonb != DatumGetPointer(value))
		pfree(jsonb);
	/* one that was very long is not kept */
	if (printed.maxlen > MAX_PRINTED)
	{
		pfree(printed.data);
		printed.data = NULL;
	}
	return text;
}

/* <log id>-<timeline>-<event id>; as psprintf would, at a tenth of the time */
static char *
make_name(const char *log_id, int timeline, int64 event_id)
{
	int			length = strlen(log_id);
	char	   *name = palloc(length + 2 + 20 + 12);
	char	   *at = name + length;

	memcpy(name, log_id, length);
	*at++ = '-';
	at += pg_ltoa(timeline, at);
	*at++ = '-';
	at += pg_lltoa(event_id, at);
	*at = '\0';
	return name;
}

void
pst_decode_head(TupleTableSlot *row, const char *log_id, PstEvent *event)
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
	event->key = text_column(row, PST_LOG_KEY);
	event->event = text_column(row, PST_LOG_EVENT);
	event->from_state = text_column(row, PST_LOG_FROM_STATE);
	event->to_state = text_column(row, PST_LOG_TO_STATE);
	if (!row->tts_isnull[PST_LOG_ONLY_ROUTE - 1])
		event->only_route = DatumGetInt32(row->tts_values[PST_LOG_ONLY_ROUTE - 1]);
}

void
pst_decode_body(TupleTableSlot *row, const char *log_id, PstEvent *event)
{
	event->name = make_name(log_id, event->timeline, event->event_id);
	event->actor = text_column(row, PST_LOG_ACTOR);
	event->reason = text_column(row, PST_LOG_REASON);
	event->args = jsonb_column(row, PST_LOG_ARGS);
	event->payload = jsonb_column(row, PST_LOG_PAYLOAD);
	event->headers = jsonb_column(row, PST_LOG_HEADERS);
}

static inline Size
length(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

Size
pst_event_bytes(const PstEvent *event)
{
	return sizeof(PstEvent) + length(event->name) + length(event->key) +
		length(event->event) + length(event->from_state) + length(event->to_state) +
		length(event->args) + length(event->payload) + length(event->reason) +
		length(event->actor) + length(event->headers);
}
