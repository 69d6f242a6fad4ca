/* isa_affine.h: decoded values d q - m, codes 0 .. hi: the free search of a sub-block's d and m, blocks
   of 32 that keep them (Q4_1, Q5_1), and super-blocks of 256 that keep them as levels of two f16 scales
   (Q4_K, Q5_K, Q2_K). One pass over the elements rounds the codes and takes three sums; the best d and m
   for those codes, their error, and that of any other d and m come from the sums alone. Text of isa.c. */

/* Rounds of the search; what each buys was found by running. */
enum {
    AFFINE_POLISH = 3, /* codes and fit in turn, of a sub-block alone */
    AFFINE_STARTS = 2, /* the largest level is the highest, and two below it */
    AFFINE_PASSES = 4, /* codes, levels and scales in turn */
    AFFINE_CHEAP = 2   /* of them, those that choose levels for the codes at hand */
};

/* What does not depend on the codes: sums of w, w x, w x^2. */
typedef struct affine_sums {
    rt_v16 w, x, xx;
} affine_sums;

/* Sums of w q, w q^2, w x q. */
typedef struct affine_moments {
    rt_v16 q, qq, xq;
} affine_moments;

typedef struct affine_fit {
    rt_v16 d, m, gain; /* gain: by how much less the error is than that of nothing, sum w x^2 */
} affine_fit;

RT_V16_FN affine_sums affine_sum(const lanes *b, int n)
{
    const rt_v16 none = v16_zero();
    rt_v16 w[2] = { none, none }, x[2] = { none, none }, xx[2] = { none, none };
    FIT_EIGHT
    for (int i = 0; i < n; i++) {
        rt_v16 wi = v16_load(b->w[i]), v = v16_load(b->x[i]), wx = v16_mul(wi, v);
        w[i & 1] = v16_add(w[i & 1], wi);
        x[i & 1] = v16_add(x[i & 1], wx);
        xx[i & 1] = v16_fma(wx, v, xx[i & 1]);
    }
    return (affine_sums){ v16_add(w[0], w[1]), v16_add(x[0], x[1]), v16_add(xx[0], xx[1]) };
}

/* The codes of inv (x + m), which stay in q when they are to; where that is no number, 0. */
RT_V16_FN affine_moments affine_pass(lanes *b, int n, rt_v16 inv, rt_v16 m, float hi, bool keep)
{
    const rt_v16 none = v16_zero(), low = v16_set1(12582912.0f), top = v16_set1(12582912.0f + hi);
    rt_v16 q[2] = { none, none }, qq[2] = { none, none }, xq[2] = { none, none };
    FIT_EIGHT
    for (int i = 0; i < n; i++) {
        rt_v16 v = v16_load(b->x[i]);
        rt_v16 c = v16_fma(v16_add(v, m), inv, low); /* a whole number on top of 1.5 2^23 */
        c = v16_sub(v16_min(v16_max(c, low), top), low);
        rt_v16 wc = v16_mul(v16_load(b->w[i]), c);
        if (keep)
            v16_store(b->q[i], c);
        q[i & 1] = v16_add(q[i & 1], wc);
        qq[i & 1] = v16_fma(wc, c, qq[i & 1]);
        xq[i & 1] = v16_fma(wc, v, xq[i & 1]);
    }
    return (affine_moments){ v16_add(q[0], q[1]), v16_add(qq[0], qq[1]), v16_add(xq[0], xq[1]) };
}

RT_V16_FN rt_v16 affine_gain(const affine_sums *s, const affine_moments *k, rt_v16 d, rt_v16 m)
{
    rt_v16 up = v16_sub(v16_mul(d, k->xq), v16_mul(m, s->x));
    rt_v16 cross = v16_sub(v16_mul(d, k->qq), v16_mul(v16_add(m, m), k->q));
    rt_v16 down = v16_add(v16_mul(d, cross), v16_mul(v16_mul(m, m), s->w));
    return v16_sub(v16_add(up, up), down);
}

