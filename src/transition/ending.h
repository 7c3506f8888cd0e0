/*
 * ending.h
 *	  The end of an instance whose row goes with it.
 */
#ifndef PST_ENDING_H
#define PST_ENDING_H

#include "postgres.h"

#include "access/htup.h"
#include "fsm/fsm.h"

/*
 * The row has come into a state.  If the instance ends there and on_final says
 * so, the row is deleted, as the table's owner.
 */
extern void pst_end_instance(PstFsm *fsm, const char *state, HeapTuple tuple);

#endif							/* PST_ENDING_H */
