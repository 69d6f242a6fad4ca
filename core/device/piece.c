#include "core/device/piece.h"

int64_t rt_piece_row(const rt_piece *p, int64_t r)
{
    if (p->pair) {
        int64_t in = r % p->pair, half = p->pair / 2;
        r += in % half * 2 + in / half - in;
    }
    return p->first + r * p->step;
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
