/* gguf_write.c: keys go straight to the file; the two counts of the header are filled in before the
   data begin, the digits of the checksums at the end. Nothing is held in memory but the tensors'
   declarations. */
#include "quant/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

#include "core/base/memory.h"

enum { ALIGNMENT = 32, NAME_LIMIT = 64, COUNTS_AT = 8 };

struct rt_gguf_decl {
    char name[NAME_LIMIT];
    rt_dtype dtype;
    int rank;
    int64_t dim[4];
    int64_t bytes;
    rt_hash sum;
};

static void store_le(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static int write_le(rt_gguf_writer *w, uint64_t v, int bytes, rt_err *err)
{
    uint8_t p[8];
    store_le(p, v, bytes);
    return rt_out_write(&w->out, p, bytes, err);
}

static int write_string(rt_gguf_writer *w, const void *text, int64_t bytes, rt_err *err)
{
    return write_le(w, (uint64_t)bytes, 8, err) || rt_out_write(&w->out, text, bytes, err) ? -1 : 0;
}

static int write_zeros(rt_gguf_writer *w, int64_t bytes, rt_err *err)
{
    static const uint8_t zeros[ALIGNMENT];
    return rt_out_write(&w->out, zeros, bytes, err);
}

int rt_gguf_writer_open(rt_gguf_writer *w, const char *path, rt_err *err)
{
    *w = (rt_gguf_writer){ 0 };
    if (path ? rt_out_open(&w->out, path, err) : rt_out_open_count(&w->out, err))
        return -1;
    if (rt_out_write(&w->out, "GGUF", 4, err) || write_le(w, 3, 4, err) || write_le(w, 0, 8, err) ||
        write_le(w, 0, 8, err)) {
        rt_gguf_writer_abort(w);
        return -1;
    }
    return 0;
}

static int key_begin(rt_gguf_writer *w, const char *key, rt_gguf_type type, bool array, int64_t n,
                     rt_err *err)
{
    if (w->begun)
        rt_bug("gguf writer: key %s after the tensors", key);
    w->n_keys++;
    if (write_string(w, key, (int64_t)strlen(key), err))
        return -1;
    if (array && write_le(w, RT_GGUF_ARRAY, 4, err))
        return -1;
    if (write_le(w, (uint64_t)type, 4, err))
        return -1;
    return array ? write_le(w, (uint64_t)n, 8, err) : 0;
}

int rt_gguf_put_raw(rt_gguf_writer *w, const char *key, rt_gguf_type type, bool array,
                    const void *data, int64_t n, rt_err *err)
{
    static const int64_t size[RT_GGUF_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    if ((unsigned)type >= RT_GGUF_TYPE_COUNT || !size[type] || (!array && n != 1))
        rt_bug("gguf writer: key %s: %s is no plain type", key, rt_gguf_type_name(type));
    return key_begin(w, key, type, array, n, err)
               ? -1
               : rt_out_write(&w->out, data, n * size[type], err);
}

int rt_gguf_put_u32(rt_gguf_writer *w, const char *key, uint32_t v, rt_err *err)
{
    return key_begin(w, key, RT_GGUF_U32, false, 1, err) ? -1 : write_le(w, v, 4, err);
}

int rt_gguf_put_f32(rt_gguf_writer *w, const char *key, float v, rt_err *err)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return key_begin(w, key, RT_GGUF_F32, false, 1, err) ? -1 : write_le(w, bits, 4, err);
}

int rt_gguf_put_bool(rt_gguf_writer *w, const char *key, bool v, rt_err *err)
{
    return key_begin(w, key, RT_GGUF_BOOL, false, 1, err) ? -1 : write_le(w, v, 1, err);
}

int rt_gguf_put_str(rt_gguf_writer *w, const char *key, const char *text, rt_err *err)
{
    return key_begin(w, key, RT_GGUF_STR, false, 1, err)
               ? -1
               : write_string(w, text, (int64_t)strlen(text), err);
}

int rt_gguf_put_strs_begin(rt_gguf_writer *w, const char *key, int64_t n, rt_err *err)
{
    return key_begin(w, key, RT_GGUF_STR, true, n, err);
}

int rt_gguf_put_strs_item(rt_gguf_writer *w, const void *text, int64_t bytes, rt_err *err)
{
    return write_string(w, text, bytes, err);
}

void rt_gguf_writer_add(rt_gguf_writer *w, const char *name, rt_dtype dtype, int rank,
                        const int64_t *dim)
{
    const rt_dtype_info *info = rt_dtype_get(dtype);
    if (w->begun || rank < 1 || rank > 4 || strlen(name) >= NAME_LIMIT || info->gguf_type < 0)
        rt_bug("gguf writer: tensor %s: impossible name, rank or type", name);
    rt_grow(&w->decl, &w->cap_decl, w->n_decl + 1, sizeof *w->decl, "tensor names");
    struct rt_gguf_decl *d = &w->decl[w->n_decl++];
    *d = (struct rt_gguf_decl){ .dtype = dtype, .rank = rank };
    memcpy(d->name, name, strlen(name));
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) {
        d->dim[i] = dim[i];
        if (!rt_mul_ok(elements, dim[i], &elements))
            rt_bug("gguf writer: %s: shape overflows", name);
    }
    if (dim[rank - 1] % info->block)
        rt_bug("gguf writer: %s: rows of %lld as %s", name, (long long)dim[rank - 1], info->name);
    d->bytes = rt_dtype_bytes(dtype, elements);
    d->sum = rt_hash_bytes("", 0); /* until data come */
}

