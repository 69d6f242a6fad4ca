/* isa_fit.h: scale searches of the encoders. A lane is a sub-block: sixteen of them are searched at
   once, element by element, and a candidate is taken in the lanes that it is better in. A candidate
   fixes the codes by rounding; least squares then gives the best scale for those codes, and what
   counts is the error with that scale as it will be stored. The winner is polished by alternating
   the two until nothing improves. No fused multiply-add, and every sum has one order: the same bits
   on every instruction set. Text of isa.c. */

enum { LANES = 16, FIT_MAX = 32 };

/* Sixteen sub-blocks of n elements, n = 16 or 32: [element][lane]. */
typedef struct lanes {
    float x[FIT_MAX][LANES], w[FIT_MAX][LANES]; /* values, weights */
    float q[FIT_MAX][LANES];                    /* codes, whole numbers */
} lanes;

/* Loops over the elements are laid out flat: what a step adds to is known when compiling. Not under
   sanitizers, whose builds it would take minutes, nor where a lane is an element of an array. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(RT_ISA_scalar)
#define FIT_FLAT _Pragma("GCC unroll 1")
#define FIT_EIGHT FIT_FLAT
#else
#define FIT_FLAT _Pragma("GCC unroll 32")
#define FIT_EIGHT _Pragma("GCC unroll 8")
#endif

/* A sum over n elements: C chains of every C-th element, then the chains by halves: (l, l + C/2),
   (l, l + C/4) ... Steps 0 .. n - 1 go through the elements so that few partial sums are alive. */
typedef struct total {
    rt_v16 s[4]; /* of one chain, two, four, eight */
} total;

RT_V16_FN total total_none(void)
{
    rt_v16 none = v16_zero();
    return (total){ { none, none, none, none } };
}

/* The element of step t. */
RT_V16_FN int element(int t, int n, int chains)
{
    int each = n / chains, c = t / each,
        l = chains == 8 ? (c & 1) << 2 | (c & 2) | c >> 2 : (c & 1) << 1 | c >> 1;
    return l + t % each * chains;
}

RT_V16_FN void total_add(total *a, int t, int n, int chains, rt_v16 v)
{
    int each = n / chains, c = t / each;
    a->s[0] = t % each ? v16_add(a->s[0], v) : v;
    if (t % each != each - 1)
        return;
    a->s[1] = c & 1 ? v16_add(a->s[1], a->s[0]) : a->s[0];
    if ((c & 1) != 1)
        return;
    a->s[2] = c & 2 ? v16_add(a->s[2], a->s[1]) : a->s[1];
    if ((c & 3) != 3)
        return;
    a->s[3] = c & 4 ? v16_add(a->s[3], a->s[2]) : a->s[2];
}

/* Sub-blocks of n values one after the other, `count` of them; the last stands in for the rest. */
RT_V16_FN void lanes_load(float out[][LANES], const float *x, int n, int count)
{
    for (int at = 0; at < n; at += LANES) {
        rt_v16 r[LANES];
        for (int l = 0; l < LANES; l++)
            r[l] = v16_load(x + (l < count ? l : count - 1) * n + at);
        v16_transpose(r);
        for (int i = 0; i < LANES; i++)
            v16_store(out[at + i], r[i]);
    }
}

/* The codes back as they lie in a row, each plus `offset`: code[lane * n + element]. */
RT_V16_FN void lanes_codes(uint8_t *code, const lanes *b, int n, int offset)
{
    float row[LANES];
    for (int at = 0; at < n; at += LANES) {
        rt_v16 r[LANES];
        for (int i = 0; i < LANES; i++)
            r[i] = v16_load(b->q[at + i]);
        v16_transpose(r);
        for (int l = 0; l < LANES; l++) {
            v16_store(row, r[l]);
            for (int i = 0; i < LANES; i++)
                code[l * n + at + i] = (uint8_t)((int)row[i] + offset);
        }
    }
}

/* clamp to lo .. hi, then to the nearest whole number, ties to even; |hi|, |lo| < 2^22 */
RT_V16_FN rt_v16 code_of(rt_v16 v, rt_v16 lo, rt_v16 hi)
{
    const rt_v16 whole = v16_set1(12582912.0f);
    return v16_sub(v16_add(v16_min(v16_max(v, lo), hi), whole), whole);
}

RT_V16_FN rt_v16 is_finite(rt_v16 v, rt_v16 yes, rt_v16 no)
{
    return v16_if_lt(v16_max(v, v16_sub(v16_zero(), v)), v16_set1(INFINITY), yes, no);
}

