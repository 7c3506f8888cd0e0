/*
 * fsm.h
 *	  FSM tables: the binding of a table to a version of a machine, compiled.
 *
 * A compiled binding is cached per backend and per table (a partition has one
 * of its own, since its columns may stand elsewhere).  It is rebuilt when the
 * table, the binding or a function that it uses changes.  A pointer to one is
 * good until the end of the transaction: a retired one is freed in a later one.
 */
#ifndef PST_FSM_H
#define PST_FSM_H

#include "postgres.h"

#include "fsm/expression.h"
#include "machine/model.h"
#include "utils/rel.h"

/* BEFORE triggers run in the order of their names: ours is the last, */
#define PST_DECIDE_TRIGGER "~persistomata"
/* and the first of the AFTER triggers. */
#define PST_RECORD_TRIGGER "!persistomata"
#define PST_TRUNCATE_TRIGGER "~persistomata truncate"

/* In bytes, as printed: with an event's id it must fit into an index of the log. */
#define PST_KEY_MAX 2048

typedef enum PstEnforce
{
	PST_ENFORCE_ALL,			/* edges and guards hold for raw writes too */
	PST_ENFORCE_EDGES,			/* raw writes follow edges; guards and actions are fire's */
	PST_ENFORCE_LOG				/* raw writes are only logged */
} PstEnforce;

typedef enum PstActionKind
{
	PST_ACTION_NONE,
	PST_ACTION_ASSIGN,			/* SET list */
	PST_ACTION_ROW,				/* f(row, args) returns row */
	PST_ACTION_VOID				/* f(row, args) returns void, run once the row is written */
} PstActionKind;

typedef struct PstAction
{
	PstActionKind kind;
	List	   *assignments;	/* of PstAssignment */
	Oid			function;
	const char *name;			/* of the function, as written */
} PstAction;

/* A transition, compiled against the table. */
typedef struct PstEdge
{
	const PstTransition *transition;
	PstExpression *guard;		/* NULL: always passes */
	PstAction	action;
	PstExpression *timing;		/* of after and every */
} PstEdge;

typedef struct PstFsm
{
	Oid			relid;			/* the table or partition */
	Oid			root;			/* the table that was attached */
	int			binding;		/* its number */
	const PstMachineVersion *version;
	const PstMachine *machine;
	char	   *search_path;	/* that names in snippets are resolved under */
	char	   *name;			/* schema.table of root, for messages */
	PstEnforce	enforce;
	bool		logs[256];		/* by PstEventType: is it logged? */

	TupleDesc	desc;
	AttrNumber	state_att;
	Oid			state_type;
	int			nkeys;
	AttrNumber *keys;
	bool	   *in_payload;		/* by attribute number - 1 */
	AttrNumber *payload;		/* the columns of the payload, in jsonb's order of keys */
	int			npayload;
	bool		key_is_loose;	/* equal keys may print differently */
	bool		key_by_settings;	/* prints differently under other settings, */
	bool		payload_by_settings;	/* so does this */

	PstEdge    *edges;			/* parallel to machine->transitions */
	int			nedges;
	PstAction  *entry;			/* by state */
	PstAction  *exit;
	bool		needs_path;		/* user code or sub-selects somewhere */
	bool		needs_lock;		/* or anything else that looks beyond the row */
	bool		has_timers;
	bool		deletes_ended;	/* the row goes when the instance ends */
	PstExpression **generated;	/* by attribute number - 1; NULL: the table has none */

	/* kept here for transition/ */
	struct _SPI_plan *fire_plan;	/* the UPDATE of fire() */
	struct _SPI_plan *delete_plan;	/* and the DELETE of an instance that has ended */
	struct PstTarget *target;	/* or how it does without */

	bool		valid;
	LocalTransactionId retired; /* the transaction in which it ceased to be valid */
	MemoryContext cxt;
} PstFsm;

/*
 * The compiled binding of a relation that is open, or of one of its partition
 * ancestors.  If there is none: NULL with missing_ok, else an error with a hint
 * (a restored trigger without its binding).
 */
