/* soft.c: growth and copying of soft targets. Decides nothing about their content. */
#include "core/device/soft.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* Every array of rt_soft but offset: all of 4-byte values. A new column is its field and its line
 * here. */
enum per {
    A_ROW,
    A_TEMPERATURE,
    AN_ITEM
}; /* values it has for each row, temperature of a row, item */

static const struct column {
    size_t field;
    enum per per;
} columns[] = {
    { offsetof(rt_soft, head_n), A_ROW },       { offsetof(rt_soft, tail_logmass), A_ROW },
    { offsetof(rt_soft, entropy), A_ROW },      { offsetof(rt_soft, taken_logp), A_ROW },
    { offsetof(rt_soft, logz), A_TEMPERATURE }, { offsetof(rt_soft, id), AN_ITEM },
    { offsetof(rt_soft, logp), AN_ITEM },       { offsetof(rt_soft, hits), AN_ITEM },
};

enum { WORD = 4 };

static uint8_t *get(const rt_soft *s, const struct column *c)
{
    uint8_t *p;
    memcpy(&p, (const uint8_t *)s + c->field, sizeof p);
    return p;
}

static void set(rt_soft *s, const struct column *c, void *p)
{
    memcpy((uint8_t *)s + c->field, &p, sizeof p);
}

/* Values of a column for so many rows and items. */
static int64_t values(const struct column *c, int64_t rows, int64_t items, int64_t temps)
{
    return c->per == AN_ITEM ? items : c->per == A_TEMPERATURE ? rows * temps : rows;
}

void rt_soft_init(rt_soft *s) { memset(s, 0, sizeof *s); }

void rt_soft_free(rt_soft *s)
{
    free(s->offset);
    for (int i = 0; i < RT_COUNT(columns); i++)
        free(get(s, &columns[i]));
    rt_soft_init(s);
}

int64_t rt_soft_most(int64_t rows, int64_t items)
{
    int64_t cap = rt_max(64, 2 * rows), cap_items = rt_max(1024, 2 * items); // see reserve
    int64_t bytes = (cap + 1) * (int64_t)sizeof(int64_t);
    for (int i = 0; i < RT_COUNT(columns); i++)
        bytes += WORD * values(&columns[i], cap, cap_items, RT_SOFT_TEMPERATURES_MAX);
    return bytes;
}

void rt_soft_clear(rt_soft *s) { s->n = s->n_items = 0; }

// Room for `rows` and `items` in total; what is there is kept.
static void reserve(rt_soft *s, int64_t rows, int64_t items)
{
    static const char WHAT[] = "soft targets";
    bool first = !s->offset, more_rows = rows > s->cap || first, more_items = items > s->cap_items;
    if (more_rows)
        s->cap = rt_max(rows, rt_max(64, 2 * s->cap));
    if (more_items)
        s->cap_items = rt_max(items, rt_max(1024, 2 * s->cap_items));
    if (more_rows)
        s->offset = rt_realloc(s->offset, s->cap + 1, sizeof *s->offset, WHAT);
    if (first)
        s->offset[0] = 0;
    for (int i = 0; i < RT_COUNT(columns); i++) {
        const struct column *c = &columns[i];
        int64_t n = values(c, s->cap, s->cap_items, RT_SOFT_TEMPERATURES_MAX);
        if (c->per == AN_ITEM ? more_items : more_rows)
            set(s, c, rt_realloc(get(s, c), n, WORD, WHAT));
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
    for (int i = 0; i < RT_COUNT(columns); i++) {
        const struct column *c = &columns[i];
        int64_t bytes = WORD * values(c, count, items, temps);
        if (bytes)
            memcpy(get(s, c) + WORD * values(c, s->n, s->n_items, temps),
                   get(src, c) + WORD * values(c, first, from, temps), (size_t)bytes);
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
    for (int i = 0; i < RT_COUNT(columns); i++) {
        const struct column *c = &columns[i];
        int64_t bytes = WORD * values(c, 1, items, temps);
        if (bytes)
            memset(get(s, c) + WORD * values(c, s->n, s->n_items, temps), 0, (size_t)bytes);
    }
    int64_t r = s->n++;
    s->n_items += items;
    s->offset[r + 1] = s->n_items;
    return r;
}
