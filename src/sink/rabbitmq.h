/*
 * rabbitmq.h
 *	  What the files of the RabbitMQ sink share.
 *
 * rabbitmq-c serves as a codec only: it turns methods and properties into bytes
 * and bytes into frames.  Its own sending waits without end while a broker under
 * a memory alarm does not read, and so does its log-in: here sockets are read
 * and written without waiting, by the log-in too.
 */
#ifndef PST_RABBITMQ_H
#define PST_RABBITMQ_H

#include "postgres.h"

#include "compat/rabbitmq.h"
#include "lib/stringinfo.h"
#include "net/stream.h"
#include "sink/sink.h"

#define PST_RABBIT_CHANNEL 1	/* the only one, besides the connection's own 0 */

typedef enum PstRabbitStage
{
	PST_RABBIT_CLOSED,
	PST_RABBIT_CONNECTING,
	PST_RABBIT_GREETING,		/* from the protocol header to connection.open-ok */
	PST_RABBIT_OPENING,			/* channel.open and confirm.select are on their way */
	PST_RABBIT_READY
} PstRabbitStage;

typedef struct PstRabbitConnection
{
	const char *hosts;			/* tried in turn */
	int			port;			/* of those that do not say */
	PstTls		tls;
	const char *vhost;
	const char *user;
	const char *password;
	int			connect_timeout;	/* ms, until READY */
	int			heartbeat;		/* s; as agreed once GREETING is over */
	int			heartbeat_wish; /* s; what we ask for, 0: none */

	PstRabbitStage stage;
	PstStream	stream;
	int			turn;			/* whose it is, among the hosts */
	amqp_connection_state_t codec;
	StringInfoData in;
	int			in_done;		/* bytes of in that the codec has taken */
	StringInfoData out;
	int			out_done;		/* bytes of out that are written */
	int			frame_max;
	bool		blocked;		/* the broker wants no more publishes now */
	char		blocked_reason[128];
	int			close_code;		/* of the channel.close or connection.close that broke it */
	int64		deadline;		/* of connecting */
	int64		last_read;		/* ms, for heartbeats */
	int64		last_written;
	PstFault	fault;			/* why it broke or did not come up */
} PstRabbitConnection;

/* in rabbitmq_connection.c; each returns false when the connection has broken */
extern bool pst_rabbit_connect(PstRabbitConnection *conn);	/* one step; see stage */
extern void pst_rabbit_close(PstRabbitConnection *conn);
extern bool pst_rabbit_pump(PstRabbitConnection *conn); /* write and read what can be */
extern bool pst_rabbit_flush(PstRabbitConnection *conn);	/* write what can be */
extern bool pst_rabbit_next(PstRabbitConnection *conn, amqp_frame_t *frame);	/* type 0: none yet */
extern bool pst_rabbit_broken(PstRabbitConnection *conn, const char *why);
extern int	pst_rabbit_unsent(const PstRabbitConnection *conn);
extern void pst_rabbit_wants(const PstRabbitConnection *conn, PstWants *wants);

/* in rabbitmq_frame.c: frames, appended to conn->out */
extern bool pst_rabbit_put_method(PstRabbitConnection *conn, int channel,
								  amqp_method_number_t id, void *method, size_t room);
extern void pst_rabbit_put_heartbeat(PstRabbitConnection *conn);
extern bool pst_rabbit_put_content(PstRabbitConnection *conn,
								   amqp_basic_properties_t *properties, size_t room,
								   const char *body, size_t len);

/* in rabbitmq_greeting.c: the log-in, frame by frame */
extern bool pst_rabbit_greet(PstRabbitConnection *conn);
extern bool pst_rabbit_take_greeting(PstRabbitConnection *conn, const amqp_method_t *method);
extern bool pst_rabbit_open_channel(PstRabbitConnection *conn);

#endif							/* PST_RABBITMQ_H */
