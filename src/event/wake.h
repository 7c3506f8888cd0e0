/*
 * wake.h
 *	  Telling the relay at commit that there is something to cut.
 */
#ifndef PST_WAKE_H
#define PST_WAKE_H

#include "postgres.h"

/*
 * What the worker room hangs in here.  attach runs inside the transaction, at
 * its first event, and may throw; committed runs at commit or prepare, when
 * nothing may fail any more: it must not allocate, lock for long or throw.
 */
typedef struct PstWakeHooks
{
	void		(*attach) (void);
	void		(*committed) (bool prepared, bool routes);
} PstWakeHooks;

extern PstWakeHooks pst_wake_hooks;

/* To be called by the writer after each append to the log. */
extern void pst_event_logged(void);

/* Likewise after a change of routes: workers look at them again. */
extern void pst_routes_changed(void);

#endif							/* PST_WAKE_H */
