/* isa_feedback.h: rounding that looks ahead: sixteen rows side by side, column after column, each
   column's error carried into the ones after it (quant/compensate.h). Text of isa.c. */

/* sum over k in [from, to) of e_k nt_k */
RT_V16_FN rt_v16 carried(const float *e, const float *nt, int from, int to)
{
    rt_v16 a = v16_zero(), b = v16_zero();
    int k = from;
    for (; k + 1 < to; k += 2) {
        a = v16_add(a, v16_mul(v16_load(e + 16 * k), v16_set1(nt[k])));
        b = v16_add(b, v16_mul(v16_load(e + 16 * k + 16), v16_set1(nt[k + 1])));
    }
    if (k < to)
        a = v16_add(a, v16_mul(v16_load(e + 16 * k), v16_set1(nt[k])));
    return v16_add(a, b);
}

static void feedback_carry(const struct rt_feedback *f, float *z, int from, int to)
{
    for (int j = f->first; j < f->first + f->n; j++) {
        rt_v16 t = v16_load(z + 16 * j);
        v16_store(z + 16 * j, v16_add(t, carried(f->e, f->nt + j * f->ld, from, to)));
    }
}

/* Codes, errors and the loss under the scales of f. */
static void feedback_round(struct rt_feedback *f)
{
    const rt_v16 lo = v16_set1((float)f->lo), hi = v16_set1((float)f->hi), zero = v16_zero();
    rt_v16 loss = zero;
    for (int j = f->first; j < f->first + f->n; j++) {
        const int sub = (j - f->first) / f->sub;
        const rt_v16 s = v16_load(f->scale[sub]), o = v16_load(f->offset[sub]);
        const rt_v16 inv = v16_load(f->inverse[sub]);
        rt_v16 t = v16_add(v16_load(f->z + 16 * j),
                           carried(f->e, f->nt + j * f->ld, f->first, j));
        rt_v16 q = code_of(v16_mul(v16_add(t, o), inv), lo, hi);
        rt_v16 y = v16_sub(v16_mul(s, q), o), eta = v16_sub(t, y);
        v16_store(f->q + 16 * j, q);
        v16_store(f->e + 16 * j, v16_sub(v16_load(f->x + 16 * j), y));
        loss = v16_add(loss, v16_mul(v16_mul(v16_set1(f->weight[j]), eta), eta));
    }
    v16_store(f->loss, loss);
}

/* out_j = v_j + sum over k < j of v_k nt_jk, of the unit */
static void feedback_spread(const struct rt_feedback *f, float *out, const float *v)
{
    for (int j = f->first; j < f->first + f->n; j++)
        v16_store(out + 16 * j, v16_add(v16_load(v + 16 * j),
                                        carried(v, f->nt + j * f->ld, f->first, j)));
}

static void feedback_dot(const struct rt_feedback *f, float out[16], const float *a, const float *b)
{
    rt_v16 sum = v16_zero();
    for (int j = f->first; j < f->first + f->n; j++)
        sum = v16_add(sum, v16_mul(v16_mul(v16_set1(f->weight[j]), v16_load(a + 16 * j)),
                                   v16_load(b + 16 * j)));
    v16_store(out, sum);
}
