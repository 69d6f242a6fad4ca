/* stored_rows.c: rows of a weight that stored.c found, as f32: codes under their scales, columns of
   transposed tensors, rows that stand in another order. Touches only the bytes of the rows asked
   for. */
#include <math.h>
#include <string.h>
#include <stdio.h>

#include "core/network/stored.h"

enum { CHUNK = 512, BLOCK_MAX = 256 }; /* elements decoded at a time to gather rows; of a block */

rt_piece rt_stored_piece(const rt_stored *t)
{
    static const rt_code codes[] = { [RT_STORED_PLAIN] = RT_CODE_ROWS,
                                     [RT_STORED_FP8] = RT_CODE_FP8,
                                     [RT_STORED_MXFP4] = RT_CODE_MXFP4,
                                     [RT_STORED_INT4] = RT_CODE_INT4,
                                     [RT_STORED_LATENT] = RT_CODE_LATENT };
    rt_piece p = { .code = codes[t->form],
                   .dtype = t->dtype,
                   .scale_dtype = t->scale_dtype,
                   .data = t->data,
                   .scale = t->scale,
                   .row_bytes = rt_dtype_bytes(t->dtype, t->width),
                   .first = t->first,
                   .step = t->step,
                   .pair = t->heads ? t->rows / t->heads : 0,
                   .transposed = t->transposed || t->form == RT_STORED_LATENT ? t->cols : 0,
                   .scale_rows = t->scale_rows,
                   .scale_cols = t->scale_cols };
    if (p.code != RT_CODE_ROWS && p.code != RT_CODE_LATENT)
        p.scale_ld = rt_stored_blocks(t->cols, t->scale_cols);
    return p;
}

/* A row of codes under scales: all of them are numbers. */
static int check_row(const rt_stored *t, const rt_piece *p, const float *out, int64_t r,
                     rt_err *err)
{
    int64_t row = rt_piece_row(p, r);
    for (int64_t at = 0; at < t->cols; at += t->scale_cols)
        if (!isfinite(rt_piece_scale(p, row, at)))
            return rt_fail(
                err,
                "%s: tensor %s: the scale of row %lld, columns from %lld is not a finite "
                "number; fetch the file again",
                t->path, t->name, (long long)row, (long long)at);
    for (int64_t i = 0; i < t->cols && p->code == RT_CODE_FP8; i++)
        if (!isfinite(out[i]))
            return rt_fail(err,
                           "%s: tensor %s: row %lld has a code that is not a finite number; fetch "
                           "the file again",
                           t->path, t->name, (long long)row);
    return 0;
}

/* Rows that are columns of the tensor: row by row of the tensor, a stretch of whole blocks that
   holds n of ours. */
static void transposed_rows(const rt_stored *t, float *out, int64_t first, int64_t n)
{
    float part[CHUNK + 2 * BLOCK_MAX];
    int64_t each = CHUNK / t->step, block = rt_dtype_get(t->dtype)->block;
    for (int64_t done = 0; done < n; done += each) {
        int64_t take = rt_min(each, n - done), from = t->first + (first + done) * t->step;
        int64_t low = from / block * block;
        int64_t high = rt_stored_blocks(from + (take - 1) * t->step + 1, block) * block;
        for (int64_t c = 0; c < t->cols; c++) {
            rt_decode_f32(part, t->data + rt_dtype_bytes(t->dtype, c * t->width + low), t->dtype,
                          high - low);
            for (int64_t r = 0; r < take; r++)
                out[(done + r) * t->cols + c] = part[from - low + r * t->step];
        }
    }
}

/* Rows of kv_b: for each head its keys, which are columns of theirs, then its values. */
static int latent_rows(const rt_stored *t, float *out, int64_t first, int64_t n, rt_err *err)
{
    int64_t nope = t->scale_rows, dv = t->scale_cols, latent = t->cols;
    while (n > 0) {
        int64_t head = first / (nope + dv), in = first % (nope + dv);
        bool key = in < nope;
        int64_t take = rt_min(n, (key ? nope : nope + dv) - in);
        rt_stored part = { .path = t->path, .rows = key ? nope : dv, .cols = latent, .step = 1 };
        snprintf(part.name, sizeof part.name, "%s", t->name);
        part.transposed = key;
        part.dtype = key ? t->scale_dtype : t->dtype;
        part.width = key ? nope : latent;
        part.data = (key ? t->scale : t->data) +
                    rt_dtype_bytes(part.dtype, head * part.rows * latent);
        if (rt_stored_rows(&part, out, key ? in : in - nope, take, err))
            return -1;
        out += take * latent;
        first += take;
        n -= take;
    }
    return 0;
}

int rt_stored_rows(const rt_stored *t, float *out, int64_t first, int64_t n, rt_err *err)
{
    if (first < 0 || n < 0 || first > t->rows - n)
        rt_bug("rt_stored_rows: %s: %lld + %lld of %lld rows", t->name, (long long)first,
               (long long)n, (long long)t->rows);
    if (rt_stored_check(t, err))
        return -1;
    if (t->transposed) {
        transposed_rows(t, out, first, n);
        return 0;
    }
    if (t->form == RT_STORED_LATENT)
        return latent_rows(t, out, first, n, err);
    if (t->form == RT_STORED_PLAIN && t->step == 1 && !t->heads) {
        int64_t skip = rt_dtype_bytes(t->dtype, (t->first + first) * t->width);
        rt_decode_f32(out, t->data + skip, t->dtype, n * t->cols);
        return 0;
    }
    rt_piece piece = rt_stored_piece(t);
    for (int64_t i = 0; i < n; i++, out += t->cols) {
        rt_piece_decode(out, &piece, first + i, 0, t->cols);
        if (piece.code != RT_CODE_ROWS && check_row(t, &piece, out, first + i, err))
            return -1;
    }
    return 0;
}
