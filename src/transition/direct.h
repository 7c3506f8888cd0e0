/*
 * direct.h
 *	  fire() writes the row by itself.
 */
#ifndef PST_DIRECT_H
#define PST_DIRECT_H

#include "postgres.h"

#include "transition/fire.h"
#include "transition/target.h"

/*
 * Fire at a row, as an UPDATE of it would.  False: not here and now, and nothing
 * was done.  firing->taken stays false if there is no such row.
 */
extern bool pst_fire_direct(PstFiring *firing, Relation rel, PstTarget *target, Datum *key);

#endif							/* PST_DIRECT_H */
