/*
 * event.c
 *	  What an Event knows about itself.
 */
#include "postgres.h"

#include "event/event.h"

const char *
pst_event_type_name(PstEventType type)
{
	switch (type)
	{
		case PST_INIT:
			return "init";
		case PST_STATE:
			return "state";
		case PST_VALUE:
			return "value";
		case PST_ERRORED:
			return "errored";
		case PST_DELETED:
			return "deleted";
	}
	return "unknown";
}

bool
pst_event_name_read(const char *name, int *timeline, int64 *event_id)
{
	const char *dash = strchr(name, '-');
	long long	id;

	if (dash == NULL || sscanf(dash, "-%d-%lld", timeline, &id) != 2)
		return false;
	*event_id = id;
	return true;
}
