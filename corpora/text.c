/* text.c: growable bytes and ids, and strict UTF-8. */
#include "corpora/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Grow *data to hold `need` elements of `size` bytes. */
static int grow(void **data, int64_t *cap, int64_t need, int64_t size, rt_err *err)
{
    if (need <= *cap)
        return 0;
    int64_t want = rt_max(need, *cap + *cap / 2), bytes;
    want = rt_max(want, 64);
    if (!rt_mul_ok(want, size, &bytes))
        return rt_fail(err, "text buffer: %lld elements do not fit in memory", (long long)want);
    void *p = realloc(*data, (size_t)bytes);
    if (!p)
        return rt_fail(err, "text buffer: out of memory for %lld bytes", (long long)bytes);
    *data = p;
    *cap = want;
    return 0;
}

int rt_text_reserve(rt_text *t, int64_t more, rt_err *err)
{
    int64_t need;
    if (!rt_add_ok(t->bytes, more, &need) || !rt_add_ok(need, 1, &need))
        return rt_fail(err, "text buffer: length overflows");
    void *p = t->data;
    if (grow(&p, &t->cap, need, 1, err))
        return -1;
    t->data = p;
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
    void *p = ids->id;
    if (grow(&p, &ids->cap, need, sizeof(int32_t), err))
        return -1;
    ids->id = p;
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

int rt_utf8_decode(const char *s, int64_t bytes, uint32_t *cp)
{
    const uint8_t *u = (const uint8_t *)s;
    if (u[0] < 0x80) {
        *cp = u[0];
        return 1;
    }
    int n = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || bytes < n)
        return 0;
    uint32_t c = u[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *cp = c;
    return n;
}

int rt_utf8_encode(uint32_t cp, char out[4])
{
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        cp = 0xfffd;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | cp);
    return n;
}

bool rt_utf8_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

int64_t rt_utf8_check(const char *s, int64_t bytes)
{
    int64_t i = 0;
    while (i < bytes) {
        uint64_t w;
        if (bytes - i >= 8) {
            memcpy(&w, s + i, 8);
            if (!(w & 0x8080808080808080ull)) {
                i += 8;
                continue;
            }
        }
        uint32_t cp;
        int n = rt_utf8_decode(s + i, bytes - i, &cp);
        if (n == 0)
            return i;
        i += n;
    }
    return bytes;
}
