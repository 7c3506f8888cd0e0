/*
 * rabbitmq_shipment.h
 *	  The RabbitMQ sink itself: a connection, and how far the shipment has come.
 */
#ifndef PST_RABBITMQ_SHIPMENT_H
#define PST_RABBITMQ_SHIPMENT_H

#include "postgres.h"

#include "sink/rabbitmq.h"

typedef enum PstRabbitStep
{
	PST_RABBIT_IDLE,			/* no shipment */
	PST_RABBIT_CONNECT,
	PST_RABBIT_DECLARE,			/* the exchange, unless that is done already */
	PST_RABBIT_DECLARING,
	PST_RABBIT_PUBLISH,			/* and take confirms, until all are in */
	PST_RABBIT_MARK_CONNECT,	/* no shipment, but its nonce: see rabbitmq_mark.c */
	PST_RABBIT_MARKING
} PstRabbitStep;

/* Why an event alone was refused; indexes PstRabbit.refusals */
typedef enum PstRabbitRefusal
{
	PST_RABBIT_ACCEPTED,
	PST_RABBIT_UNROUTABLE,
	PST_RABBIT_LONG_KEY,
	PST_RABBIT_TOO_BIG,
	PST_RABBIT_REFUSALS
} PstRabbitRefusal;

/* What is known of one event of the shipment. */
typedef struct PstRabbitEvent
{
	uint8		verdict;		/* PstVerdict */
	uint8		refusal;		/* PstRabbitRefusal */
	uint32		body_len;		/* as published */
} PstRabbitEvent;

/* Of a look at the queue that has the nonce. */
typedef struct PstRabbitMarking
{
	char		queue[128];
	bool		leave;			/* ours is put there, too */
	uint64		confirm;		/* the tag of that, until it is confirmed; or 0 */
	int			due;			/* answers to basic.get */
	uint64		tag;			/* the message that comes in; 0: none does */
	uint64		body_size;		/* bytes of it that are to come */
	int			body_len;
	char		body[64];
	uint64		newest_tag;		/* the newest so far, which is to be given back; or 0 */
	char		newest[64];
} PstRabbitMarking;

typedef struct PstRabbitProof PstRabbitProof;

typedef struct PstRabbit
{
	PstSink		base;
	MemoryContext context;
	MemoryContextCallback on_reset;
	PstRabbitConnection conn;
	int			confirm_timeout;	/* ms without any confirm, while some are due */
	int			window;			/* the most confirms that may be due */

	/* of the connection: the exchange declared last, and the last delivery tag */
	StringInfoData declared;
	bool		may_not_declare;	/* we lack the right: it must exist */
	uint64		last_tag;

	/*
	 * The shipment under way, and behind it the one that follows, whose events are
	 * counted on: published and confirmed in one row.
	 */
	const PstShipment *shipment;
	int			nevents;		/* of the shipment */
	PstShipment follower;		/* nevents 0: none */
	bool		alone;			/* nothing follows until a shipment is through: one has failed */
	const char *exchange;
	const char *exchange_type;
	const char *routing_key;	/* template */
	int			turns;			/* hosts to be tried yet */
	PstRabbitStep step;
	PstRabbitEvent *events;
	int			nevents_room;
	int		   *published;		/* the nth publish since first_tag: which event */
	int			npublished;
	uint64		first_tag;		/* of this shipment */
	int			next;			/* event to publish */
	int			settled_below;	/* publishes below this one are settled */
	int			due;			/* publishes without a confirm */
	int			due_here;		/* of these, of the shipment itself, as are the next two */
	int			delivered;
	int			unroutable;
	int64		deadline;		/* of the next confirm */
	int64		blocked_since;	/* 0: not blocked */
	bool		returning;		/* between basic.return and its content header */
	int			return_hint;	/* where to look for the next returned one */
	PstFault	fault;
	PstFault	refusals[PST_RABBIT_REFUSALS];
	PstRabbitProof *proofs;		/* that routes have delivered */
	PstRabbitMarking marking;
	PstFault	mark_refused;	/* why nonces cannot be kept here, if so */

	StringInfoData body;
	StringInfoData key;
	StringInfoData message_id;
	StringInfoData text;		/* of headers: names and values */
	StringInfoData member_name;
	StringInfoData member_value;
} PstRabbit;

/* in rabbitmq.c */
extern void pst_rabbit_forget_connection(PstRabbit *rabbit);	/* a new one: nothing is declared there */
extern void pst_rabbit_refresh(PstRabbit *rabbit);	/* before it is used: notice that it died while idle */
/* has it come up?  If not, and it is closed, all hosts have had their turn. */
extern bool pst_rabbit_ready(PstRabbit *rabbit);

/* in rabbitmq_mark.c */
extern void pst_rabbit_mark(PstSink *sink, const PstShipment *shipment, bool leave);
extern PstSinkProgress pst_rabbit_mark_step(PstRabbit *rabbit);
extern const char *pst_rabbit_marked(const PstSink *sink);

/* in rabbitmq_follow.c: the nth event of the shipment, or of the one behind it, and whose it is */
extern const PstShipment *pst_rabbit_shipment_of(const PstRabbit *rabbit, int nth);
extern const PstEvent *pst_rabbit_event(const PstRabbit *rabbit, int nth);
extern void pst_rabbit_make_room(PstRabbit *rabbit, int nevents);
extern void pst_rabbit_take(PstRabbit *rabbit, const PstShipment *shipment);
extern void pst_rabbit_follow(PstSink *sink, const PstShipment *next);
/* the shipment is the one that followed, and its time has come; false if it is not */
extern bool pst_rabbit_take_up(PstRabbit *rabbit, const PstShipment *shipment);

/* in rabbitmq_publish.c */
extern bool pst_rabbit_publish(PstRabbit *rabbit, int nth);
extern void pst_rabbit_message_id(PstRabbit *rabbit, int nth);

/* in rabbitmq_confirm.c */
extern void pst_rabbit_count(PstRabbit *rabbit, const PstRabbitEvent *event);
extern void pst_rabbit_take_frame(PstRabbit *rabbit, const amqp_frame_t *frame);
extern void pst_rabbit_blame_size(PstRabbit *rabbit);

/*
 * In rabbitmq_proof.c, all about the shipment under way.  Has the route ever
 * delivered like this?  If all that is settled is unroutable: is the routing to
 * blame, and not the events?  And at the end, unless it was: remember.
 */
extern bool pst_rabbit_is_proven(const PstRabbit *rabbit);
extern bool pst_rabbit_blames_route(const PstRabbit *rabbit);
extern void pst_rabbit_remember(PstRabbit *rabbit);
extern void pst_rabbit_forget_proofs(PstRabbit *rabbit);	/* of all routes */

#endif							/* PST_RABBITMQ_SHIPMENT_H */
