/*
 * fault.h
 *	  How a sink says what went wrong.
 */
#ifndef PST_FAULT_H
#define PST_FAULT_H

#include "postgres.h"

#include "sink/sink.h"

/* Set the whole record; the message is in our words, and cut to fit. */
extern void pst_fault_set(PstFault *fault, PstVerdict verdict, int code,
						  const char *format,...) pg_attribute_printf(4, 5);

/* Add what the peer said: made printable, cut at a character's end. */
extern void pst_fault_quote(PstFault *fault, const char *said, size_t len);

#endif							/* PST_FAULT_H */
