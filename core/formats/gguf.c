/* gguf.c: the strict parser of one GGUF file. Owns one cursor over the map; every read goes through
   take(), which checks the bytes that remain, so no count of the file is believed before it is paid
   for in bytes. Refuses: which files a model is made of (gguf_open.c), values of keys (gguf_get.c). */
#include "core/formats/gguf_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"

enum { STRING_MAX = 64 << 20, KEY_MAX = 65535, NAME_LIMIT = 64, ALIGNMENT_MAX = 1 << 20 };
enum { KEY_BYTES_MIN = 8 + 1 + 4 + 1, INFO_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

static const rt_ggml_type ggml_types[] = {
    { 0, "F32", 1, 4 },         { 1, "F16", 1, 2 },         { 2, "Q4_0", 32, 18 },
    { 3, "Q4_1", 32, 20 },      { 6, "Q5_0", 32, 22 },      { 7, "Q5_1", 32, 24 },
    { 8, "Q8_0", 32, 34 },      { 9, "Q8_1", 32, 36 },      { 10, "Q2_K", 256, 84 },
    { 11, "Q3_K", 256, 110 },   { 12, "Q4_K", 256, 144 },   { 13, "Q5_K", 256, 176 },
    { 14, "Q6_K", 256, 210 },   { 15, "Q8_K", 256, 292 },   { 16, "IQ2_XXS", 256, 66 },
    { 17, "IQ2_XS", 256, 74 },  { 18, "IQ3_XXS", 256, 98 }, { 19, "IQ1_S", 256, 50 },
    { 20, "IQ4_NL", 32, 18 },   { 21, "IQ3_S", 256, 110 },  { 22, "IQ2_S", 256, 82 },
    { 23, "IQ4_XS", 256, 136 }, { 24, "I8", 1, 1 },         { 25, "I16", 1, 2 },
    { 26, "I32", 1, 4 },        { 27, "I64", 1, 8 },        { 28, "F64", 1, 8 },
    { 29, "IQ1_M", 256, 56 },   { 30, "BF16", 1, 2 },       { 34, "TQ1_0", 256, 54 },
    { 35, "TQ2_0", 256, 66 },   { 39, "MXFP4", 32, 17 },    { 40, "NVFP4", 64, 36 },
    { 42, "Q2_0", 64, 18 },
};

/* Value types by id: name and bytes of an element (0 = string or array). */
static const struct {
    const char *name;
    int bytes;
} kinds[RT_GGUF_TYPE_COUNT] = { { "u8", 1 },  { "i8", 1 },    { "u16", 2 }, { "i16", 2 },
                                { "u32", 4 }, { "i32", 4 },   { "f32", 4 }, { "bool", 1 },
                                { "str", 0 }, { "array", 0 }, { "u64", 8 }, { "i64", 8 },
                                { "f64", 8 } };

typedef struct cursor {
    const uint8_t *data;
    int64_t at, bytes;
    const char *path;
} cursor;

const rt_ggml_type *rt_ggml_type_get(int64_t id)
{
    for (int i = 0; i < RT_COUNT(ggml_types); i++)
        if (ggml_types[i].id == id)
            return &ggml_types[i];
    return NULL;
}

const char *rt_gguf_type_name(rt_gguf_type t)
{
    return (unsigned)t < RT_GGUF_TYPE_COUNT ? kinds[t].name : "unknown";
}

/* bytes at the cursor, or NULL with "truncated". The only place that advances. */
static const uint8_t *take(cursor *c, int64_t bytes, const char *what, rt_err *err)
{
    if (bytes < 0 || bytes > c->bytes - c->at) {
        rt_fail(err, "%s: truncated or damaged at byte %lld (%s); fetch the file again", c->path,
                (long long)c->at, what);
        return NULL;
    }
    const uint8_t *p = c->data + c->at;
    c->at += bytes;
    return p;
}

static int take_u32(cursor *c, uint32_t *out, const char *what, rt_err *err)
{
    const uint8_t *p = take(c, 4, what, err);
    if (p)
        *out = (uint32_t)rt_load_le(p, 4);
    return p ? 0 : -1;
}

/* A u64 that must be in 0 .. max. */
static int take_count(cursor *c, int64_t max, int64_t *out, const char *what, rt_err *err)
{
    const uint8_t *p = take(c, 8, what, err);
    uint64_t v = p ? rt_load_le(p, 8) : 0;
    if (p && v > (uint64_t)max)
        return rt_fail(err,
                       "%s: %s %llu at byte %lld is more than the file can "
                       "hold (%lld): it is cut off or damaged; fetch it again",
                       c->path, what, (unsigned long long)v, (long long)c->at - 8, (long long)max);
    *out = (int64_t)v;
    return p ? 0 : -1;
}

static int take_string(cursor *c, int64_t max, rt_gguf_str *out, const char *what, rt_err *err)
{
    if (take_count(c, rt_min(max, c->bytes - c->at), &out->bytes, what, err))
        return -1;
    out->text = (const char *)take(c, out->bytes, what, err);
    return out->text ? 0 : -1;
}

/* A printable name (no control bytes, so that C strings compare whole), malloc'd. */
static int take_name(cursor *c, int64_t max, char **out, const char *what, rt_err *err)
{
    rt_gguf_str s;
    if (take_string(c, max, &s, what, err))
        return -1;
    bool plain = s.bytes > 0;
    for (int64_t i = 0; i < s.bytes; i++)
        plain = plain && (unsigned char)s.text[i] > ' ' && s.text[i] != 0x7f;
    if (!plain)
        return rt_fail(err, "%s: %s at byte %lld is empty or has control bytes", c->path, what,
                       (long long)(c->at - s.bytes));
    *out = rt_strndup(s.text, s.bytes);
    return 0;
}

static int key_parse(cursor *c, rt_gguf_key *key, rt_err *err)
{
    uint32_t type;
    if (take_name(c, KEY_MAX, &key->name, "a key name", err) ||
        take_u32(c, &type, "a value type", err))
        return -1;
    key->n = 1;
    key->array = type == RT_GGUF_ARRAY;
    if (key->array && take_u32(c, &type, "an element type", err))
        return -1;
    if (type >= RT_GGUF_TYPE_COUNT || type == RT_GGUF_ARRAY)
        return rt_fail(err, "%s: key %.64s: %s", c->path, key->name,
                       type == RT_GGUF_ARRAY ? "arrays of arrays are not part of any known model"
                                             : "unknown value type");
    key->type = (rt_gguf_type)type;
    int each = kinds[type].bytes;
    if (key->array &&
        take_count(c, (c->bytes - c->at) / (each ? each : 8), &key->n, "an array length", err))
        return -1;
    key->data = c->data + c->at;
    if (type == RT_GGUF_STR) {
        rt_gguf_str s;
        for (int64_t i = 0; i < key->n; i++)
            if (take_string(c, STRING_MAX, &s, "a string", err))
                return -1;
    } else if (!take(c, key->n * each, "a value", err)) {
        return -1;
    }
    key->bytes = c->data + c->at - key->data;
    for (int64_t i = 0; type == RT_GGUF_BOOL && i < key->n; i++)
        if (key->data[i] > 1)
            return rt_fail(err, "%s: key %.64s: a bool is neither 0 nor 1", c->path, key->name);
    return 0;
}

static rt_dtype dtype_of_ggml(const rt_ggml_type *type)
{
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        if (rt_dtype_get((rt_dtype)t)->gguf_type == type->id)
            return (rt_dtype)t;
    return RT_DTYPE_COUNT;
}

static int info_parse(cursor *c, rt_gguf_tensor *t, rt_err *err)
{
    uint32_t rank, id;
    if (take_name(c, NAME_LIMIT - 1, &t->name, "a tensor name", err) ||
        take_u32(c, &rank, "a rank", err))
        return -1;
    if (rank < 1 || rank > 4)
        return rt_fail(err, "%s: tensor %s: %u dimensions; 1 to 4 are possible", c->path, t->name,
                       rank);
    t->rank = (int)rank;
    t->elements = 1;
    for (int i = 0; i < 4; i++)
        t->dim[i] = 1;
    for (int i = t->rank - 1; i >= 0; i--)
        if (take_count(c, INT64_MAX, &t->dim[i], "a dimension", err))
            return -1;
    if (take_u32(c, &id, "a tensor type", err) ||
        take_count(c, INT64_MAX, &t->offset, "a tensor offset", err))
        return -1;
    const rt_ggml_type *type = rt_ggml_type_get(id);
    if (!type)
        return rt_fail(err, "%s: tensor %s: unknown type %u; a newer GGUF than this program knows?",
                       c->path, t->name, id);
    t->type = type->name;
    t->dtype = dtype_of_ggml(type);
    for (int i = 0; i < t->rank; i++)
        if (!rt_mul_ok(t->elements, t->dim[i], &t->elements))
            return rt_fail(err, "%s: tensor %s: impossible shape", c->path, t->name);
    if (t->dim[t->rank - 1] % type->block)
        return rt_fail(err, "%s: tensor %s: rows of %lld do not fill blocks of %d (%s)", c->path,
                       t->name, (long long)t->dim[t->rank - 1], type->block, type->name);
    if (!rt_mul_ok(t->elements / type->block, type->block_bytes, &t->bytes))
        return rt_fail(err, "%s: tensor %s: impossible size", c->path, t->name);
    return 0;
}

/* Tensors must follow each other in their order, each padded to the alignment, inside the file. The
   last one's padding may be missing (some writers stop there). */
static int layout_check(rt_gguf *g, int64_t data_at, rt_err *err)
{
    int64_t expect = 0, room = g->map.bytes - data_at;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        rt_gguf_tensor *t = &g->tensor[i];
        if (t->offset != expect)
            return rt_fail(err,
                           "%s: tensor %s: at %lld of the data where %lld is next; the file "
                           "is damaged",
                           g->path, t->name, (long long)t->offset, (long long)expect);
        if (expect > room || t->bytes > room - expect)
            return rt_fail(err, "%s: truncated: tensor %s ends beyond the file; fetch it again",
                           g->path, t->name);
        t->offset += data_at;
        t->data = g->map.data + t->offset;
        expect = rt_align_up(expect + t->bytes, g->alignment);
    }
    return 0;
}

