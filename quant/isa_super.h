/* isa_super.h: super-blocks of 256 (Q4_K, Q5_K, Q6_K). The sub-blocks are fitted freely first; then
   the 6-bit (8-bit) sub-scales are chosen by the exact error of the values as decoded, the f16
   super scales re-solved by least squares over all 256 weights, and so on until nothing improves.
   Layouts: core/base/decode.c. Text of isa.c. */

enum { SUPER = 256, SUBS = 8, PAIR = LANES / SUBS, LEVELS = 63, STARTS = 3, PASSES = 4 };

/* decoded = (d sc_j) q - (dmin m_j) in sub-block j; levels are whole numbers */
typedef struct super {
    float d, dmin, err;
    float sc[SUBS], m[SUBS];
} super;

/* Where the search of one super-block of a pair stands: two go side by side, each at its pace. */
typedef struct super_search {
    super k, next, best; /* of this start; the levels of next are to be chosen; of all starts */
    int start, pass;     /* STARTS: finished; times that d and dmin were solved */
} super_search;

static int clamp_int(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static float level_of(float value, float unit)
{
    return unit > 0 ? (float)clamp_int((int)(value / unit + 0.5f), 0, LEVELS) : 0;
}

/* The f16 super scale under which `value` is about `level`. Where it would vanish, the smallest f16
   stands in: tiny weights then use few levels instead of being lost. */
static float super_scale(float value, int level)
{
    float d = round_f16(value / (float)level);
    return d != 0 || value == 0 ? d : value / (float)level > 0 ? 0x1p-24f : -0x1p-24f;
}

RT_V16_FN rt_v16 pair_of(float a, float b)
{
    float t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = l < SUBS ? a : b;
    return v16_load(t);
}

RT_V16_FN rt_v16 pair_load(const float *a, const float *b)
{
    float t[LANES];
    memcpy(t, a, SUBS * sizeof *a);
    memcpy(t + SUBS, b, SUBS * sizeof *b);
    return v16_load(t);
}

/* level + step within 0 .. LEVELS */
RT_V16_FN rt_v16 level_near(rt_v16 level, int step)
{
    rt_v16 v = v16_add(level, v16_set1((float)step));
    return v16_min(v16_max(v, v16_zero()), v16_set1(LEVELS));
}

/* The best levels of every sub-block within one step of where `next` has them. */
static void levels_choose(super_search s[PAIR], const lanes *b, float hi)
{
    super *k0 = &s[0].next, *k1 = &s[1].next;
    const rt_v16 d = pair_of(k0->d, k1->d), dmin = pair_of(k0->dmin, k1->dmin);
    const rt_v16 s0 = pair_load(k0->sc, k1->sc), m0 = pair_load(k0->m, k1->m);
    rt_v16 best = v16_set1(INFINITY), best_s = s0, best_m = m0;
    for (int i = -1; i <= 1; i++) {
        rt_v16 sc = level_near(s0, i), scale = v16_mul(d, sc), inv = inverse(scale);
        for (int j = -1; j <= 1; j++) {
            rt_v16 m = level_near(m0, j);
            rt_v16 e = fit_error_affine(b, scale, inv, v16_mul(dmin, m), hi);
            best_s = v16_if_lt(e, best, sc, best_s);
            best_m = v16_if_lt(e, best, m, best_m);
            best = v16_if_lt(e, best, e, best);
        }
    }
    float err[LANES], sc[LANES], m[LANES];
    v16_store(err, best);
    v16_store(sc, best_s);
    v16_store(m, best_m);
    for (int h = 0; h < PAIR; h++) {
        super *k = &s[h].next;
        memcpy(k->sc, sc + h * SUBS, sizeof k->sc);
        memcpy(k->m, m + h * SUBS, sizeof k->m);
        k->err = 0;
        for (int j = 0; j < SUBS; j++)
            k->err += err[h * SUBS + j];
    }
}

/* Sums over every sub-block; u = sc q. */
typedef struct super_sums {
    float w[LANES], x[LANES]; /* w, w x: they do not depend on the codes */
    float u[LANES], uu[LANES], xu[LANES];
} super_sums;

static void sums_fixed(super_sums *a, const lanes *b)
{
    total w = total_none(), x = total_none();
    FIT_FLAT
    for (int t = 0; t < FIT_MAX; t++) {
        int i = element(t, FIT_MAX, 4);
        rt_v16 wi = v16_load(b->w[i]);
        total_add(&w, t, FIT_MAX, 4, wi);
        total_add(&x, t, FIT_MAX, 4, v16_mul(wi, v16_load(b->x[i])));
    }
    v16_store(a->w, w.s[2]);
    v16_store(a->x, x.s[2]);
}

/* Under the codes and levels of k. */
static void sums_codes(super_sums *a, const super_search s[PAIR], const lanes *b, float hi)
{
    const super *k0 = &s[0].k, *k1 = &s[1].k;
    const rt_v16 sc = pair_load(k0->sc, k1->sc), lo = v16_zero(), top = v16_set1(hi);
    const rt_v16 inv = inverse(v16_mul(pair_of(k0->d, k1->d), sc));
    const rt_v16 m = v16_mul(pair_of(k0->dmin, k1->dmin), pair_load(k0->m, k1->m));
    total tu = total_none(), tuu = total_none(), txu = total_none();
    FIT_FLAT
    for (int t = 0; t < FIT_MAX; t++) {
        int i = element(t, FIT_MAX, 4);
        rt_v16 v = v16_load(b->x[i]), c = code_of(v16_mul(v16_add(v, m), inv), lo, top);
        rt_v16 u = v16_mul(c, sc), wu = v16_mul(v16_load(b->w[i]), u);
        total_add(&tu, t, FIT_MAX, 4, wu);
        total_add(&tuu, t, FIT_MAX, 4, v16_mul(wu, u));
        total_add(&txu, t, FIT_MAX, 4, v16_mul(wu, v));
    }
    v16_store(a->u, tu.s[2]);
    v16_store(a->uu, tuu.s[2]);
    v16_store(a->xu, txu.s[2]);
}

/* d and dmin that fit the present codes and levels best: minimise sum w (x - d u + dmin m)^2, two
   normal equations over the super-block, whose sums start at lane `at`. */
static void scales_solve(super *k, const super_sums *a, int at)
{
    double uu = 0, um = 0, mm = 0, xu = 0, xm = 0;
    for (int j = 0; j < SUBS; j++) {
        float m = k->m[j];
        uu += (double)a->uu[at + j];
        um += (double)(m * a->u[at + j]);
        mm += (double)(m * m * a->w[at + j]);
        xu += (double)a->xu[at + j];
        xm += (double)(m * a->x[at + j]);
    }
    double det = uu * mm - um * um;
    if (det > 1e-9 * uu * mm) {
        k->d = round_f16((float)((xu * mm - um * xm) / det));
        k->dmin = round_f16((float)((um * xu - uu * xm) / det));
    } else if (uu > 0) {
        k->d = round_f16((float)(xu / uu));
    }
}

/* The first levels of a start, whose largest level is 63, 61, 59. */
static void start_begin(super_search *s, const float *d, const float *m)
{
    float top_d = 0, top_m = 0;
    for (int j = 0; j < SUBS; j++) {
        top_d = d[j] > top_d ? d[j] : top_d;
        top_m = m[j] > top_m ? m[j] : top_m;
    }
    s->pass = 0;
    s->k.err = INFINITY;
    s->next.d = super_scale(top_d, LEVELS - 2 * s->start);
    s->next.dmin = super_scale(top_m, LEVELS - 2 * s->start);
    for (int j = 0; j < SUBS; j++) {
        s->next.sc[j] = level_of(d[j], s->next.d);
        s->next.m[j] = level_of(m[j], s->next.dmin);
    }
}

static void start_end(super_search *s, const float *d, const float *m)
{
    if (s->k.err < s->best.err)
        s->best = s->k;
    if (++s->start < STARTS)
        start_begin(s, d, m);
}

/* From chosen levels to the next ones to choose. */
static void pair_step(super_search s[PAIR], super_sums *a, const lanes *b, const float *d,
                      const float *m, float hi)
{
    bool better[PAIR];
    for (int h = 0; h < PAIR; h++) {
        better[h] = s[h].start < STARTS && s[h].next.err < s[h].k.err;
        if (better[h])
            s[h].k = s[h].next;
        better[h] = better[h] && s[h].pass < PASSES;
    }
    if (better[0] || better[1])
        sums_codes(a, s, b, hi);
    for (int h = 0; h < PAIR; h++) {
        if (better[h]) {
            scales_solve(&s[h].next, a, h * SUBS);
            s[h].pass++;
        }
        if (better[h] && s[h].next.d >= 0 && s[h].next.dmin >= 0)
            continue;
        if (s[h].start < STARTS)
            start_end(&s[h], d + h * SUBS, m + h * SUBS);
    }
}

static void fit_pair(super_search s[PAIR], lanes *b, float hi)
{
    float d[LANES], m[LANES];
    super_sums sums;
    affine_fit f = fit_affine(b, hi);
    v16_store(d, f.d);
    v16_store(m, f.m);
    sums_fixed(&sums, b);
    memset(s, 0, PAIR * sizeof *s);
    for (int h = 0; h < PAIR; h++) {
        s[h].best.err = INFINITY;
        start_begin(&s[h], d + h * SUBS, m + h * SUBS);
    }
    while (s[0].start < STARTS || s[1].start < STARTS) {
        levels_choose(s, b, hi);
        pair_step(s, &sums, b, d, m, hi);
    }
    const super *k0 = &s[0].best, *k1 = &s[1].best;
    fit_code_affine(b, v16_mul(pair_of(k0->d, k1->d), pair_load(k0->sc, k1->sc)),
                    v16_mul(pair_of(k0->dmin, k1->dmin), pair_load(k0->m, k1->m)), hi);
}

static void put_levels(uint8_t *s, const super *k)
{
    for (int j = 0; j < SUBS; j++) {
        unsigned sc = (unsigned)k->sc[j], m = (unsigned)k->m[j];
        if (j < 4) {
            s[j] = (uint8_t)sc;
            s[j + 4] = (uint8_t)m;
        } else {
            s[j + 4] = (uint8_t)((sc & 15) | (m & 15) << 4);
            s[j - 4] = (uint8_t)(s[j - 4] | sc >> 4 << 6);
            s[j] = (uint8_t)(s[j] | m >> 4 << 6);
        }
    }
}

RT_V16_FN void q45_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks, bool five)
{
    for (int64_t at = 0; at < blocks; at += PAIR) {
        lanes b;
        super_search s[PAIR];
        uint8_t code[PAIR * SUPER];
        int count = (int)rt_min(PAIR, blocks - at);
        lanes_load(b.x, x + at * SUPER, FIT_MAX, count * SUBS);
        lanes_load(b.w, w + at * SUPER, FIT_MAX, count * SUBS);
        fit_pair(s, &b, five ? 31 : 15);
        lanes_codes(code, &b, FIT_MAX, 0);
        for (int h = 0; h < count; h++) {
            const uint8_t *c = code + h * SUPER;
            put_f16(p, s[h].best.d);
            put_f16(p + 2, s[h].best.dmin);
            put_levels(p + 4, &s[h].best);
            p += 16;
            for (int l = 0; l < 32 && five; l++, p++) {
                unsigned bits = 0;
                for (int j = 0; j < SUBS; j++)
                    bits |= (unsigned)(c[j * 32 + l] >> 4) << j;
                *p = (uint8_t)bits;
            }
            for (int j = 0; j < SUBS; j += 2)
                for (int l = 0; l < 32; l++)
                    *p++ = (uint8_t)((c[j * 32 + l] & 15) | (c[j * 32 + 32 + l] & 15) << 4);
        }
    }
}

