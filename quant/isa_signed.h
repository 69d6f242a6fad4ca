/* isa_signed.h: decoded values d q, q a code on both sides of zero or what a code stands for in a table:
   super-blocks of 256 whose sub-blocks have levels of one f16 scale (Q6_K, Q3_K, IQ4_XS), and blocks of 32
   of a table with a scale of their own (IQ4_NL). One pass over the elements rounds the codes and takes
   two sums; the best d and its error come from them. Text of isa.c. */

/* As in isa_affine.h; TRIES: places of the extreme, on each side. */
enum { SIGNED_TRIES = 12, SIGNED_POLISH = 3, SIGNED_STARTS = 2, SIGNED_PASSES = 6, SIGNED_CHEAP = 1 };

/* Sub-blocks, elements in each, values lo .. hi (of the table, or all between), levels. */
typedef struct signed_kind {
    int subs, n;
    float lo, hi, level_lo, level_hi;
    float reach;               /* the extreme is tried at lo and hi times 1 - reach .. 1 + reach */
    const struct table *table; /* NULL: whole numbers */
} signed_kind;

/* Sums of w q^2, w x q. */
typedef struct signed_moments {
    rt_v16 qq, xq;
} signed_moments;

/* The values nearest to inv x, which stay in q when they are to. */
RT_V16_FN signed_moments signed_pass(lanes *b, const signed_kind *kind, rt_v16 inv, bool keep)
{
    const rt_v16 none = v16_zero(), whole = v16_set1(12582912.0f);
    const rt_v16 low = v16_set1(12582912.0f + kind->lo), top = v16_set1(12582912.0f + kind->hi);
    rt_v16 qq[2] = { none, none }, xq[2] = { none, none };
    FIT_EIGHT
    for (int i = 0; i < kind->n; i++) {
        rt_v16 v = v16_load(b->x[i]), c;
        if (kind->table)
            c = table_value(kind->table, v16_mul(v, inv));
        else
            c = v16_sub(v16_min(v16_max(v16_fma(v, inv, whole), low), top), whole);
        rt_v16 wc = v16_mul(v16_load(b->w[i]), c);
        if (keep)
            v16_store(b->q[i], c);
        qq[i & 1] = v16_fma(wc, c, qq[i & 1]);
        xq[i & 1] = v16_fma(wc, v, xq[i & 1]);
    }
    return (signed_moments){ v16_add(qq[0], qq[1]), v16_add(xq[0], xq[1]) };
}

/* By how much less the error is than that of nothing. */
RT_V16_FN rt_v16 signed_gain(const signed_moments *k, rt_v16 d)
{
    return v16_mul(d, v16_sub(v16_add(k->xq, k->xq), v16_mul(d, k->qq)));
}

typedef struct signed_best {
    rt_v16 d, gain;
} signed_best;

RT_V16_FN bool signed_try(signed_best *best, lanes *b, const signed_kind *kind, rt_v16 inv)
{
    const rt_v16 zero = v16_zero();
    signed_moments k = signed_pass(b, kind, inv, false);
    rt_v16 d = v16_if_lt(zero, k.qq, v16_div(k.xq, k.qq), zero);
    rt_v16 gain = is_finite(inv, v16_mul(d, k.xq), zero);
    bool better = v16_lt_bits(best->gain, gain) != 0;
    best->d = v16_if_lt(best->gain, gain, d, best->d);
    best->gain = v16_if_lt(best->gain, gain, gain, best->gain);
    return better;
}

/* The extreme of each lane at values about lo, and about hi when that is another place. */
static signed_best fit_signed(lanes *b, const signed_kind *kind)
{
    rt_v16 a = v16_zero(), zero = a;
    for (int i = 0; i < kind->n; i++) {
        rt_v16 v = v16_load(b->x[i]);
        rt_v16 size = v16_max(a, v16_sub(zero, a));
        a = v16_if_lt(size, v16_max(v, v16_sub(zero, v)), v, a);
    }
    signed_best best = { zero, zero };
    rt_v16 one = v16_div(v16_set1(1), a);
    for (int k = 0; k < SIGNED_TRIES; k++) {
        float part = 1 + kind->reach * (2 * (float)k / (SIGNED_TRIES - 1) - 1);
        signed_try(&best, b, kind, v16_mul(one, v16_set1(kind->lo * part)));
        signed_try(&best, b, kind, v16_mul(one, v16_set1(kind->hi * part)));
    }
    for (int pass = 0; pass < SIGNED_POLISH; pass++)
        if (!signed_try(&best, b, kind, v16_div(v16_set1(1), best.d)))
            break;
    return best;
}

