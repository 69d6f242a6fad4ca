/* pages.h: which pages of a cache hold which tokens. A page of RT_KV_PAGE tokens belongs to the
   sequences whose table it stands in; only full pages are shared, so nobody writes into a page that
   another reads. What a page holds is known by its tokens and by the page before it, and is kept
   after its last sequence has left it until the page is taken for something else: a prompt that
   begins as an earlier one did finds it again. Host side only. Refuses: which sequence may run,
   layouts, devices. */
#ifndef RT_PAGES_H
#define RT_PAGES_H

#include "core/base/arena.h"

RT_BEGIN

typedef struct rt_page {
    int64_t serial;  /* of what it holds; 0 = it was never taken. Each taking gets a new one */
    int64_t parent;  /* serial of the page before it in its sequence, 0 = it is the first */
    int64_t dropped; /* when its last sequence left it */
    int32_t refs;    /* sequences in whose table it stands */
    int32_t n;       /* tokens it holds */
} rt_page;

typedef struct rt_pages {
    int64_t n, held; /* pages; those with a sequence */
    rt_page *page;   /* (n) */
    int32_t *token;  /* (n, RT_KV_PAGE) */
    int64_t serial, clock;
} rt_pages;

void rt_pages_plan(rt_pages *p, rt_arena *host, int64_t n); /* run twice like every plan */
/* The page after `parent` whose tokens have most in common with token(n) from the first on, and how
   many; -1 and 0 when none has one. */
int64_t rt_pages_find(const rt_pages *p, int64_t parent, const int32_t *token, int64_t n,
                      int64_t *common);
/* An empty page for a sequence, after `parent`: the one that was left first, then one that never
   was taken. -1 = all are held. */
int64_t rt_pages_take(rt_pages *p, int64_t parent);
void rt_pages_hold(rt_pages *p, int64_t page); /* one sequence more */
void rt_pages_drop(rt_pages *p, int64_t page); /* one less */
/* A page's tokens from `at` on; what it held after them is gone. */
void rt_pages_put(rt_pages *p, int64_t page, int64_t at, const int32_t *token, int64_t n);
/* No page holds anything: the model is another one now. No sequence may hold one. */
void rt_pages_forget(rt_pages *p);

RT_END

#endif
