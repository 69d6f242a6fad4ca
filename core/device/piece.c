#include "core/device/piece.h"

#include "core/base/err.h"

int64_t rt_piece_row(const rt_piece *p, int64_t r)
{
    if (p->pair) {
        int64_t in = r % p->pair, half = p->pair / 2;
        r += in % half * 2 + in / half - in;
    }
    return p->first + r * p->step;
}

rt_extent rt_piece_data(const rt_piece *p, int64_t rows)
{
    if (p->code == RT_CODE_LATENT)
        return (rt_extent){ 0,
                            rows / (p->scale_rows + p->scale_cols) * p->scale_cols * p->row_bytes };
    if (p->transposed)
        return (rt_extent){ 0, p->transposed * p->row_bytes };
    return (rt_extent){ p->first * p->row_bytes, ((rows - 1) * p->step + 1) * p->row_bytes };
}

rt_extent rt_piece_scales(const rt_piece *p, int64_t rows)
{
    if (p->code == RT_CODE_ROWS)
        return (rt_extent){ 0, 0 };
    if (p->code == RT_CODE_LATENT) {
        int64_t keys = rows / (p->scale_rows + p->scale_cols) * p->scale_rows;
        return (rt_extent){ 0, rt_dtype_bytes(p->scale_dtype, keys * p->transposed) };
    }
    int64_t first = p->first / p->scale_rows;
    int64_t last = (p->first + (rows - 1) * p->step) / p->scale_rows;
    int64_t each = rt_dtype_bytes(p->scale_dtype, p->scale_ld);
    return (rt_extent){ first * each, (last - first + 1) * each };
}

int64_t rt_piece_bytes(const rt_piece *p, int64_t rows, int64_t cols)
{
    if (p->code == RT_CODE_LATENT)
        return rt_piece_data(p, rows).n + rt_piece_scales(p, rows).n;
    return p->transposed ? rt_dtype_bytes(p->dtype, rows * cols) : rows * p->row_bytes;
}

float rt_piece_scale(const rt_piece *p, int64_t r, int64_t at)
{
    float scale;
    int64_t i = r / p->scale_rows * p->scale_ld + at / p->scale_cols;
    rt_decode_f32(&scale, p->scale + rt_dtype_bytes(p->scale_dtype, i), p->scale_dtype, 1);
    return scale;
}

void rt_piece_decode(float *out, const rt_piece *p, int64_t r, int64_t first, int64_t n)
{
    if (p->transposed)
        rt_bug("a row of what lies transposed");
    int64_t row = rt_piece_row(p, r);
    const uint8_t *data = p->data + row * p->row_bytes;
    if (p->code == RT_CODE_ROWS) {
        rt_decode_f32(out, data + rt_dtype_bytes(p->dtype, first), p->dtype, n);
        return;
    }
    for (int64_t at = first, end = first + n, take; at < end; at += take, out += take) {
        take = rt_min(p->scale_cols - at % p->scale_cols, end - at);
        if (p->code == RT_CODE_MXFP4) {
            rt_decode_mxfp4(out, data + at / 2, p->scale[row * p->scale_ld + at / 32]);
            continue;
        }
        float scale = rt_piece_scale(p, row, at);
        if (p->code == RT_CODE_INT4) {
            rt_decode_int4(out, data, at, take, scale);
            continue;
        }
        rt_decode_f32(out, data + at, p->dtype, take);
        for (int64_t i = 0; i < take; i++)
            out[i] *= scale;
    }
}