/* 1 / s, and 0 for 0 */
RT_V16_FN rt_v16 inverse_signed(rt_v16 s)
{
    rt_v16 zero = v16_zero(), inv = v16_div(v16_set1(1), s);
    return v16_if_lt(s, zero, inv, v16_if_lt(zero, s, inv, zero));
}

/* decoded = (d level) q; d of the super-block whose lane it is. */
typedef struct signed_super {
    rt_v16 level;
    float d[PAIR], err[PAIR];
} signed_super;

static void signed_begin(signed_super *k, rt_v16 free_d, const signed_kind *kind, float top)
{
    float d[LANES];
    v16_store(d, free_d);
    for (int h = 0; h < LANES / kind->subs; h++) {
        float most = 0;
        for (int j = h * kind->subs; j < (h + 1) * kind->subs; j++)
            most = fabsf(d[j]) > fabsf(most) ? d[j] : most;
        k->d[h] = super_scale(most, (int)top);
        for (int j = h * kind->subs; j < (h + 1) * kind->subs; j++) {
            float level = k->d[h] != 0 ? d[j] / k->d[h] : 0;
            level = level < kind->level_lo ? kind->level_lo : level;
            d[j] = rintf(level > kind->level_hi ? kind->level_hi : level);
        }
    }
    k->level = v16_load(d);
}

RT_V16_FN void signed_levels(signed_super *k, const signed_moments *mo, const signed_kind *kind)
{
    const rt_v16 d = halves(k->d, kind->subs);
    rt_v16 best = v16_set1(-INFINITY), level = k->level;
    for (int i = -1; i <= 1; i++) {
        rt_v16 near = v16_add(k->level, v16_set1((float)i));
        near = v16_min(v16_max(near, v16_set1(kind->level_lo)), v16_set1(kind->level_hi));
        rt_v16 gain = signed_gain(mo, v16_mul(d, near));
        level = v16_if_lt(best, gain, near, level);
        best = v16_if_lt(best, gain, gain, best);
    }
    k->level = level;
}

/* The best levels within one step of where they are, each with values of its own, whose sums are left
   in mo; the gain. */
RT_V16_FN rt_v16 signed_search(signed_super *k, lanes *b, signed_moments *mo, const signed_kind *kind)
{
    const rt_v16 d = halves(k->d, kind->subs);
    rt_v16 best = v16_set1(-INFINITY), level = k->level;
    for (int i = -1; i <= 1; i++) {
        rt_v16 near = v16_add(k->level, v16_set1((float)i));
        near = v16_min(v16_max(near, v16_set1(kind->level_lo)), v16_set1(kind->level_hi));
        signed_moments now = signed_pass(b, kind, inverse_signed(v16_mul(d, near)), false);
        rt_v16 gain = signed_gain(&now, v16_mul(d, near));
        level = v16_if_lt(best, gain, near, level);
        mo->qq = v16_if_lt(best, gain, now.qq, mo->qq);
        mo->xq = v16_if_lt(best, gain, now.xq, mo->xq);
        best = v16_if_lt(best, gain, gain, best);
    }
    k->level = level;
    return best;
}

/* Where `now` is the better of two in a super-block, it becomes `best` there. */
static void signed_keep(signed_super *best, const signed_super *now, int subs)
{
    float worse[PAIR] = { 1, 1 };
    for (int h = 0; h < LANES / subs; h++)
        if (now->err[h] < best->err[h]) {
            worse[h] = 0;
            best->err[h] = now->err[h];
            best->d[h] = now->d[h];
        }
    best->level = v16_if_lt(halves(worse, subs), v16_set1(0.5f), now->level, best->level);
}

/* The d that fits the present values and levels best. */
static void signed_rescale(signed_super *k, const signed_moments *mo, int subs)
{
    float uu[PAIR], xu[PAIR];
    sum_halves(uu, v16_mul(v16_mul(k->level, k->level), mo->qq), subs);
    sum_halves(xu, v16_mul(k->level, mo->xq), subs);
    for (int h = 0; h < LANES / subs; h++)
        if (uu[h] > 0 && xu[h] != 0)
            k->d[h] = round_f16(xu[h] / uu[h]);
}

