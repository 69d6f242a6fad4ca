/* isa_two.h: two bits a code under one scale a block: TQ2_0 (-1, 0, 1) and Q2_0 (-1 .. 2). A lane is not a
   sub-block here but one of sixteen scales that the block is tried with. Text of isa.c. */

/* The best scale of x (n): codes lo .. hi, the extreme at first .. last in sixteen steps, on both sides
   of zero when that is not the same. Codes less lo go to code. */
RT_V16_FN float fit_two(uint8_t *code, const float *x, const float *w, int n, float lo, float hi,
                        float first, float last)
{
    const rt_v16 zero = v16_zero(), whole = v16_set1(12582912.0f);
    const rt_v16 low = v16_set1(12582912.0f + lo), high = v16_set1(12582912.0f + hi);
    float top = 0, part[LANES], d[LANES], gain[LANES];
    bool both = -lo != hi;
    for (int i = 0; i < n; i++)
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    for (int l = 0; l < LANES; l++) {
        int k = both ? l / 2 : l, steps = both ? LANES / 2 : LANES;
        part[l] = (first + (last - first) * (float)k / (float)(steps - 1)) * (both && l % 2 ? -1.0f : 1.0f);
    }
    rt_v16 inv = v16_div(v16_load(part), v16_set1(top)), best_d = zero, best = zero;
    for (int pass = 0; pass < 4; pass++) {
        rt_v16 qq = zero, xq = zero;
        for (int i = 0; i < n; i++) {
            rt_v16 v = v16_set1(x[i]);
            rt_v16 c = v16_sub(v16_min(v16_max(v16_fma(v, inv, whole), low), high), whole);
            rt_v16 wc = v16_mul(v16_set1(w[i]), c);
            qq = v16_fma(wc, c, qq);
            xq = v16_fma(wc, v, xq);
        }
        rt_v16 s = v16_if_lt(zero, qq, v16_div(xq, qq), zero);
        rt_v16 g = is_finite(inv, v16_mul(s, xq), zero);
        best_d = v16_if_lt(best, g, s, best_d);
        best = v16_if_lt(best, g, g, best);
        inv = v16_div(v16_set1(1), s);
    }
    v16_store(d, best_d);
    v16_store(gain, best);
    int at = 0;
    for (int l = 1; l < LANES; l++)
        at = gain[l] > gain[at] ? l : at;
    float scale = round_f16(d[at]), inverse_scale = scale != 0 ? 1 / scale : 0;
    for (int i = 0; i < n; i++) {
        float c = rintf(x[i] * inverse_scale);
        code[i] = (uint8_t)(int)((c < lo ? lo : c > hi ? hi : c) - lo);
    }
    return scale;
}

static void tq2_0_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    for (int64_t at = 0; at < blocks; at++, p += 66) {
        uint8_t code[SUPER];
        float d = fit_two(code, x + at * SUPER, w + at * SUPER, SUPER, -1, 1, 1, 5.5f);
        pack_twos(p, code);
        pack_f16(p + 64, d);
    }
}

static void q2_0_encode(uint8_t *p, const float *x, const float *w, int64_t blocks)
{
    for (int64_t at = 0; at < blocks; at++, p += 18) {
        uint8_t code[64];
        float d = fit_two(code, x + at * 64, w + at * 64, 64, -1, 2, 1.3f, 4);
        pack_q2_0(p, d, code);
    }
}
