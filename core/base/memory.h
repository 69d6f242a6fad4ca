/* memory.h: small allocations that never fail, and the one line that ends the program when the
   machine has no memory left. A failed malloc is the world's, not our mistake, and nothing useful
   can be done about 40 bytes; so every path after a small allocation stays free of NULL checks.
   Large, plannable memory (arenas, whole files) returns -1 by rt_fail_memory instead.
   Owns the words "out of memory"; core/base/malloc.c says them for libraries too.
   Refuses: pools, and memory of a device. */
#ifndef RT_MEMORY_H
#define RT_MEMORY_H

#include <stdio.h>

#include "core/base/err.h"

RT_BEGIN

/* `what` names the thing for people: "a list of documents". Free with free(). Never NULL: a size
   of 0 is 1 byte, a product that overflows is out of memory. */
void *rt_alloc(int64_t n, int64_t each, const char *what);        /* zeroed */
void *rt_realloc(void *p, int64_t n, int64_t each, const char *what); /* the new part is not zeroed */
char *rt_strdup(const char *text);
char *rt_strndup(const char *text, int64_t bytes); /* at most bytes, NUL-terminated */

/* Grows the list *p of *cap items of `each` bytes to at least n (doubling); new items are zeroed.
   Items move: a pointer into the list does not survive it. */
void rt_grow(void *p, int64_t *cap, int64_t n, int64_t each, const char *what);

/* A stream into memory (open_memstream); *text is whole after the close and is freed by the caller.
   Neither fails: what cannot be kept is out of memory. */
FILE *rt_memory_stream(char **text, size_t *bytes);
void rt_memory_stream_close(FILE *f);

/* "retort: out of memory: WHAT, 4.00 GiB" on stderr, exit 1, at once: outputs have their final name
   only when committed, so nothing half-written stays under one. */
#ifdef __cplusplus
[[noreturn]] void rt_out_of_memory(int64_t bytes, const char *what);
#else
_Noreturn void rt_out_of_memory(int64_t bytes, const char *what);
#endif

/* The same words as an error, for what is large: returns -1. bytes < 0: not known. */
int rt_fail_memory(rt_err *err, int64_t bytes, const char *what);

/* Bytes that programs can still be given, what the system keeps of files and would give back among
   them; INT64_MAX where that cannot be told. */
int64_t rt_memory_available(void);

/* What this thread is asking memory for, in words: of rt_alloc and its kind, else "a library". */
const char *rt_memory_purpose(void);

RT_END

#endif
