#include "corpora/crossing/crossing.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/crossing/align.h"

struct rt_crossing {
    const rt_chat *student;
    rt_chat teacher;
    rt_vocab_map map;
    rt_soft_mapper mapper;
    int64_t *t_end, *s_end; /* of the running stretch */
    int64_t cap_t, cap_s;
};

int rt_crossing_open(rt_crossing **out, const char *teacher, const rt_chat *student,
                     rt_unmatched unmatched, rt_err *err)
{
    rt_crossing *c = rt_alloc(1, sizeof *c, "a map of tokens");
    const rt_soft_config none = { 0 };
    c->student = student;
    if (rt_chat_open(&c->teacher, teacher, err) ||
        rt_vocab_map_open(&c->map, &c->teacher, student, err)) {
        rt_crossing_close(c);
        return -1;
    }
    rt_soft_mapper_open(&c->mapper, &c->map, unmatched, &none);
    *out = c;
    return 0;
}

void rt_crossing_close(rt_crossing *c)
{
    if (!c)
        return;
    rt_soft_mapper_close(&c->mapper);
    rt_vocab_map_close(&c->map);
    rt_chat_close(&c->teacher);
    free(c->t_end);
    free(c->s_end);
    free(c);
}

rt_hash rt_crossing_fingerprint(const rt_crossing *c)
{
    return rt_tokenizer_fingerprint(c->teacher.tokenizer);
}

void rt_crossing_sizes(const rt_crossing *c, int32_t *tokens, int32_t *same, int32_t *begun)
{
    *tokens = c->map.from.vocab;
    *same = c->map.n_same;
    *begun = c->map.n_begun;
}

/* ---- groups of a stretch ------------------------------------------------------------------------
 */

/* The ends of both sides' tokens; where they are one token each of the same role, one byte. */
static void measure_stretch(rt_crossing *c, const int32_t *t, int64_t n_t, const int32_t *s,
                            int64_t n_s)
{
    int64_t t_skip, s_skip;
    rt_grow(&c->t_end, &c->cap_t, n_t, sizeof *c->t_end, "tokens of a stretch");
    rt_grow(&c->s_end, &c->cap_s, n_s, sizeof *c->s_end, "tokens of a stretch");
    if (n_t == 1 && n_s == 1) {
        c->t_end[0] = c->s_end[0] = 1;
        return;
    }
    if (!rt_stretch_same(&c->map, t, n_t, s, n_s, &t_skip, &s_skip))
        rt_bug("a stretch of other bytes");
    rt_stretch_ends(&c->map.from, t, n_t, t_skip, c->t_end);
    rt_stretch_ends(&c->map.to, s, n_s, s_skip, c->s_end);
}

/* How many of the group's teacher's tokens cover it up to the end of its token s; 0 = it has none. */
static int64_t covering(const rt_crossing *c, const rt_align_group *g, int64_t s)
{
    int64_t k = 0;
    if (g->t_begin == g->t_end)
        return 0;
    while (g->t_begin + k < g->t_end - 1 && c->t_end[g->t_begin + k] < c->s_end[s])
        k++;
    return k + 1;
}

/* The group's tokens of the student's that get a target end here. */
static int64_t targets_end(const rt_crossing *c, const rt_align_group *g)
{
    bool inner = c->mapper.unmatched != RT_UNMATCHED_TAIL;
    return inner ? g->s_end : rt_min(g->s_end, g->s_begin + 1);
}

static bool learns(const int32_t *spans, int64_t n, int64_t token)
{
    for (int64_t i = 0; i < n; i += 2)
        if (token >= rt_max(spans[i], 1) && token < spans[i + 1])
            return true;
    return false;
}

/* That the text of k tokens, and of each beginning of them, began with this token. */
static int note_seen(rt_crossing *c, const int32_t *t, int64_t k, int32_t token, rt_err *err)
{
    rt_text_clear(&c->mapper.text);
    for (int64_t i = 0; i < k; i++) {
        rt_str s = rt_pieces_bytes(&c->map.from, t[i]);
        if (rt_text_add(&c->mapper.text, s.data, s.bytes, err) ||
            rt_seen_add(&c->mapper.seen, c->mapper.text.data, c->mapper.text.bytes, token, err))
            return -1;
    }
    return 0;
}

