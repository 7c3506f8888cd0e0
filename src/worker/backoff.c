/*
 * backoff.c
 *	  How long to wait after failures: twice as long each time, to a limit, and
 *	  never quite the same, so that workers that failed together do not come
 *	  back together.
 */
#include "postgres.h"

#include <math.h>

#include "common/pg_prng.h"
#include "worker/backoff.h"

#define SHORTEST_MS 100
#define LONGEST_MS 60000

int
pst_backoff_ms(int failures)
{
	double		ms = SHORTEST_MS;

	if (failures > 1)
		ms = Min(LONGEST_MS, SHORTEST_MS * pow(2.0, Min(failures - 1, 20)));
	/* between three quarters and all of it */
	return (int) (ms * (0.75 + 0.25 * pg_prng_double(&pg_global_prng_state)));
}
