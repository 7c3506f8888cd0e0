/*
 * clickhouse_error.c
 *	  What an answer of a ClickHouse server means.
 *
 * The HTTP status says nothing (an old server answers nearly everything with
 * 500, and errors have been seen under 200): what counts is the exception code,
 * from its header or from the text "Code: N".  A code that is not listed here
 * is worth another try: nothing is given up for an error that we do not know.
 */
#include "postgres.h"

#include <ctype.h>

#include "sink/clickhouse.h"

typedef struct CodeClass
{
	int			code;
	PstChClass	class;
} CodeClass;

static const CodeClass classes[] = {
	/* the content of a row */
	{6, PST_CH_ROW},			/* CANNOT_PARSE_TEXT */
	{26, PST_CH_ROW},			/* CANNOT_PARSE_QUOTED_STRING */
	{27, PST_CH_ROW},			/* CANNOT_PARSE_INPUT_ASSERTION_FAILED */
	{32, PST_CH_ROW},			/* ATTEMPT_TO_READ_AFTER_EOF: a text that ends too early for its type */
	{33, PST_CH_ROW},			/* CANNOT_READ_ALL_DATA */
	{38, PST_CH_ROW},			/* CANNOT_PARSE_DATE */
	{41, PST_CH_ROW},			/* CANNOT_PARSE_DATETIME */
	{53, PST_CH_ROW},			/* TYPE_MISMATCH */
	{69, PST_CH_ROW},			/* ARGUMENT_OUT_OF_BOUND */
	{70, PST_CH_ROW},			/* CANNOT_CONVERT_TYPE */
	{72, PST_CH_ROW},			/* CANNOT_PARSE_NUMBER */
	{117, PST_CH_ROW},			/* INCORRECT_DATA */
	{131, PST_CH_ROW},			/* TOO_LARGE_STRING_SIZE */
	{153, PST_CH_ROW},			/* ILLEGAL_DIVISION */
	{321, PST_CH_ROW},			/* VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE */
	{349, PST_CH_ROW},			/* CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN */
	{376, PST_CH_ROW},			/* CANNOT_PARSE_UUID */
	{395, PST_CH_ROW},			/* FUNCTION_THROW_IF_VALUE_IS_NON_ZERO */
	{407, PST_CH_ROW},			/* DECIMAL_OVERFLOW */
	{469, PST_CH_ROW},			/* VIOLATED_CONSTRAINT */
	{675, PST_CH_ROW},			/* CANNOT_PARSE_IPV4 */
	{676, PST_CH_ROW},			/* CANNOT_PARSE_IPV6 */
	{691, PST_CH_ROW},			/* UNKNOWN_ELEMENT_OF_ENUM */

	/* too much at once */
	{158, PST_CH_SPLIT},		/* TOO_MANY_ROWS */
	{173, PST_CH_SPLIT},		/* CANNOT_ALLOCATE_MEMORY */
	{241, PST_CH_SPLIT},		/* MEMORY_LIMIT_EXCEEDED */
	{307, PST_CH_SPLIT},		/* TOO_MANY_BYTES */
	{396, PST_CH_SPLIT},		/* TOO_MANY_ROWS_OR_BYTES */

	/* the table is not what we took it for */
	{8, PST_CH_TABLE},			/* THERE_IS_NO_COLUMN */
	{10, PST_CH_TABLE},			/* NOT_FOUND_COLUMN_IN_BLOCK */
	{16, PST_CH_TABLE},			/* NO_SUCH_COLUMN_IN_TABLE */
	{60, PST_CH_TABLE},			/* UNKNOWN_TABLE */
	{218, PST_CH_TABLE},		/* TABLE_IS_DROPPED */

	{216, PST_CH_RUNNING},		/* QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING */
	{115, PST_CH_SETTING},		/* UNKNOWN_SETTING */

	/* somebody has to mend it */
	{36, PST_CH_CONFIG},		/* BAD_ARGUMENTS */
	{44, PST_CH_CONFIG},		/* ILLEGAL_COLUMN */
	{47, PST_CH_CONFIG},		/* UNKNOWN_IDENTIFIER */
	{48, PST_CH_CONFIG},		/* NOT_IMPLEMENTED */
	{50, PST_CH_CONFIG},		/* UNKNOWN_TYPE */
	{56, PST_CH_CONFIG},		/* UNKNOWN_STORAGE */
	{57, PST_CH_CONFIG},		/* TABLE_ALREADY_EXISTS */
	{62, PST_CH_CONFIG},		/* SYNTAX_ERROR */
	{73, PST_CH_CONFIG},		/* UNKNOWN_FORMAT */
	{81, PST_CH_CONFIG},		/* UNKNOWN_DATABASE */
	{89, PST_CH_CONFIG},		/* UNKNOWN_COMPRESSION_METHOD */
	{164, PST_CH_CONFIG},		/* READONLY */
	{170, PST_CH_CONFIG},		/* BAD_GET: among others, a cluster that there is not */
	{201, PST_CH_CONFIG},		/* QUOTA_EXCEEDED */
	{291, PST_CH_CONFIG},		/* DATABASE_ACCESS_DENIED */
	{452, PST_CH_CONFIG},		/* SETTING_CONSTRAINT_VIOLATION */
	{472, PST_CH_CONFIG},		/* READONLY_SETTING */
	{497, PST_CH_CONFIG},		/* ACCESS_DENIED */
	{701, PST_CH_CONFIG},		/* CLUSTER_DOESNT_EXIST */
	{192, PST_CH_DENIED},		/* UNKNOWN_USER */
	{193, PST_CH_DENIED},		/* WRONG_PASSWORD */
	{194, PST_CH_DENIED},		/* REQUIRED_PASSWORD */
	{195, PST_CH_DENIED},		/* IP_ADDRESS_NOT_ALLOWED */
	{516, PST_CH_DENIED},		/* AUTHENTICATION_FAILED */
};

