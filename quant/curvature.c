/* curvature.c: sums and their factor, in stretches of columns from the last to the first; all large
   products are the device's. See curvature.h. */
#include "quant/curvature.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

enum { STRETCH = 256, TRIES = 5 };

void rt_curvature_init(rt_curvature *c, int64_t n)
{
    *c = (rt_curvature){ .n = n, .h = rt_alloc(n * n, sizeof *c->h, "sums of inputs") };
}

void rt_curvature_free(rt_curvature *c)
{
    free(c->h);
    free(c->ut);
    free(c->weight);
    *c = (rt_curvature){ 0 };
}

void rt_curvature_add(rt_curvature *c, rt_dev *d, const rt_tensor *x)
{
    rt_tensor h = rt_tensor_2(c->h, RT_F32, c->n, c->n);
    rt_matmul(d, &h, x, true, x, false, 1.0f);
    c->rows += x->dim[0];
}

/* m(w,n) = sum over columns c >= end of D_c U_{at+j,c} U_{.,c}: what later columns took. */
static void later_columns(rt_dev *d, const rt_curvature *c, float *m, float *scaled, int64_t at,
                          int64_t w)
{
    int64_t n = c->n, end = at + w, k = n - end;
    for (int64_t r = 0; c->ut && r < k; r++)
        for (int64_t j = 0; j < w; j++)
            scaled[r * w + j] = c->ut[(end + r) * n + at + j] * c->weight[end + r];
    rt_tensor out = rt_tensor_2(m, RT_F32, w, n), a = rt_tensor_2(scaled, RT_F32, k, w);
    rt_tensor b = rt_tensor_2(c->ut ? c->ut + end * n : NULL, RT_F32, k, n);
    rt_matmul(d, &out, &a, true, &b, false, 0.0f);
}

/* One stretch: m(w,n) rows of H less what later columns took -> rows of ut, and D. false: no factor. */
static bool stretch_factor(rt_curvature *c, float *m, int64_t at, int64_t w)
{
    int64_t n = c->n;
    for (int64_t j = w - 1; j >= 0; j--) {
        float *row = m + j * n, pivot = row[at + j];
        if (!(pivot > 0) || !isfinite(pivot))
            return false;
        c->weight[at + j] = pivot;
        for (int64_t i = 0; i < j; i++) { /* rows before it in the stretch lose its part */
            float f = row[at + i] / pivot;
            float *other = m + i * n;
            for (int64_t a = 0; a <= at + i; a++)
                other[a] -= f * row[a];
        }
        float *u = c->ut + (at + j) * n;
        for (int64_t a = 0; a < at + j; a++)
            u[a] = row[a] / pivot;
        u[at + j] = 1;
        memset(u + at + j + 1, 0, (size_t)(n - at - j - 1) * sizeof *u);
    }
    return true;
}

static bool factor(rt_curvature *c, rt_dev *d)
{
    int64_t n = c->n, last = (n - 1) / STRETCH * STRETCH;
    float *m = rt_alloc(2 * STRETCH * n, sizeof *m, "a stretch of a factor"), *scaled = m + STRETCH * n;
    bool ok = true;
    for (int64_t at = last; ok && at >= 0; at -= STRETCH) {
        int64_t w = rt_min(STRETCH, n - at);
        if (at + w < n)
            later_columns(d, c, m, scaled, at, w);
        else
            memset(m, 0, (size_t)(w * n) * sizeof *m);
        for (int64_t i = 0; i < w * n; i++)
            m[i] = c->h[at * n + i] - m[i];
        ok = stretch_factor(c, m, at, w);
    }
    free(m);
    return ok;
}

int rt_curvature_factor(rt_curvature *c, rt_dev *d, rt_err *err)
{
    int64_t n = c->n;
    double sum = 0, share = fmin((double)n / (double)rt_max(c->rows, 1), 1);
    for (int64_t i = 0; i < n; i++)
        sum += (double)c->h[i * n + i];
    if (!isfinite(sum))
        return rt_fail(err, "its inputs over the calibration texts are not finite");
    double mean = sum > 0 ? sum / (double)n : 1, own = fmin(0.01 + 4 * share, 1), had = 1;
    for (int64_t i = 0; i < n; i++)
        c->h[i * n + i] += (float)(fmax(share, 1e-6) * mean);
    if (!c->ut) {
        c->ut = rt_alloc(n * n, sizeof *c->ut, "a factor of sums of inputs");
        c->weight = rt_alloc(n, sizeof *c->weight, "a factor of sums of inputs");
    }
    for (int i = 0; i < TRIES; i++, own *= 4) {
        for (int64_t k = 0; k < n; k++)
            c->h[k * n + k] *= (float)((1 + own) / had);
        had = 1 + own;
        if (factor(c, d))
            return 0;
    }
    return rt_fail(err, "sums of its inputs over the calibration texts have no factor: more texts?");
}

void rt_curvature_dry(rt_dev *d, int64_t n, int64_t rows)
{
    rt_curvature c = { .n = n };
    rt_tensor x = rt_tensor_2(NULL, RT_F32, rows, n);
    rt_curvature_add(&c, d, &x);
    if (n > STRETCH)
        later_columns(d, &c, NULL, NULL, 0, STRETCH);
}
