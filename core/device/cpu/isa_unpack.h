/* isa_unpack.h: weights in the bytes of checkpoints as columns of a panel, included by isa.c once an
   instruction set: which rows, under which scales, and the steps of k over them that isa_codes.h
   takes apart. Refuses: formats that are not here (taken_of is NULL; isa_matmul.h widens their
   rows). */
#include "core/device/cpu/isa_codes.h"

/* Rows of b that are columns of panels, to be taken from the bytes they lie in, k ascending. */
struct reader {
    const struct rt_matrix *b;
    const uint8_t *row[16 * DOT_GROUPS];
    int groups;
    int64_t step_bytes; /* of all rows in UNPACK steps of k */
    /* where codes and scales lie apart: the piece, its row of scales of each row, those of columns
       before `until` */
    const rt_piece *scaled;
    const uint8_t *scales[16 * DOT_GROUPS];
    int64_t until;
    float scale[16 * DOT_GROUPS];
};

/* Column k's scales of 16 rows. */
RT_V16_FN rt_v16 load_scales(const uint8_t *const row[16], rt_dtype t, int64_t at)
{
    uint32_t w[16];
    for (int i = 0; i < 16; i++) {
        uint16_t half;
        if (t == RT_F32)
            memcpy(&w[i], row[i] + 4 * at, 4);
        else if (t == RT_F8_E8M0)
            w[i] = row[i][at];
        else
            w[i] = (memcpy(&half, row[i] + 2 * at, 2), half);
    }
    rt_v16i bits = v16i_words(w);
    if (t == RT_F32)
        return v16_from_bits(bits);
    if (t == RT_F16)
        return v16_from_f16(bits);
    if (t == RT_BF16)
        return v16_from_bits(v16i_shl(bits, 16));
    rt_v16 y = power_of(bits, 1);
    return v16_add(y, v16_sub(y, y)); /* 255 became infinite, and is not a number */
}

/* Of every row in column k; codes without scales are as good as under ones. */
static const float *reader_scale(struct reader *r, int64_t k)
{
    const rt_piece *p = r->scaled;
    if (k < r->until)
        return r->scale;
    if (!p) {
        for (int g = 0; g < r->groups; g++)
            v16_store(r->scale + 16 * g, v16_set1(1));
        r->until = INT64_MAX;
        return r->scale;
    }
    r->until = (k / p->scale_cols + 1) * p->scale_cols;
    for (int g = 0; g < r->groups; g++)
        v16_store(r->scale + 16 * g,
                  load_scales(r->scales + 16 * g, p->scale_dtype, k / p->scale_cols));
    return r->scale;
}

/* The matrix's place in what will be read, for the while of a call. */
RT_V16_FN void begin_ahead(struct sink *o, const struct reader *r)
{
    if (!r->b->ahead)
        return;
    o->line = o->ahead = *r->b->ahead;
    o->ahead_step = r->step_bytes / (UNPACK / 4);
}

RT_V16_FN void end_ahead(const struct sink *o, const struct reader *r)
{
    if (r->b->ahead)
        *r->b->ahead = o->ahead;
}

/* Elements [k0, k1) of a reader's rows: as columns of a panel's out(k,32), or their chains with x
   on from sum. */
typedef void unpack_fn(float *out, struct reader *r, int64_t k0, int64_t k1);
typedef void dot_fn(float *sum, const float *x, struct reader *r, int64_t k0, int64_t k1);

typedef void take_fn(struct sink *o, const uint8_t *const *row, int64_t k);

TAKE_FN void unpack_steps(float *out, struct reader *r, int64_t k0, int64_t k1, take_fn *take,
                          int step, bool scaled)
{
    struct sink o = { .groups = GROUPS, .out = out };
    begin_ahead(&o, r);
    for (int64_t k = k0; k < k1; k += step, o.out += step * RT_PANEL) {
        o.scale = scaled ? reader_scale(r, k) : NULL;
        take(&o, r->row, k);
    }
    end_ahead(&o, r);
}

TAKE_FN void dot_steps(float *sum, const float *x, struct reader *r, int64_t k0, int64_t k1,
                       take_fn *take, int step, bool scaled, int groups)
{
    struct sink s = { .groups = groups, .x = x }, *o = &s;
    begin_ahead(o, r);
    EACH s.sum[g] = v16_load(sum + 16 * g);
    for (int64_t k = k0; k < k1; k += step, s.x += step) {
        s.scale = scaled ? reader_scale(r, k) : NULL;
        take(o, r->row, k);
    }
    end_ahead(o, r);
    EACH v16_store(sum + 16 * g, s.sum[g]);
}

/* What is read in steps of k. */
struct taken {
    unpack_fn *unpack;
    dot_fn *dot;
    int step;
};

