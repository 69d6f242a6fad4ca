/* bytes_map.c: open addressing over a list whose bytes stand in one pool. */
#include "corpora/bytes_map.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"

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

static int grow(rt_bytes_map *m, rt_err *err)
{
    int64_t cap = m->cap ? 2 * m->cap : 1024, slots = 2 * cap;
    rt_bytes *entry = realloc(m->entry, (size_t)cap * sizeof *entry);
    if (entry)
        m->entry = entry;
    int64_t *slot = malloc((size_t)slots * sizeof *slot);
    if (!entry || !slot) {
        free(slot);
        return rt_fail(err, "out of memory for %lld words", (long long)cap);
    }
    memset(slot, 0xff, (size_t)slots * sizeof *slot);
    free(m->slot);
    m->slot = slot;
    m->slots = slots;
    m->cap = cap;
    for (int64_t i = 0; i < m->n; i++)
        *find_slot(m, m->pool.data + entry[i].offset, entry[i].bytes) = i;
    return 0;
}

int64_t rt_bytes_map_find(const rt_bytes_map *m, const char *s, int64_t bytes)
{
    return m->slots ? *find_slot(m, s, bytes) : -1;
}

int64_t rt_bytes_map_put(rt_bytes_map *m, const char *s, int64_t bytes, rt_err *err)
{
    if (m->n == m->cap && grow(m, err))
        return -1;
    int64_t *slot = find_slot(m, s, bytes);
    if (*slot >= 0)
        return *slot;
    m->entry[m->n] = (rt_bytes){ m->pool.bytes, bytes, 0 };
    if (rt_text_add(&m->pool, s, bytes, err))
        return -1;
    return *slot = m->n++;
}