/* The d >= 0 and m (>= 0, unless free) that fit the codes best. */
RT_V16_FN affine_fit affine_solve(const affine_sums *s, const affine_moments *k, bool free_m)
{
    const rt_v16 zero = v16_zero(), one = v16_set1(1);
    rt_v16 det = v16_sub(v16_mul(s->w, k->qq), v16_mul(k->q, k->q));
    rt_v16 d = v16_div(v16_sub(v16_mul(s->w, k->xq), v16_mul(k->q, s->x)), det);
    rt_v16 m = v16_div(v16_sub(v16_mul(k->q, k->xq), v16_mul(k->qq, s->x)), det);
    /* no solution, or none that is allowed: a scale alone or an offset alone */
    rt_v16 bad = v16_if_lt(zero, det, zero, one);
    bad = v16_if_lt(d, zero, one, free_m ? bad : v16_if_lt(m, zero, one, bad));
    rt_v16 scaled = v16_if_lt(zero, k->xq, v16_div(v16_mul(k->xq, k->xq), k->qq), zero);
    scaled = v16_if_lt(zero, k->qq, scaled, zero);
    rt_v16 moved = v16_div(v16_mul(s->x, s->x), s->w);
    if (!free_m)
        moved = v16_if_lt(s->x, zero, moved, zero);
    rt_v16 alone_d = v16_if_lt(moved, scaled, v16_div(k->xq, k->qq), zero);
    rt_v16 alone_m = v16_div(v16_sub(zero, s->x), s->w);
    if (!free_m)
        alone_m = v16_if_lt(s->x, zero, alone_m, zero);
    alone_m = v16_if_lt(moved, scaled, zero, alone_m);
    affine_fit f = { .d = v16_if_lt(zero, bad, alone_d, d), .m = v16_if_lt(zero, bad, alone_m, m) };
    f.gain = affine_gain(s, k, f.d, f.m);
    return f;
}

/* The codes of inv (x + shift) and their fit, taken where that is better; true if it is somewhere. */
RT_V16_FN bool affine_try(affine_fit *best, lanes *b, int n, const affine_sums *s, rt_v16 inv,
                          rt_v16 shift, float hi, bool free_m)
{
    affine_moments k = affine_pass(b, n, inv, shift, hi, false);
    affine_fit f = affine_solve(s, &k, free_m);
    rt_v16 gain = is_finite(inv, f.gain, v16_set1(-INFINITY));
    bool better = v16_lt_bits(best->gain, gain) != 0;
    best->d = v16_if_lt(best->gain, gain, f.d, best->d);
    best->m = v16_if_lt(best->gain, gain, f.m, best->m);
    best->gain = v16_if_lt(best->gain, gain, gain, best->gain);
    return better;
}

/* How far the ends of the range move inwards, first the low one: in halves of a step between codes. */
static const signed char affine_cuts[][2] = { { 0, 0 }, { 1, 0 }, { 0, 1 },  { 1, 1 },  { -1, -1 },
                                              { 2, 0 }, { 0, 2 }, { 0, -1 }, { -1, 0 }, { 2, 2 } };

/* Ends of the range moved, then codes and fit in turn. */
static affine_fit fit_affine(lanes *b, int n, const affine_sums *s, float hi, bool free_m)
{
    const rt_v16 zero = v16_zero();
    rt_v16 low = free_m ? v16_load(b->x[0]) : zero, high = low;
    for (int i = 0; i < n; i++) {
        low = v16_min(v16_load(b->x[i]), low);
        high = v16_max(v16_load(b->x[i]), high);
    }
    affine_fit best = { zero, zero, zero };
    if (free_m) { /* an offset alone: all there is of a constant */
        best.m = v16_if_lt(zero, s->w, v16_div(v16_sub(zero, s->x), s->w), zero);
        best.gain = v16_if_lt(zero, s->w, v16_div(v16_mul(s->x, s->x), s->w), zero);
    }
    rt_v16 range = v16_sub(high, low);
    const int cuts = RT_COUNT(affine_cuts), rings = free_m ? 4 : 1; /* what has no levels: finer */
    for (int i = 0; i < rings * cuts; i++) {
        const signed char *ends = affine_cuts[i % cuts];
        float unit = (free_m ? 0.25f * (float)(1 + i / cuts) : 0.5f) / hi;
        rt_v16 cut = v16_set1((float)ends[0] * unit);
        rt_v16 both = v16_set1(1 - (float)(ends[0] + ends[1]) * unit);
        rt_v16 inv = v16_div(v16_set1(hi), v16_mul(range, both));
        affine_try(&best, b, n, s, inv, v16_sub(zero, v16_fma(range, cut, low)), hi, free_m);
    }
    for (int pass = 0; pass < AFFINE_POLISH; pass++)
        if (!affine_try(&best, b, n, s, v16_div(v16_set1(1), best.d), best.m, hi, free_m))
            break;
    return best;
}

