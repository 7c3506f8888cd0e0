/*
 * config.h
 *	  The settings (GUCs) of persistomata, all of them, in alphabetical order.
 *
 * Read them, never write them: they belong to guc.c.  Units are in the names'
 * comments.
 */
#ifndef PST_CONFIG_H
#define PST_CONFIG_H

#include "postgres.h"

typedef enum PstLogFull
{
	PST_LOG_FULL_REFUSE,		/* writers get an error */
	PST_LOG_FULL_DROP_OLDEST	/* routes lose what they have not passed */
} PstLogFull;

extern bool pst_allow_truncate;	/* may FSM tables be truncated? */
extern char *pst_args;			/* jsonb text: the args of raw writes, or NULL */
extern bool pst_deliver;		/* may this server deliver at all? */
extern char *pst_headers;		/* jsonb text put into each event, or NULL */
extern int	pst_log_full;		/* a PstLogFull: what happens beyond max_log_size */
extern int	pst_max_hops;			/* calls by workers that one event may lead to in a row */
extern int	pst_max_chain;		/* hops of one chain of hard events */
extern int	pst_max_log_size;	/* MB; 0: no limit */
extern int	pst_max_value;		/* kB; a larger value is left out of an event */
extern int	pst_min_linger;		/* ms between two cuts */
extern int	pst_naptime;		/* ms; the longest sleep of an idle worker */
extern int	pst_idempotency_retention;	/* s */
extern int	pst_retention;		/* s; how long delivered events are kept */
extern int	pst_timer_retries;	/* tries of a failing timer until it is parked */
extern int	pst_timer_timeout;	/* ms that guards and actions of one timer may take; 0: no limit */
extern int	pst_turn_interval;	/* s; the ring turns at least this often, if used */
extern int	pst_turn_size;		/* MB; the ring turns when its slot is this big */

extern void pst_config_init(void);

#endif							/* PST_CONFIG_H */
