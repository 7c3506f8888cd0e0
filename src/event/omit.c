/*
 * omit.c
 *	  What is too large for the log: it never makes a write fail, and a worker
 *	  has many events in memory at once.
 *
 * The columns of a row are cut where they are turned into the payload (fsm/row.c),
 * before they are fetched; args and headers come as one value each, and are cut
 * here, by their members.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "config/config.h"
#include "event/omit.h"
#include "mb/pg_wchar.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

static Size
limit(void)
{
	return (Size) pst_max_value * 1024;
}

/* In bytes, of what takes many. */
static Size
size_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return value->val.string.len;
		case jbvNumeric:
			return VARSIZE_ANY(value->val.numeric);
		case jbvBinary:
			return value->val.binary.len;
		default:
			return 0;
	}
}

static JsonbValue *
push_omitted(JsonbParseState **state, Size size)
{
	static char name[] = "$omitted";
	JsonbValue	part;

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	part.type = jbvString;
	part.val.string.val = name;
	part.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &part);
	part.type = jbvNumeric;
	part.val.numeric = int64_to_numeric((int64) size);
	pushJsonbValue(state, WJB_VALUE, &part);
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static JsonbValue *
push_members(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue *result = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		bool		has_value = token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM;

		if ((token == WJB_VALUE || token == WJB_ELEM) && size_of(&value) > limit())
			push_omitted(state, size_of(&value));
		else
			result = pushJsonbValue(state, token, has_value ? &value : NULL);
	}
	return result;
}

Datum
pst_omit_large(Datum datum)
{
	JsonbParseState *state = NULL;
	JsonbValue *result;
	Jsonb	   *jsonb;

	if (toast_raw_datum_size(datum) - VARHDRSZ <= limit())
		return datum;
	jsonb = DatumGetJsonbP(datum);
	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		JsonbValue	scalar;

		(void) JsonbExtractScalar(&jsonb->root, &scalar);
		result = push_omitted(&state, size_of(&scalar));
	}
	else
		result = push_members(&state, jsonb);
	return JsonbPGetDatum(JsonbValueToJsonb(result));
}

const char *
pst_clip_text(const char *text)
{
	size_t		length = strlen(text);

	return length <= limit() ? text : pnstrdup(text, pg_mbcliplen(text, length, limit()));
}