/* ---- blocks of 32 with a scale and an offset of their own: Q4_1, Q5_1 ---- */

RT_V16_FN void affine_encode(uint8_t *p, const float *x, const float *w, int64_t blocks, bool five)
{
    const rt_v16 most = v16_set1(65504.0f), least = v16_set1(-65504.0f);
    const float hi = five ? 31 : 15;
    for (int64_t at = 0; at < blocks; at += LANES) {
        uint8_t c[LANES * BLOCK];
        float d[LANES], m[LANES];
        lanes b;
        int count = (int)rt_min(LANES, blocks - at);
        lanes_load(b.x, x + at * BLOCK, BLOCK, count);
        lanes_load(b.w, w + at * BLOCK, BLOCK, count);
        affine_sums s = affine_sum(&b, BLOCK);
        affine_fit f = fit_affine(&b, BLOCK, &s, hi, true);
        f.d = v16_round_f16(v16_min(f.d, most));
        f.m = v16_round_f16(v16_max(v16_min(f.m, most), least));
        affine_pass(&b, BLOCK, inverse(f.d), f.m, hi, true);
        v16_store(d, f.d);
        v16_store(m, f.m);
        lanes_codes(c, &b, BLOCK, 0);
        for (int l = 0; l < count; l++) {
            pack_f16(p, d[l]);
            pack_f16(p + 2, -m[l]);
            if (five)
                pack_fifth_bits(p + 4, c + l * BLOCK);
            pack_nibbles(p + (five ? 8 : 4), c + l * BLOCK);
            p += five ? 24 : 20;
        }
    }
}

static void q4_1_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    affine_encode(p, x, w, blocks, false);
}
static void q5_1_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    affine_encode(p, x, w, blocks, true);
}

/* ---- super-blocks ---- */

/* A kind of super-block: sub-blocks, elements in each, codes 0 .. hi, levels 0 .. levels. */
typedef struct affine_kind {
    int subs, n, hi, levels;
} affine_kind;

/* decoded = (d sc) q - (dmin m) in a lane; d and dmin of the super-block whose lane it is. */
typedef struct affine_super {
    rt_v16 sc, m; /* whole numbers */
    float d[PAIR], dmin[PAIR], err[PAIR];
} affine_super;

static void affine_begin(affine_super *k, const affine_fit *f, const affine_kind *kind, int top)
{
    float d[LANES], m[LANES];
    v16_store(d, f->d);
    v16_store(m, f->m);
    for (int h = 0; h < LANES / kind->subs; h++) {
        float most_d = 0, most_m = 0;
        for (int j = h * kind->subs; j < (h + 1) * kind->subs; j++) {
            most_d = d[j] > most_d ? d[j] : most_d;
            most_m = m[j] > most_m ? m[j] : most_m;
        }
        k->d[h] = super_scale(most_d, top);
        k->dmin[h] = super_scale(most_m, top);
        for (int j = h * kind->subs; j < (h + 1) * kind->subs; j++) {
            d[j] = level_of(d[j], k->d[h], kind->levels);
            m[j] = level_of(m[j], k->dmin[h], kind->levels);
        }
    }
    k->sc = v16_load(d);
    k->m = v16_load(m);
}

