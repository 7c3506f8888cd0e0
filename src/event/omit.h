/*
 * omit.h
 *	  What is too large for the log.
 */
#ifndef PST_OMIT_H
#define PST_OMIT_H

/*
 * Each member or element of a jsonb that is larger than persistomata.max_value
 * leaves its size, {"$omitted": bytes}; so does the whole if it is neither an
 * object nor an array.  Returns the argument itself where nothing is.
 */
extern Datum pst_omit_large(Datum jsonb);

/* Cut a text to persistomata.max_value; returns the argument or a copy. */
extern const char *pst_clip_text(const char *text);

#endif							/* PST_OMIT_H */
