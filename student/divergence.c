#include "student/divergence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

void rt_divergence_add(rt_divergence *d, double kl, double nll, double base, bool same)
{
    rt_grow(&d->kl, &d->cap, d->n + 1, sizeof *d->kl, "KL of tokens");
    rt_grow(&d->shift, &d->cap_shift, d->n + 1, sizeof *d->shift, "KL of tokens");
    d->kl[d->n] = (float)kl;
    d->shift[d->n++] = (float)(exp(-nll) - exp(-base));
    d->nll += nll;
    d->nll2 += nll * nll;
    d->base += base;
    d->base2 += base * base;
    d->both += nll * base;
    d->same += same;
}

void rt_divergence_row(rt_divergence *d, const float *reference, const float *logits, int64_t vocab,
                       int32_t next)
{
    static const float CUT = -16;
    int64_t top = 0, top_reference = 0;
    double sum = 0, kl = 0;
    for (int64_t i = 1; i < vocab; i++) {
        top = logits[i] > logits[top] ? i : top;
        top_reference = reference[i] > reference[top_reference] ? i : top_reference;
    }
    for (int64_t i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - logits[top]);
    double log_sum = (double)logits[top] + log(sum);
    for (int64_t i = 0; i < vocab; i++)
        if (reference[i] > CUT)
            kl += (double)expf(reference[i]) * ((double)reference[i] - (double)logits[i] + log_sum);
    rt_divergence_add(d, kl, log_sum - (double)logits[next], -(double)reference[next],
                      top == top_reference);
}

/* ---- figures ---- */

typedef struct mean {
    double value, variance; /* variance of the mean */
} mean;

static mean mean_of(double sum, double squares, double n)
{
    double value = sum / n, spread = squares / n - value * value;
    return (mean){ value, n > 1 && spread > 0 ? spread / (n - 1) : 0 };
}

static void put_mean(cJSON *json, const char *key, double value, double error)
{
    char name[64];
    rt_json_put_num(json, key, value);
    snprintf(name, sizeof name, "%s_se", key);
    rt_json_put_num(json, name, error);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Of sorted values, between neighbours in a straight line. */
static double quantile(const float *sorted, int64_t n, double share)
{
    double at = share * (double)(n - 1);
    int64_t i = (int64_t)at, next = rt_min(i + 1, n - 1);
    return (double)sorted[i] + (at - (double)i) * (double)(sorted[next] - sorted[i]);
}

static void put_quantiles(const float *x, int64_t n, const char *prefix, cJSON *json)
{
    static const struct {
        const char *name;
        double share;
    } LIST[] = { { "min", 0 },  { "p01", .01 }, { "p05", .05 }, { "p10", .1 },    { "median", .5 },
                 { "p90", .9 }, { "p95", .95 }, { "p99", .99 }, { "p999", .999 }, { "max", 1 } };
    float *sorted = rt_alloc(n, sizeof *sorted, "percentiles");
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    for (int i = 0; i < RT_COUNT(LIST); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", prefix, LIST[i].name);
        rt_json_put_num(json, name, quantile(sorted, n, LIST[i].share));
    }
    free(sorted);
}

static void put_perplexities(const rt_divergence *d, cJSON *json)
{
    double n = (double)d->n;
    mean a = mean_of(d->nll, d->nll2, n), b = mean_of(d->base, d->base2, n);
    double covariance = n > 1 ? (d->both / n - a.value * b.value) / (n - 1) : 0;
    double ratio = exp(a.value - b.value), of_ratio = a.variance + b.variance - 2 * covariance;
    double error = sqrt(fmax(of_ratio, 0)), product = sqrt(a.variance * b.variance);
    put_mean(json, "perplexity_reference", exp(b.value), exp(b.value) * sqrt(b.variance));
    put_mean(json, "perplexity_ratio", ratio, ratio * error);
    rt_json_put_num(json, "perplexity_se", exp(a.value) * sqrt(a.variance));
    if (product > 0)
        rt_json_put_num(json, "log_perplexity_correlation", covariance / product);
}

void rt_divergence_put(const rt_divergence *d, cJSON *json)
{
    double n = (double)d->n, kl = 0, kl2 = 0, p = 0, p2 = 0, p4 = 0;
    if (!d->n)
        return;
    for (int64_t i = 0; i < d->n; i++) {
        double x = (double)d->kl[i], s = (double)d->shift[i];
        kl += x, kl2 += x * x;
        p += s, p2 += s * s, p4 += s * s * s * s;
    }
    mean k = mean_of(kl, kl2, n), shift = mean_of(p, p2, n), square = mean_of(p2, p4, n);
    double same = (double)d->same / n, rms = sqrt(square.value);
    put_mean(json, "kl", k.value, sqrt(k.variance));
    put_quantiles(d->kl, d->n, "kl", json);
    put_mean(json, "agreement", same, n > 1 ? sqrt(same * (1 - same) / (n - 1)) : 0);
    put_mean(json, "delta_p", shift.value, sqrt(shift.variance));
    put_mean(json, "delta_p_rms", rms, rms > 0 ? sqrt(square.variance) / (2 * rms) : 0);
    put_quantiles(d->shift, d->n, "delta_p", json);
    put_perplexities(d, json);
}

void rt_divergence_free(rt_divergence *d)
{
    free(d->kl);
    free(d->shift);
    *d = (rt_divergence){ 0 };
}
