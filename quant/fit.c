/* fit.c: scale searches over one sub-block. A candidate fixes the codes by rounding; least squares
   then gives the best scale for those codes, and what counts is the error with that scale as it
   will be stored. The winner is polished by alternating the two until nothing improves. */
#include "quant/fit.h"

#include <math.h>

static float largest(const float *x, int n)
{
    float a = 0;
    for (int i = 0; i < n; i++)
        a = fabsf(x[i]) > a ? fabsf(x[i]) : a;
    return a;
}

typedef struct search {
    const float *x, *w;
    int n;
    const rt_symmetric *s;
    float *q; /* codes of the best so far */
    float d, err;
} search;

static bool try_inverse(search *b, float inv)
{
    float code[FIT_MAX];
    float d = fit_scale(code, b->x, b->w, b->n, inv, (float)b->s->lo, (float)b->s->hi);
    if (b->s->f16)
        d = fit_f16(d);
    float e = fit_error(code, b->x, b->w, b->n, d, 0);
    if (!(e < b->err))
        return false;
    b->err = e;
    b->d = d;
    memcpy(b->q, code, (size_t)b->n * sizeof *b->q);
    return true;
}

/* One set of values can have several spellings, (d, q) and (d/2, 2q) say. Take the one with the
   smallest codes, positive d first, so that encoding what was decoded gives the same bytes. */
static void canonical(search *b)
{
    int top = 0, low = 0, high = 0;
    for (int i = 0; i < b->n; i++) {
        int c = (int)b->q[i];
        low = c < low ? c : low;
        high = c > high ? c : high;
    }
    top = high > -low ? high : -low;
    if (b->d < 0 && -low <= b->s->hi) {
        b->d = -b->d;
        for (int i = 0; i < b->n; i++)
            b->q[i] = b->q[i] == 0 ? 0 : -b->q[i];
    }
    for (int c = 1; c < top; c++) {
        float d = fit_f16(b->d * (float)top / (float)c);
        int i = 0;
        for (; i < b->n; i++) {
            int k = (int)b->q[i] * c;
            if (k % top || d * (float)(k / top) != b->d * b->q[i])
                break;
        }
        if (i < b->n)
            continue;
        for (i = 0; i < b->n; i++)
            b->q[i] = (float)((int)b->q[i] * c / top);
        b->d = d;
        return;
    }
}

float rt_fit_symmetric(float *q, float *err, const float *x, const float *w, int n,
                       const rt_symmetric *s)
{
    float a = largest(x, n);
    search b = { x, w, n, s, q, 0, 0 };
    memset(q, 0, (size_t)n * sizeof *q);
    b.err = fit_error(q, x, w, n, 0, 0);
    for (int side = 1; side >= -1; side -= 2)
        for (float c = s->whole ? 1 : s->from; c <= s->to; c += c < s->from ? 1 : s->step) {
            float inv = (float)side * c / a; /* below hi both sides are mirror images */
            if (isfinite(inv) && (side > 0 || c > (float)s->hi))
                try_inverse(&b, inv);
        }
    for (int pass = 0; pass < 6 && b.d != 0; pass++)
        if (!try_inverse(&b, 1 / b.d))
            break;
    if (s->whole)
        canonical(&b);
    if (err)
        *err = b.err;
    return b.d;
}

rt_affine rt_fit_affine_codes(float *q, const float *x, const float *w, int n, float inv,
                              float shift, float hi)
{
    v4 sw[2] = { 0 }, sq[2] = { 0 }, sqq[2] = { 0 }, sx[2] = { 0 }, sxq[2] = { 0 };
    for (int i = 0; i < n; i += 4) {
        v4 v = v4_load(x + i), wi = v4_load(w + i);
        v4 c = v4_code((v + shift) * inv, 0, hi), wc = wi * c;
        int lane = i / 4 % 2;
        v4_store(q + i, c);
        sw[lane] += wi;
        sq[lane] += wc;
        sqq[lane] += wc * c;
        sx[lane] += wi * v;
        sxq[lane] += wc * v;
    }
    float W = v4_sum(sw[0], sw[1]), Q = v4_sum(sq[0], sq[1]), QQ = v4_sum(sqq[0], sqq[1]);
    float X = v4_sum(sx[0], sx[1]), XQ = v4_sum(sxq[0], sxq[1]);
    float det = W * QQ - Q * Q;
    rt_affine f = { 0, 0, 0 };
    if (det > 0) {
        f.d = (W * XQ - Q * X) / det;
        f.m = (Q * XQ - QQ * X) / det;
    }
    if (!(det > 0) || f.m < 0 || f.d < 0) { /* a scale alone, or an offset alone */
        float scaled = QQ > 0 && XQ > 0 ? XQ * XQ / QQ : 0, moved = X < 0 ? X * X / W : 0;
        f.d = scaled > moved ? XQ / QQ : 0;
        f.m = moved >= scaled && X < 0 ? -X / W : 0;
    }
    f.err = fit_error(q, x, w, n, f.d, f.m);
    return f;
}

rt_affine rt_fit_affine(const float *x, const float *w, int n, int hi)
{
    float low = 0, high = 0, q[FIT_MAX] = { 0 };
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    rt_affine best = { 0, 0, fit_error(q, x, w, n, 0, 0) };
    /* each end of the range moves by -2 .. 8 %: beyond the data, or clipping an outlier */
    for (int a = -1; a <= 4; a++)
        for (int b = -1; b <= 4; b++) {
            float range = high - low, l = low + range * (float)a * 0.02f;
            float h = high - range * (float)b * 0.02f, inv = (float)hi / (h - l);
            if (!isfinite(inv))
                continue;
            rt_affine f = rt_fit_affine_codes(q, x, w, n, inv, -l, (float)hi);
            if (f.err < best.err)
                best = f;
        }
    for (int pass = 0; pass < 4 && best.d > 0; pass++) {
        rt_affine f = rt_fit_affine_codes(q, x, w, n, 1 / best.d, best.m, (float)hi);
        if (!(f.err < best.err))
            break;
        best = f;
    }
    return best;
}
