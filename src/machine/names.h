/*
 * names.h
 *	  A hash of names, each with a number.  All zeros is an empty one.
 */
#ifndef PST_NAMES_H
#define PST_NAMES_H

#define PST_NO_NAME		(-2)	/* no number: -1 is PST_STAR */

typedef struct PstName
{
	const char *name;			/* lives as long as the hash; not NUL-terminated */
	int			length;
	int			number;
} PstName;

typedef struct PstNames
{
	int			n;
	int			room;			/* allocated entries */
	PstName    *entries;
	int			nbuckets;		/* a power of two */
	int		   *buckets;		/* indexes of entries, or -1 */
} PstNames;

/* The number of a name, or PST_NO_NAME. */
extern int	pst_names_find(const PstNames *names, const char *name, int length);

/* Adds a name, or gives one that is there another number. */
extern void pst_names_add(PstNames *names, const char *name, int length, int number);

#endif							/* PST_NAMES_H */
