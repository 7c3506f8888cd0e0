/*
 * decode.h
 *	  Rows of the log to Events.
 */
#ifndef PST_DECODE_H
#define PST_DECODE_H

#include "postgres.h"

#include "event/event.h"
#include "event/texts.h"
#include "executor/tuptable.h"

/*
 * The small columns of a row; strings are made among the texts, those
 * that recur (machine, fsm, node) are shared and live as long as the process.
 * In a transaction, in SPI.
 */
extern void pst_decode_head(TupleTableSlot *row, PstEvent *event, PstTexts *texts);

/* The rest: args, payload, headers, and the name. */
extern void pst_decode_body(TupleTableSlot *row, const char *log_id, PstEvent *event,
							PstTexts *texts);

#endif							/* PST_DECODE_H */
