/*
 * siphash.h
 *	  SipHash-2-4 under the key 0, as ClickHouse's sipHash64() computes it.
 */
#ifndef PST_SIPHASH_H
#define PST_SIPHASH_H

#include "postgres.h"

extern uint64 pst_siphash(const char *bytes, size_t length);

#endif							/* PST_SIPHASH_H */
