#include "core/network/spans.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

void rt_spans_add(rt_spans *s, const uint8_t *host, int64_t bytes)
{
    rt_grow(&s->item, &s->cap, s->n + 1, sizeof *s->item, "stretches of a checkpoint");
    s->item[s->n++] = (rt_span){ host, bytes, NULL };
}

static int ascending(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const rt_span *)a)->host, y = (uintptr_t)((const rt_span *)b)->host;
    return x < y ? -1 : x > y;
}

void rt_spans_settle(rt_spans *s)
{
    int64_t kept = 0;
    if (s->n)
        qsort(s->item, (size_t)s->n, sizeof *s->item, ascending);
    for (int64_t i = 0; i < s->n; i++) {
        rt_span *last = kept ? &s->item[kept - 1] : NULL;
        int64_t end = s->item[i].host - (last ? last->host : s->item[i].host) + s->item[i].bytes;
        if (last && s->item[i].host < last->host + last->bytes)
            last->bytes = rt_max(last->bytes, end);
        else
            s->item[kept++] = s->item[i];
    }
    s->n = kept;
}

void rt_spans_free(rt_spans *s)
{
    free(s->item);
    memset(s, 0, sizeof *s);
}

void rt_spans_plan(rt_spans *s, rt_arena *a)
{
    for (int64_t i = 0; i < s->n; i++)
        s->item[i].data = rt_arena_take(a, "weights.stored", s->item[i].bytes);
}

int rt_spans_upload(const rt_spans *s, rt_dev *d, rt_err *err)
{
    for (int64_t i = 0; i < s->n; i++)
        rt_upload(d, s->item[i].data, s->item[i].host, s->item[i].bytes);
    return rt_sync(d, err);
}

const uint8_t *rt_spans_find(const rt_spans *s, const uint8_t *host)
{
    int64_t low = 0, high = s->n;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if ((uintptr_t)s->item[middle].host <= (uintptr_t)host)
            low = middle;
        else
            high = middle;
    }
    const rt_span *at = s->n ? &s->item[low] : NULL;
    if (!at || host < at->host || host >= at->host + at->bytes)
        rt_bug("a weight outside of what was copied to the device");
    return at->data ? at->data + (host - at->host) : NULL;
}
