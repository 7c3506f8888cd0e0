/*
 * outcome.h
 *	  What came of an event, and the refusals of class PF.
 */
#ifndef PST_OUTCOME_H
#define PST_OUTCOME_H

#include "postgres.h"

#include "compat/compat.h"

#define PST_ERRCODE(d) MAKE_SQLSTATE('P', 'F', '0', '0', (d))

#define PST_NO_TRANSITION		PST_ERRCODE('1')	/* no such transition */
#define PST_GUARD_FAILED		PST_ERRCODE('2')	/* no guard holds */
#define PST_OTHER_STATE			PST_ERRCODE('3')	/* the expected state differs */
#define PST_NO_INSTANCE			PST_ERRCODE('4')	/* no such instance */
#define PST_ENDED				PST_ERRCODE('5')	/* the instance has ended */
#define PST_KEY_CHANGES			PST_ERRCODE('6')	/* the key changes */
#define PST_OTHER_EVENT			PST_ERRCODE('7')	/* the idempotency key was used for another event */
#define PST_AMBIGUOUS			PST_ERRCODE('8')	/* several targets: to_state is needed */
#define PST_CHAIN_TOO_LONG		PST_ERRCODE('9')	/* more hops than max_chain */
#define PST_NOT_ENTRY			MAKE_SQLSTATE('P', 'F', '0', '1', '0')	/* a new row is not in the entry state */
#define PST_ROW_DIFFERS			MAKE_SQLSTATE('P', 'F', '0', '1', '1')	/* another trigger changed what was decided */
#define PST_TRUNCATE			MAKE_SQLSTATE('P', 'F', '0', '1', '2')	/* TRUNCATE of an FSM table */

/* Why an event is refused; sqlstate 0 is no refusal. */
typedef struct PstRefusal
{
	int			sqlstate;
	char	   *message;
	char	   *detail;			/* or NULL */
	char	   *hint;			/* or NULL */
} PstRefusal;

extern void pst_refuse(PstRefusal *refusal, int sqlstate, const char *format,...) pg_attribute_printf(3, 4);
PST_NORETURN extern void pst_raise_refusal(const PstRefusal *refusal);

typedef enum PstStatus
{
	PST_TRANSITIONED,
	PST_REFUSED,
	PST_FAILED,
	PST_DUPLICATE
} PstStatus;

typedef struct PstOutcome
{
	PstStatus	status;
	int64		event_id;		/* 0: none was logged */
	const char *event;
	const char *from_state;
	const char *to_state;		/* where the chain rests */
	const char *reason;
} PstOutcome;

/* As a composite persistomata.outcome, with the row type that the call expects. */
extern Datum pst_outcome_datum(const PstOutcome *outcome, TupleDesc desc);

/* A column, from 0, of a row that a call returns; NULL stays NULL. */
extern void pst_put_text(Datum *values, bool *nulls, int column, const char *text);

#endif							/* PST_OUTCOME_H */
