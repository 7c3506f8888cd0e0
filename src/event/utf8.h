/*
 * utf8.h
 *	  Between the database's encoding and UTF-8, which is what sinks speak.
 */
#ifndef PST_EVENT_UTF8_H
#define PST_EVENT_UTF8_H

/*
 * Either may return the text itself, or a palloc'd copy.  Neither raises an
 * error for what is in the text: to UTF-8, what is no character becomes U+FFFD;
 * back, what the database's encoding does not have becomes a question mark.
 * Outside of a transaction only ASCII is kept, unless the process has called
 * either within one.
 */
extern char *pst_to_utf8(const char *text);
extern char *pst_from_utf8(const char *text);

#endif
