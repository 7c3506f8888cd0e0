/*
 * http_resolve.c
 *	  Where the server is.
 *
 * Left to itself curl starts a thread to look a name up, and no thread may run
 * inside a backend.  So the name is looked up here, before a connection is made
 * and after one has failed, and curl is told the addresses.  The look-up blocks:
 * where the resolver may be slow, the option `address` spares it.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include "sink/http.h"

/* The host and the port of a url; malloc'd by curl. */
static bool
split_url(const char *url, char **host, char **port)
{
	CURLU	   *parts = curl_url();
	bool		good;

	*host = *port = NULL;
	good = parts != NULL &&
		curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, host, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_PORT, port, CURLU_DEFAULT_PORT) == CURLUE_OK;
	curl_url_cleanup(parts);
	return good;
}

static bool
is_address(const char *host)
{
	struct in6_addr any;

	return host[0] == '[' || inet_pton(AF_INET, host, &any) == 1;
}

/* The addresses of a name, joined by commas as curl takes them. */
static bool
look_up(const char *host, StringInfo addresses, char *errbuf, size_t errlen)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *found = NULL;
	int			error = getaddrinfo(host, NULL, &hints, &found);
	char		text[NI_MAXHOST];

	if (error == EAI_NONAME || error == EAI_FAMILY)
	{
		/* a machine whose only address is loopback has nothing "configured" */
		hints.ai_flags = 0;
		error = getaddrinfo(host, NULL, &hints, &found);
	}
	if (error != 0)
	{
		snprintf(errbuf, errlen, "could not look up host \"%s\": %s", host, gai_strerror(error));
		return false;
	}
	for (struct addrinfo *at = found; at != NULL; at = at->ai_next)
	{
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0,
						NI_NUMERICHOST) != 0)
			continue;
		appendStringInfo(addresses, at->ai_family == AF_INET6 ? "%s[%s]" : "%s%s",
						 addresses->len > 0 ? "," : "", text);
	}
	freeaddrinfo(found);
	return true;
}

bool
pst_http_resolve(StringInfo entry, const PstHttpPeer *peer, char *errbuf, size_t errlen)
{
	char	   *host;
	char	   *port;
	bool		good = split_url(peer->url, &host, &port);

	if (!good)
		strlcpy(errbuf, "the url cannot be read", errlen);
	else if (!is_address(host))
	{
		StringInfoData addresses;

		initStringInfo(&addresses);
		if (peer->address != NULL)
			appendStringInfoString(&addresses, peer->address);
		else
			good = look_up(host, &addresses, errbuf, errlen);
		if (good)
			appendStringInfo(entry, "%s:%s:%s", host, port, addresses.data);
		pfree(addresses.data);
	}
	curl_free(host);
	curl_free(port);
	return good;
}
