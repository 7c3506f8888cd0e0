/*
 * engine.h
 *	  The engine: a row and an event give the next row.
 *
 * It works on one row version, which the caller has locked, and writes nothing.
 */
#ifndef PST_ENGINE_H
#define PST_ENGINE_H

#include "postgres.h"

#include "fsm/fsm.h"
#include "nodes/bitmapset.h"
#include "transition/outcome.h"

/* One step from state to state. */
typedef struct PstHop
{
	int			from;			/* PST_STAR: the instance begins */
	int			to;				/* PST_STAR: it ends */
	const PstEdge *edge;		/* NULL: an unguarded raw write (enforce log) */
	int64		event_id;		/* drawn by the caller */
} PstHop;

/* A row on its way through a machine. */
typedef struct PstMove
{
	PstFsm	   *fsm;
	ParamListInfo row;			/* changed by actions */
	Bitmapset  *changed;		/* attribute numbers that actions set */
	int			state;			/* where it is now */
	List	   *hops;			/* of PstHop * */
	List	   *void_actions;	/* of const PstAction *, to run when the row is written */
	PstRefusal	refusal;		/* sqlstate != 0: nothing may be written */
	bool		soft;			/* the refused event may fail quietly */
} PstMove;

/* An event by name, as fire() sends it. */
typedef struct PstSignal
{
	const char *event;
	const char *expected_state; /* or NULL */
	const char *to_state;		/* or NULL */
} PstSignal;

extern void pst_move_init(PstMove *move, PstFsm *fsm, ParamListInfo row);

/* The move that an event makes from a state. */
extern void pst_move_by_event(PstMove *move, const char *from, const PstSignal *signal);

/*
 * The move that a raw write of the state column makes; guards see before, the
 * row as it was.
 */
extern void pst_move_by_write(PstMove *move, const char *from, const char *to, ParamListInfo before);

/* The owner's override: no guard, no action, no chain. */
extern void pst_move_by_force(PstMove *move, const char *from, const char *to);

/* The chain that begins in the entry state. */
extern void pst_move_by_birth(PstMove *move);

/* Is this an edge that fire() may take from that state, for that event (NULL: any)? */
extern bool pst_edge_offered(const PstEdge *edge, int state, const char *event);

/* Does the edge's guard hold?  A NULL is told apart from a false. */
extern bool pst_guard_holds(PstMove *move, const PstEdge *edge, bool *isnull);

/* "closed", or "*" */
extern const char *pst_move_state(const PstMove *move);

/*
 * Run user code with a fresh snapshot and the machine's search_path, if the
 * machine runs any: what others committed while the row was waited for is seen.
 */
typedef struct PstScene
{
	int			path_level;
	bool		snapshot;
} PstScene;

extern void pst_enter_scene(PstScene *scene, const PstFsm *fsm);
extern void pst_leave_scene(PstScene *scene);

/* Run f(row, args), which returns void. */
extern void pst_run_void_action(PstFsm *fsm, const PstAction *action, ParamListInfo row);

#endif							/* PST_ENGINE_H */
