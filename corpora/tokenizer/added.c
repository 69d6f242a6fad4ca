/* added.c: finding added tokens by narrowing a sorted list byte by byte. */
#include "corpora/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

static int by_search(const void *a, const void *b)
{
    const rt_added *x = *(const rt_added *const *)a, *y = *(const rt_added *const *)b;
    int c = memcmp(x->search.data, y->search.data,
                   (size_t)rt_min(x->search.bytes, y->search.bytes));
    if (c == 0)
        c = (x->search.bytes > y->search.bytes) - (x->search.bytes < y->search.bytes);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

void rt_added_set_open(rt_added_set *set, const rt_added *token, int64_t n, bool normalized)
{
    *set = (rt_added_set){ .token = rt_alloc(n, sizeof *set->token, "added tokens") };
    for (int64_t i = 0; i < n; i++)
        if (token[i].normalized == normalized && token[i].search.bytes > 0) {
            set->token[set->n++] = &token[i];
            set->first[(uint8_t)token[i].search.data[0]] = true;
        }
    qsort(set->token, (size_t)set->n, sizeof *set->token, by_search);
}

void rt_added_set_close(rt_added_set *set)
{
    free(set->token);
    *set = (rt_added_set){ 0 };
}

/* First of [lo, hi) whose byte at `depth` is >= c; all agree on the bytes before and reach depth.
 */
static int64_t lower(const rt_added_set *set, int64_t lo, int64_t hi, int64_t depth, int c)
{
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)set->token[mid]->search.data[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const rt_added *longest_at(const rt_added_set *set, const char *s, int64_t n)
{
    const rt_added *best = NULL;
    int64_t lo = 0, hi = set->n;
    for (int64_t depth = 0; depth < n && lo < hi; depth++) {
        int c = (uint8_t)s[depth];
        lo = lower(set, lo, hi, depth, c);
        hi = lower(set, lo, hi, depth, c + 1);
        if (lo < hi && set->token[lo]->search.bytes == depth + 1) {
            best = set->token[lo];
            while (lo < hi && set->token[lo]->search.bytes == depth + 1) /* equal spellings */
                lo++;
        }
    }
    return best;
}

/* Begin of the character that ends at `at` > 0. */
static int64_t char_before(const char *s, int64_t at)
{
    do
        at--;
    while (at > 0 && ((uint8_t)s[at] & 0xc0) == 0x80);
    return at;
}

static int is_word(const rt_added_walk *w, int64_t at, rt_err *err)
{
    uint32_t cp;
    int64_t a, b;
    int n = rt_utf8_decode(w->text + at, w->bytes - at, &cp);
    return rt_regex_find(w->word, w->matcher, w->text + at, n, 0, &a, &b, err);
}

int rt_added_next(rt_added_walk *w, const rt_added **token, int64_t *begin, int64_t *end,
                  rt_err *err)
{
    *token = NULL;
    for (; w->at < w->bytes && w->set->n && w->want != RT_ADDED_NONE; w->at++) {
        if (!w->set->first[(uint8_t)w->text[w->at]])
            continue;
        const rt_added *t = longest_at(w->set, w->text + w->at, w->bytes - w->at);
        if (!t)
            continue;
        int64_t a = w->at, b = a + t->search.bytes;
        w->at = b - 1; /* found, taken or not: the search goes on behind it */
        if (t->special && w->want != RT_ADDED_ALL)
            continue;
        if (t->single_word) {
            int left = a > 0 ? is_word(w, char_before(w->text, a), err) : 0;
            int right = b < w->bytes ? is_word(w, b, err) : 0;
            if (left < 0 || right < 0)
                return -1;
            if (left || right)
                continue;
        }
        uint32_t cp;
        while (t->lstrip && a > w->done) {
            int64_t p = char_before(w->text, a);
            rt_utf8_decode(w->text + p, a - p, &cp);
            if (!rt_utf8_is_space(cp))
                break;
            a = p;
        }
        for (int n; t->rstrip && b < w->bytes; b += n) {
            n = rt_utf8_decode(w->text + b, w->bytes - b, &cp);
            if (!rt_utf8_is_space(cp))
                break;
        }
        w->at++;
        *token = t;
        *begin = a;
        *end = b;
        w->done = b;
        return 0;
    }
    return 0;
}

int rt_added_guard(const rt_added_set *set, const char *text, int64_t bytes, const int32_t *keep,
                   int n_keep, const char *guard, rt_text *out, rt_err *err)
{
    int guarded = 0;
    for (int64_t at = 0, n = 0; at < bytes; at += n) {
        const rt_added *t = set->first[(uint8_t)text[at]] ? longest_at(set, text + at, bytes - at)
                                                          : NULL;
        bool plain = t && !t->special;
        for (int i = 0; t && i < n_keep; i++)
            plain = plain || t->id == keep[i];
        uint32_t cp;
        n = plain ? t->search.bytes : rt_max(rt_utf8_decode(text + at, bytes - at, &cp), 1);
        bool split = t && !plain && n < t->search.bytes;
        guarded |= split;
        if (out &&
            (rt_text_add(out, text + at, n, err) || (split && rt_text_puts(out, guard, err))))
            return -1;
    }
    return guarded;
}
