/*
 * persistomata.c
 *	  Entry point of the library: each room's init, nothing else.
 */
#include "postgres.h"

#include "compat/compat.h"
#include "config/config.h"
#include "event/append.h"
#include "sink/sink.h"
#include "worker/worker.h"

PST_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	pst_config_init();
	pst_append_init();
	pst_sink_init();
	pst_worker_init();
}
