/*
 * libpq.h
 *	  What libpq's version makes a difference to.
 */
#ifndef PST_COMPAT_LIBPQ_H
#define PST_COMPAT_LIBPQ_H

#include <unistd.h>

#include <libpq-fe.h>

/*
 * The authorities that the system trusts, as a value of sslrootcert; NULL if they
 * cannot be told.  From 16 on libpq knows by itself, before it wants a file.
 */
static inline const char *
pst_system_authorities(void)
{
	static const char *const files[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/cert.pem"
	};

	if (PQlibVersion() >= 160000)
		return "system";
	for (int i = 0; i < (int) (sizeof(files) / sizeof(files[0])); i++)
		if (access(files[i], R_OK) == 0)
			return files[i];
	return NULL;
}

#endif							/* PST_COMPAT_LIBPQ_H */