static void q4_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    q45_k_encode(p, x, w, blocks, false);
}
static void q5_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    q45_k_encode(p, x, w, blocks, true);
}

/* ---- Q6_K: 16 sub-blocks of 16, signed 8-bit scales, codes -32 .. 31 ---- */

enum { SUB6 = 16 };

typedef struct super6 {
    float d, err;
    rt_v16 sc; /* whole numbers -128 .. 127 */
} super6;

/* Codes of x at scale s. */
RT_V16_FN rt_v16 code6(rt_v16 v, rt_v16 inv)
{
    return code_of(v16_mul(v, inv), v16_set1(-32), v16_set1(31));
}

/* 1 / s, and 0 for 0 */
RT_V16_FN rt_v16 inverse6(rt_v16 s)
{
    rt_v16 zero = v16_zero(), inv = v16_div(v16_set1(1), s);
    return v16_if_lt(s, zero, inv, v16_if_lt(zero, s, inv, zero));
}

static void levels_choose6(super6 *k, const lanes *b)
{
    rt_v16 best = v16_set1(INFINITY), near = k->sc;
    for (int step = -1; step <= 1; step++) {
        rt_v16 level = v16_add(near, v16_set1((float)step));
        level = v16_min(v16_max(level, v16_set1(-128)), v16_set1(127));
        rt_v16 s = v16_mul(v16_set1(k->d), level), inv = inverse6(s);
        total sum = total_none();
        FIT_FLAT
        for (int t = 0; t < SUB6; t++) {
            int i = element(t, SUB6, 8);
            rt_v16 v = v16_load(b->x[i]), e = v16_sub(v, v16_mul(code6(v, inv), s));
            total_add(&sum, t, SUB6, 8, v16_mul(v16_mul(v16_load(b->w[i]), e), e));
        }
        k->sc = v16_if_lt(sum.s[3], best, level, k->sc);
        best = v16_if_lt(sum.s[3], best, sum.s[3], best);
    }
    float err[LANES];
    v16_store(err, best);
    k->err = 0;
    for (int j = 0; j < LANES; j++)
        k->err += err[j];
}

