#include "corpora/stops.h"

#include <string.h>

enum {
    MORE = 8 /* tokens decoded before those that can hold a stop: joins, and tokens of no text */
};

int rt_stops_open(rt_stops *s, const rt_tokenizer *t, const rt_strlist *list, rt_err *err)
{
    *s = (rt_stops){ .tokenizer = t, .list = *list };
    if (list->n > RT_STOPS_MAX)
        return rt_usage(err, "--stop: %d texts, at most %d", list->n, RT_STOPS_MAX);
    for (int i = 0; i < list->n; i++) {
        int64_t n = (int64_t)strlen(list->item[i]);
        if (n < 1 || n > RT_STOPS_BYTES_MAX)
            return rt_usage(err, "--stop: a text of %lld bytes, from 1 to %d", (long long)n,
                            RT_STOPS_BYTES_MAX);
        if (rt_utf8_check(list->item[i], n) < n)
            return rt_usage(err, "--stop: a text that is not UTF-8 at byte %lld",
                            (long long)rt_utf8_check(list->item[i], n));
        s->longest = rt_max(s->longest, n);
    }
    return 0;
}

void rt_stops_free(rt_stops *s) { rt_text_free(&s->work); }

int64_t rt_stops_find(const rt_stops *s, const char *text, int64_t bytes)
{
    int64_t first = bytes + 1;
    for (int i = 0; i < s->list.n; i++) {
        size_t n = strlen(s->list.item[i]);
        const char *at = bytes ? memmem(text, (size_t)bytes, s->list.item[i], n) : NULL;
        first = at ? rt_min(first, at - text) : first;
    }
    return first > bytes ? -1 : first;
}

int64_t rt_stops_pending(const rt_stops *s, const char *text, int64_t bytes)
{
    int64_t most = 0;
    for (int i = 0; i < s->list.n; i++)
        for (int64_t n = rt_min(bytes, (int64_t)strlen(s->list.item[i]) - 1); n > most; n--)
            if (memcmp(text + bytes - n, s->list.item[i], (size_t)n) == 0)
                most = n;
    return most;
}

/* Text of token[from .. n) into s->work. */
static int decode(rt_stops *s, const int32_t *token, int64_t from, int64_t n, rt_err *err)
{
    rt_text_clear(&s->work);
    return rt_tokenizer_decode(s->tokenizer, token + from, n - from, RT_DETOKENIZE_SKIP_SPECIAL,
                               &s->work, err);
}

/* The first token that a stop which ends in the last one can touch; some more before it. */
static int64_t window(const rt_stops *s, int64_t n_prompt, int64_t n)
{
    return rt_max(n_prompt, n - s->longest - MORE);
}

int rt_stops_reached(rt_stops *s, const int32_t *token, int64_t n_prompt, int64_t n, rt_err *err)
{
    if (!s->list.n)
        return 0;
    if (decode(s, token, window(s, n_prompt, n), n, err))
        return -1;
    return rt_stops_find(s, s->work.data, s->work.bytes) >= 0;
}

int rt_stops_before(rt_stops *s, const int32_t *token, int64_t n_prompt, int64_t n, int64_t *whole,
                    rt_err *err)
{
    int64_t from = window(s, n_prompt, n), end = n;
    if (decode(s, token, from, n, err))
        return -1;
    int64_t at = rt_stops_find(s, s->work.data, s->work.bytes);
    while (at >= 0 && end > from && s->work.bytes > at)
        if (decode(s, token, from, --end, err))
            return -1;
    *whole = end;
    return 0;
}