/* level + step within 0 .. levels */
RT_V16_FN rt_v16 level_near(rt_v16 level, int step, int levels)
{
    rt_v16 v = v16_add(level, v16_set1((float)step));
    return v16_min(v16_max(v, v16_zero()), v16_set1((float)levels));
}

/* The best levels for these codes within one step of where they are. */
RT_V16_FN void affine_levels(affine_super *k, const affine_sums *s, const affine_moments *mo,
                             const affine_kind *kind)
{
    const rt_v16 d = halves(k->d, kind->subs), dmin = halves(k->dmin, kind->subs);
    rt_v16 best = v16_set1(-INFINITY), sc = k->sc, m = k->m;
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++) {
            rt_v16 new_sc = level_near(k->sc, i, kind->levels);
            rt_v16 new_m = level_near(k->m, j, kind->levels);
            rt_v16 gain = affine_gain(s, mo, v16_mul(d, new_sc), v16_mul(dmin, new_m));
            sc = v16_if_lt(best, gain, new_sc, sc);
            m = v16_if_lt(best, gain, new_m, m);
            best = v16_if_lt(best, gain, gain, best);
        }
    k->sc = sc;
    k->m = m;
}

/* The best levels within one step of where they are, each with codes of its own, whose sums are left in
   mo; the gain. */
RT_V16_FN rt_v16 affine_search(affine_super *k, lanes *b, const affine_sums *s, affine_moments *mo,
                               const affine_kind *kind)
{
    const rt_v16 d = halves(k->d, kind->subs), dmin = halves(k->dmin, kind->subs);
    rt_v16 best = v16_set1(-INFINITY), sc = k->sc, m = k->m;
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++) {
            rt_v16 new_sc = level_near(k->sc, i, kind->levels), new_d = v16_mul(d, new_sc);
            rt_v16 new_m = level_near(k->m, j, kind->levels), low = v16_mul(dmin, new_m);
            affine_moments now = affine_pass(b, kind->n, inverse(new_d), low, (float)kind->hi, false);
            rt_v16 gain = affine_gain(s, &now, new_d, low);
            sc = v16_if_lt(best, gain, new_sc, sc);
            m = v16_if_lt(best, gain, new_m, m);
            mo->q = v16_if_lt(best, gain, now.q, mo->q);
            mo->qq = v16_if_lt(best, gain, now.qq, mo->qq);
            mo->xq = v16_if_lt(best, gain, now.xq, mo->xq);
            best = v16_if_lt(best, gain, gain, best);
        }
    k->sc = sc;
    k->m = m;
    return best;
}

/* d and dmin that fit the present codes and levels best: minimise sum w (x - d sc q + dmin m)^2, two
   normal equations over each super-block. */
static void affine_rescale(affine_super *k, const affine_sums *s, const affine_moments *mo,
                           const affine_kind *kind)
{
    float uu[PAIR], um[PAIR], mm[PAIR], xu[PAIR], xm[PAIR];
    rt_v16 sc_q = v16_mul(k->sc, mo->q);
    sum_halves(uu, v16_mul(v16_mul(k->sc, k->sc), mo->qq), kind->subs);
    sum_halves(um, v16_mul(k->m, sc_q), kind->subs);
    sum_halves(mm, v16_mul(v16_mul(k->m, k->m), s->w), kind->subs);
    sum_halves(xu, v16_mul(k->sc, mo->xq), kind->subs);
    sum_halves(xm, v16_mul(k->m, s->x), kind->subs);
    for (int h = 0; h < LANES / kind->subs; h++) {
        double det = (double)uu[h] * (double)mm[h] - (double)um[h] * (double)um[h];
        double d = (double)xu[h] * (double)mm[h] - (double)um[h] * (double)xm[h];
        double m = (double)um[h] * (double)xu[h] - (double)uu[h] * (double)xm[h];
        if (det > 1e-6 * (double)uu[h] * (double)mm[h] && d > 0 && m > 0) {
            k->d[h] = round_f16((float)(d / det));
            k->dmin[h] = round_f16((float)(m / det));
        } else if (uu[h] > 0 && xu[h] > 0 && !(mm[h] > 0)) {
            k->d[h] = round_f16(xu[h] / uu[h]);
        }
    }
}

