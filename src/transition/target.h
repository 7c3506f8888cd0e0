/*
 * target.h
 *	  How fire() finds and writes the rows of a table when no more than our own
 *	  triggers would see its UPDATE.
 */
#ifndef PST_TARGET_H
#define PST_TARGET_H

#include "postgres.h"

#include "access/skey.h"
#include "fsm/fsm.h"
#include "nodes/lockoptions.h"
#include "utils/rel.h"

typedef struct PstTarget
{
	Oid			index;			/* unique, on the key; InvalidOid: an UPDATE it must be */
	ScanKeyData *scan_keys;		/* by column of the index, without values */
	int		   *key_parts;		/* which part of the key each is for */
	LockTupleMode lock_mode;	/* that the UPDATE would take */
	bool		references;		/* has foreign keys to other tables */
	Bitmapset  *selected;		/* columns that the UPDATE would read, */
	Bitmapset  *updated;		/* and write: for rights; offset as in pg_attribute */
} PstTarget;

/*
 * How rows of this FSM table are written, or NULL if by an UPDATE.  Worked out
 * once per compiled binding, so what it looks at must invalidate the relcache;
 * what may change meanwhile (replication role, read only) is asked each time.
 */
extern PstTarget *pst_target(PstFsm *fsm, Relation rel);

#endif							/* PST_TARGET_H */
