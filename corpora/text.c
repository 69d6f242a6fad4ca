/* text.c: growable bytes and ids, and strict UTF-8. */
#include "corpora/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

static void *grown(void *array, int64_t *cap, int64_t need, int64_t size, const char *what)
{
    if (need <= *cap)
        return array;
    *cap = rt_max(rt_max(need, *cap + *cap / 2), 64);
    return rt_realloc(array, *cap, size, what);
}

int rt_text_reserve(rt_text *t, int64_t more, rt_err *err)
{
    int64_t need;
    if (!rt_add_ok(t->bytes, more, &need) || !rt_add_ok(need, 1, &need))
        return rt_fail(err, "text buffer: length overflows");
    t->data = grown(t->data, &t->cap, need, 1, "a text");
    return 0;
}

int rt_text_add(rt_text *t, const void *data, int64_t bytes, rt_err *err)
{
    if (rt_text_reserve(t, bytes, err))
        return -1;
    if (bytes > 0)
        memcpy(t->data + t->bytes, data, (size_t)bytes);
    t->bytes += bytes;
    t->data[t->bytes] = 0;
    return 0;
}

int rt_text_puts(rt_text *t, const char *s, rt_err *err)
{
    return rt_text_add(t, s, (int64_t)strlen(s), err);
}

int rt_text_printf(rt_text *t, rt_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || rt_text_reserve(t, n, err))
        return -1;
    va_start(ap, fmt);
    vsnprintf(t->data + t->bytes, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->bytes += n;
    return 0;
}

void rt_text_clear(rt_text *t)
{
    t->bytes = 0;
    if (t->data)
        t->data[0] = 0;
}

void rt_text_free(rt_text *t)
{
    free(t->data);
    *t = (rt_text){ 0 };
}

int rt_ids_reserve(rt_ids *ids, int64_t more, rt_err *err)
{
    int64_t need;
    if (!rt_add_ok(ids->n, more, &need))
        return rt_fail(err, "token buffer: length overflows");
    ids->id = grown(ids->id, &ids->cap, need, sizeof *ids->id, "token ids");
    return 0;
}

int rt_ids_add(rt_ids *ids, int32_t id, rt_err *err)
{
    if (ids->n == ids->cap && rt_ids_reserve(ids, 1, err))
        return -1;
    ids->id[ids->n++] = id;
    return 0;
}

void rt_ids_clear(rt_ids *ids) { ids->n = 0; }

void rt_ids_free(rt_ids *ids)
{
    free(ids->id);
    *ids = (rt_ids){ 0 };
}
