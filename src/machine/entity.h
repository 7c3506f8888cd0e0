/*
 * entity.h
 *	  The notations' character codes, as in #quot; and <U+003B>.
 */
#ifndef PST_ENTITY_H
#define PST_ENTITY_H

#include "machine/model.h"

#define PST_ENTITY_ROOM 32		/* bytes that one code can give, and more */

/*
 * Decodes the code at an offset of a text into at most PST_ENTITY_ROOM bytes,
 * NUL-terminated.  Returns how many bytes of the text it takes; 0 if there is
 * no code.
 */
extern int	pst_entity_decode(PstSyntax syntax, const char *text, int at, int end, char *decoded, int *length);

#endif							/* PST_ENTITY_H */
