/*
 * reach.h
 *	  How far an expression reaches: does it run code that looks names up?
 */
#ifndef PST_REACH_H
#define PST_REACH_H

#include "postgres.h"

#include "nodes/nodes.h"

/*
 * May the value of this expression depend on search_path?  Sub-selects are not
 * looked into.  Says yes where it cannot tell.
 */
extern bool pst_looks_at_path(Node *expr);

#endif							/* PST_REACH_H */
