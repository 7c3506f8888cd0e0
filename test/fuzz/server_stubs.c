/*
 * server_stubs.c
 *	  What the parser of definitions needs of the server, for a program without
 *	  one: memory that is freed after each input, errors that jump out.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"

#include "server_stubs.h"

volatile sig_atomic_t InterruptPending = false;
jmp_buf		stub_error;

/* Each block is a malloc of its own, so that the sanitizer sees its bounds. */
typedef struct Block
{
	struct Block *previous;
	struct Block *next;
} Block;

static Block blocks = {&blocks, &blocks};

static Block *
link_block(Block *block)
{
	if (block == NULL)
		abort();
	block->previous = &blocks;
	block->next = blocks.next;
	blocks.next->previous = block;
	blocks.next = block;
	return block;
}

static Block *
unlink_block(void *pointer)
{
	Block	   *block = (Block *) pointer - 1;

	block->previous->next = block->next;
	block->next->previous = block->previous;
	return block;
}

void *
palloc(Size size)
{
	return link_block(malloc(sizeof(Block) + size)) + 1;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, Size size)
{
	return link_block(realloc(unlink_block(pointer), sizeof(Block) + size)) + 1;
}

void
pfree(void *pointer)
{
	free(unlink_block(pointer));
}

void
stub_free_all(void)
{
	while (blocks.next != &blocks)
		pfree(blocks.next + 1);
}

char *
pnstrdup(const char *text, Size length)
{
	char	   *copy;

	length = strnlen(text, length);
	copy = palloc(length + 1);
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

char *
pstrdup(const char *text)
{
	return pnstrdup(text, strlen(text));
}

char *
psprintf(const char *format,...)
{
	StringInfoData text;
	int			needed;

	initStringInfo(&text);
	do
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(&text, needed);
	} while (needed > 0);
	return text.data;
}

void
initStringInfo(StringInfo text)
{
	text->maxlen = 16;
	text->data = palloc(text->maxlen);
	text->data[0] = '\0';
	text->len = 0;
	text->cursor = 0;
}

void
enlargeStringInfo(StringInfo text, int needed)
{
	if (text->len + needed + 1 <= text->maxlen)
		return;
	text->maxlen = (text->len + needed + 1) * 2;
	text->data = repalloc(text->data, text->maxlen);
}

void
appendBinaryStringInfo(StringInfo text, const char *data, int length)
{
	enlargeStringInfo(text, length);
	memcpy(text->data + text->len, data, length);
	text->len += length;
	text->data[text->len] = '\0';
}

void
appendStringInfoChar(StringInfo text, char c)
{
	appendBinaryStringInfo(text, &c, 1);
}

void
appendStringInfoString(StringInfo text, const char *string)
{
	appendBinaryStringInfo(text, string, strlen(string));
}

void
appendStringInfoSpaces(StringInfo text, int count)
{
	while (count-- > 0)
		appendStringInfoChar(text, ' ');
}

void
appendStringInfo(StringInfo text, const char *format,...)
{
	int			needed;

	do
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(text, format, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(text, needed);
	} while (needed > 0);
}

int
appendStringInfoVA(StringInfo text, const char *format, va_list args)
{
	int			room = text->maxlen - text->len;
	int			length = vsnprintf(text->data + text->len, room, format, args);

	if (length >= room)
		return length + 1;
	text->len += length;
	return 0;
}

static List *
append_cell(List *list, NodeTag type, ListCell cell)
{
	if (list == NIL)
	{
		list = palloc0(sizeof(List));
		list->type = type;
		list->max_length = 1;
		list->elements = palloc(sizeof(ListCell));
	}
	if (list->length == list->max_length)
	{
		list->max_length *= 2;
		list->elements = repalloc(list->elements, list->max_length * sizeof(ListCell));
	}
	list->elements[list->length++] = cell;
	return list;
}

List *
lappend(List *list, void *datum)
{
	return append_cell(list, T_List, (ListCell) {.ptr_value = datum});
}

List *
lappend_int(List *list, int datum)
{
	return append_cell(list, T_IntList, (ListCell) {.int_value = datum});
}

List *
list_concat(List *list, const List *other)
{
	for (int i = 0; i < list_length(other); i++)
		list = lappend(list, list_nth(other, i));
	return list;
}

void
list_sort(List *list, list_sort_comparator compare)
{
	if (list != NIL)
		qsort(list->elements, list->length, sizeof(ListCell),
			  (int (*) (const void *, const void *)) compare);
}

void
list_free(List *list)
{
	if (list == NIL)
		return;
	pfree(list->elements);
	pfree(list);
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

/* What is parsed is valid UTF-8. */
int
pg_mblen(const char *text)
{
	return pg_utf_mblen((const unsigned char *) text);
}

int
pg_dsplen(const char *text)
{
	return pg_encoding_dsplen(PG_UTF8, text);
}

int
pg_mbcliplen(const char *text, int length, int limit)
{
	int			clipped = 0;

	while (clipped < length && clipped + pg_mblen(text + clipped) <= limit)
		clipped += pg_mblen(text + clipped);
	return clipped;
}

void
pg_unicode_to_server(pg_wchar point, unsigned char *text)
{
	unicode_to_utf8(point, text);
	text[point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4] = '\0';
}

void
ProcessInterrupts(void)
{
}

bool
errstart(int elevel, const char *domain)
{
	longjmp(stub_error, 1);
}

bool
errstart_cold(int elevel, const char *domain)
{
	longjmp(stub_error, 1);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *format,...)
{
	return 0;
}

int
errdetail(const char *format,...)
{
	return 0;
}

int
errhint(const char *format,...)
{
	return 0;
}

void
ExceptionalCondition(const char *conditionName, const char *errorType, const char *fileName, int lineNumber)
{
	abort();
}
