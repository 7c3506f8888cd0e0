/*
 * wait.h
 *	  What a process waits for, as pg_stat_activity shows it.
 *
 * From 17 on an extension may name its wait events; before, all of them are
 * "Extension", and the activity's text alone says more.
 */
#ifndef PST_COMPAT_WAIT_H
#define PST_COMPAT_WAIT_H

#include "postgres.h"

#include "utils/wait_event.h"

typedef enum PstWaitFor
{
	PST_WAIT_WORK,				/* nothing to do */
	PST_WAIT_SINK,				/* a sink's answer */
	PST_WAIT_RETRY,				/* the time to try again */
	PST_WAIT_END				/* the end of workers that were told to stop */
} PstWaitFor;

static inline uint32
pst_wait_event(PstWaitFor what)
{
#if PG_VERSION_NUM >= 170000
	static const char *const names[] = {
		"PersistomataWork", "PersistomataSink", "PersistomataRetry", "PersistomataEnd"
	};
	static uint32 events[lengthof(names)];

	if (events[what] == 0)
		events[what] = WaitEventExtensionNew(names[what]);
	return events[what];
#else
	return PG_WAIT_EXTENSION;
#endif
}

#endif							/* PST_COMPAT_WAIT_H */