/* Sorting positions by name needs the names at hand: sort (name, position) pairs. */
typedef struct named {
    const char *name;
    int32_t at;
} named;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static int names_sort(const rt_gguf *g, named *pair, int64_t n, int32_t *order, const char *what,
                      rt_err *err)
{
    if (n > 0)
        qsort(pair, (size_t)n, sizeof *pair, by_name);
    for (int64_t i = 0; i < n; i++) {
        order[i] = pair[i].at;
        if (i && !strcmp(pair[i].name, pair[i - 1].name))
            return rt_fail(err, "%s: %s %s stands twice", g->path, what, pair[i].name);
    }
    return 0;
}

int rt_gguf_index(rt_gguf *g, rt_err *err)
{
    named *pair = rt_alloc(rt_max(g->n_keys, g->n_tensors), sizeof *pair, g->path);
    for (int64_t i = 0; i < g->n_keys; i++)
        pair[i] = (named){ g->key[i].name, (int32_t)i };
    int rc = names_sort(g, pair, g->n_keys, g->by_key, "key", err);
    for (int64_t i = 0; i < g->n_tensors; i++)
        pair[i] = (named){ g->tensor[i].name, (int32_t)i };
    if (!rc)
        rc = names_sort(g, pair, g->n_tensors, g->by_tensor, "tensor", err);
    free(pair);
    return rc;
}

