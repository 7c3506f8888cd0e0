/*
 * config.c
 *	  Defines the settings of persistomata.
 */
#include "postgres.h"

#include <limits.h>

#include "config/config.h"
#include "utils/guc.h"

/* Less would not hold the ring's tables, each of a few pages. */
#define LEAST_LOG_SIZE 8

bool		pst_allow_truncate = false;
char	   *pst_args = NULL;
bool		pst_deliver = true;
char	   *pst_headers = NULL;
int			pst_log_full = PST_LOG_FULL_REFUSE;
int			pst_max_chain = 100;
int			pst_max_hops = 100;
int			pst_idempotency_retention = 86400;
int			pst_max_log_size = 0;
int			pst_max_value = 64;
int			pst_min_linger = 2;
int			pst_naptime = 1000;
int			pst_retention = 86400;
int			pst_timer_retries = 10;
int			pst_timer_timeout = 10000;
int			pst_turn_interval = 3600;
int			pst_turn_size = 256;

static const struct config_enum_entry log_full_options[] = {
	{"refuse", PST_LOG_FULL_REFUSE, false},
	{"drop_oldest", PST_LOG_FULL_DROP_OLDEST, false},
	{NULL, 0, false}
};

static bool
check_log_size(int *value, void **extra, GucSource source)
{
	if (*value == 0 || *value >= LEAST_LOG_SIZE)
		return true;
	GUC_check_errdetail("It must be 0, for no limit, or at least %d MB.", LEAST_LOG_SIZE);
	return false;
}

void
pst_config_init(void)
{
	DefineCustomBoolVariable("persistomata.allow_truncate",
							 gettext_noop("Whether FSM tables may be truncated."),
							 gettext_noop("A deleted event is logged for each row."),
							 &pst_allow_truncate, false,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("persistomata.args",
							   gettext_noop("The args, as jsonb, that guards and actions see during raw writes."),
							   NULL, &pst_args, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("persistomata.deliver",
							 gettext_noop("Whether this server delivers events to sinks."),
							 gettext_noop("Turn it off in the configuration of a physical copy."),
							 &pst_deliver, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("persistomata.headers",
							   gettext_noop("A jsonb object that becomes the headers of each event, for example a traceparent."),
							   NULL, &pst_headers, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.max_chain",
							gettext_noop("The most hops that one chain of hard events may take."),
							NULL, &pst_max_chain, 100, 1, 100000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.max_hops",
							gettext_noop("The most calls by routes that may follow from each other."),
							gettext_noop("An event that comes after more of them is kept as a dead letter."),
							&pst_max_hops, 100, 1, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("persistomata.log_full",
							 gettext_noop("What happens when the event log reaches persistomata.max_log_size."),
							 gettext_noop("\"refuse\" makes transitions fail; \"drop_oldest\" drops events that routes have not passed."),
							 &pst_log_full, PST_LOG_FULL_REFUSE, log_full_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.max_log_size",
							gettext_noop("The most disk space that the event log of a database may take."),
							gettext_noop("0 is no limit."),
							&pst_max_log_size, 0, 0, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, check_log_size, NULL, NULL);
	DefineCustomIntVariable("persistomata.max_value",
							gettext_noop("A column's value larger than this is left out of events."),
							NULL, &pst_max_value, 64, 1, 1024 * 1024 - 1,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.min_linger",
							gettext_noop("The least time between two cuts of the event log."),
							NULL, &pst_min_linger, 2, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.naptime",
							gettext_noop("The longest sleep of an idle worker."),
							NULL, &pst_naptime, 1000, 100, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.idempotency_retention",
							gettext_noop("How long the outcome of an event with an idempotency key is remembered."),
							NULL, &pst_idempotency_retention, 86400, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.retention",
							gettext_noop("How long events are kept in the log after every route has passed them."),
							NULL, &pst_retention, 86400, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.timer_retries",
							gettext_noop("How often a failing timer is tried before it is parked."),
							NULL, &pst_timer_retries, 10, 0, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.timer_timeout",
							gettext_noop("How long guards and actions of one timer may take."),
							NULL, &pst_timer_timeout, 10000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.turn_interval",
							gettext_noop("The ring of the event log turns at least this often while it is written."),
							NULL, &pst_turn_interval, 3600, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("persistomata.turn_size",
							gettext_noop("The ring of the event log turns when its current slot is this big."),
							NULL, &pst_turn_size, 256, 1, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);

	MarkGUCPrefixReserved("persistomata");
}
