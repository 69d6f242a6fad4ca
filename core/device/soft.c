/* soft.c: growth and copying of soft targets. Decides nothing about their content. */
#include "core/device/soft.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

void rt_soft_init(rt_soft *s) { memset(s, 0, sizeof *s); }

void rt_soft_free(rt_soft *s)
{
    free(s->offset);
    free(s->head_n);
    free(s->id);
    free(s->logp);
    free(s->hits);
    free(s->tail_logmass);
    free(s->entropy);
    free(s->taken_logp);
    free(s->logz);
    rt_soft_init(s);
}

int64_t rt_soft_most(int64_t rows, int64_t items)
{
    int64_t cap = rt_max(64, 2 * rows), cap_items = rt_max(1024, 2 * items); // see reserve
    return cap * (8 + 4 * 4 + 4 * RT_SOFT_TEMPERATURES_MAX) + 8 + cap_items * 12;
}

void rt_soft_clear(rt_soft *s) { s->n = s->n_items = 0; }

// Room for `rows` and `items` in total; what is there is kept.
static void reserve(rt_soft *s, int64_t rows, int64_t items)
{
    static const char WHAT[] = "soft targets";
    if (rows > s->cap || !s->offset) {
        int64_t cap = rt_max(rows, rt_max(64, 2 * s->cap));
        bool first = !s->offset;
        s->offset = rt_realloc(s->offset, cap + 1, sizeof *s->offset, WHAT);
        s->head_n = rt_realloc(s->head_n, cap, sizeof *s->head_n, WHAT);
        s->tail_logmass = rt_realloc(s->tail_logmass, cap, sizeof *s->tail_logmass, WHAT);
        s->entropy = rt_realloc(s->entropy, cap, sizeof *s->entropy, WHAT);
        s->taken_logp = rt_realloc(s->taken_logp, cap, sizeof *s->taken_logp, WHAT);
        s->logz = rt_realloc(s->logz, cap * RT_SOFT_TEMPERATURES_MAX, sizeof *s->logz, WHAT);
        if (first)
            s->offset[0] = 0;
        s->cap = cap;
    }
    if (items > s->cap_items) {
        s->cap_items = rt_max(items, rt_max(1024, 2 * s->cap_items));
        s->id = rt_realloc(s->id, s->cap_items, sizeof *s->id, WHAT);
        s->logp = rt_realloc(s->logp, s->cap_items, sizeof *s->logp, WHAT);
        s->hits = rt_realloc(s->hits, s->cap_items, sizeof *s->hits, WHAT);
    }
}

static void check_temps(int32_t temps)
{
    if (temps < 0 || temps > RT_SOFT_TEMPERATURES_MAX)
        rt_bug("soft targets: %d temperatures", (int)temps);
}

void rt_soft_append(rt_soft *s, const rt_soft *src, int64_t first, int64_t count, int32_t temps)
{
    check_temps(temps);
    if (s == src || first < 0 || count < 0 || count > src->n || first > src->n - count)
        rt_bug("soft targets: rows %lld + %lld of %lld", (long long)first, (long long)count,
               (long long)src->n);
    if (count == 0)
        return;
    int64_t from = src->offset[first], items = src->offset[first + count] - from;
    reserve(s, s->n + count, s->n_items + items);
    size_t rows = (size_t)count * sizeof(float);
    memcpy(s->head_n + s->n, src->head_n + first, rows);
    memcpy(s->tail_logmass + s->n, src->tail_logmass + first, rows);
    memcpy(s->entropy + s->n, src->entropy + first, rows);
    memcpy(s->taken_logp + s->n, src->taken_logp + first, rows);
    if (temps)
        memcpy(s->logz + s->n * temps, src->logz + first * temps, rows * (size_t)temps);
    if (items) {
        memcpy(s->id + s->n_items, src->id + from, (size_t)items * sizeof *s->id);
        memcpy(s->logp + s->n_items, src->logp + from, (size_t)items * sizeof *s->logp);
        memcpy(s->hits + s->n_items, src->hits + from, (size_t)items * sizeof *s->hits);
    }
    for (int64_t r = 1; r <= count; r++)
        s->offset[s->n + r] = s->n_items + src->offset[first + r] - from;
    s->n += count;
    s->n_items += items;
}

int64_t rt_soft_add_row(rt_soft *s, int64_t items, int32_t temps)
{
    check_temps(temps);
    if (items < 0)
        rt_bug("soft targets: a row of %lld items", (long long)items);
    reserve(s, s->n + 1, s->n_items + items);
    int64_t r = s->n++;
    s->head_n[r] = 0;
    s->tail_logmass[r] = s->entropy[r] = s->taken_logp[r] = 0;
    for (int32_t t = 0; t < temps; t++)
        s->logz[r * temps + t] = 0;
    for (int64_t i = s->n_items; i < s->n_items + items; i++) {
        s->id[i] = s->hits[i] = 0;
        s->logp[i] = 0;
    }
    s->n_items += items;
    s->offset[r + 1] = s->n_items;
    return r;
}