static int head_parse(rt_gguf *g, cursor *c, rt_err *err)
{
    const uint8_t *magic = take(c, 4, "the magic", err);
    if (!magic)
        return -1;
    if (memcmp(magic, "GGUF", 4))
        return rt_fail(err, "%s: not a GGUF file", g->path);
    if (take_u32(c, &g->version, "the version", err))
        return -1;
    if (g->version != 2 && g->version != 3)
        return rt_fail(err, "%s: GGUF version %u; 2 and 3 are read%s", g->path, g->version,
                       g->version & 0xffff ? "" : " (this looks like a big-endian file)");
    if (take_count(c, c->bytes / INFO_BYTES_MIN, &g->n_tensors, "the tensor count", err) ||
        take_count(c, c->bytes / KEY_BYTES_MIN, &g->n_keys, "the key count", err))
        return -1;
    if (g->n_tensors > INT32_MAX || g->n_keys > INT32_MAX)
        return rt_fail(err, "%s: too many tensors or keys", g->path);
    return 0;
}

/* Table sizes are a small multiple of the file's: head_parse checked the counts against its bytes.
 */
static void tables_alloc(rt_gguf *g)
{
    g->key = rt_alloc(g->n_keys, sizeof *g->key, g->path);
    g->tensor = rt_alloc(g->n_tensors, sizeof *g->tensor, g->path);
    g->by_key = rt_alloc(g->n_keys, sizeof *g->by_key, g->path);
    g->by_tensor = rt_alloc(g->n_tensors, sizeof *g->by_tensor, g->path);
}

/* Whether the numbers behind the header's hash are those of another file: it was written anew by a
   program that copied our keys. Damage does not look so: it leaves counts and sizes as they were. */
static bool is_rewritten(const rt_gguf *g, const rt_gguf_key *own, int64_t head_bytes)
{
    const int64_t now[] = { g->n_keys, head_bytes, g->map.bytes };
    bool same = true;
    for (int i = 0; i < RT_COUNT(now); i++) {
        int64_t then = 0;
        for (int k = 0; k < 16; k++) {
            int c = own->data[8 + RT_HASH_DIGITS + 16 * i + k];
            int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
            if (digit < 0)
                return false;
            then = (int64_t)((uint64_t)then << 4 | (uint64_t)digit);
        }
        same = same && then == now[i];
    }
    return !same;
}

