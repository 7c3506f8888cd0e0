/*
 * entity.h
 *	  Mermaid's character codes, as in #quot; and #59;.
 */
#ifndef PST_ENTITY_H
#define PST_ENTITY_H

#define PST_ENTITY_ROOM 32		/* bytes that one code can give, and more */

extern int	pst_entity_decode(const char *text, int at, int end, char *decoded, int *length);
extern int	pst_entity_place(const char *text, int start, int end, int position);

#endif							/* PST_ENTITY_H */