/* ----- codes ----- */

/* N of "Code: N", of a body that begins with it, or has it anywhere if deep. */
static int
code_in_text(const char *text, bool deep)
{
	static const char mark[] = "Code: ";
	const char *at = text;

	while (at != NULL)
	{
		if (strncmp(at, mark, sizeof(mark) - 1) == 0 &&
			isdigit((unsigned char) at[sizeof(mark) - 1]))
			return atoi(at + sizeof(mark) - 1);
		if (!deep)
			break;
		at = strstr(at + 1, mark);
	}
	if (deep && strstr(text, "__exception__") != NULL)
		return 999;
	return 0;
}

static PstChClass
class_of_code(int code, const char *message)
{
	/* TOO_MANY_PARTS is mostly a server that is behind, but there is one block that is too mixed */
	if (code == 252 && strstr(message, "single INSERT block") != NULL)
		return PST_CH_SPLIT;
	for (size_t i = 0; i < lengthof(classes); i++)
		if (classes[i].code == code)
			return classes[i].class;
	return PST_CH_RETRY;
}

static PstVerdict
verdict_of_class(PstChClass class)
{
	switch (class)
	{
		case PST_CH_ROW:
			return PST_REJECTED;
		case PST_CH_TABLE:
		case PST_CH_CONFIG:
		case PST_CH_DENIED:
			return PST_MISCONFIGURED;
		case PST_CH_FINE:
		case PST_CH_RETRY:
		case PST_CH_SPLIT:
		case PST_CH_RUNNING:
		case PST_CH_SETTING:
			break;
	}
	return PST_RETRY;
}

static const char *
words_for_class(PstChClass class)
{
	switch (class)
	{
		case PST_CH_SPLIT:
			return "the server cannot take so much at once";
		case PST_CH_ROW:
			return "the server refuses the content of an event";
		case PST_CH_TABLE:
			return "the destination table is not there, or not as expected";
		case PST_CH_RUNNING:
			return "an earlier insert of the same shipment still runs";
		case PST_CH_SETTING:
			return "the server does not know a setting of its version";
		case PST_CH_CONFIG:
			return "the server refuses the request until its configuration or ours changes";
		case PST_CH_DENIED:
			return "the server refuses the user or password";
		case PST_CH_FINE:
		case PST_CH_RETRY:
			break;
	}
	return "the server could not do it now";
}

