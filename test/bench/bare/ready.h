/*
 * ready.h
 *	  What the bare clients and the observer share: files of what was recorded,
 *	  clocks, a connection to RabbitMQ.
 *
 * Nothing is freed but by the program's end; every fault ends the program.
 */
#ifndef PST_BENCH_READY_H
#define PST_BENCH_READY_H

#include <amqp.h>
#include <stddef.h>

typedef struct Message
{
	amqp_bytes_t key;
	amqp_basic_properties_t *properties;
	amqp_bytes_t body;
} Message;

extern void die(const char *what, const char *why);

/* seconds: of a clock that nobody sets, and since 1970 */
extern double now(void);
extern double since_1970(void);

extern char *slurp(const char *path, size_t *length);
extern char *command_end(char *at);
extern Message *read_messages(char *at, size_t length, size_t *count);

extern void check(amqp_rpc_reply_t reply, const char *what);
extern amqp_connection_state_t open_rabbitmq(int port);

#endif							/* PST_BENCH_READY_H */
