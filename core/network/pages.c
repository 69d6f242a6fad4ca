#include "core/network/pages.h"

#include <string.h>

#include "core/device/ops.h"

void rt_pages_plan(rt_pages *p, rt_arena *host, int64_t n)
{
    *p = (rt_pages){ .n = n };
    p->page = rt_arena_take(host, "pages", n * (int64_t)sizeof *p->page);
    p->token = rt_arena_take(host, "pages", n * RT_KV_PAGE * (int64_t)sizeof *p->token);
}

int64_t rt_pages_find(const rt_pages *p, int64_t parent, const int32_t *token, int64_t n,
                      int64_t *common)
{
    int64_t best = -1;
    *common = 0;
    for (int64_t i = 0; i < p->n && *common < n; i++) {
        const int32_t *have = p->token + i * RT_KV_PAGE;
        int64_t k = 0;
        if (!p->page[i].serial || p->page[i].parent != parent)
            continue;
        while (k < n && k < p->page[i].n && have[k] == token[k])
            k++;
        if (k > *common) {
            best = i;
            *common = k;
        }
    }
    return best;
}

int64_t rt_pages_take(rt_pages *p, int64_t parent)
{
    int64_t best = -1;
    for (int64_t i = 0; i < p->n; i++) {
        const rt_page *a = &p->page[i];
        if (a->refs)
            continue;
        if (best < 0 || (a->serial && !p->page[best].serial) ||
            (a->serial && a->dropped < p->page[best].dropped))
            best = i;
    }
    if (best < 0)
        return -1;
    p->page[best] = (rt_page){ .serial = ++p->serial, .parent = parent, .refs = 1 };
    p->held++;
    return best;
}

void rt_pages_hold(rt_pages *p, int64_t page) { p->held += p->page[page].refs++ == 0; }

void rt_pages_drop(rt_pages *p, int64_t page)
{
    rt_page *a = &p->page[page];
    if (a->refs <= 0)
        rt_bug("page %lld is dropped once too often", (long long)page);
    if (--a->refs == 0) {
        a->dropped = ++p->clock;
        p->held--;
    }
}

void rt_pages_put(rt_pages *p, int64_t page, int64_t at, const int32_t *token, int64_t n)
{
    if (p->page[page].refs != 1 || at > p->page[page].n || at + n > RT_KV_PAGE)
        rt_bug("tokens %lld to %lld of page %lld, which holds %d for %d sequences", (long long)at,
               (long long)(at + n), (long long)page, p->page[page].n, p->page[page].refs);
    memcpy(p->token + page * RT_KV_PAGE + at, token, (size_t)n * sizeof *token);
    p->page[page].n = (int32_t)(at + n);
}

void rt_pages_forget(rt_pages *p)
{
    if (p->held)
        rt_bug("%lld pages are held", (long long)p->held);
    for (int64_t i = 0; p->page && i < p->n; i++)
        p->page[i].serial = 0;
}