/* 1 / v, and 0 for a v that is not above 0 */
RT_V16_FN rt_v16 inverse(rt_v16 v)
{
    return v16_if_lt(v16_zero(), v, v16_div(v16_set1(1), v), v16_zero());
}

/* sum w (x - d q)^2 */
RT_V16_FN rt_v16 fit_error(const lanes *b, int n, rt_v16 d)
{
    total sum = total_none();
    FIT_FLAT
    for (int t = 0; t < n; t++) {
        int i = element(t, n, 8);
        rt_v16 e = v16_sub(v16_load(b->x[i]), v16_mul(v16_load(b->q[i]), d));
        total_add(&sum, t, n, 8, v16_mul(v16_mul(v16_load(b->w[i]), e), e));
    }
    return sum.s[3];
}

/* sum w x^2, the error of nothing */
RT_V16_FN rt_v16 fit_whole(const lanes *b, int n)
{
    total sum = total_none();
    FIT_FLAT
    for (int t = 0; t < n; t++) {
        int i = element(t, n, 8);
        rt_v16 v = v16_load(b->x[i]);
        total_add(&sum, t, n, 8, v16_mul(v16_mul(v16_load(b->w[i]), v), v));
    }
    return sum.s[3];
}

/* ---- d q: symmetric codes ---- */

/* Codes lo .. hi. The largest magnitude is tried at codes from, from + step, ... to, and at every
   whole code below `from` when whole. f16: the scale is one. */
typedef struct symmetric {
    int lo, hi;
    float from, to, step;
    bool whole, f16;
} symmetric;

typedef struct symmetric_fit {
    rt_v16 inv, d, err; /* the codes are those of inv x */
} symmetric_fit;

/* The codes of inv x and the scale that fits them best, taken where that is better than `best`;
   true if it is somewhere. */
RT_V16_FN bool try_inverse(symmetric_fit *best, lanes *b, int n, rt_v16 inv, const symmetric *s)
{
    const rt_v16 lo = v16_set1((float)s->lo), hi = v16_set1((float)s->hi), zero = v16_zero();
    total xq = total_none(), qq = total_none();
    FIT_FLAT
    for (int t = 0; t < n; t++) {
        int i = element(t, n, 8);
        rt_v16 v = v16_load(b->x[i]), c = code_of(v16_mul(v, inv), lo, hi);
        rt_v16 wc = v16_mul(v16_load(b->w[i]), c);
        v16_store(b->q[i], c);
        total_add(&xq, t, n, 8, v16_mul(wc, v));
        total_add(&qq, t, n, 8, v16_mul(wc, c));
    }
    rt_v16 d = v16_if_lt(zero, qq.s[3], v16_div(xq.s[3], qq.s[3]), zero);
    if (s->f16)
        d = v16_round_f16(v16_max(v16_min(d, v16_set1(65504.0f)), v16_set1(-65504.0f)));
    rt_v16 e = is_finite(inv, fit_error(b, n, d), v16_set1(INFINITY));
    if (!v16_lt_bits(e, best->err))
        return false;
    best->inv = v16_if_lt(e, best->err, inv, best->inv);
    best->d = v16_if_lt(e, best->err, d, best->d);
    best->err = v16_if_lt(e, best->err, e, best->err);
    return true;
}

/* Leaves the codes in q. */
RT_V16_FN symmetric_fit fit_symmetric(lanes *b, int n, const symmetric *s)
{
    rt_v16 a = v16_zero(), zero = v16_zero();
    for (int i = 0; i < n; i++) {
        rt_v16 v = v16_load(b->x[i]);
        a = v16_max(a, v16_max(v, v16_sub(zero, v)));
    }
    symmetric_fit best = { zero, zero, fit_whole(b, n) };
    for (int side = 1; side >= -1; side -= 2)
        for (float c = s->whole ? 1 : s->from; c <= s->to; c += c < s->from ? 1 : s->step)
            if (side > 0 || c > (float)s->hi) /* below hi both sides are mirror images */
                try_inverse(&best, b, n, v16_div(v16_set1((float)side * c), a), s);
    /* a lane that does not improve tries the same again, in vain */
    for (int pass = 0; pass < 6; pass++)
        if (!try_inverse(&best, b, n, v16_div(v16_set1(1), best.d), s))
            break;
    const rt_v16 lo = v16_set1((float)s->lo), hi = v16_set1((float)s->hi);
    for (int i = 0; i < n; i++)
        v16_store(b->q[i], code_of(v16_mul(v16_load(b->x[i]), best.inv), lo, hi));
    return best;
}
