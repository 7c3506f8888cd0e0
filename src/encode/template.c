/*
 * template.c
 *	  Address templates: the routing key, stream or table that an event goes to.
 *
 * "orders.{machine}.{type}" names fields of the event in braces.  A brace that
 * is meant as such (a Redis Cluster hash tag) is written twice: "{{" or "}}".
 */
#include "postgres.h"

#include "encode/encode.h"

static const char *const fields[] = {"machine", "type", "event", "key", "from", "to", "fsm"};

/* Value of the field; *known tells a field that is absent from one that is not ours. */
static const char *
field_value(const PstEvent *event, const char *name, size_t len, bool *known)
{
	const char *const values[] = {
		event->machine, pst_event_type_name(event->type), event->event,
		event->key, event->from_state, event->to_state, event->fsm
	};

	StaticAssertStmt(lengthof(values) == lengthof(fields), "one value per field");
	*known = true;
	for (int i = 0; i < (int) lengthof(fields); i++)
		if (strlen(fields[i]) == len && memcmp(fields[i], name, len) == 0)
			return values[i];
	*known = false;
	return NULL;
}

/* Is this the first of a doubled brace? */
static bool
is_doubled(const char *at)
{
	return (at[0] == '{' || at[0] == '}') && at[1] == at[0];
}

void
pst_encode_address(StringInfo out, const char *template, const PstEvent *event)
{
	for (const char *at = template; *at; at++)
	{
		const char *end = *at == '{' ? strchr(at, '}') : NULL;
		bool		known = false;
		const char *value;

		if (is_doubled(at))
			at++;				/* and the brace itself below */
		else if (end != NULL)
		{
			value = field_value(event, at + 1, end - at - 1, &known);
			if (known)
			{
				appendStringInfoString(out, value ? value : "-");
				at = end;
				continue;
			}
		}
		appendStringInfoCharMacro(out, *at);
	}
}

bool
pst_check_template(const char *template, char **unknown)
{
	static const PstEvent none = {.type = PST_INIT};

	for (const char *at = template; *at; at++)
	{
		const char *end;
		bool		known = false;

		if (is_doubled(at))
		{
			at++;
			continue;
		}
		if (*at != '{')
			continue;
		end = strchr(at, '}');
		if (end)
			(void) field_value(&none, at + 1, end - at - 1, &known);
		if (!known)
		{
			*unknown = end ? pnstrdup(at + 1, end - at - 1) : pstrdup(at);
			return false;
		}
		at = end;
	}
	return true;
}
