/*
 * eligible.h
 *	  What a table must be to be an FSM table.  All raise an error that says why.
 */
#ifndef PST_ELIGIBLE_H
#define PST_ELIGIBLE_H

#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "machine/model.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A permanent ordinary or partitioned table without rules and children. */
extern void pst_check_table_kind(Relation rel);

/* The same; and it is the caller's, and no partition. */
extern void pst_check_table(Relation rel);

/* The column, or an error that tells what to name in attach(). */
extern Form_pg_attribute pst_table_column(Relation rel, const char *name, const char *what);

extern void pst_check_state_column(Relation rel, const char *name);

/*
 * The column's type holds every state of the machine, and the * of an instance
 * that has ended, if it keeps its row.
 */
extern void pst_check_state_type(Relation rel, const char *state_column, const PstMachine *machine);

/* The columns (char *) of the unique index on these ones, or of the primary key if NIL. */
extern List *pst_choose_key(Relation rel, List *columns);

extern void pst_check_key(Relation rel, List *keys, const char *state_column);

#endif							/* PST_ELIGIBLE_H */