/* Leaves the values in q. */
RT_V16_FN signed_super fit_signed_super(lanes *b, const signed_kind *kind)
{
    rt_v16 free_d = fit_signed(b, kind).d;
    signed_super best = { .level = v16_zero(), .err = { INFINITY, INFINITY } }, now;
    for (int start = 0; start < SIGNED_STARTS; start++) {
        signed_begin(&now, free_d, kind, kind->level_lo + (float)(2 * start));
        for (int pass = 0; pass < SIGNED_PASSES; pass++) {
            rt_v16 d = v16_mul(halves(now.d, kind->subs), now.level), gain;
            signed_moments mo = { v16_zero(), v16_zero() };
            if (pass < SIGNED_CHEAP) {
                mo = signed_pass(b, kind, inverse_signed(d), false);
                gain = signed_gain(&mo, d);
            } else {
                gain = signed_search(&now, b, &mo, kind);
            }
            sum_halves(now.err, v16_sub(v16_zero(), gain), kind->subs);
            signed_keep(&best, &now, kind->subs);
            signed_levels(&now, &mo, kind);
            signed_rescale(&now, &mo, kind->subs);
            signed_levels(&now, &mo, kind);
        }
    }
    rt_v16 d = v16_mul(halves(best.d, kind->subs), best.level);
    signed_pass(b, kind, inverse_signed(d), true);
    return best;
}

static void q6_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const signed_kind kind = { LANES, 16, -32, 31, -128, 127, 0.1f, NULL };
    for (int64_t at = 0; at < blocks; at++, p += 210) {
        lanes b;
        uint8_t code[SUPER], level[LANES];
        lanes_load(b.x, x + at * SUPER, 16, LANES);
        lanes_load(b.w, w + at * SUPER, 16, LANES);
        signed_super k = fit_signed_super(&b, &kind);
        lanes_codes(code, &b, 16, 32);
        levels_store(level, k.level, 0);
        pack_q6_k(p, k.d[0], level, code);
    }
}

static void q3_k_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const signed_kind kind = { LANES, 16, -4, 3, -32, 31, 0.3f, NULL };
    for (int64_t at = 0; at < blocks; at++, p += 110) {
        lanes b;
        uint8_t code[SUPER], level[LANES];
        lanes_load(b.x, x + at * SUPER, 16, LANES);
        lanes_load(b.w, w + at * SUPER, 16, LANES);
        signed_super k = fit_signed_super(&b, &kind);
        lanes_codes(code, &b, 16, 4);
        levels_store(level, k.level, 32);
        pack_q3_k(p, k.d[0], level, code);
    }
}

static void iq4_xs_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const signed_kind kind = { SUBS, BLOCK, -127, 113, -32, 31, 0.12f, &iq4_table };
    for (int64_t at = 0; at < blocks; at += PAIR) {
        lanes b;
        uint8_t code[PAIR * SUPER], level[LANES];
        int count = (int)rt_min(PAIR, blocks - at);
        lanes_load(b.x, x + at * SUPER, BLOCK, count * SUBS);
        lanes_load(b.w, w + at * SUPER, BLOCK, count * SUBS);
        signed_super k = fit_signed_super(&b, &kind);
        lanes_table_codes(code, &b, BLOCK, &iq4_table);
        levels_store(level, k.level, 32);
        for (int h = 0; h < count; h++, p += 136)
            pack_iq4_xs(p, k.d[h], level + h * SUBS, code + h * SUPER);
    }
}

static void iq4_nl_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    const rt_v16 most = v16_set1(65504.0f), least = v16_set1(-65504.0f);
    const signed_kind kind = { LANES, BLOCK, -127, 113, 0, 0, 0.12f, &iq4_table };
    for (int64_t at = 0; at < blocks; at += LANES) {
        lanes b;
        uint8_t code[LANES * BLOCK];
        float d[LANES];
        int count = (int)rt_min(LANES, blocks - at);
        lanes_load(b.x, x + at * BLOCK, BLOCK, count);
        lanes_load(b.w, w + at * BLOCK, BLOCK, count);
        rt_v16 scale = v16_max(v16_min(fit_signed(&b, &kind).d, most), least);
        scale = v16_round_f16(scale);
        signed_pass(&b, &kind, inverse_signed(scale), true);
        lanes_table_codes(code, &b, BLOCK, &iq4_table);
        v16_store(d, scale);
        for (int l = 0; l < count; l++, p += 18) {
            pack_f16(p, d[l]);
            pack_nibbles(p + 2, code + l * BLOCK);
        }
    }
}