static int count_stretch(rt_crossing *c, const rt_trace_sample *s, const rt_stretch *a,
                         const int32_t *ids, const rt_ids *spans, int64_t first_span,
                         rt_crossing_counts *counts, rt_err *err)
{
    int64_t n_t = a->t_end - a->t_begin, n_s = a->s_end - a->s_begin;
    rt_align_group g = { 0 };
    measure_stretch(c, s->tokens + a->t_begin, n_t, ids + a->s_begin, n_s);
    while (rt_align_next(&g, c->t_end, n_t, c->s_end, n_s)) {
        bool one = g.t_end - g.t_begin == 1 && g.s_end - g.s_begin == 1;
        const int32_t *t = s->tokens + a->t_begin + g.t_begin;
        int64_t k = g.s_begin < g.s_end ? covering(c, &g, g.s_begin) : 0;
        if (k && !rt_pieces_special(&c->map.from, *t) &&
            note_seen(c, t, k, ids[a->s_begin + g.s_begin], err))
            return -1;
        if (!k || a->t_begin + g.t_begin < s->soft_first)
            continue;
        for (int64_t i = g.s_begin; i < targets_end(c, &g); i++)
            if (learns(spans->id + first_span, spans->n - first_span, a->s_begin + i))
                *(one ? &counts->one : &counts->merged) += 1;
    }
    return 0;
}

int rt_crossing_document(rt_crossing *c, const rt_trace_sample *s, bool all, rt_ids *ids,
                         rt_ids *spans, rt_ids *stretches, rt_crossing_counts *counts,
                         rt_err *err)
{
    int64_t at = ids->n, span = spans->n, from = stretches->n;
    if (rt_respell(&c->map, &c->teacher, c->student, s, all, ids, spans, stretches, err))
        return -1;
    for (int64_t i = span; i < spans->n; i += 2)
        counts->learned += spans->id[i + 1] - rt_max(spans->id[i], 1);
    for (int64_t i = from; i < stretches->n; i += RT_STRETCH_IDS)
        if (count_stretch(c, s, (const rt_stretch *)(const void *)(stretches->id + i), ids->id + at,
                          spans, span, counts, err))
            return -1;
    return 0;
}

/* ---- targets ------------------------------------------------------------------------------------
 */

typedef struct filling {
    rt_crossing *c;
    const rt_trace_sample *s;
    const int32_t *ids;
    int64_t at; /* token whose row is next */
    rt_soft *out;
} filling;

static void certain_until(filling *f, int64_t token)
{
    for (; f->at < token; f->at++)
        rt_soft_certain_row(f->out, f->ids[f->at], &f->c->mapper.config);
}

/* Token i of the stretch, which is of group g. */
static int fill_token(filling *f, const rt_stretch *a, const rt_align_group *g, int64_t i,
                      rt_err *err)
{
    const rt_soft *soft = &f->s->soft;
    const int32_t *t = f->s->tokens + a->t_begin + g->t_begin, *s = f->ids + a->s_begin;
    int64_t token = a->s_begin + i, k = covering(f->c, g, i);
    int64_t row = a->t_begin + g->t_begin - f->s->soft_first;
    if (!k || token < f->at || row < 0 || row > soft->n - k)
        return 0;
    certain_until(f, token);
    f->at++;
    return i == g->s_begin
               ? rt_soft_map_row(&f->c->mapper, f->out, soft, row, k, t, s[i], f->s->hash, err)
               : rt_soft_map_inner(&f->c->mapper, f->out, soft, row, k, t, s + g->s_begin,
                                   i - g->s_begin, s[i], err);
}

static int fill_stretch(filling *f, const rt_stretch *a, rt_err *err)
{
    const int32_t *t = f->s->tokens + a->t_begin, *s = f->ids + a->s_begin;
    int64_t n_t = a->t_end - a->t_begin, n_s = a->s_end - a->s_begin;
    rt_align_group g = { 0 };
    measure_stretch(f->c, t, n_t, s, n_s);
    while (rt_align_next(&g, f->c->t_end, n_t, f->c->s_end, n_s))
        for (int64_t i = g.s_begin; i < targets_end(f->c, &g); i++)
            if (fill_token(f, a, &g, i, err))
                return -1;
    return 0;
}

int rt_crossing_soft(rt_crossing *c, const rt_trace_sample *s, const rt_soft_config *config,
                     const int32_t *ids, int64_t n, const rt_stretch *stretch, int64_t n_stretches,
                     int64_t first, rt_soft *out, rt_err *err)
{
    filling f = { c, s, ids, first, out };
    c->mapper.config = rt_soft_mapped(config);
    rt_soft_clear(out);
    for (int64_t i = 0; i < n_stretches; i++)
        if (fill_stretch(&f, &stretch[i], err))
            return -1;
    certain_until(&f, n);
    return 0;
}
