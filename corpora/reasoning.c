/* reasoning.c: splits a response into reasoning and answer by token id (corpora/reasoning.h). */
#include "corpora/reasoning.h"

#include <string.h>

static bool match(const int32_t *ids, int64_t n, int64_t at, const rt_marker *mark)
{
    return mark->n > 0 && at + mark->n <= n &&
           !memcmp(ids + at, mark->id, (size_t)mark->n * sizeof *ids);
}

static bool is_stop(const rt_reasoning *r, int32_t id)
{
    for (int32_t i = 0; i < r->n_stops; i++)
        if (r->stop[i] == id)
            return true;
    return false;
}

static void split_think(const rt_reasoning *r, const int32_t *ids, int64_t n, bool opened,
                        rt_reasoning_split *s)
{
    int64_t close = n - r->close.n, open = 0;
    while (close >= 0 && !match(ids, n, close, &r->close))
        close--;
    int64_t limit = close >= 0 ? close : n;
    while (open < limit && !match(ids, limit, open, &r->open))
        open++;
    bool has_opener = open < limit;
    if (close < 0 && !opened && !has_opener) { /* no thought at all */
        s->answer = (rt_reasoning_span){ 0, n };
        return;
    }
    /* an opener inside a thought that the prompt opened is part of the thought, unless it leads */
    bool skip = has_opener && (!opened || open == 0);
    s->reasoning = (rt_reasoning_span){ skip ? open + r->open.n : 0, limit };
    if (close >= 0)
        s->answer = (rt_reasoning_span){ close + r->close.n, n };
}

/* Where the content of the message whose header begins at `channel` begins; n when it is cut short.
 */
static int64_t content_of(const rt_reasoning *r, const int32_t *ids, int64_t n, int64_t channel)
{
    while (channel < n && ids[channel] != r->message)
        channel++;
    return channel < n ? channel + 1 : n;
}

/* Everything before the last message is reasoning; the last message is the answer when its channel
   is the final one. */
static void split_harmony(const rt_reasoning *r, const int32_t *ids, int64_t n, bool opened,
                          rt_reasoning_split *s)
{
    int64_t last = n - 1, first = 0;
    while (last >= 0 && ids[last] != r->channel)
        last--;
    while (first < n && ids[first] != r->channel)
        first++;
    int64_t begin = opened ? 0 : content_of(r, ids, n, first), end = n;
    bool final = last >= 0 && match(ids, n, last + 1, &r->final);
    int64_t content = last >= 0 ? content_of(r, ids, n, last) : n;
    if (final && content < n) {
        int64_t stop = content;
        while (stop < n && ids[stop] != r->end)
            stop++;
        s->answer = (rt_reasoning_span){ content, stop };
    }
    if (final) { /* what stands before its header: "<|end|><|start|>assistant" */
        end = last;
        while (end > 0 && ids[end - 1] != r->end)
            end--;
        end -= end > 0;
    } else if (n > 0 && ids[n - 1] == r->end) {
        end = n - 1;
    }
    s->reasoning = (rt_reasoning_span){ begin, end };
    if (begin >= end || (final && first == last && !opened))
        s->reasoning = (rt_reasoning_span){ 0, 0 };
}

rt_reasoning_split rt_reasoning_find(const rt_reasoning *r, const int32_t *ids, int64_t n,
                                     bool opened)
{
    rt_reasoning_split s = { .answer = { n, n } };
    s.stopped = n > 0 && is_stop(r, ids[n - 1]);
    n -= s.stopped;
    s.answer = (rt_reasoning_span){ n, n };
    if (r->kind == RT_REASONING_THINK)
        split_think(r, ids, n, opened, &s);
    else if (r->kind == RT_REASONING_HARMONY)
        split_harmony(r, ids, n, opened, &s);
    else
        s.answer = (rt_reasoning_span){ 0, n };
    s.unfinished = s.answer.begin == s.answer.end;
    return s;
}
