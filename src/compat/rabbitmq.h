/*
 * rabbitmq.h
 *	  The headers of rabbitmq-c, under the name that the installed version has.
 */
#ifndef PST_COMPAT_RABBITMQ_H
#define PST_COMPAT_RABBITMQ_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#endif							/* PST_COMPAT_RABBITMQ_H */
