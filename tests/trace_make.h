/* trace_make.h: samples with every kind of soft row, as a pure function of (vocab, index), and
   archives of them, for the tests of the trace archive. Values are drawn here and never pass
   through the archive's own code, so what comes back is compared with what was made. */
#ifndef TESTS_TRACE_MAKE_H
#define TESTS_TRACE_MAKE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "corpora/archive/trace_inside.h"
#include "tests/suite.h"

static inline int rounds(void)
{
    const char *text = getenv("RT_TRACE_ROUNDS");
    return text && atoi(text) > 0 ? atoi(text) : 1;
}

// ---- a stream of numbers ----

typedef struct dice {
    uint64_t seed, at;
} dice;

static inline double roll(dice *d) // [0, 1)
{
    return (double)rt_rng_uniform(d->seed, RT_RNG_DATA, d->at++);
}
static inline int32_t roll_below(dice *d, int32_t n)
{
    return (int32_t)rt_rng_below(d->seed, RT_RNG_DATA, d->at++, (uint32_t)n);
}

// n distinct ascending ids below vocab, biased to small ones as token ids are
static inline void roll_set(dice *d, int32_t *id, int32_t n, int32_t vocab)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t x, j;
        do {
            x = roll_below(d, 2) ? roll_below(d, vocab) : (int32_t)(exp(roll(d) * log(vocab)) - 1);
            for (j = 0; j < i && id[j] != x; j++)
                ;
        } while (j < i);
        for (j = i; j > 0 && id[j - 1] > x; j--)
            id[j] = id[j - 1];
        id[j] = x;
    }
}

// ---- a soft row: certain, peaked or flat; consistent (head mass + tail mass = 1) ----

static inline void make_row(rt_soft *s, dice *d, const rt_trace_manifest *m, int32_t taken)
{
    const int32_t temps = m->capture.n_temperatures, vocab = m->vocab_size;
    int kind = roll_below(d, 4); // 0, 1 certain; 2 peaked; 3 flat
    int32_t head = kind < 2 ? 1 : 1 + roll_below(d, kind == 2 ? 4 : m->capture.head_max);
    int32_t draws = kind == 3 && m->capture.tail_spacing > 0 ? roll_below(d, 12) : 0;
    int32_t ids[RT_SOFT_HEAD_MAX + 16], all = head + draws;
    roll_set(d, ids, all, vocab);
    int64_t r = rt_soft_add_row(s, all, temps), at = s->offset[r];
    // deal the sorted ids to head and draws, both stay sorted
    int32_t h = 0, t = 0;
    for (int32_t i = 0; i < all; i++) {
        bool to_head = t == draws || (h < head && roll_below(d, 2));
        s->id[at + (to_head ? h++ : head + t++)] = ids[i];
    }
    double log_tail = kind == 0   ? -INFINITY
                      : kind == 1 ? -5 - 20 * roll(d)
                      : kind == 2 ? -1 - 8 * roll(d)
                                  : -0.1 - 2 * roll(d);
    double mass = log1p(-exp(log_tail)), weight[RT_SOFT_HEAD_MAX], sum = 0;
    for (int32_t i = 0; i < head; i++)
        sum += weight[i] = exp(4 * roll(d) * (kind == 3 ? 0.2 : 1));
    for (int32_t i = 0; i < head; i++)
        s->logp[at + i] = (float)(mass + log(weight[i] / sum));
    for (int32_t i = 0; i < draws; i++)
        s->hits[at + head + i] = 1 + (roll_below(d, 4) == 0) * roll_below(d, 6);
    s->head_n[r] = head;
    s->tail_logmass[r] = (float)log_tail;
    double p = exp(mass), tail = exp(log_tail);
    s->entropy[r] = kind == 0   ? 0
                    : kind == 1 ? (float)(-p * mass - tail * log_tail + tail * log(vocab) * roll(d))
                                : (float)(roll(d) * log(vocab));
    if (kind < 2 && roll_below(d, 8)) // certain, and what followed is that token
        s->id[at] = taken;
    s->taken_logp[r] = (float)(-14 * roll(d));
    for (int32_t i = 0; i < head; i++)
        if (s->id[at + i] == taken)
            s->taken_logp[r] = s->logp[at + i];
    for (int32_t i = 0; i < temps; i++)
        s->logz[r * temps + i] = (float)(20 * roll(d) - 10);
}

// ---- samples ----

