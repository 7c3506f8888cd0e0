/*
 * instance.h
 *	  Reading instances as the caller may see them, without a lock.
 */
#ifndef PST_INSTANCE_H
#define PST_INSTANCE_H

#include "postgres.h"

#include "access/htup.h"
#include "fsm/fsm.h"

/* "SELECT a, b FROM public.t": the columns of the table that are not dropped. */
extern char *pst_instance_query(const PstFsm *fsm, Relation rel);

/* A row of SPI's result of that query, as a tuple of the table. */
extern HeapTuple pst_instance_tuple(const PstFsm *fsm, uint64 row);

/* One instance in the current memory context, or NULL. */
extern HeapTuple pst_instance_read(PstFsm *fsm, Relation rel, const char *key);

/*
 * A key as its row prints it: equal values of some types, as 1.5 and 1.50, are
 * written differently.  Without a row, as it is given.
 */
extern char *pst_instance_key(PstFsm *fsm, Datum *parts);

/* Is there a row with this key that the caller may see, by a fresh snapshot? */
extern bool pst_instance_exists(PstFsm *fsm, Datum *parts);

/* Throws unless the caller may see all of the table: then it may see its log. */
extern void pst_check_right_to_read(Relation rel);

#endif							/* PST_INSTANCE_H */
