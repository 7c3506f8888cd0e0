/*
 * row.c
 *	  What a row of an FSM table says of itself: its state, key and payload.
 *
 * Keys and payloads go out of the database, so they are printed under fixed
 * settings, whatever the session's are.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "catalog/pg_type.h"
#include "config/config.h"
#include "fsm/fsm.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

/* ISO, UTC, hex and exact floats, until pst_leave_path(). */
static int
enter_fixed_settings(bool needed)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"bytea_output", "hex"}, {"extra_float_digits", "1"}, {"lc_monetary", "C"},
		{"xmlbinary", "base64"}
	};
	int			level;

	if (!needed)
		return 0;
	level = NewGUCNestLevel();
	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static char *
print_datum(Oid type, Datum value)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(type, &output, &varlena);
	return OidOutputFunctionCall(output, value);
}

char *
pst_row_state(const PstFsm *fsm, HeapTuple tuple)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, fsm->state_att, fsm->desc, &isnull);

	if (isnull)
		return NULL;
	if (fsm->state_type == TEXTOID || fsm->state_type == VARCHAROID)
		return TextDatumGetCString(value);
	return print_datum(fsm->state_type, value);
}

Datum
pst_state_datum(const PstFsm *fsm, const char *state)
{
	Oid			input;
	Oid			ioparam;

	if (fsm->state_type == TEXTOID)
		return CStringGetTextDatum(state);
	getTypeInputInfo(fsm->state_type, &input, &ioparam);
	return OidInputFunctionCall(input, pstrdup(state), ioparam,
								TupleDescAttr(fsm->desc, fsm->state_att - 1)->atttypmod);
}

/* A part of a key; the common types without looking anything up. */
static char *
print_key_part(Oid type, Datum value)
{
	char		number[MAXINT8LEN + 1];

	switch (type)
	{
		case INT4OID:
			pg_ltoa(DatumGetInt32(value), number);
			return pstrdup(number);
		case INT8OID:
			pg_lltoa(DatumGetInt64(value), number);
			return pstrdup(number);
		case TEXTOID:
		case VARCHAROID:
			return TextDatumGetCString(value);
		case UUIDOID:
			return DatumGetCString(DirectFunctionCall1(uuid_out, value));
		default:
			return print_datum(type, value);
	}
}

static char *
short_enough(const PstFsm *fsm, char *key)
{
	size_t		length = strlen(key);

	if (length > PST_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a key of FSM table \"%s\" is too long", fsm->name),
				 errdetail("It has %zu bytes as the event log has it; the most is %d.", length, PST_KEY_MAX)));
	return key;
}

static char *
print_key(const PstFsm *fsm, const Datum *values, const bool *nulls)
{
	StringInfoData json;

	if (fsm->nkeys == 1)
		return nulls[0] ? "" : short_enough(fsm, print_key_part(TupleDescAttr(fsm->desc, fsm->keys[0] - 1)->atttypid,
																values[0]));
	initStringInfo(&json);
	for (int i = 0; i < fsm->nkeys; i++)
	{
		Oid			type = TupleDescAttr(fsm->desc, fsm->keys[i] - 1)->atttypid;

		appendStringInfoString(&json, i == 0 ? "[" : ", ");
		escape_json(&json, nulls[i] ? "" : print_key_part(type, values[i]));
	}
	appendStringInfoChar(&json, ']');
	return short_enough(fsm, json.data);
}

char *
pst_row_key(PstFsm *fsm, HeapTuple tuple)
{
	int			level = enter_fixed_settings(fsm->key_by_settings);
	Datum	   *values = palloc(sizeof(Datum) * fsm->nkeys);
	bool	   *nulls = palloc(sizeof(bool) * fsm->nkeys);
	char	   *result;

	for (int i = 0; i < fsm->nkeys; i++)
		values[i] = heap_getattr(tuple, fsm->keys[i], fsm->desc, &nulls[i]);
	result = print_key(fsm, values, nulls);
	pst_leave_path(level);
	return result;
}

char *
pst_key_text(PstFsm *fsm, const Datum *values)
{
	int			level = enter_fixed_settings(fsm->key_by_settings);
	char	   *result = print_key(fsm, values, palloc0(sizeof(bool) * fsm->nkeys));

	pst_leave_path(level);
	return result;
}

static Datum
parse_key_part(PstFsm *fsm, int nth, char *text)
{
	Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->keys[nth] - 1);
	Oid			input;
	Oid			ioparam;

	switch (att->atttypid)
	{
		case INT4OID:
			return DirectFunctionCall1(int4in, CStringGetDatum(text));
		case INT8OID:
			return DirectFunctionCall1(int8in, CStringGetDatum(text));
		case TEXTOID:
			return CStringGetTextDatum(text);
		case UUIDOID:
			return DirectFunctionCall1(uuid_in, CStringGetDatum(text));
		default:
			getTypeInputInfo(att->atttypid, &input, &ioparam);
			return OidInputFunctionCall(input, text, ioparam, att->atttypmod);
	}
}