typedef struct made {
    rt_trace_sample sample;
    int32_t tokens[96];
    rt_trace_span spans[2];
    float weights[2];
    char id[32], prompt[32], reasoning[256], messages[160];
} made;

static inline void make_manifest(rt_trace_manifest *m, int32_t vocab, int32_t temps)
{
    rt_trace_manifest_init(m);
    strcpy(m->teacher, "tiny/teacher");
    strcpy(m->precision, "f32");
    strcpy(m->sampler, "tiny/student");
    m->sampler_hash = rt_hash_bytes("student", 7);
    m->sampler_step = 120;
    m->listed_hash = m->sampler_hash;
    strcpy(m->licence, "Apache-2.0");
    m->config_hash = rt_hash_bytes("config", 6);
    m->weights_hash = rt_hash_bytes("weights", 7);
    m->tokenizer_hash = rt_hash_bytes("tokenizer", 9);
    m->template_hash = rt_hash_bytes("template", 8);
    m->prompts_hash = rt_hash_bytes("prompts", 7);
    m->vocab_size = vocab;
    m->capture = (rt_soft_config){ .head_max = 8,
                                   .head_floor = 1e-3f,
                                   .tail_spacing = 1.0f / 32,
                                   .n_temperatures = temps,
                                   .temperature = { 0.6f, 2.0f },
                                   .listed = 3 };
    m->samples_per_prompt = 2;
    m->max_tokens = 64;
    m->seed = 0xFFFFFFFFFFFFFFF1u;
    m->samples_per_shard = 4;
}

static inline void make_sample(made *x, const rt_trace_manifest *m, int64_t index)
{
    dice d = { .seed = 7000 + (uint64_t)index };
    memset(x, 0, sizeof *x);
    rt_trace_sample *s = &x->sample;
    rt_trace_sample_init(s);
    int32_t n = 8 + roll_below(&d, 24);
    for (int32_t i = 0; i < n; i++)
        x->tokens[i] = roll_below(&d, m->vocab_size);
    s->index = index;
    snprintf(x->id, sizeof x->id, "p%lld/%lld", (long long)index / 2, (long long)index % 2);
    snprintf(x->prompt, sizeof x->prompt, "p%lld", (long long)index / 2);
    snprintf(x->messages, sizeof x->messages,
             "[ {\"role\": \"user\", \"content\": \"%lld + %d = ?\\n\\u00e9\"} ]", (long long)index,
             roll_below(&d, 100));
    snprintf(x->reasoning, sizeof x->reasoning, "so \"%d\"\tthen\n\xC3\xA9 %d",
             roll_below(&d, 1000), roll_below(&d, 1000));
    s->id = x->id;
    s->prompt_id = x->prompt;
    s->messages = x->messages;
    s->reasoning = x->reasoning;
    s->answer = index % 3 ? "42" : "";
    s->finish = index % 5 ? "stop" : "length";
    s->verdict = (rt_verdict)(index % RT_VERDICT_COUNT);
    s->reward = 0.1 * (double)index;
    s->seed = 0x8000000000000000u + (uint64_t)index;
    s->tokens = x->tokens;
    s->n_tokens = n;
    s->prompt_tokens = 3;
    x->spans[0] = (rt_trace_span){ 3, 5 };
    x->spans[1] = (rt_trace_span){ 5 + (index % 2 ? 1 : 0), n };
    s->spans = x->spans;
    s->n_spans = 2;
    x->weights[0] = index % 7 == 5 ? 0.25f : 1; // archives of up to 5 samples are of version 1
    x->weights[1] = index % 7 == 5 ? 3 : 1;
    s->span_weight = x->weights;
    s->weight = index % 7 == 5 ? 0.3 : 1;
    s->tag = index % 7 == 6 ? "m\xC3\xA4th 1" : "";
    s->soft_first = 3;
    for (int32_t r = 0; m->capture.head_max > 0 && r < n - 3; r++)
        make_row(&s->soft, &d, m, x->tokens[3 + r]);
}

static inline void drop_sample(made *x) { rt_soft_free(&x->sample.soft); }

// ---- comparing ----

typedef struct worst {
    double logp, tail, tail_short, entropy, entropy_short, taken, logz;
} worst;

static inline void keep_max(double *worst_of, double a, double b)
{
    double error = a == b ? 0 : fabs(a - b);
    ck_assert_msg(error == error, "NaN: %g %g", a, b);
    if (error > *worst_of)
        *worst_of = error;
}