static int counts_patch(rt_gguf_writer *w, rt_err *err)
{
    uint8_t counts[16];
    store_le(counts, (uint64_t)w->n_decl, 8);
    store_le(counts + 8, (uint64_t)w->n_keys, 8);
    return rt_out_patch(&w->out, COUNTS_AT, counts, sizeof counts, err);
}

void rt_gguf_writer_checksums(rt_gguf_writer *w) { w->summed = true; }

/* The two keys, zeros for digits; they are the last keys, when the tensors are known. */
static int sums_begin(rt_gguf_writer *w, rt_err *err)
{
    static const char zeros[RT_HASH_DIGITS] = "00000000000000000000000000000000";
    if (key_begin(w, RT_GGUF_HEADER_KEY, RT_GGUF_STR, false, 1, err))
        return -1;
    w->own_at = w->out.bytes + 8;
    static const char own[RT_GGUF_HEADER_DIGITS];
    if (write_string(w, own, sizeof own, err) ||
        key_begin(w, RT_GGUF_SUMS_KEY, RT_GGUF_STR, true, w->n_decl, err))
        return -1;
    w->sums_at = w->out.bytes + 8;
    for (int64_t i = 0; i < w->n_decl; i++)
        if (write_string(w, zeros, sizeof zeros, err))
            return -1;
    return 0;
}

static int sums_patch(rt_gguf_writer *w, rt_err *err)
{
    for (int64_t i = 0; i < w->n_decl; i++)
        if (rt_out_patch(&w->out, w->sums_at + i * (8 + RT_HASH_DIGITS), w->decl[i].sum.hex,
                         RT_HASH_DIGITS, err))
            return -1;
    char *head = rt_alloc(w->data_at, 1, "the header of a GGUF"), numbers[3 * 16 + 1];
    snprintf(numbers, sizeof numbers, "%016llx%016llx%016llx", (unsigned long long)w->n_keys,
             (unsigned long long)w->head_bytes, (unsigned long long)w->out.bytes);
    int rc = rt_out_patch(&w->out, w->own_at + RT_HASH_DIGITS, numbers, 3 * 16, err) ||
                     rt_out_read(&w->out, 0, head, w->data_at, err)
                 ? -1
                 : 0;
    if (!rc) {
        rt_hash hash = rt_hash_around(head, w->data_at, w->own_at);
        rc = rt_out_patch(&w->out, w->own_at, hash.hex, RT_HASH_DIGITS, err);
    }
    free(head);
    return rc;
}

