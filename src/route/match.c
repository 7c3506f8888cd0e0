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

bool
pst_route_wants(const PstRouteSettings *settings, const PstEvent *event)
{
	/* the state entered; an instance that is deleted or refused stays in its own */
	const char *state = event->to_state ? event->to_state : event->from_state;

	return pst_glob_match(settings->machine, event->machine) &&
		listed(settings->types, pst_event_type_name(event->type)) &&
		listed(settings->events, event->event) &&
		listed(settings->states, state);
}
