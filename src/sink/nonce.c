/*
 * nonce.c
 *	  Which of two workers is the later one?
 *
 * A nonce reads "<timeline>-<number>-<random>".  A promotion raises the timeline;
 * on the same one the number is the greater the later a worker began.
 */
#include "postgres.h"

#include "sink/sink.h"

bool
pst_nonce_read(const char *nonce, int *timeline, int64 *number)
{
	long long	n;

	*timeline = 0;
	*number = 0;
	if (sscanf(nonce, "%d-%lld", timeline, &n) != 2)
		return false;
	*number = n;
	return true;
}

/* What cannot be read is older than all. */
int
pst_nonce_compare(const char *a, const char *b)
{
	int			timelines[2];
	int64		numbers[2];

	(void) pst_nonce_read(a, &timelines[0], &numbers[0]);
	(void) pst_nonce_read(b, &timelines[1], &numbers[1]);
	if (timelines[0] != timelines[1])
		return timelines[0] < timelines[1] ? -1 : 1;
	if (numbers[0] != numbers[1])
		return numbers[0] < numbers[1] ? -1 : 1;
	return strcmp(a, b);
}
