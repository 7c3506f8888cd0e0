/*
 * fault.c
 *	  Filling in a PstFault.  Nothing is allocated: this must work when nothing
 *	  else does.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "sink/fault.h"

/* Drop a character that the end of the buffer has cut in two. */
static void
trim_character(char *text, size_t len)
{
	size_t		start = len;

	while (start > 0 && ((unsigned char) text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0 || (unsigned char) text[start - 1] < 0xC0)
		return;
	start--;
	if (start + pg_utf_mblen((unsigned char *) text + start) > len)
		text[start] = '\0';
}

void
pst_fault_set(PstFault *fault, PstVerdict verdict, int code, const char *format,...)
{
	va_list		args;

	memset(fault, 0, sizeof(*fault));
	fault->verdict = verdict;
	fault->code = code;
	va_start(args, format);
	(void) vsnprintf(fault->what, sizeof(fault->what), format, args);
	va_end(args);
	trim_character(fault->what, strlen(fault->what));
}

void
pst_fault_quote(PstFault *fault, const char *said, size_t len)
{
	char	   *to = fault->peer_said;
	char	   *end = fault->peer_said + sizeof(fault->peer_said) - 1;
	const char *stop = said + len;

	while (said < stop && to < end)
	{
		unsigned char c = (unsigned char) *said;
		int			width = pg_utf_mblen((const unsigned char *) said);

		if (c < 0x20 || c == 0x7f || width > stop - said ||
			!pg_utf8_islegal((const unsigned char *) said, width))
		{
			*to++ = c < 0x20 ? ' ' : '?';
			said++;
			continue;
		}
		if (width > end - to)
			break;
		memcpy(to, said, width);
		to += width;
		said += width;
	}
	*to = '\0';
}
