/*
 * catalog.h
 *	  The room's own view of table persistomata.machine_version.
 */
#ifndef PST_CATALOG_H
#define PST_CATALOG_H

#include "machine/model.h"

/* The notation by its name in SQL; throws if there is none. */
extern PstSyntax pst_syntax_of(const char *name);
extern const char *pst_syntax_name(PstSyntax syntax);

#endif							/* PST_CATALOG_H */
