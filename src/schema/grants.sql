-- Rights.  Whoever may write a table may fire events at its rows: fire() is an
-- ordinary UPDATE of the state column, with the caller's rights.  The log, the
-- bindings and the cursors are the extension's own, whose functions write them.

GRANT USAGE ON SCHEMA persistomata TO PUBLIC;

