/*
 * wake.c
 *	  Telling the relay at commit that there is something to cut.
 *
 * A backend registers one transaction callback, for its life; each transaction
 * has a flag of its own.  The flag is set by the top-level transaction and its
 * subtransactions alike, and is not taken back when a savepoint is rolled
 * back: a wake-up for nothing costs one look at the log.
 *
 * The callback runs when the transaction is already visible to others, so the
 * relay's next snapshot sees what it was woken for.  A prepared transaction is
 * committed by another backend, without any callback: it is announced at
 * PREPARE, and the relay looks by itself while prepared transactions exist.
 */
#include "postgres.h"

#include "access/xact.h"
#include "event/wake.h"

PstWakeHooks pst_wake_hooks = {NULL, NULL};

static bool registered = false;
static bool events_in_xact = false;
static bool routes_in_xact = false;

static void
at_transaction_end(XactEvent event, void *arg)
{
	bool		routes = routes_in_xact;

	if (!events_in_xact && !routes_in_xact)
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			events_in_xact = routes_in_xact = false;
			if (pst_wake_hooks.committed)
				pst_wake_hooks.committed(event == XACT_EVENT_PREPARE, routes);
			break;
		case XACT_EVENT_ABORT:
			events_in_xact = routes_in_xact = false;
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

static void
prepare_to_wake(void)
{
	if (registered)
		return;
	if (pst_wake_hooks.attach)
		pst_wake_hooks.attach();
	RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
}

void
pst_event_logged(void)
{
	if (events_in_xact)
		return;
	prepare_to_wake();
	events_in_xact = true;
}

void
pst_routes_changed(void)
{
	prepare_to_wake();
	routes_in_xact = true;
}
