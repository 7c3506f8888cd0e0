/*
 * owner.h
 *	  Acting as the extension's owner, for what users may not touch themselves.
 */
#ifndef PST_OWNER_H
#define PST_OWNER_H

#include "postgres.h"

/* Who acted before. */
typedef struct PstIdentity
{
	Oid			user;
	int			context;
} PstIdentity;

/*
 * Between these two, only SQL of our own may run, with every name qualified.
 * After an error the end of the (sub)transaction restores the identity.
 */
extern void pst_become_owner(PstIdentity *save);
extern void pst_restore_identity(const PstIdentity *save);

/* The role that owns the extension. */
extern Oid	pst_extension_owner(void);

/*
 * The OID of a table of the extension; another one means that the extension
 * was dropped and created anew, and that nothing cached is true any more.
 */
extern Oid	pst_installation(void);

#endif							/* PST_OWNER_H */