#define TAKEN(name, step, scaled)                                                                  \
    static void unpack_##name(float *out, struct reader *r, int64_t k0, int64_t k1)                \
    {                                                                                              \
        unpack_steps(out, r, k0, k1, take_##name, step, scaled);                                   \
    }                                                                                              \
    static void dot_##name(float *sum, const float *x, struct reader *r, int64_t k0, int64_t k1)   \
    {                                                                                              \
        if (r->groups == GROUPS)                                                                   \
            dot_steps(sum, x, r, k0, k1, take_##name, step, scaled, GROUPS);                       \
        else                                                                                       \
            dot_steps(sum, x, r, k0, k1, take_##name, step, scaled, DOT_GROUPS);                   \
    }                                                                                              \
    static const struct taken taken_##name = { unpack_##name, dot_##name, step };
TAKEN(f32, UNPACK, false)
TAKEN(f16, UNPACK, false)
TAKEN(bf16, UNPACK, false)
TAKEN(q8_0, UNPACK, false)
TAKEN(q4_0, UNPACK, false)
TAKEN(q4_1, UNPACK, false)
TAKEN(q5_0, UNPACK, false)
TAKEN(q5_1, UNPACK, false)
TAKEN(q4_k, 2 * UNPACK, false)
TAKEN(q5_k, 2 * UNPACK, false)
TAKEN(q6_k, 2 * UNPACK, false)
TAKEN(iq4_nl, UNPACK, false)
TAKEN(mxfp4, UNPACK, false)
TAKEN(f8_e4m3, UNPACK, true)
TAKEN(e2m1, UNPACK, true)
TAKEN(int4, UNPACK, true)

static const struct taken *const taken_rows[RT_DTYPE_COUNT] = {
    [RT_F32] = &taken_f32,     [RT_F16] = &taken_f16,         [RT_BF16] = &taken_bf16,
    [RT_Q8_0] = &taken_q8_0,   [RT_Q4_0] = &taken_q4_0,       [RT_Q4_1] = &taken_q4_1,
    [RT_Q5_0] = &taken_q5_0,   [RT_Q5_1] = &taken_q5_1,       [RT_Q4_K] = &taken_q4_k,
    [RT_Q5_K] = &taken_q5_k,   [RT_Q6_K] = &taken_q6_k,       [RT_IQ4_NL] = &taken_iq4_nl,
    [RT_MXFP4] = &taken_mxfp4, [RT_F8_E4M3] = &taken_f8_e4m3,
};
static const struct taken *const taken_codes[] = {
    [RT_CODE_FP8] = &taken_f8_e4m3,
    [RT_CODE_MXFP4] = &taken_e2m1,
    [RT_CODE_INT4] = &taken_int4,
};

/* How b's bytes are read; NULL when no step of k of theirs is known here. */
static const struct taken *taken_of(const struct rt_matrix *b)
{
    const rt_piece *p = b->piece;
    if (!p || p->code == RT_CODE_ROWS)
        return taken_rows[b->dtype];
    bool whole = p->scale_cols % UNPACK == 0 || p->scale_cols >= b->ld;
    bool known = p->scale_dtype == RT_F32 || p->scale_dtype == RT_F16 ||
                 p->scale_dtype == RT_BF16 || p->scale_dtype == RT_F8_E8M0;
    return whole && known ? taken_codes[p->code] : NULL;
}

/* Columns [n0, n0 + columns) of b; past them the last one again, which is never used. */
static void reader_begin(struct reader *r, const struct rt_matrix *b, int64_t n0, int64_t columns,
                         int groups)
{
    const rt_piece *p = b->piece;
    int64_t row_bytes = p ? p->row_bytes : rt_dtype_bytes(b->dtype, b->ld);
    const uint8_t *data = p ? p->data : b->data;
    bool in_order = !p || (p->step == 1 && !p->pair);
    r->b = b;
    r->groups = groups;
    r->scaled = p && p->code != RT_CODE_ROWS ? p : NULL;
    r->until = 0;
    r->step_bytes = 16 * groups * row_bytes * UNPACK / b->ld;
    int64_t scale_bytes = r->scaled ? rt_dtype_bytes(p->scale_dtype, p->scale_ld) : 0;
    int64_t n = p && in_order ? p->first + b->row0 + n0 : n0;
    for (int64_t i = 0; i < columns; i++) {
        int64_t at = in_order    ? n + i
                     : b->number ? b->number[n + i - b->number0]
                                 : rt_piece_row(p, b->row0 + n + i);
        r->row[i] = data + at * row_bytes;
        if (r->scaled)
            r->scales[i] = p->scale + (p->scale_rows == 1 ? at : at / p->scale_rows) * scale_bytes;
    }
    for (int64_t i = columns; i < 16 * groups; i++) {
        r->row[i] = r->row[columns - 1];
        if (r->scaled)
            r->scales[i] = r->scales[columns - 1];
    }
}
