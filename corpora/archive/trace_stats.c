/* trace_stats.c: what an archive holds, in numbers. One pass over every sample; memory does not
   grow with the archive but for one hash a sample, to count prompts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

#include "core/base/memory.h"

enum { BINS_A_NAT = 64, BINS = 32 * BINS_A_NAT };

typedef struct sums {
    int64_t head, drawn, hits, low;
    double tail, entropy;
    int64_t bin[BINS]; // entropy, 1/64 nat
} sums;

static void add_rows(sums *t, const rt_soft *s)
{
    for (int64_t r = 0; r < s->n; r++) {
        int64_t items = s->offset[r + 1] - s->offset[r];
        t->head += s->head_n[r];
        t->drawn += items - s->head_n[r];
        for (int64_t i = s->offset[r] + s->head_n[r]; i < s->offset[r + 1]; i++)
            t->hits += s->hits[i];
        t->tail += exp((double)s->tail_logmass[r]);
        t->entropy += (double)s->entropy[r];
        t->low += s->entropy[r] < 0.01f;
        t->bin[(int)rt_min((int64_t)(s->entropy[r] * BINS_A_NAT), BINS - 1)]++;
    }
}

static double percentile(const sums *t, int64_t n, double share)
{
    int64_t seen = 0, need = (int64_t)ceil(share * (double)n);
    for (int b = 0; b < BINS; b++)
        if ((seen += t->bin[b]) >= need)
            return (b + 0.5) / BINS_A_NAT;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t count_distinct(uint64_t *list, int64_t n)
{
    qsort(list, (size_t)n, sizeof *list, by_value);
    int64_t distinct = n > 0;
    for (int64_t i = 1; i < n; i++)
        distinct += list[i] != list[i - 1];
    return distinct;
}

static int add_all(rt_trace_statistics *s, sums *t, uint64_t *prompt, const rt_trace_reader *r,
                   rt_err *err)
{
    rt_trace_sample sample;
    rt_trace_sample_init(&sample);
    int rc = 0;
    for (int64_t i = 0; !rc && i < s->samples; i++) {
        rt_trace_pieces p;
        if (rt_interrupted()) {
            rc = rt_fail_interrupted(err, "reading", r->path);
            break;
        }
        rc = rt_trace_reader_pieces(r, i, &p, err) ||
             rt_trace_sample_decode(&r->codec, &p, RT_TRACE_TEXT | RT_TRACE_SOFT, &sample,
                                    &s->certain, err);
        if (rc) {
            rt_wrap(err, "sample %lld ('retort archive verify' says more)", (long long)i);
            break;
        }
        prompt[i] = rt_hash64(sample.prompt_id, (int64_t)strlen(sample.prompt_id), 0);
        s->tokens += sample.n_tokens;
        s->positions += sample.soft.n;
        s->record_bytes += p.record_bytes;
        s->verdicts[sample.verdict]++;
        s->rules[sample.rule]++;
        add_rows(t, &sample.soft);
    }
    rt_trace_sample_free(&sample);
    return rc ? -1 : 0;
}

int rt_trace_stats(const rt_trace_reader *r, rt_trace_statistics *s, rt_err *err)
{
    *s = (rt_trace_statistics){ .samples = r->n, .file_bytes = r->journal.bytes };
    for (int64_t k = 0; k < r->n_shards; k++)
        s->file_bytes += r->shard[k].map.bytes;
    sums t = { 0 };
    uint64_t *prompt = rt_alloc(s->samples, sizeof *prompt, "prompts");
    int rc = add_all(s, &t, prompt, r, err);
    if (!rc) {
        double n = (double)rt_max(1, s->positions);
        s->prompts = count_distinct(prompt, s->samples);
        s->bytes_per_position = (double)s->record_bytes / n;
        s->mean_unique_ids = (double)(t.head + t.drawn) / n;
        s->mean_head = (double)t.head / n;
        s->mean_draws = (double)t.hits / n;
        s->mean_tail_mass = t.tail / n;
        s->mean_entropy = t.entropy / n;
        s->share_certain_entropy = (double)t.low / n;
        if (s->positions) {
            s->entropy_p50 = percentile(&t, s->positions, 0.50);
            s->entropy_p90 = percentile(&t, s->positions, 0.90);
            s->entropy_p99 = percentile(&t, s->positions, 0.99);
        }
    }
    free(prompt);
    return rc;
}

void rt_trace_stats_put(cJSON *json, const rt_trace_statistics *s)
{
    cJSON *verdicts = rt_json_object(), *rules = rt_json_object(), *entropy = rt_json_object();
    rt_json_put_i64(json, "samples", s->samples);
    rt_json_put_i64(json, "prompts", s->prompts);
    rt_json_put_i64(json, "tokens", s->tokens);
    rt_json_put_i64(json, "positions", s->positions);
    rt_json_put_i64(json, "short_rows", s->certain);
    rt_json_put_i64(json, "file_bytes", s->file_bytes);
    rt_json_put_i64(json, "record_bytes", s->record_bytes);
    rt_json_put_num(json, "bytes_per_position", s->bytes_per_position);
    rt_json_put_num(json, "mean_unique_ids", s->mean_unique_ids);
    rt_json_put_num(json, "mean_head", s->mean_head);
    rt_json_put_num(json, "mean_draws", s->mean_draws);
    rt_json_put_num(json, "mean_tail_mass", s->mean_tail_mass);
    rt_json_put_num(entropy, "mean", s->mean_entropy);
    rt_json_put_num(entropy, "p50", s->entropy_p50);
    rt_json_put_num(entropy, "p90", s->entropy_p90);
    rt_json_put_num(entropy, "p99", s->entropy_p99);
    rt_json_put_num(entropy, "share_below_0.01", s->share_certain_entropy);
    rt_json_put(json, "entropy_nats", entropy);
    for (int v = 0; v < RT_VERDICT_COUNT; v++)
        rt_json_put_i64(verdicts, rt_verdict_name((rt_verdict)v), s->verdicts[v]);
    rt_json_put(json, "verdicts", verdicts);
    for (int i = 0; i < RT_RULE_COUNT; i++)
        if (s->rules[i])
            rt_json_put_i64(rules, rt_verify_rule_name((rt_verify_rule)i), s->rules[i]);
    rt_json_put(json, "rules", rules);
}
