/*
 * compat.h
 *	  Every test of PG_VERSION_NUM and of a library's version lives here.
 *
 * The rest of the code includes this header and calls what it offers; no other
 * file compares versions.
 */
#ifndef PST_COMPAT_H
#define PST_COMPAT_H

#include "postgres.h"

#include "fmgr.h"

#if PG_VERSION_NUM < 150000
#error "persistomata needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 180000
#define PST_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "persistomata", .version = "0.1")
#else
#define PST_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* From 17 a set belongs to a resource owner (NULL: to the process). */
#if PG_VERSION_NUM >= 170000
#define pst_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define pst_create_wait_event_set(nevents) CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* May the current user use a foreign server? */
#include "catalog/pg_foreign_server.h"
#include "miscadmin.h"
#include "utils/acl.h"

static inline bool
pst_may_use_server(Oid server)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#endif
}

#endif							/* PST_COMPAT_H */