/* ----- answers without a code ----- */

static PstChClass
classify_curl(const PstChAnswer *answer, PstFault *fault)
{
	PstChClass	class = PST_CH_RETRY;

	switch (answer->result)
	{
		case CURLE_URL_MALFORMAT:
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CACERT_BADFILE:
			class = PST_CH_DENIED;
			break;
		default:
			break;
	}
	pst_ch_fault(fault, verdict_of_class(class), "the request failed: ");
	strlcat(fault->what, answer->reason, sizeof(fault->what));
	return class;
}

static PstChClass
classify_status(const PstChAnswer *answer, PstFault *fault)
{
	PstChClass	class = PST_CH_DENIED;

	if (answer->status >= 500 || answer->status == 408 || answer->status == 429)
		class = PST_CH_RETRY;
	pst_ch_fault(fault, verdict_of_class(class), "");
	snprintf(fault->what, sizeof(fault->what),
			 class == PST_CH_RETRY ? "HTTP status %ld"
			 : "HTTP status %ld: this is not ClickHouse's HTTP interface, or it does not let us in",
			 answer->status);
	fault->code = (int) answer->status;
	return class;
}

PstChClass
pst_ch_classify(const PstChAnswer *answer, const PstHttpPeer *peer, PstFault *fault)
{
	PstChClass	class;
	int			code;

	if (answer->result != CURLE_OK)
		return classify_curl(answer, fault);

	code = answer->exception;
	if (code == 0)
		code = code_in_text(answer->text, answer->status == 200);
	if (code == 0 && answer->status == 200)
		return PST_CH_FINE;
	if (code == 0)
		class = classify_status(answer, fault);
	else
	{
		class = class_of_code(code, answer->text);
		pst_ch_fault(fault, verdict_of_class(class), words_for_class(class));
		fault->code = code;
	}
	pst_ch_quote_peer(fault->peer_said, sizeof(fault->peer_said), answer->text, peer);
	return class;
}

int
pst_ch_blamed_row(const char *message)
{
	static const char mark[] = "(at row ";
	const char *at = strstr(message, mark);
	int			row = at != NULL ? atoi(at + sizeof(mark) - 1) : 0;

	return row - 1;
}

/* ----- faults ----- */

void
pst_ch_fault(PstFault *fault, PstVerdict verdict, const char *what)
{
	memset(fault, 0, sizeof(*fault));
	fault->verdict = verdict;
	strlcpy(fault->what, what, sizeof(fault->what));
}

/* A server may quote what it was given: blot out each occurrence of a secret. */
static void
blot_out(char *text, const char *secret)
{
	size_t		length = secret != NULL ? strlen(secret) : 0;

	if (length == 0)
		return;
	for (char *at = strstr(text, secret); at != NULL; at = strstr(at + length, secret))
		memset(at, '*', length);
}

void
pst_ch_quote_peer(char *to, size_t size, const char *message, const PstHttpPeer *peer)
{
	size_t		length;

	strlcpy(to, message, size);
	/* cut behind the whole secret's place: a part of it is not left over at the end */
	if (strlen(message) >= size && (peer->password != NULL || peer->token != NULL))
	{
		char	   *copy = pstrdup(message);

		blot_out(copy, peer->password);
		blot_out(copy, peer->token);
		strlcpy(to, copy, size);
		pfree(copy);
	}
	blot_out(to, peer->password);
	blot_out(to, peer->token);

	length = strcspn(to, "\r\n");
	if (length == size - 1)
	{
		/* do not leave half a character at the end */
		while (length > 0 && ((unsigned char) to[length - 1] & 0xC0) == 0x80)
			length--;
		if (length > 0 && (unsigned char) to[length - 1] >= 0xC0)
			length--;
	}
	to[length] = '\0';
	for (char *at = to; *at != '\0'; at++)
		if ((unsigned char) *at < ' ')
			*at = ' ';
}