static void scale_solve6(super6 *k, const lanes *b)
{
    const rt_v16 sc = k->sc, inv = inverse6(v16_mul(v16_set1(k->d), sc));
    total tuu = total_none(), txu = total_none();
    FIT_FLAT
    for (int t = 0; t < SUB6; t++) {
        int i = element(t, SUB6, 4);
        rt_v16 v = v16_load(b->x[i]), u = v16_mul(code6(v, inv), sc);
        rt_v16 wu = v16_mul(v16_load(b->w[i]), u);
        total_add(&tuu, t, SUB6, 4, v16_mul(wu, u));
        total_add(&txu, t, SUB6, 4, v16_mul(wu, v));
    }
    float us[LANES], xs[LANES];
    double uu = 0, xu = 0;
    v16_store(us, tuu.s[2]);
    v16_store(xs, txu.s[2]);
    for (int j = 0; j < LANES; j++) {
        uu += (double)us[j];
        xu += (double)xs[j];
    }
    if (uu > 0)
        k->d = round_f16((float)(xu / uu));
}

/* Leaves the codes in q. */
static super6 fit_super6(lanes *b)
{
    static const symmetric codes = { -32, 31, 29, 35, 0.25f, false, false };
    super6 best = { .err = INFINITY };
    float free_scale[LANES], level[LANES], top = 0;
    v16_store(free_scale, fit_symmetric(b, SUB6, &codes).d);
    for (int j = 0; j < LANES; j++)
        top = fabsf(free_scale[j]) > fabsf(top) ? free_scale[j] : top;
    for (int start = 0; start < STARTS; start++) { /* the largest level: -128, -126, -124 */
        super6 k = { .d = super_scale(top, 2 * start - 128) };
        for (int j = 0; j < LANES; j++)
            level[j] = k.d != 0 ? (float)clamp_int((int)lrintf(free_scale[j] / k.d), -128, 127) : 0;
        k.sc = v16_load(level);
        levels_choose6(&k, b);
        for (int pass = 0; pass < PASSES; pass++) {
            super6 next = k;
            scale_solve6(&next, b);
            levels_choose6(&next, b);
            if (!(next.err < k.err))
                break;
            k = next;
        }
        if (k.err < best.err)
            best = k;
    }
    rt_v16 inv = inverse6(v16_mul(v16_set1(best.d), best.sc));
    for (int i = 0; i < SUB6; i++)
        v16_store(b->q[i], code6(v16_load(b->x[i]), inv));
    return best;
}

static void q6_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    for (int64_t at = 0; at < blocks; at++, p += 210) {
        lanes b;
        uint8_t code[SUPER];
        float level[LANES];
        lanes_load(b.x, x + at * SUPER, SUB6, LANES);
        lanes_load(b.w, w + at * SUPER, SUB6, LANES);
        super6 k = fit_super6(&b);
        lanes_codes(code, &b, SUB6, 32);
        v16_store(level, k.sc);
        for (int j = 0; j < LANES; j++)
            p[192 + j] = (uint8_t)(int8_t)level[j];
        put_f16(p + 208, k.d);
        for (int half = 0; half < 2; half++) {
            const uint8_t *c = code + 128 * half;
            for (int l = 0; l < 64; l++)
                p[64 * half + l] = (uint8_t)((c[l] & 15) | (c[64 + l] & 15) << 4);
            for (int l = 0; l < 32; l++)
                p[128 + 32 * half + l] = (uint8_t)(c[l] >> 4 | c[32 + l] >> 4 << 2 |
                                                   c[64 + l] >> 4 << 4 | c[96 + l] >> 4 << 6);
        }
    }
}
