/* malloc.c: the malloc of the program, for the libraries in it: a failed one ends in our one line.
   Some cannot bear it (libarchive 3.6.2 writes a ZIP entry through NULL), others report it in words
   of their own or go on with less. Linked into retort alone; calls the next malloc of the process,
   so another allocator may be preloaded. posix_memalign is not here: arenas may ask in vain.
   Empty under a sanitizer, which has an allocator of its own. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The function behind ours. A race at the first call stores the same address twice. */
static void next(void *function, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

static void *sound(void *p, size_t bytes)
{
    if (!p)
        rt_out_of_memory(bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes, rt_memory_purpose());
    return p;
}

void *malloc(size_t bytes)
{
    static void *(*real)(size_t);
    if (!real)
        next(&real, "malloc");
    return sound(real(bytes ? bytes : 1), bytes);
}

void *calloc(size_t n, size_t each)
{
    static void *(*real)(size_t, size_t);
    if (!real)
        next(&real, "calloc");
    return sound(real(n ? n : 1, each ? each : 1),
                 each && n > SIZE_MAX / each ? SIZE_MAX : n * each);
}

void *memalign(size_t align, size_t bytes) // libgomp's
{
    static void *(*real)(size_t, size_t);
    if (!real)
        next(&real, "memalign");
    return sound(real(align, bytes), bytes);
}

void *realloc(void *p, size_t bytes)
{
    static void *(*real)(void *, size_t);
    if (!real)
        next(&real, "realloc");
    return sound(real(p, bytes ? bytes : 1), bytes);
}
#endif
