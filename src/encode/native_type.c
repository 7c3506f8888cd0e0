/*
 * native_type.c
 *	  Which field of an event goes to a ClickHouse column, and in which form.
 *
 * A type is read from its name, as system.columns has it: LowCardinality and
 * Nullable are taken off, as a block carries plain columns (with flags for
 * NULL), and what is inside decides the form.
 */
#include "postgres.h"

#include "encode/native.h"

#define FIELD(kind, member) { #member, kind, offsetof(PstEvent, member) }

static const PstNativeField fields[] = {
	FIELD(PST_KIND_INT64, position),
	FIELD(PST_KIND_TEXT, name),
	FIELD(PST_KIND_INT64, event_id),
	FIELD(PST_KIND_TYPE, type),
	FIELD(PST_KIND_TEXT, machine),
	FIELD(PST_KIND_INT32, version),
	FIELD(PST_KIND_TEXT, fsm),
	FIELD(PST_KIND_TEXT, key),
	FIELD(PST_KIND_TEXT, event),
	FIELD(PST_KIND_TEXT, from_state),
	FIELD(PST_KIND_TEXT, to_state),
	FIELD(PST_KIND_JSON, args),
	FIELD(PST_KIND_JSON, payload),
	FIELD(PST_KIND_TEXT, reason),
	FIELD(PST_KIND_TIME, occurred_at),
	{"occurred_micros", PST_KIND_MICROS, offsetof(PstEvent, occurred_at)},
	FIELD(PST_KIND_INT64, xid),
	FIELD(PST_KIND_TEXT, actor),
	FIELD(PST_KIND_JSON, headers),
	FIELD(PST_KIND_TEXT, node),
	FIELD(PST_KIND_INT32, timeline),
};

static const struct
{
	const char *name;
	int			width;
	bool		is_signed;
}			integers[] = {
	{"UInt8", 1, false}, {"UInt16", 2, false}, {"UInt32", 4, false}, {"UInt64", 8, false},
	{"Int8", 1, true}, {"Int16", 2, true}, {"Int32", 4, true}, {"Int64", 8, true},
};

/* Types into which a server that converts makes a text. */
static const char *const converted[] = {
	"Float32", "Float64", "Decimal", "IPv4", "IPv6", "Bool",
	"UInt128", "UInt256", "Int128", "Int256", "BFloat16"
};

