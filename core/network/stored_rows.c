/* stored_rows.c: rows of a weight that stored.c found, as f32: codes under their scales, columns of
   turned tensors, rows that stand in another order. Touches only the bytes of the rows asked for.
 */
#include <math.h>
#include <string.h>
#include <stdio.h>

#include "core/network/stored.h"

enum { CHUNK = 512, BLOCK_MAX = 256 }; /* elements decoded at a time to gather rows; of a block */

/* Scale of row r (of the tensor), column block b. */
static int load_scale(const rt_stored *t, int64_t r, int64_t b, float *out, rt_err *err)
{
    int64_t at = r / t->scale_rows * rt_stored_blocks(t->cols, t->scale_cols) + b;
    rt_decode_f32(out, t->scale + rt_dtype_bytes(t->scale_dtype, at), t->scale_dtype, 1);
    return isfinite(*out) ? 0
                          : rt_fail(err,
                                    "%s: tensor %s: the scale of row %lld, columns from %lld "
                                    "is not a finite number; fetch the file again",
                                    t->path, t->name, (long long)r, (long long)(b * t->scale_cols));
}

/* Row r of a tensor of codes and scales. */
static int scaled_row(const rt_stored *t, float *out, int64_t r, rt_err *err)
{
    float scale;
    for (int64_t b = 0, at = 0; at < t->cols; b++, at += t->scale_cols) {
        int64_t n = rt_min(t->scale_cols, t->cols - at);
        if (load_scale(t, r, b, &scale, err))
            return -1;
        if (t->form == RT_STORED_MXFP4) {
            rt_decode_mxfp4(out + at, t->data + r * t->width + at / 2,
                            t->scale[r * (t->cols / 32) + b]);
        } else if (t->form == RT_STORED_INT4) {
            rt_decode_int4(out + at, t->data + 4 * r * t->width, at, n, scale);
        } else {
            rt_decode_f32(out + at, t->data + r * t->width + at, t->dtype, n);
            bool number = true;
            for (int64_t i = 0; i < n; i++) {
                out[at + i] *= scale;
                number = number && isfinite(out[at + i]);
            }
            if (!number)
                return rt_fail(
                    err,
                    "%s: tensor %s: row %lld has a code that is not a finite number; fetch "
                    "the file again",
                    t->path, t->name, (long long)r);
        }
    }
    return 0;
}

/* Rows that are columns of the tensor: row by row of the tensor, a stretch of whole blocks that
   holds n of ours. */
static void turned_rows(const rt_stored *t, float *out, int64_t first, int64_t n)
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
        part.turned = key;
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

/* Where row r stands when the halves of its head are kept in turns. */
static int64_t paired_row(const rt_stored *t, int64_t r)
{
    int64_t head = t->rows / t->heads, in = r % head;
    return r - in + in % (head / 2) * 2 + in / (head / 2);
}

int rt_stored_rows(const rt_stored *t, float *out, int64_t first, int64_t n, rt_err *err)
{
    if (first < 0 || n < 0 || first > t->rows - n)
        rt_bug("rt_stored_rows: %s: %lld + %lld of %lld rows", t->name, (long long)first,
               (long long)n, (long long)t->rows);
    if (rt_stored_check(t, err))
        return -1;
    if (t->turned) {
        turned_rows(t, out, first, n);
        return 0;
    }
    if (t->form == RT_STORED_LATENT)
        return latent_rows(t, out, first, n, err);
    if (t->form == RT_STORED_PLAIN && t->step == 1 && !t->heads) {
        int64_t skip = rt_dtype_bytes(t->dtype, (t->first + first) * t->width);
        rt_decode_f32(out, t->data + skip, t->dtype, n * t->cols);
        return 0;
    }
    for (int64_t i = 0; i < n; i++, out += t->cols) {
        int64_t r = t->first + (t->heads ? paired_row(t, first + i) : (first + i) * t->step);
        if (t->form == RT_STORED_PLAIN)
            rt_decode_f32(out, t->data + rt_dtype_bytes(t->dtype, r * t->width), t->dtype, t->cols);
        else if (scaled_row(t, out, r, err))
            return -1;
    }
    return 0;
}