int rt_gguf_writer_begin(rt_gguf_writer *w, rt_err *err)
{
    if (w->summed && sums_begin(w, err))
        return -1;
    int64_t offset = 0;
    for (int64_t i = 0; i < w->n_decl; i++) {
        const struct rt_gguf_decl *d = &w->decl[i];
        int rc = write_string(w, d->name, (int64_t)strlen(d->name), err) ||
                 write_le(w, (uint64_t)d->rank, 4, err);
        for (int k = d->rank - 1; !rc && k >= 0; k--)
            rc = write_le(w, (uint64_t)d->dim[k], 8, err);
        if (rc || write_le(w, (uint64_t)rt_dtype_get(d->dtype)->gguf_type, 4, err) ||
            write_le(w, (uint64_t)offset, 8, err))
            return -1;
        offset = rt_align_up(offset + d->bytes, ALIGNMENT);
    }
    w->begun = true;
    int64_t at = w->head_bytes = w->out.bytes;
    w->data_at = rt_align_up(at, ALIGNMENT);
    return write_zeros(w, w->data_at - at, err) || counts_patch(w, err) ? -1 : 0;
}

int64_t rt_gguf_writer_bytes(const rt_gguf_writer *w)
{
    int64_t bytes = w->out.bytes;
    for (int64_t i = 0; i < w->n_decl; i++)
        bytes += rt_align_up(w->decl[i].bytes, ALIGNMENT);
    return bytes;
}

/* Step over finished tensors, each padded to the alignment. */
static int settle(rt_gguf_writer *w, rt_err *err)
{
    while (w->at < w->n_decl && w->at_bytes == w->decl[w->at].bytes) {
        int64_t bytes = w->decl[w->at].bytes;
        w->at++;
        w->at_bytes = 0;
        if (write_zeros(w, rt_align_up(bytes, ALIGNMENT) - bytes, err))
            return -1;
    }
    return 0;
}

int rt_gguf_writer_push(rt_gguf_writer *w, const void *data, int64_t bytes, rt_err *err)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        if (settle(w, err))
            return -1;
        if (!w->begun || w->at == w->n_decl)
            rt_bug("gguf writer: %s: more data than was declared", w->out.path);
        int64_t take = rt_min(bytes, w->decl[w->at].bytes - w->at_bytes);
        if (rt_out_write(&w->out, p, take, err))
            return -1;
        if (w->at_bytes == 0)
            rt_hasher_begin(&w->hasher);
        rt_hasher_add(&w->hasher, p, take);
        w->at_bytes += take;
        if (w->at_bytes == w->decl[w->at].bytes)
            w->decl[w->at].sum = rt_hasher_end(&w->hasher);
        p += take;
        bytes -= take;
    }
    return settle(w, err);
}

int rt_gguf_writer_finish(rt_gguf_writer *w, rt_err *err)
{
    if (settle(w, err))
        return -1;
    if (!w->begun || w->at != w->n_decl)
        rt_bug("gguf writer: %s: commit before all declared data were pushed", w->out.path);
    w->finished = true;
    return w->summed ? sums_patch(w, err) : rt_out_patch(&w->out, 0, NULL, 0, err);
}

int rt_gguf_writer_commit(rt_gguf_writer *w, rt_err *err)
{
    int rc = w->finished ? 0 : rt_gguf_writer_finish(w, err);
    if (!rc)
        rc = rt_out_commit(&w->out, err);
    rt_gguf_writer_abort(w);
    return rc;
}

void rt_gguf_writer_abort(rt_gguf_writer *w)
{
    rt_out_abort(&w->out);
    free(w->decl);
    rt_hasher_free(&w->hasher);
    *w = (rt_gguf_writer){ 0 };
}
