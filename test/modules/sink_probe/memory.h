/*
 * memory.h
 *	  A kind of sink that another extension brings along: it keeps the names of
 *	  what it was sent, for as long as the process lives.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include "sink/sink.h"

extern const PstSinkOps memory_sink;

#endif							/* MEMORY_H */