/* The checksums of a file of ours. A hostile file may have one of the two, of any kind. head_bytes:
   without the padding before the data at data_at. */
static int sums_read(rt_gguf *g, int64_t head_bytes, int64_t data_at, rt_err *err)
{
    const rt_gguf_key *own = rt_gguf_find_key(g, RT_GGUF_HEADER_KEY);
    const rt_gguf_key *sums = rt_gguf_find_key(g, RT_GGUF_SUMS_KEY);
    const int64_t each = 8 + RT_HASH_DIGITS;
    if (!own && !sums)
        return 0;
    bool good = own && own->type == RT_GGUF_STR && !own->array &&
                own->bytes == 8 + RT_GGUF_HEADER_DIGITS;
    g->rewritten = good && is_rewritten(g, own, head_bytes);
    if (g->rewritten) {
        rt_info("%s: another program wrote it anew since retort made it: its checksums are not "
                "used",
                g->path);
        return 0;
    }
    good = good && sums && sums->type == RT_GGUF_STR && sums->array && sums->n == g->n_tensors &&
                sums->bytes == sums->n * each;
    for (int64_t i = 0; good && i < g->n_tensors; i++) {
        good = rt_load_le(sums->data + i * each, 8) == RT_HASH_DIGITS;
        g->tensor[i].sum = (const char *)sums->data + i * each + 8;
    }
    if (good) {
        rt_hash hash = rt_hash_around(g->map.data, rt_min(data_at, g->map.bytes),
                                      own->data + 8 - g->map.data);
        good = rt_hash_same((const char *)own->data + 8, &hash);
    }
    return good ? 0
                : rt_fail(err,
                          "%s: the header is not the one that was written (its checksum does not "
                          "fit): the file is damaged, or another program changed a value in it: copy "
                          "or make it again, or take the keys retort.header and retort.xxh3 out",
                          g->path);
}

int rt_gguf_check(const rt_gguf *g, const rt_gguf_tensor *t, rt_err *err)
{
    if (!t->sum || rt_map_fits(t->sum, t->data, t->bytes))
        return 0;
    return rt_fail(err,
                   "%s: tensor %s: its bytes are not those that were written (the checksum does "
                   "not fit): the file is damaged; copy or make it again",
                   g->path, t->name);
}

int rt_gguf_parse(rt_gguf *g, rt_err *err)
{
    cursor c = { g->map.data, 0, g->map.bytes, g->path };
    if (head_parse(g, &c, err))
        return -1;
    tables_alloc(g);
    for (int64_t i = 0; i < g->n_keys; i++)
        if (key_parse(&c, &g->key[i], err))
            return -1;
    for (int64_t i = 0; i < g->n_tensors; i++)
        if (info_parse(&c, &g->tensor[i], err))
            return -1;
    if (rt_gguf_index(g, err))
        return -1;
    g->alignment = 32;
    if (rt_gguf_opt_i64(g, "general.alignment", 1, ALIGNMENT_MAX, &g->alignment, err))
        return -1;
    if (g->alignment & (g->alignment - 1))
        return rt_fail(err, "%s: general.alignment %lld is not a power of two", g->path,
                       (long long)g->alignment);
    int64_t data_at = rt_align_up(c.at, g->alignment);
    return layout_check(g, data_at, err) || sums_read(g, c.at, data_at, err) ? -1 : 0;
}

/* Position of name among n records of `stride` bytes whose first field is their name, or -1. */
static int64_t find_name(const char *name, const int32_t *order, int64_t n, const void *records,
                         size_t stride)
{
    for (int64_t lo = 0, hi = n; lo < hi;) {
        int64_t mid = lo + (hi - lo) / 2;
        const char *const *at = (const void *)((const char *)records + (size_t)order[mid] * stride);
        int side = strcmp(name, *at);
        if (side == 0)
            return order[mid];
        if (side < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

const rt_gguf_key *rt_gguf_find_key(const rt_gguf *g, const char *name)
{
    int64_t i = find_name(name, g->by_key, g->n_keys, g->key, sizeof *g->key);
    return i < 0 ? NULL : &g->key[i];
}

const rt_gguf_tensor *rt_gguf_find(const rt_gguf *g, const char *name)
{
    int64_t i = find_name(name, g->by_tensor, g->n_tensors, g->tensor, sizeof *g->tensor);
    return i < 0 ? NULL : &g->tensor[i];
}
