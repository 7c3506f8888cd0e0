/*
 * backoff.h
 *	  How long to wait after failures.  Pure, but for the dice.
 */
#ifndef PST_BACKOFF_H
#define PST_BACKOFF_H

#include "postgres.h"

/* Milliseconds to wait after so many failures in a row: 100 ms to 60 s, with jitter. */
extern int	pst_backoff_ms(int failures);

#endif							/* PST_BACKOFF_H */