/* Where `now` is the better of two in a super-block, it becomes `best` there. */
static void affine_keep(affine_super *best, const affine_super *now, int subs)
{
    float worse[PAIR] = { 1, 1 };
    for (int h = 0; h < LANES / subs; h++)
        if (now->err[h] < best->err[h]) {
            worse[h] = 0;
            best->err[h] = now->err[h];
            best->d[h] = now->d[h];
            best->dmin[h] = now->dmin[h];
        }
    rt_v16 edge = v16_set1(0.5f), at = halves(worse, subs);
    best->sc = v16_if_lt(at, edge, now->sc, best->sc);
    best->m = v16_if_lt(at, edge, now->m, best->m);
}

/* Leaves the codes in q. */
RT_V16_FN affine_super fit_affine_super(lanes *b, const affine_kind *kind)
{
    affine_sums s = affine_sum(b, kind->n);
    affine_fit f = fit_affine(b, kind->n, &s, (float)kind->hi, false);
    affine_super best = { .sc = v16_zero(), .m = v16_zero(), .err = { INFINITY, INFINITY } }, now;
    for (int start = 0; start < AFFINE_STARTS; start++) {
        affine_begin(&now, &f, kind, kind->levels - 2 * start);
        for (int pass = 0; pass < AFFINE_PASSES; pass++) {
            rt_v16 d = v16_mul(halves(now.d, kind->subs), now.sc), gain;
            rt_v16 m = v16_mul(halves(now.dmin, kind->subs), now.m);
            affine_moments mo = { .q = v16_zero(), .qq = v16_zero(), .xq = v16_zero() };
            if (pass < AFFINE_CHEAP) {
                mo = affine_pass(b, kind->n, inverse(d), m, (float)kind->hi, false);
                gain = affine_gain(&s, &mo, d, m);
            } else {
                gain = affine_search(&now, b, &s, &mo, kind);
            }
            sum_halves(now.err, v16_sub(s.xx, gain), kind->subs);
            affine_keep(&best, &now, kind->subs);
            affine_levels(&now, &s, &mo, kind);
            affine_rescale(&now, &s, &mo, kind);
            affine_levels(&now, &s, &mo, kind);
        }
    }
    rt_v16 d = v16_mul(halves(best.d, kind->subs), best.sc);
    affine_pass(b, kind->n, inverse(d), v16_mul(halves(best.dmin, kind->subs), best.m),
                (float)kind->hi, true);
    return best;
}

RT_V16_FN void affine_super_encode(uint8_t *p, const float *x, const float *w, int64_t blocks,
                                   const affine_kind *kind, int bytes)
{
    int side = LANES / kind->subs;
    for (int64_t at = 0; at < blocks; at += side) {
        lanes b;
        uint8_t code[PAIR * SUPER], sc[LANES], m[LANES];
        int count = (int)rt_min(side, blocks - at);
        lanes_load(b.x, x + at * SUPER, kind->n, count * kind->subs);
        lanes_load(b.w, w + at * SUPER, kind->n, count * kind->subs);
        affine_super k = fit_affine_super(&b, kind);
        lanes_codes(code, &b, kind->n, 0);
        levels_store(sc, k.sc, 0);
        levels_store(m, k.m, 0);
        for (int h = 0; h < count; h++, p += bytes)
            if (kind->subs == SUBS)
                pack_q45_k(p, k.d[h], k.dmin[h], sc + h * SUBS, m + h * SUBS, code + h * SUPER,
                           kind->hi > 15);
            else
                pack_q2_k(p, k.d[h], k.dmin[h], sc, m, code);
    }
}

static void q4_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const affine_kind kind = { SUBS, 32, 15, 63 };
    affine_super_encode(p, x, w, blocks, &kind, 144);
}
static void q5_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const affine_kind kind = { SUBS, 32, 31, 63 };
    affine_super_encode(p, x, w, blocks, &kind, 176);
}
static void q2_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const affine_kind kind = { LANES, 16, 3, 15 };
    affine_super_encode(p, x, w, blocks, &kind, 84);
}