const PstNativeField *
pst_native_field(const char *name)
{
	for (size_t i = 0; i < lengthof(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* What is inside of Wrapper(…), or NULL. */
static char *
unwrap(const char *type, const char *wrapper)
{
	size_t		head = strlen(wrapper);
	size_t		length = strlen(type);

	if (!starts_with(type, wrapper) || type[head] != '(' || type[length - 1] != ')')
		return NULL;
	return pnstrdup(type + head + 1, length - head - 2);
}

/* A quoted name of an enum, unescaped; moves *at behind it.  NULL if there is none. */
static char *
take_member_name(const char **at)
{
	const char *from = *at;
	char	   *name;
	int			length = 0;

	if (*from++ != '\'')
		return NULL;
	name = palloc(strlen(from) + 1);
	for (; *from != '\0' && *from != '\''; from++)
	{
		if (*from == '\\' && from[1] != '\0')
			from++;
		name[length++] = *from;
	}
	name[length] = '\0';
	if (*from != '\'')
		return NULL;
	*at = from + 1;
	return name;
}

/* 'a' = 1, 'b' = 2 */
static bool
take_members(PstNativeColumn *column, const char *at)
{
	PstNativeMember *members = palloc(sizeof(PstNativeMember) * (strlen(at) / 5 + 1));

	column->nmembers = 0;
	for (;;)
	{
		char	   *name = take_member_name(&at);
		char	   *end;

		if (name == NULL || strncmp(at, " = ", 3) != 0)
			return false;
		members[column->nmembers].name = name;
		members[column->nmembers++].value = (int) strtol(at + 3, &end, 10);
		if (*end == '\0')
			break;
		if (end == at + 3 || strncmp(end, ", ", 2) != 0)
			return false;
		at = end + 2;
	}
	column->members = members;
	return true;
}

static bool
take_enum(PstNativeColumn *column, const char *type)
{
	char	   *inside = unwrap(type, "Enum8");

	column->width = inside != NULL ? 1 : 2;
	if (inside == NULL)
		inside = unwrap(type, "Enum16");
	column->form = PST_NATIVE_ENUM;
	return inside != NULL && take_members(column, inside);
}

static bool
take_integer(PstNativeColumn *column, const char *type)
{
	for (size_t i = 0; i < lengthof(integers); i++)
		if (strcmp(integers[i].name, type) == 0)
		{
			column->form = PST_NATIVE_INTEGER;
			column->width = integers[i].width;
			column->is_signed = integers[i].is_signed;
			return true;
		}
	return false;
}

static bool
take_time(PstNativeColumn *column, const char *type)
{
	char	   *inside = unwrap(type, "DateTime64");

	if (inside != NULL)
	{
		column->form = PST_NATIVE_TICKS;
		column->width = 8;
		column->scale = atoi(inside);
		return column->scale >= 0 && column->scale <= 9;
	}
	if (strcmp(type, "DateTime") == 0 || starts_with(type, "DateTime("))
	{
		column->form = PST_NATIVE_SECONDS;
		column->width = 4;
		return true;
	}
	column->form = PST_NATIVE_DAYS;
	column->is_signed = strcmp(type, "Date32") == 0;
	column->width = column->is_signed ? 4 : 2;
	return column->is_signed || strcmp(type, "Date") == 0;
}

/* What we only write as a text, for the server to convert. */
static bool
take_converted(PstNativeColumn *column, const char **type)
{
	bool		known = false;

	column->form = PST_NATIVE_TEXT;
	column->converted = true;
	if (column->field->kind == PST_KIND_JSON)
	{
		known = strcmp(*type, "JSON") == 0 || starts_with(*type, "JSON(") || starts_with(*type, "Object(");
		column->form = PST_NATIVE_OBJECT;
	}
	else if (column->field->kind != PST_KIND_TIME)
		for (size_t i = 0; i < lengthof(converted) && !known; i++)
			known = starts_with(*type, converted[i]);
	*type = "String";
	return known;
}

/* Choose the form for the inner type, which may become the one that is converted from. */
static bool
choose_form(PstNativeColumn *column, const char **type)
{
	PstNativeKind kind = column->field->kind;
	char	   *inside;

	column->form = PST_NATIVE_TEXT;
	if (strcmp(*type, "String") == 0)
		return true;
	if (kind == PST_KIND_TIME)
		return take_time(column, *type);
	if (kind != PST_KIND_JSON && take_integer(column, *type))
		return true;
	if (kind == PST_KIND_TEXT || kind == PST_KIND_TYPE)
	{
		if ((inside = unwrap(*type, "FixedString")) != NULL)
		{
			column->form = PST_NATIVE_FIXED;
			column->width = atoi(inside);
			return column->width > 0;
		}
		if (strcmp(*type, "UUID") == 0)
		{
			column->form = PST_NATIVE_UUID;
			column->width = 16;
			return true;
		}
		if (starts_with(*type, "Enum"))
			return take_enum(column, *type);
	}
	return take_converted(column, type);
}

PstNativeFit
pst_native_column(PstNativeColumn *column, const char *name, const char *type, bool casts)
{
	const char *inner = type;
	char	   *inside;

	memset(column, 0, sizeof(*column));
	column->field = pst_native_field(name);
	if (column->field == NULL)
		return PST_NATIVE_NO_FIELD;
	strlcpy(column->name, name, sizeof(column->name));
	if ((inside = unwrap(inner, "LowCardinality")) != NULL)
		inner = inside;
	if ((inside = unwrap(inner, "Nullable")) != NULL)
	{
		column->nullable = true;
		inner = inside;
	}
	if (!choose_form(column, &inner))
		return PST_NATIVE_UNFIT;
	column->type = column->nullable ? psprintf("Nullable(%s)", inner) : pstrdup(inner);
	if (!casts && strcmp(column->type, type) != 0)
		return PST_NATIVE_UNFIT;
	return PST_NATIVE_FITS;
}
