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
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* ISO, UTC, hex and exact floats, until pst_leave_path(). */
static int
enter_fixed_settings(const PstFsm *fsm)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"bytea_output", "hex"}, {"extra_float_digits", "1"}, {"lc_monetary", "C"},
		{"xmlbinary", "base64"}
	};
	int			level;

	if (!fsm->fixed_settings)
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

char *
pst_row_key(PstFsm *fsm, HeapTuple tuple)
{
	int			level = enter_fixed_settings(fsm);
	StringInfoData json;
	char	   *result = NULL;

	if (fsm->nkeys > 1)
		initStringInfo(&json);
	for (int i = 0; i < fsm->nkeys; i++)
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, fsm->keys[i], fsm->desc, &isnull);
		char	   *text = isnull ? "" :
			print_datum(TupleDescAttr(fsm->desc, fsm->keys[i] - 1)->atttypid, value);

		if (fsm->nkeys == 1)
			result = text;
		else
		{
			appendStringInfoString(&json, i == 0 ? "[" : ", ");
			escape_json(&json, text);
		}
	}
	if (fsm->nkeys > 1)
	{
		appendStringInfoChar(&json, ']');
		result = json.data;
	}
	pst_leave_path(level);
	return result;
}

static Datum
parse_key_part(PstFsm *fsm, int nth, char *text)
{
	Form_pg_attribute att = TupleDescAttr(fsm->desc, fsm->keys[nth] - 1);
	Oid			input;
	Oid			ioparam;

	getTypeInputInfo(att->atttypid, &input, &ioparam);
	return OidInputFunctionCall(input, text, ioparam, att->atttypmod);
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
	int			level = enter_fixed_settings(fsm);

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
push_jsonb(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbValue	v;

	if (JB_ROOT_IS_SCALAR(jsonb))
		JsonbExtractScalar(&jsonb->root, &v);
	else
	{
		v.type = jbvBinary;
		v.val.binary.data = &jsonb->root;
		v.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &v);
}

static void
push_string_pair(JsonbParseState **state, JsonbIteratorToken token, const char *text, int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, text);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

static void
push_integer(JsonbParseState **state, int64 number)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* A value too large for the log leaves its size: {"$omitted": bytes}. */
static void
push_omitted(JsonbParseState **state, Size size)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_string_pair(state, WJB_KEY, "$omitted", strlen("$omitted"));
	push_integer(state, (int64) size);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
push_column(JsonbParseState **state, Form_pg_attribute att, Datum value, bool isnull)
{
	JsonbValue	v;

	if (isnull)
	{
		v.type = jbvNull;
		pushJsonbValue(state, WJB_VALUE, &v);
		return;
	}
	if (att->attlen == -1)
	{
		/* without fetching it from TOAST */
		Size		size = toast_raw_datum_size(value) - VARHDRSZ;

		if (size > (Size) pst_max_value * 1024)
		{
			push_omitted(state, size);
			return;
		}
	}
	switch (att->atttypid)
	{
		case INT2OID:
			push_integer(state, DatumGetInt16(value));
			break;
		case INT4OID:
			push_integer(state, DatumGetInt32(value));
			break;
		case INT8OID:
			push_integer(state, DatumGetInt64(value));
			break;
		case TEXTOID:
		case VARCHAROID:
			{
				text	   *t = DatumGetTextPP(value);

				push_string_pair(state, WJB_VALUE, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
				break;
			}
		case BOOLOID:
			v.type = jbvBool;
			v.val.boolean = DatumGetBool(value);
			pushJsonbValue(state, WJB_VALUE, &v);
			break;
		case JSONBOID:
			push_jsonb(state, DatumGetJsonbP(value));
			break;
		default:
			push_jsonb(state, value_to_jsonb(att->atttypid, value));
	}
}

Datum
pst_row_payload(PstFsm *fsm, HeapTuple tuple)
{
	int			level = enter_fixed_settings(fsm);
	JsonbParseState *state = NULL;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < fsm->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(fsm->desc, i);
		Datum		value;
		bool		isnull;

		if (!fsm->in_payload[i])
			continue;
		value = heap_getattr(tuple, i + 1, fsm->desc, &isnull);
		push_string_pair(&state, WJB_KEY, NameStr(att->attname), strlen(NameStr(att->attname)));
		push_column(&state, att, value, isnull);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	pst_leave_path(level);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
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
