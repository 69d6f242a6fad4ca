#include "core/network/embedding.h"

#include <stdlib.h>

#include "core/base/memory.h"

enum {
    BLOCK_BYTES = 1 << 20, /* of rows at a time, when a row is shorter */
    WIDE_ROWS = 64         /* on their way to the device */
};

static int64_t row_bytes(const rt_embedding *e)
{
    return rt_dtype_bytes(e->stored->dtype, e->stored->cols);
}

static int64_t block_bytes(const rt_embedding *e)
{
    return rt_max(BLOCK_BYTES, rt_align_up(row_bytes(e), RT_DISK_BLOCK));
}

void rt_embedding_plan(rt_embedding *e, rt_arena *a)
{
    if (!e->stored)
        return;
    int64_t width = e->stored->cols * (int64_t)sizeof *e->wide, offset;
    rt_parcels_place(e->all, e->stored->data, &offset); /* so that its file is opened, too */
    e->block = rt_parcels_take(a, "rows of the embedding", block_bytes(e) + RT_DISK_BLOCK);
    e->wide = rt_arena_take(a, "rows of the embedding", (1 + WIDE_ROWS) * width);
}

void rt_embedding_free(rt_embedding *e) { free(e->token); }

static int by_token(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : (x[1] < y[1] ? -1 : x[1] > y[1]);
}

/* Rows of tokens [first, ...) that lie in one read of the block; how many (token, row) pairs. */
static int64_t read_rows(rt_embedding *e, const int32_t *pair, int64_t n, int64_t *skip,
                         rt_err *err)
{
    int64_t row = row_bytes(e), offset, begin, end, i = 1, distinct = 1;
    int file = rt_parcels_place(e->all, e->stored->data + pair[0] * row, &offset);
    begin = offset / RT_DISK_BLOCK * RT_DISK_BLOCK;
    end = offset + row;
    for (; i < n; i++) { /* as far as rows are neighbours on the disk */
        int64_t to = offset + (pair[2 * i] - pair[0] + 1) * row;
        if (to - row > rt_align_up(end, RT_DISK_BLOCK) + RT_DISK_BLOCK ||
            to - begin > block_bytes(e))
            break;
        distinct += pair[2 * i] != pair[2 * i - 2];
        end = to;
    }
    rt_read p = { file, begin, rt_align_up(end, RT_DISK_BLOCK) - begin, end - begin, 0 };
    if (rt_parcels_read(e->all, &p, e->block, &e->plain, err))
        return -1;
    e->bytes += p.bytes;
    e->weights += distinct * row;
    *skip = offset - begin;
    return i;
}

/* A stored row as activations; wide: (width), for what is between. */
static void put_row(void *to, rt_dtype act, float *wide, rt_dtype stored, const uint8_t *from,
                    int64_t width)
{
    rt_decode_f32(act == RT_F32 ? to : wide, from, stored, width);
    for (int64_t i = 0; i < width && act == RT_BF16; i++)
        ((uint16_t *)to)[i] = rt_f32_to_bf16(wide[i]);
}

/* Rows [first, first + got) of the sorted pairs, which lie at skip of the block, to where they
   belong. A row becomes activations once for all its places; the device may be late, so that a few
   are kept. */
static int spread_rows(rt_embedding *e, rt_dev *d, rt_tensor *y, const int32_t *pair, int64_t got,
                       int64_t skip, int64_t *used, rt_err *err)
{
    int64_t width = y->dim[1], bytes = rt_dtype_bytes(y->dtype, width);
    void *row = e->wide;
    for (int64_t k = 0; k < got; k++) {
        if (k == 0 || pair[2 * k] != pair[2 * k - 2]) {
            if (*used == WIDE_ROWS && rt_sync(d, err))
                return -1;
            *used = *used % WIDE_ROWS + 1;
            row = e->wide + *used * width;
            put_row(row, y->dtype, e->wide, e->stored->dtype,
                    e->block + skip + (pair[2 * k] - pair[0]) * row_bytes(e), width);
        }
        rt_upload(d, (uint8_t *)y->data + pair[2 * k + 1] * bytes, row, bytes);
    }
    return 0;
}

int rt_embedding_rows(rt_embedding *e, rt_dev *d, rt_tensor *y, const rt_tensor *token, rt_err *err)
{
    int64_t n = token->dim[0], skip = 0, used = 0, got;
    e->bytes = e->weights = 0;
    rt_grow(&e->token, &e->cap_token, 3 * n, sizeof *e->token, "tokens of a pass");
    int32_t *pair = e->token, *plain = e->token + 2 * n;
    rt_download(d, plain, token->data, n * (int64_t)sizeof *plain);
    if (rt_sync(d, err))
        return -1;
    for (int64_t i = 0; i < n; i++) {
        pair[2 * i] = plain[i];
        pair[2 * i + 1] = (int32_t)i;
    }
    qsort(pair, (size_t)n, 2 * sizeof *pair, by_token);
    for (int64_t i = 0; i < n; i += got) {
        got = read_rows(e, pair + 2 * i, n - i, &skip, err);
        if (got < 0 || spread_rows(e, d, y, pair + 2 * i, got, skip, &used, err))
            return -1;
    }
    return rt_sync(d, err);
}