static void
bad_key(const PstFsm *fsm, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid key for \"%s\": %s", fsm->name, key),
			 errdetail("The key has %d columns.", fsm->nkeys),
			 errhint("Write it as a JSON array of the columns' texts, such as [\"a\", \"1\"].")));
}

/* A number or a boolean stands for its text. */
static char *
scalar_text(const PstFsm *fsm, const char *key, const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
		case jbvBool:
			return pstrdup(v->val.boolean ? "true" : "false");
		default:
			bad_key(fsm, key);
			return NULL;
	}
}

Datum *
pst_key_datums(PstFsm *fsm, const char *key)
{
	Datum	   *result = palloc(sizeof(Datum) * fsm->nkeys);
	int			level = enter_fixed_settings(fsm->key_by_settings);

	if (fsm->nkeys == 1)
		result[0] = parse_key_part(fsm, 0, pstrdup(key));
	else
	{
		Jsonb	   *array;
		JsonbIterator *it;
		JsonbValue	v;
		JsonbIteratorToken token;
		int			n = 0;

		if (key[strspn(key, " \t\n\r")] != '[')
			bad_key(fsm, key);
		array = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(key)));
		it = JsonbIteratorInit(&array->root);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			if (n >= fsm->nkeys)
				bad_key(fsm, key);
			result[n] = parse_key_part(fsm, n, scalar_text(fsm, key, &v));
			n++;
		}
		if (n != fsm->nkeys)
			bad_key(fsm, key);
	}
	pst_leave_path(level);
	return result;
}

/* to_jsonb of one value; the type reaches it through a call expression. */
static Jsonb *
value_to_jsonb(Oid type, Datum value)
{
	FmgrInfo	flinfo;
	Param	   *argument = makeNode(Param);

	argument->paramkind = PARAM_EXTERN;
	argument->paramtype = type;
	fmgr_info(F_TO_JSONB, &flinfo);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &flinfo);
	return DatumGetJsonbP(FunctionCall1(&flinfo, value));
}

static void
set_string(JsonbValue *v, const char *text, int len)
{
	v->type = jbvString;
	v->val.string.val = unconstify(char *, text);
	v->val.string.len = len;
}

static void
set_integer(JsonbValue *v, int64 number)
{
	v->type = jbvNumeric;
	v->val.numeric = int64_to_numeric(number);
}

/* What is not a scalar is taken apart when it is pushed. */
static void
set_jsonb(JsonbValue *v, Jsonb *jsonb)
{
	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		JsonbExtractScalar(&jsonb->root, v);
		return;
	}
	v->type = jbvBinary;
	v->val.binary.data = &jsonb->root;
	v->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
}

/* A value too large for the log leaves its size: {"$omitted": bytes}. */
static void
set_omitted(JsonbValue *v, Size size)
{
	JsonbParseState *state = NULL;
	JsonbValue	part;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	set_string(&part, "$omitted", strlen("$omitted"));
	pushJsonbValue(&state, WJB_KEY, &part);
	set_integer(&part, (int64) size);
	pushJsonbValue(&state, WJB_VALUE, &part);
	set_jsonb(v, JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* As to_jsonb() prints it in UTC, whatever the session's time zone is. */
static void
set_time(JsonbValue *v, Oid type, Datum value)
{
	static const int utc = 0;
	char		text[MAXDATELEN + 1];

	JsonEncodeDateTime(text, value, type, type == TIMESTAMPTZOID ? &utc : NULL);
	set_string(v, pstrdup(text), strlen(text));
}

/* A column's value; the common types without looking anything up. */
static void
set_column(JsonbValue *v, Form_pg_attribute att, Datum value, bool isnull)
{
	if (isnull)
	{
		v->type = jbvNull;
		return;
	}
	if (att->attlen == -1)
	{
		/* without fetching it from TOAST */
		Size		size = toast_raw_datum_size(value) - VARHDRSZ;

		if (size > (Size) pst_max_value * 1024)
		{
			set_omitted(v, size);
			return;
		}
	}
	switch (att->atttypid)
	{
		case INT2OID:
			set_integer(v, DatumGetInt16(value));
			break;
		case INT4OID:
			set_integer(v, DatumGetInt32(value));
			break;
		case INT8OID:
			set_integer(v, DatumGetInt64(value));
			break;
		case TEXTOID:
		case VARCHAROID:
			{
				text	   *t = DatumGetTextPP(value);

				set_string(v, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
				break;
			}
		case BOOLOID:
			v->type = jbvBool;
			v->val.boolean = DatumGetBool(value);
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			set_time(v, att->atttypid, value);
			break;
		case JSONBOID:
			set_jsonb(v, DatumGetJsonbP(value));
			break;
		default:
			set_jsonb(v, value_to_jsonb(att->atttypid, value));
	}
}

/* Puts the columns in order and takes apart what is not a scalar. */
static JsonbValue *
push_pairs(const JsonbPair *pairs, int n)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		pushJsonbValue(&state, WJB_KEY, unconstify(JsonbValue *, &pairs[i].key));
		pushJsonbValue(&state, WJB_VALUE, unconstify(JsonbValue *, &pairs[i].value));
	}
	return pushJsonbValue(&state, WJB_END_OBJECT, NULL);
}

/*
 * The columns stand in jsonb's order of keys already (see pst_payload_order), so
 * a row of scalars is an object as it is.
 */
Datum
pst_row_payload(PstFsm *fsm, HeapTuple tuple)
{
	int			level = enter_fixed_settings(fsm->payload_by_settings);
	JsonbPair  *pairs = palloc(sizeof(JsonbPair) * Max(fsm->npayload, 1));
	JsonbValue	object = {.type = jbvObject, .val.object = {.nPairs = fsm->npayload, .pairs = pairs}};
	JsonbValue *whole = &object;
	bool		flat = true;

	for (int i = 0; i < fsm->npayload; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->payload[i] - 1);
		bool		isnull;
		Datum		value = heap_getattr(tuple, att->attnum, fsm->desc, &isnull);

		set_string(&pairs[i].key, NameStr(att->attname), strlen(NameStr(att->attname)));
		set_column(&pairs[i].value, att, value, isnull);
		flat &= pairs[i].value.type != jbvBinary;
	}
	if (!flat)
		whole = push_pairs(pairs, fsm->npayload);
	pst_leave_path(level);
	return JsonbPGetDatum(JsonbValueToJsonb(whole));
}

