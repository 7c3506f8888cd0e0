/*
 * code.h
 *	  What a route's owner brings along: a filter and an encoder.
 */
#ifndef PST_CODE_H
#define PST_CODE_H

#include "postgres.h"

#include "route/route.h"

/* How one event fared. */
typedef enum PstCodeVerdict
{
	PST_CODE_WANTED,
	PST_CODE_UNWANTED,
	PST_CODE_FAILED				/* raised an error */
} PstCodeVerdict;

/* How all of them did. */
typedef enum PstCodeResult
{
	PST_CODE_DONE,				/* each has its verdict */
	PST_CODE_WAIT,				/* not now: a lock, a resource, a time that ran out */
	PST_CODE_WRONG				/* the code cannot run at all */
} PstCodeResult;

typedef struct PstCodeRun
{
	PstCodeVerdict *verdicts;
	char	  **reasons;		/* of those that failed */
	int			failed;
	char	   *trouble;		/* unless DONE */
} PstCodeRun;

/* Does the route have a filter or an encoder of its own? */
extern bool pst_route_has_code(const PstRouteSettings *settings);

/*
 * Ask the filter of each event, and have the encoder make the body of those
 * wanted.  In a transaction of its own without an active snapshot, which is
 * made read-only; what is made for the events is made in the current context.
 * User code runs as the owner, in a security-restricted operation.
 */
extern PstCodeResult pst_code_run(PstRouteSettings *settings, Oid owner, PstEvent *events, int nevents,
								  PstCodeRun *run);

/*
 * For create_route, as the caller: throws if the text is not a filter.  If it is
 * the name of a function, that is returned with its schema, else the text.
 */
extern const char *pst_filter_check(const char *text);

/*
 * Likewise for the name of an encoder; returns it with its schema.
 */
extern char *pst_encoder_check(const char *name);

#endif							/* PST_CODE_H */