// Ids, hits and order must be equal; numbers go into *w.
static inline void compare_soft(const rt_soft *a, const rt_soft *b, int temps, worst *w)
{
    ck_assert_int_eq(a->n, b->n);
    ck_assert_int_eq(a->n_items, b->n_items);
    for (int64_t r = 0; r < a->n; r++) {
        ck_assert_int_eq(a->offset[r + 1], b->offset[r + 1]);
        ck_assert_int_eq(a->head_n[r], b->head_n[r]);
        int64_t items = a->offset[r + 1] - a->offset[r];
        for (int64_t i = a->offset[r]; i < a->offset[r + 1]; i++) {
            ck_assert_int_eq(a->id[i], b->id[i]);
            ck_assert_int_eq(a->hits[i], b->hits[i]);
            keep_max(&w->logp, (double)a->logp[i], (double)b->logp[i]);
        }
        bool maybe_short = items == 1 && a->tail_logmass[r] < -5.4;
        keep_max(maybe_short ? &w->tail_short : &w->tail, (double)a->tail_logmass[r],
                 (double)b->tail_logmass[r]);
        keep_max(maybe_short ? &w->entropy_short : &w->entropy, (double)a->entropy[r],
                 (double)b->entropy[r]);
        keep_max(&w->taken, (double)a->taken_logp[r], (double)b->taken_logp[r]);
        for (int t = 0; t < temps; t++)
            keep_max(&w->logz, (double)a->logz[r * temps + t], (double)b->logz[r * temps + t]);
    }
}

static inline void check_bounds(const worst *w)
{
    ck_assert_double_le(w->logp, 2.5e-4);
    ck_assert_double_le(w->taken, 2.5e-4);
    ck_assert_double_le(w->tail, 2.5e-4);
    ck_assert_double_le(w->entropy, 2.5e-4);
    ck_assert_double_le(w->tail_short, 0.0626);
    ck_assert_double_le(w->entropy_short, 5.1e-3);
    ck_assert_double_le(w->logz, 4.9e-4);
}

// ---- archives ----

static inline void append_range(rt_trace_writer *w, const rt_trace_manifest *m, int64_t from,
                                int64_t to, int64_t step)
{
    rt_err err;
    for (int64_t i = from; i < to; i += step) {
        made x;
        make_sample(&x, m, i);
        if (!rt_trace_has(w, x.id))
            OK(rt_trace_append(w, &x.sample, &err));
        drop_sample(&x);
    }
}

static inline void make_archive(const char *path, const rt_trace_manifest *m, int64_t n,
                                bool finish)
{
    rt_err err;
    rt_trace_writer *w;
    OK(rt_trace_open_append(&w, path, m, &err));
    append_range(w, m, 0, n, 1);
    if (finish)
        OK(rt_trace_finish(w, &err));
    OK(rt_trace_close(w, &err));
}

// Names and content of a directory as one hash.
static inline rt_hash hash_dir(const char *path)
{
    char **names;
    int n;
    rt_err err;
    rt_text all = { 0 };
    OK(rt_dir_list(&names, &n, path, &err));
    for (int i = 0; i < n; i++) {
        rt_hash h;
        char *file = rt_path_join(path, names[i]);
        OK(rt_hash_file(&h, file, &err));
        OK(rt_text_add(&all, names[i], (int64_t)strlen(names[i]) + 1, &err));
        OK(rt_text_add(&all, h.hex, 32, &err));
        free(file);
    }
    rt_names_free(names, n);
    rt_hash h = rt_hash_bytes(all.data, all.bytes);
    rt_text_free(&all);
    return h;
}

static inline bool same_hash(rt_hash a, rt_hash b) { return strcmp(a.hex, b.hex) == 0; }

static inline void copy_dir(const char *from, const char *to)
{
    char **names;
    int n;
    rt_err err;
    drop_dir(to);
    OK(rt_dir_make(to, &err));
    OK(rt_dir_list(&names, &n, from, &err));
    for (int i = 0; i < n; i++) {
        char *a = rt_path_join(from, names[i]), *b = rt_path_join(to, names[i]), *data;
        int64_t bytes;
        OK(rt_file_read(&data, &bytes, a, 1 << 30, &err));
        OK(rt_file_write(b, data, bytes, &err));
        free(data);
        free(a);
        free(b);
    }
    rt_names_free(names, n);
}

#endif
