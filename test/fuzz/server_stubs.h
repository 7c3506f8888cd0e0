/*
 * server_stubs.h
 *	  The parser's server, where there is none.
 */
#ifndef SERVER_STUBS_H
#define SERVER_STUBS_H

#include <setjmp.h>

extern jmp_buf stub_error;		/* where ereport(ERROR) goes */
extern void stub_free_all(void);

#endif							/* SERVER_STUBS_H */
