/*
 * match.c
 *	  Which events a route wants.  Pure.
 */
#include "postgres.h"

#include "route/route.h"

/* Only '*' is special: any run of characters. */
bool
pst_glob_match(const char *glob, const char *text)
{
	const char *star = NULL;
	const char *resume = NULL;

	while (*text)
	{
		if (*glob == '*')
		{
			star = glob++;
			resume = text;
		}
		else if (*glob == *text)
		{
			glob++;
			text++;
		}
		else if (star)
		{
			glob = star + 1;
			text = ++resume;
		}
		else
			return false;
	}
	while (*glob == '*')
		glob++;
	return *glob == '\0';
}

static bool
listed(const List *list, const char *text)
{
	ListCell   *cell;

	if (list == NIL)
		return true;
	if (text == NULL)
		return false;
	foreach(cell, list)
		if (strcmp(lfirst(cell), text) == 0)
			return true;
	return false;
}

/* Is it this part of a pattern?  An empty one is any state. */
static bool
is_state(const char *pattern, size_t len, const char *state)
{
	return len == 0 || (state != NULL && strlen(state) == len && memcmp(pattern, state, len) == 0);
}

/*
 * A state entered, or a transition as "from->to", either of which may be missing.
 * An instance that is deleted or refused stays in its own state, which then
 * counts as entered.
 */
static bool
state_listed(const List *list, const PstEvent *event)
{
	const char *entered = event->to_state ? event->to_state : event->from_state;
	ListCell   *cell;

	foreach(cell, list)
	{
		const char *pattern = lfirst(cell);
		const char *arrow = strstr(pattern, "->");

		if (arrow == NULL ? is_state(pattern, strlen(pattern), entered) && *pattern :
			(event->type == PST_STATE || event->type == PST_INIT) &&
			is_state(pattern, arrow - pattern, event->from_state) &&
			is_state(arrow + 2, strlen(arrow + 2), event->to_state))
			return true;
	}
	return list == NIL;
}

bool
pst_route_wants(const PstRouteSettings *settings, const PstEvent *event)
{
	return pst_glob_match(settings->machine, event->machine) &&
		listed(settings->types, pst_event_type_name(event->type)) &&
		listed(settings->events, event->event) &&
		state_listed(settings->states, event);
}