/* jsonb sorts keys by their length, then by their bytes. */
static int
compare_names(const void *a, const void *b)
{
	const NameData *one = *(const NameData *const *) a;
	const NameData *two = *(const NameData *const *) b;
	size_t		len = strlen(NameStr(*one));

	if (len != strlen(NameStr(*two)))
		return len < strlen(NameStr(*two)) ? -1 : 1;
	return memcmp(NameStr(*one), NameStr(*two), len);
}

void
pst_payload_order(PstFsm *fsm)
{
	const NameData **names = palloc(sizeof(NameData *) * fsm->desc->natts);

	for (int i = 0; i < fsm->desc->natts; i++)
		if (fsm->in_payload[i])
			names[fsm->npayload++] = &TupleDescAttr(fsm->desc, i)->attname;
	qsort(names, fsm->npayload, sizeof(NameData *), compare_names);
	fsm->payload = palloc(sizeof(AttrNumber) * Max(fsm->npayload, 1));
	for (int i = 0; i < fsm->npayload; i++)
		for (int k = 0; k < fsm->desc->natts; k++)
			if (names[i] == &TupleDescAttr(fsm->desc, k)->attname)
				fsm->payload[i] = k + 1;
}

static bool
column_differs(const PstFsm *fsm, AttrNumber attnum, HeapTuple a, HeapTuple b)
{
	Form_pg_attribute att = TupleDescAttr(fsm->desc, attnum - 1);
	bool		anull;
	bool		bnull;
	Datum		avalue = heap_getattr(a, attnum, fsm->desc, &anull);
	Datum		bvalue = heap_getattr(b, attnum, fsm->desc, &bnull);

	if (anull || bnull)
		return anull != bnull;
	/* the same TOAST pointer is the same value: do not fetch it */
	if (datumIsEqual(avalue, bvalue, att->attbyval, att->attlen))
		return false;
	return !datum_image_eq(avalue, bvalue, att->attbyval, att->attlen);
}

bool
pst_row_payload_differs(const PstFsm *fsm, HeapTuple a, HeapTuple b)
{
	for (int i = 0; i < fsm->desc->natts; i++)
		if (fsm->in_payload[i] && column_differs(fsm, i + 1, a, b))
			return true;
	return false;
}

bool
pst_row_key_differs(const PstFsm *fsm, HeapTuple a, HeapTuple b)
{
	for (int i = 0; i < fsm->nkeys; i++)
		if (column_differs(fsm, fsm->keys[i], a, b))
			return true;
	return false;
}

/* ---- rows of partitions ---- */

static TupleDesc
root_desc(const PstFsm *fsm)
{
	return lookup_rowtype_tupdesc_copy(get_rel_type_id(fsm->root), -1);
}

Datum
pst_root_row(const PstFsm *fsm, HeapTuple tuple)
{
	TupleDesc	root = fsm->desc;

	if (fsm->relid != fsm->root)
	{
		TupleConversionMap *map;

		root = root_desc(fsm);
		map = convert_tuples_by_name(fsm->desc, root);
		if (map)
			tuple = execute_attr_map_tuple(tuple, map);
	}
	return heap_copy_tuple_as_datum(tuple, root);
}

HeapTuple
pst_row_from_root(const PstFsm *fsm, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTuple	tuple = palloc0(sizeof(HeapTupleData));

	tuple->t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_data = header;
	if (fsm->relid != fsm->root)
	{
		TupleConversionMap *map = convert_tuples_by_name(root_desc(fsm), fsm->desc);

		if (map)
			tuple = execute_attr_map_tuple(tuple, map);
	}
	return tuple;
}
