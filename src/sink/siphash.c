/*
 * siphash.c
 *	  SipHash-2-4 under the key 0, as ClickHouse's sipHash64() computes it.
 *
 * PostgreSQL's own MD5 and the like need a resource owner, which a worker has
 * only within a transaction.
 */
#include "postgres.h"

#include "sink/siphash.h"

static uint64
rotate(uint64 value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static void
mix(uint64 *v, int rounds)
{
	while (rounds-- > 0)
	{
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

/* Up to eight bytes, the first one lowest. */
static uint64
word_of(const char *bytes, size_t length)
{
	uint64		word = 0;

	for (size_t i = 0; i < length; i++)
		word |= (uint64) (unsigned char) bytes[i] << (8 * i);
	return word;
}

uint64
pst_siphash(const char *bytes, size_t length)
{
	uint64		v[4] = {
		UINT64CONST(0x736f6d6570736575), UINT64CONST(0x646f72616e646f6d),
		UINT64CONST(0x6c7967656e657261), UINT64CONST(0x7465646279746573)
	};
	size_t		whole = length - length % 8;
	uint64		word;

	for (size_t i = 0; i < whole; i += 8)
	{
		word = word_of(bytes + i, 8);
		v[3] ^= word;
		mix(v, 2);
		v[0] ^= word;
	}
	word = word_of(bytes + whole, length - whole) | (uint64) length << 56;
	v[3] ^= word;
	mix(v, 2);
	v[0] ^= word;
	v[2] ^= 0xFF;
	mix(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
