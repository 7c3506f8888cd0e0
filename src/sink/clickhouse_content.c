/*
 * clickhouse_content.c
 *	  What a row must hold, as a hash that the server computes like we do.
 *
 * Each column that we fill is read as a text (encode/native_reading.c) and
 * hashed; a row's hash is that of its columns' hashes.  sipHash64 of one String is
 * the same in every version of the server.
 *
 * Columns whose values the server made of ours (JSON, floats, addresses) do not
 * give them back, and are left out.  So is the table's name, which is the
 * present one in events that are read again after a table was renamed.
 */
#include "postgres.h"

#include "sink/clickhouse.h"
#include "sink/siphash.h"
#include "utils/builtins.h"

bool
pst_ch_is_compared(const PstNativeColumn *column)
{
	return pst_native_is_exact(column) && strcmp(column->name, "fsm") != 0;
}

/* SQL: a column's reading. */
static void
append_reading(StringInfo sql, const PstNativeColumn *column)
{
	const char *before = "toString(";
	const char *after = ")";

	switch (column->form)
	{
		case PST_NATIVE_FIXED:
			before = "toStringCutToZero(toString(";
			after = "))";
			break;
		case PST_NATIVE_SECONDS:
			before = "toString(toUInt32(";
			after = "))";
			break;
		case PST_NATIVE_TICKS:
			before = "toString(reinterpretAsInt64(";
			after = "))";
			break;
		case PST_NATIVE_DAYS:
			before = column->is_signed ? "toString(toInt32(" : "toString(toUInt16(";
			after = "))";
			break;
		case PST_NATIVE_TEXT:
		case PST_NATIVE_OBJECT:
		case PST_NATIVE_INTEGER:
		case PST_NATIVE_ENUM:
		case PST_NATIVE_UUID:
			break;
	}
	if (column->nullable)
		appendStringInfo(sql, "concat(if(isNull(`%s`), 'N', '='), ifNull(%s`%s`%s, ''))",
						 column->name, before, column->name, after);
	else
		appendStringInfo(sql, "%s`%s`%s", before, column->name, after);
}

void
pst_ch_sql_column_hash(StringInfo sql, const PstNativeColumn *column)
{
	appendStringInfoString(sql, "sipHash64(");
	append_reading(sql, column);
	appendStringInfoChar(sql, ')');
}

void
pst_ch_sql_row_hash(StringInfo sql, const PstChTable *table)
{
	const char *separator = "sipHash64(concat(";

	for (int i = 0; i < table->ncolumns; i++)
		if (pst_ch_is_compared(&table->columns[i]))
		{
			appendStringInfo(sql, "%stoString(", separator);
			pst_ch_sql_column_hash(sql, &table->columns[i]);
			appendStringInfoString(sql, "), ','");
			separator = ", ";
		}
	appendStringInfoString(sql, "))");
}

uint64
pst_ch_column_hash(const PstNativeColumn *column, const PstEvent *event, StringInfo scratch)
{
	resetStringInfo(scratch);
	/* what cannot stand there was never sent */
	if (!pst_native_reading(scratch, column, event))
		return 0;
	return pst_siphash(scratch->data, scratch->len);
}

uint64
pst_ch_row_hash(const PstChTable *table, const PstEvent *event, StringInfo scratch)
{
	char		hashes[PST_NATIVE_MAX_COLUMNS * 21];
	int			length = 0;

	for (int i = 0; i < table->ncolumns; i++)
		if (pst_ch_is_compared(&table->columns[i]))
		{
			length += pg_ulltoa_n(pst_ch_column_hash(&table->columns[i], event, scratch), hashes + length);
			hashes[length++] = ',';
		}
	return pst_siphash(hashes, length);
}
