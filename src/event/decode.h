/*
 * decode.h
 *	  Rows of the log to Events.
 */
#ifndef PST_DECODE_H
#define PST_DECODE_H

#include "postgres.h"

#include "event/event.h"
#include "executor/tuptable.h"

/*
 * The small columns of a row; strings are made in the current context, those
 * that recur (machine, fsm, node) are shared and live as long as the process.
 * In a transaction, in SPI.
 */
extern void pst_decode_head(TupleTableSlot *row, const char *log_id, PstEvent *event);

/* The rest: args, payload, headers, and the name. */
extern void pst_decode_body(TupleTableSlot *row, const char *log_id, PstEvent *event);

/* About what an event weighs in memory and on the wire. */
extern Size pst_event_bytes(const PstEvent *event);

#endif							/* PST_DECODE_H */
