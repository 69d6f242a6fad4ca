/* bytes_map.c: open addressing over a list whose bytes stand in one pool. */
#include "corpora/bytes_map.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/memory.h"

void rt_bytes_map_free(rt_bytes_map *m)
{
    rt_text_free(&m->pool);
    free(m->entry);
    free(m->slot);
    *m = (rt_bytes_map){ 0 };
}

/* The slot of these bytes, or the free one where they belong; m has slots. */
static int64_t *find_slot(const rt_bytes_map *m, const char *s, int64_t bytes)
{
    for (uint64_t at = rt_hash64(s, bytes, 0);; at++) {
        int64_t *slot = &m->slot[at & (uint64_t)(m->slots - 1)];
        const rt_bytes *e = *slot < 0 ? NULL : &m->entry[*slot];
        if (!e || (e->bytes == bytes && memcmp(m->pool.data + e->offset, s, (size_t)bytes) == 0))
            return slot;
    }
}

static void grow(rt_bytes_map *m)
{
    rt_grow(&m->entry, &m->cap, rt_max(1024, m->n + 1), sizeof *m->entry, "a table of words");
    free(m->slot);
    m->slots = 2 * m->cap; /* a power of two: cap doubles from 1024 */
    m->slot = rt_alloc(m->slots, sizeof *m->slot, "a table of words");
    memset(m->slot, 0xff, (size_t)m->slots * sizeof *m->slot);
    for (int64_t i = 0; i < m->n; i++)
        *find_slot(m, m->pool.data + m->entry[i].offset, m->entry[i].bytes) = i;
}

int64_t rt_bytes_map_find(const rt_bytes_map *m, const char *s, int64_t bytes)
{
    return m->slots ? *find_slot(m, s, bytes) : -1;
}

int64_t rt_bytes_map_put(rt_bytes_map *m, const char *s, int64_t bytes, rt_err *err)
{
    if (m->n == m->cap)
        grow(m);
    int64_t *slot = find_slot(m, s, bytes);
    if (*slot >= 0)
        return *slot;
    m->entry[m->n] = (rt_bytes){ m->pool.bytes, bytes, 0 };
    if (rt_text_add(&m->pool, s, bytes, err))
        return -1;
    return *slot = m->n++;
}