extern PstFsm *pst_fsm_lookup(Relation rel, bool missing_ok);

/* The same for fire() and its like, by OID; wrong_object_type if it is not attached. */
extern PstFsm *pst_fsm_open(Oid relid, LOCKMODE lockmode, Relation *rel);

/*
 * How another version of a machine, by its number, would suit a table that is
 * bound: nothing is compiled yet but what pst_fsm_compile_piece() has been
 * called for (0 to pst_fsm_pieces() - 1: the edges, then each state's entry and
 * exit); it throws what is wrong with the piece.
 */
extern PstFsm *pst_fsm_trial(Relation rel, int machine);
extern int	pst_fsm_pieces(const PstFsm *fsm);
extern void pst_fsm_compile_piece(PstFsm *fsm, int piece);
extern void pst_fsm_trial_end(PstFsm *fsm);

/* Binds a table that is bound already to another version; the caller holds ShareRowExclusiveLock. */
extern void pst_fsm_rebind(Relation rel, const PstFsm *fsm, int machine);

/* Forget the compiled bindings of a table in every backend, at commit. */
extern void pst_fsm_invalidate(Oid relid);

/*
 * Run user code with the search_path of attach.  Returns a GUC nest level for
 * pst_leave_path; an error in between restores it too.
 */
extern int	pst_enter_path(const PstFsm *fsm);
extern void pst_leave_path(int level);

/* The search_path in force, as a list of quoted schemas, pg_temp last. */
extern char *pst_current_path(void);

/* in row.c: what a row says of itself */
extern char *pst_row_state(const PstFsm *fsm, HeapTuple tuple); /* NULL if NULL */
extern char *pst_row_key(PstFsm *fsm, HeapTuple tuple); /* "1"; JSON array if composite; throws over PST_KEY_MAX */
extern char *pst_key_text(PstFsm *fsm, const Datum *values);	/* parsed before */
extern void pst_payload_order(PstFsm *fsm);	/* once, from in_payload */
extern Datum pst_row_payload(PstFsm *fsm, HeapTuple tuple); /* jsonb */
extern bool pst_row_payload_differs(const PstFsm *fsm, HeapTuple a, HeapTuple b);
extern bool pst_row_key_differs(const PstFsm *fsm, HeapTuple a, HeapTuple b);
extern Datum pst_state_datum(const PstFsm *fsm, const char *state);

/* A row as functions have it: of the type of the table that was attached, and back. */
extern Datum pst_root_row(const PstFsm *fsm, HeapTuple tuple);
extern HeapTuple pst_row_from_root(const PstFsm *fsm, Datum row);

extern Datum *pst_key_datums(PstFsm *fsm, const char *key);	/* parsed by type */

/* in attach.c: binds a table; what attach() does before history begins */
typedef struct PstAttachOptions
{
	const char *machine;
	const char *state_column;
	List	   *key_columns;	/* of char *; NIL: the primary key */
	List	   *payload_columns;	/* of char *; NIL: all but bytea */
	List	   *types;			/* of char *; NIL: all */
	const char *enforce;
	const char *on_final;
} PstAttachOptions;

extern void pst_fsm_bind(Relation rel, const PstAttachOptions *options);

/* Gives the number of the binding that ended, 0 if there was none. */
extern int	pst_fsm_unbind(Relation rel);

/*
 * After DDL: raises an error if the table cannot be what its binding says of it.
 * Gives the partitions (OIDs) that are new: their states are the machine's, but
 * they have no history, nor a guard against TRUNCATE.
 */
extern List *pst_fsm_altered(Relation rel);
extern void pst_fsm_guard_truncate(Oid relid);

/* Does it have the triggers of an FSM table, whether it is bound or not? */
extern bool pst_fsm_is_guarded(Relation rel);

/* in census.c: an error if rows are in states that the machine does not have */
extern void pst_check_states(Relation rel, const char *state_column, List *keys, const PstMachine *machine);

#endif							/* PST_FSM_H */
