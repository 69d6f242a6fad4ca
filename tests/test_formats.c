/* test_formats.c: safetensors and GGUF: golden files of their own Python packages
   (golden/make_gguf.py), round trips, every truncation, single-byte damage and hostile headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"
#include "quant/gguf_write.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/"

static rt_err err;

/* Plain, without the fsync of rt_file_write: thousands of small damaged files are written here. */
static void put_file(const char *path, const void *data, int64_t bytes)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq((int64_t)fwrite(data, 1, (size_t)bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

/* ---- GGUF ---- */

START_TEST(blocks_decode_as_gguf_does)
{
    rt_gguf g;
    int seen = 0;
    OK(rt_gguf_open(&g, GOLDEN "blocks.gguf", &err));
    for (int t = 0; t < RT_DTYPE_COUNT; t++) {
        char name[64];
        const rt_gguf_tensor *raw = rt_gguf_find(&g, rt_dtype_get((rt_dtype)t)->name);
        snprintf(name, sizeof name, "%s.f32", rt_dtype_get((rt_dtype)t)->name);
        const rt_gguf_tensor *want = rt_gguf_find(&g, name);
        if (!raw)
            continue;
        ck_assert_ptr_nonnull(want);
        ck_assert_int_eq((int)raw->dtype, t);
        ck_assert_int_eq(raw->rank, 2);
        ck_assert_int_eq(raw->dim[0], 2);
        ck_assert_int_eq(raw->elements, want->elements);
        float *got = malloc((size_t)want->bytes);
        uint8_t *odd = malloc((size_t)raw->bytes + 1); /* alignment must not matter */
        memcpy(odd + 1, raw->data, (size_t)raw->bytes);
        rt_decode_f32(got, odd + 1, raw->dtype, raw->elements);
        ck_assert_msg(!memcmp(got, want->data, (size_t)want->bytes), "%s", raw->name);
        free(odd);
        free(got);
        seen++;
    }
    ck_assert_int_eq(seen, 17);
    rt_gguf_close(&g);
}
END_TEST

START_TEST(keys_are_typed)
{
    rt_gguf g;
    int64_t i = 0, n = 0, *list;
    double d = 0;
    bool b = false;
    float *floats;
    rt_gguf_str s, *strs;
    OK(rt_gguf_open(&g, GOLDEN "keys.gguf", &err));
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = { { "k.u8", 200 },
                 { "k.i8", -100 },
                 { "k.u16", 60000 },
                 { "k.i16", -30000 },
                 { "k.u32", 4000000000 },
                 { "k.i32", -2000000000 },
                 { "k.u64", 1099511627776 },
                 { "k.i64", -1099511627776 } };
    for (int k = 0; k < RT_COUNT(ints); k++) {
        OK(rt_gguf_get_i64(&g, ints[k].key, INT64_MIN, INT64_MAX, &i, &err));
        ck_assert_int_eq(i, ints[k].value);
    }
    OK(rt_gguf_get_f64(&g, "k.f32", &d, &err));
    ck_assert(d == 1.5);
    OK(rt_gguf_get_f64(&g, "k.f64", &d, &err));
    ck_assert(d == 0.1);
    OK(rt_gguf_opt_bool(&g, "k.bool", &b, &err));
    ck_assert(b);
    OK(rt_gguf_get_str(&g, "general.architecture", &s, &err));
    ck_assert(rt_gguf_str_is(s, "qwen3"));
    OK(rt_gguf_get_i64s(&g, "k.i32s", &list, &n, &err));
    ck_assert(n == 3 && list[0] == 1 && list[1] == -2 && list[2] == 3);
    free(list);
    OK(rt_gguf_get_i64s(&g, "k.u8", &list, &n, &err));
    ck_assert(n == 1 && list[0] == 200);
    free(list);
    OK(rt_gguf_get_f32s(&g, "k.f32s", &floats, &n, &err));
    ck_assert(n == 2 && floats[0] == 0.5f && floats[1] == -0.25f);
    free(floats);
    OK(rt_gguf_get_strs(&g, "k.strs", &strs, &n, &err));
    ck_assert(n == 3 && rt_gguf_str_is(strs[0], "a") && strs[1].bytes == 0);
    ck_assert(rt_gguf_str_is(strs[2], "\xc4\xa0"
                                      "b c"));
    free(strs);
    i = 5;
    OK(rt_gguf_opt_i64(&g, "k.absent", 0, 9, &i, &err));
    ck_assert_int_eq(i, 5);
    FAILS(rt_gguf_get_i64(&g, "k.absent", 0, 9, &i, &err), "k.absent is missing");
    FAILS(rt_gguf_get_i64(&g, "k.str", 0, 9, &i, &err), "k.str is str");
    FAILS(rt_gguf_get_i64(&g, "k.f32", 0, 9, &i, &err), "k.f32 is f32");
    FAILS(rt_gguf_get_i64(&g, "k.i32s", 0, 9, &i, &err), "k.i32s is i32[]");
    FAILS(rt_gguf_get_i64(&g, "k.u8", 0, 199, &i, &err), "k.u8 is 200");
    FAILS(rt_gguf_get_f64(&g, "k.u8", &d, &err), "k.u8 is u8");
    FAILS(rt_gguf_get_str(&g, "k.strs", &s, &err), "k.strs is str[]");
    FAILS(rt_gguf_get_strs(&g, "k.str1", &strs, &n, &err), "k.str1 is missing");
    FAILS(rt_gguf_get_strs(&g, "k.f32s", &strs, &n, &err), "k.f32s is f32[]");
    const rt_gguf_tensor *t = rt_gguf_find(&g, "two.weight");
    ck_assert(t && t->dtype == RT_F16 && t->rank == 2 && t->dim[0] == 3 && t->dim[1] == 4);
    ck_assert_ptr_null(rt_gguf_find(&g, "two"));
    rt_gguf_close(&g);
}
END_TEST

static void write_keys(const char *path)
{
    rt_gguf_writer w;
    uint8_t u8 = 200;
    int8_t i8 = -100;
    uint16_t u16 = 60000;
    int16_t i16 = -30000;
    int32_t i32 = -2000000000, i32s[3] = { 1, -2, 3 };
    uint64_t u64 = 1099511627776;
    int64_t i64 = -1099511627776, one_dim[1] = { 5 }, two_dim[2] = { 3, 4 };
    double f64 = 0.1;
    float f32s[2] = { 0.5f, -0.25f }, one[5];
    uint16_t two[12];
    for (int i = 0; i < 5; i++)
        one[i] = (float)i;
    for (int i = 0; i < 12; i++)
        two[i] = rt_f32_to_f16((float)i);
    OK(rt_gguf_writer_open(&w, path, &err));
    OK(rt_gguf_put_str(&w, "general.architecture", "qwen3", &err));
    OK(rt_gguf_put_raw(&w, "k.u8", RT_GGUF_U8, false, &u8, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.i8", RT_GGUF_I8, false, &i8, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.u16", RT_GGUF_U16, false, &u16, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.i16", RT_GGUF_I16, false, &i16, 1, &err));
    OK(rt_gguf_put_u32(&w, "k.u32", 4000000000u, &err));
    OK(rt_gguf_put_raw(&w, "k.i32", RT_GGUF_I32, false, &i32, 1, &err));
    OK(rt_gguf_put_f32(&w, "k.f32", 1.5f, &err));
    OK(rt_gguf_put_bool(&w, "k.bool", true, &err));
    OK(rt_gguf_put_str(&w, "k.str",
                       "gr\xc3\xbc\xc3\x9f"
                       "e\n",
                       &err));
    OK(rt_gguf_put_raw(&w, "k.u64", RT_GGUF_U64, false, &u64, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.i64", RT_GGUF_I64, false, &i64, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.f64", RT_GGUF_F64, false, &f64, 1, &err));
    OK(rt_gguf_put_raw(&w, "k.i32s", RT_GGUF_I32, true, i32s, 3, &err));
    OK(rt_gguf_put_raw(&w, "k.f32s", RT_GGUF_F32, true, f32s, 2, &err));
    OK(rt_gguf_put_strs_begin(&w, "k.strs", 3, &err));
    OK(rt_gguf_put_strs_item(&w, "a", 1, &err));
    OK(rt_gguf_put_strs_item(&w, "", 0, &err));
    OK(rt_gguf_put_strs_item(&w,
                             "\xc4\xa0"
                             "b c",
                             5, &err));
    rt_gguf_writer_add(&w, "one", RT_F32, 1, one_dim);
    rt_gguf_writer_add(&w, "two.weight", RT_F16, 2, two_dim);
    OK(rt_gguf_writer_begin(&w, &err));
    OK(rt_gguf_writer_push(&w, one, 7, &err)); /* pieces of any size */
    OK(rt_gguf_writer_push(&w, (const uint8_t *)one + 7, 13, &err));
    OK(rt_gguf_writer_push(&w, two, 24, &err));
    OK(rt_gguf_writer_commit(&w, &err));
}

static char *slurp(const char *path, int64_t *bytes)
{
    char *data;
    OK(rt_file_read(&data, bytes, path, 1 << 24, &err));
    return data;
}

START_TEST(gguf_bytes_equal_the_python_writer)
{
    int64_t n, m;
    write_keys("keys.gguf");
    char *ours = slurp("keys.gguf", &n), *theirs = slurp(GOLDEN "keys.gguf", &m);
    ck_assert_int_eq(n, m);
    ck_assert(!memcmp(ours, theirs, (size_t)n));
    free(ours);
    free(theirs);
}
END_TEST

/* Touch everything an open file offers, so that a sanitizer sees any bad pointer. */
static uint64_t walk_gguf(const rt_gguf *g)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < g->n_keys; i++) {
        int64_t n = 0, *ints;
        float *floats;
        rt_gguf_str *strs;
        rt_err ignored;
        if (rt_gguf_get_strs(g, g->key[i].name, &strs, &n, &ignored) == 0) {
            for (int64_t k = 0; k < n; k++)
                sum += rt_hash64(strs[k].text, strs[k].bytes, 0);
            free(strs);
        }
        if (rt_gguf_get_i64s(g, g->key[i].name, &ints, &n, &ignored) == 0)
            free(ints);
        if (rt_gguf_get_f32s(g, g->key[i].name, &floats, &n, &ignored) == 0)
            free(floats);
    }
    for (int64_t i = 0; i < g->n_tensors; i++)
        sum += rt_hash64(g->tensor[i].data, g->tensor[i].bytes, 0);
    return sum;
}

START_TEST(gguf_truncated_or_damaged)
{
    int64_t bytes;
    rt_gguf g;
    const char *path = "bad.gguf";
    char *data = slurp(GOLDEN "keys.gguf", &bytes);
    OK(rt_gguf_open(&g, GOLDEN "keys.gguf", &err));
    int64_t end = g.tensor[g.n_tensors - 1].offset + g.tensor[g.n_tensors - 1].bytes;
    rt_gguf_close(&g);
    for (int64_t n = 0; n < end; n++) {
        put_file(path, data, n);
        err.text[0] = 0;
        ck_assert_msg(rt_gguf_open(&g, path, &err) != 0, "%lld bytes accepted", (long long)n);
        ck_assert(strstr(err.text, path) != NULL);
    }
    int opened = 0;
    for (int64_t i = 0; i < end; i++)
        for (int v = 0; v < 3; v++) {
            static const char values[] = { 0, 127, (char)255 };
            char kept = data[i];
            data[i] = values[v];
            put_file(path, data, bytes);
            if (rt_gguf_open(&g, path, &err) == 0) {
                opened += walk_gguf(&g) != 1;
                rt_gguf_close(&g);
            }
            data[i] = kept;
        }
    ck_assert_int_gt(opened, 100); /* damage in values is not the container's to see */
    free(data);
}
END_TEST

/* A GGUF assembled by hand: fields are appended little-endian. */
static uint8_t blob[4096];
static int64_t blob_bytes;

static void le(uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        blob[blob_bytes++] = (uint8_t)(v >> (8 * i));
}

static void str(const char *s)
{
    le(strlen(s), 8);
    memcpy(blob + blob_bytes, s, strlen(s));
    blob_bytes += (int64_t)strlen(s);
}

static void head(uint32_t version, uint64_t tensors, uint64_t keys)
{
    blob_bytes = 0;
    memset(blob, 0, sizeof blob);
    memcpy(blob, "GGUF", 4);
    blob_bytes = 4;
    le(version, 4);
    le(tensors, 8);
    le(keys, 8);
}

static void info(const char *name, uint32_t rank, uint64_t d0, uint64_t d1, uint32_t type,
                 uint64_t offset)
{
    str(name);
    le(rank, 4);
    for (uint32_t i = 0; i < rank; i++)
        le(i == 0 ? d0 : i == 1 ? d1 : 1, 8);
    le(type, 4);
    le(offset, 8);
}

static int open_blob(int64_t bytes)
{
    rt_gguf g;
    put_file("blob.gguf", blob, bytes);
    int rc = rt_gguf_open(&g, "blob.gguf", &err);
    if (!rc)
        rt_gguf_close(&g);
    return rc;
}

START_TEST(gguf_hostile)
{
    int64_t all = (int64_t)sizeof blob;
    head(3, 1, 0);
    info("a", 2, 4, 2, 0, 0);
    OK(open_blob(all)); /* the shape of the rest */
    head(1, 0, 0);
    FAILS(open_blob(all), "version 1");
    head(0x03000000, 0, 0);
    FAILS(open_blob(all), "big-endian");
    head(3, UINT64_MAX, 0);
    FAILS(open_blob(all), "the tensor count");
    head(3, 0, 1u << 30);
    FAILS(open_blob(all), "the key count");
    head(3, 0, 1);
    le((uint64_t)1 << 62, 8);
    FAILS(open_blob(all), "a key name");
    head(3, 0, 1);
    str("k");
    le(13, 4);
    FAILS(open_blob(all), "unknown value type");
    head(3, 0, 1);
    str("k");
    le(9, 4);
    le(9, 4);
    le(1, 8);
    FAILS(open_blob(all), "arrays of arrays");
    head(3, 0, 1);
    str("k");
    le(9, 4);
    le(4, 4);
    le((uint64_t)1 << 61, 8); /* times 4 wraps to 0 */
    FAILS(open_blob(all), "an array length");
    head(3, 0, 1);
    str("k");
    le(8, 4);
    le((uint64_t)65 << 20, 8);
    FAILS(open_blob(all), "a string");
    head(3, 0, 1);
    str("k");
    le(7, 4);
    le(2, 1);
    FAILS(open_blob(all), "neither 0 nor 1");
    head(3, 0, 2);
    str("k");
    le(4, 4);
    le(1, 4);
    str("k");
    le(4, 4);
    le(1, 4);
    FAILS(open_blob(all), "key k stands twice");
    static const struct {
        int type, bytes;
        uint64_t value;
        const char *says;
    } alignments[] = { { 4, 4, 1u << 30, "1 to 1048576" },
                       { 4, 4, 48, "power of two" },
                       { 4, 4, 0, "1 to 1048576" },
                       { 6, 4, 32, "is f32" },
                       { 8, 8, 0, "is str" } };
    for (int i = 0; i < RT_COUNT(alignments); i++) {
        head(3, 0, 1);
        str("general.alignment");
        le((uint64_t)alignments[i].type, 4);
        le(alignments[i].value, alignments[i].bytes);
        FAILS(open_blob(all), alignments[i].says);
    }
    static const struct {
        uint32_t rank;
        uint64_t d0, d1;
        uint32_t type;
        uint64_t offset;
        const char *says;
    } infos[] = {
        { 0, 0, 0, 0, 0, "0 dimensions" },
        { 5, 1, 1, 0, 0, "5 dimensions" },
        { 2, (uint64_t)1 << 32, (uint64_t)1 << 32, 0, 0, "impossible shape" },
        { 2, (uint64_t)1 << 62, 1, 0, 0, "impossible size" },
        { 2, (uint64_t)1 << 40, 1 << 20, 12, 0, "ends beyond the file" }, /* an exabyte */
        { 2, (uint64_t)1 << 63, 1, 0, 0, "a dimension" },
        { 2, 33, 1, 2, 0, "do not fill blocks" },
        { 2, 4, 2, 4, 0, "unknown type 4" },
        { 2, 4, 2, 0, 32, "damaged" },
        { 2, 4, 2, 0, UINT64_MAX, "a tensor offset" },
        { 2, 4, 4096, 0, 0, "ends beyond the file" },
    };
    for (int i = 0; i < RT_COUNT(infos); i++) {
        head(3, 1, 0);
        info("a", infos[i].rank, infos[i].d0, infos[i].d1, infos[i].type, infos[i].offset);
        FAILS(open_blob(all), infos[i].says);
    }
    head(3, 2, 0);
    info("a", 1, 4, 0, 0, 0);
    info("b", 1, 4, 0, 0, 16); /* not padded to 32 */
    FAILS(open_blob(all), "tensor b: at 16 of the data where 32 is next");
    head(3, 2, 0);
    info("a", 1, 4, 0, 0, 0);
    info("a", 1, 4, 0, 0, 32);
    FAILS(open_blob(all), "tensor a stands twice");
    head(3, 1, 0);
    info("0123456789012345678901234567890123456789012345678901234567890123", 1, 4, 0, 0, 0);
    FAILS(open_blob(all), "a tensor name");
    head(3, 1, 0);
    info("a\nb", 1, 4, 0, 0, 0);
    FAILS(open_blob(all), "control bytes");
}
END_TEST

/* ---- safetensors ---- */

START_TEST(safetensors_golden)
{
    rt_safetensors st;
    float v[8];
    OK(rt_safetensors_open(&st, GOLDEN "small.safetensors", &err));
    ck_assert_int_eq(st.n_tensors, 7);
    const rt_st_tensor *t = rt_safetensors_find(&st, "a.f32");
    ck_assert(t && t->dtype == RT_F32 && t->rank == 2 && t->dim[0] == 2 && t->dim[1] == 3);
    OK(rt_safetensors_read_f32(v, t, 1, 5, &err));
    for (int i = 0; i < 5; i++)
        ck_assert(v[i] == (float)i - 1.5f);
    t = rt_safetensors_find(&st, "b.f16");
    OK(rt_safetensors_read_f32(v, t, 0, 8, &err));
    for (int i = 0; i < 8; i++)
        ck_assert(v[i] == (float)i);
    t = rt_safetensors_find(&st, "c.i32");
    ck_assert(t && t->dtype == RT_I32 && t->elements == 2);
    t = rt_safetensors_find(&st, "e.i64");
    ck_assert(t && t->dtype == RT_DTYPE_COUNT && !strcmp(t->type, "I64"));
    FAILS(rt_safetensors_read_f32(v, t, 0, 1, &err), "e.i64: dtype I64");
    t = rt_safetensors_find(&st, "f.scalar");
    ck_assert(t && t->rank == 0 && t->elements == 1);
    OK(rt_safetensors_read_f32(v, t, 0, 1, &err));
    ck_assert(v[0] == 0.5f);
    t = rt_safetensors_find(&st, "g.empty");
    ck_assert(t && t->elements == 0 && t->dim[1] == 4);
    ck_assert_ptr_null(rt_safetensors_find(&st, "a"));
    rt_safetensors_close(&st);
}
END_TEST

START_TEST(safetensors_truncated_or_damaged)
{
    int64_t bytes;
    rt_safetensors st;
    const char *path = "bad.safetensors";
    char *data = slurp(GOLDEN "small.safetensors", &bytes);
    for (int64_t n = 0; n < bytes; n++) {
        put_file(path, data, n);
        err.text[0] = 0;
        ck_assert_msg(rt_safetensors_open(&st, path, &err) != 0, "%lld accepted", (long long)n);
        ck_assert(strstr(err.text, path) != NULL);
    }
    for (int64_t i = 0; i < bytes; i++)
        for (int v = 0; v < 3; v++) {
            static const char values[] = { '0', '9', (char)255 };
            char kept = data[i];
            data[i] = values[v];
            put_file(path, data, bytes);
            if (rt_safetensors_open(&st, path, &err) == 0) {
                for (int64_t k = 0; k < st.n_tensors; k++)
                    rt_hash64(st.tensor[k].data, st.tensor[k].bytes, 0);
                rt_safetensors_close(&st);
            }
            data[i] = kept;
        }
    char *longer = calloc(1, (size_t)bytes + 1);
    memcpy(longer, data, (size_t)bytes);
    put_file(path, longer, bytes + 1);
    FAILS(rt_safetensors_open(&st, path, &err), "belong to no tensor");
    free(longer);
    free(data);
}
END_TEST

/* A file of one header and `buffer` bytes of data. */
static int open_header(const char *header, int64_t length, int64_t buffer)
{
    rt_safetensors st;
    uint8_t file[2048] = { 0 };
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(file + 8, header, strlen(header));
    put_file("header.safetensors", file, 8 + (int64_t)strlen(header) + buffer);
    int rc = rt_safetensors_open(&st, "header.safetensors", &err);
    if (!rc)
        rt_safetensors_close(&st);
    return rc;
}

START_TEST(safetensors_hostile)
{
    static const struct {
        const char *header;
        int64_t buffer;
        const char *says;
    } rows[] = {
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
          12, "overlaps" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}",
          20, "a hole" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "a hole" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 12, "no tensor" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "outside" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "do not fill" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "outside" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "outside" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8.5]}}", 8, "outside" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
          "impossible shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,8]}}", 8,
          "impossible shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8,
          "impossible shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4503599627370496,1024],\"data_offsets\":[0,0]}}", 0,
          "do not fill" }, /* 2^62 elements: times 32 bits wraps to 0 */
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
          "dimensions" },
        { "{\"a\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype" },
        { "{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "needs dtype" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "needs dtype" },
        { "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "do not fill" },
        { "{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "name" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
          8, "twice" },
        { "{\"a\":[]}", 0, "not an object" },
        { "[]", 0, "not a JSON object" },
        { "{\"a\":", 0, "safetensors" },
    };
    for (int i = 0; i < RT_COUNT(rows); i++)
        FAILS(open_header(rows[i].header, (int64_t)strlen(rows[i].header), rows[i].buffer),
              rows[i].says);
    FAILS(open_header("{}", 100000001, 0), "not a safetensors file");
    FAILS(open_header("{}", -1, 0), "not a safetensors file");
    FAILS(open_header("{}", 3, 0), "truncated");
    OK(open_header("{}  ", 4, 0));
}
END_TEST

static void write_index(const char *text)
{
    OK(rt_dir_make("index", &err));
    put_file("index/model.safetensors.index.json", text, (int64_t)strlen(text));
}

START_TEST(safetensors_directories)
{
    rt_safetensors st;
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "not the name" },
        { "{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", "not the name" },
        { "{\"weight_map\":{\"a\":\"b\\\\x.safetensors\"}}", "not the name" },
        { "{\"weight_map\":{\"a\":\"x.bin\"}}", "not the name" },
        { "{\"weight_map\":{\"a\":1}}", "not the name" },
        { "{\"weight_map\":{}}", "empty" },
        { "{\"weights\":{}}", "weight_map" },
        { "{\"weight_map\":{\"a\":\"absent.safetensors\"}}", "absent.safetensors" },
        { "{\"weight_map\":{\"a\":\"small.safetensors\"}}", "a: is not in small.safetensors" },
        { "{\"weight_map\":{\"a.f32\":\"small.safetensors\",\"b.f16\":\"copy.safetensors\"}}",
          "stands twice" },
    };
    int64_t bytes;
    char *data = slurp(GOLDEN "small.safetensors", &bytes);
    OK(rt_dir_make("index", &err));
    put_file("index/small.safetensors", data, bytes);
    put_file("index/copy.safetensors", data, bytes);
    for (int i = 0; i < RT_COUNT(rows); i++) {
        write_index(rows[i].text);
        FAILS(rt_safetensors_open(&st, "index", &err), rows[i].says);
    }
    write_index("{\"weight_map\":{\"a.f32\":\"small.safetensors\"}}");
    OK(rt_safetensors_open(&st, "index", &err));
    ck_assert_int_eq(st.n_tensors, 7);
    rt_safetensors_close(&st);
    OK(rt_dir_make("pickle", &err));
    FAILS(rt_safetensors_open(&st, "pickle", &err), "no model.safetensors");
    put_file("pickle/pytorch_model.bin", "PK\3\4", 4);
    FAILS(rt_safetensors_open(&st, "pickle", &err), "safe_serialization");
    FAILS(rt_safetensors_open(&st, "pickle/pytorch_model.bin", &err), "pickle");
    put_file("pickle/x.safetensors", "\x80\2}q\0(X\1\0\0\0a", 12);
    FAILS(rt_safetensors_open(&st, "pickle/x.safetensors", &err), "pickle");
    FAILS(rt_safetensors_open(&st, GOLDEN "keys.gguf", &err), "GGUF");
    FAILS(rt_safetensors_open(&st, "nowhere", &err), "nowhere");
    free(data);
}
END_TEST

static void write_model(const char *where, int64_t max_shard_bytes)
{
    rt_safetensors_writer w;
    float a[12], b[6];
    uint16_t c[5];
    for (int i = 0; i < 12; i++)
        a[i] = (float)i;
    for (int i = 0; i < 6; i++)
        b[i] = (float)-i;
    for (int i = 0; i < 5; i++)
        c[i] = rt_f32_to_bf16((float)i * 0.5f);
    rt_safetensors_writer_init(&w, where, max_shard_bytes);
    rt_safetensors_writer_add(&w, "z.\"a\"", RT_F32, 2, (int64_t[]){ 3, 4 });
    rt_safetensors_writer_add(&w, "none", RT_F32, 1, (int64_t[]){ 0 });
    rt_safetensors_writer_add(&w, "b", RT_F32, 3, (int64_t[]){ 1, 2, 3 });
    rt_safetensors_writer_add(&w, "c", RT_BF16, 1, (int64_t[]){ 5 });
    OK(rt_safetensors_writer_begin(&w, &err));
    OK(rt_safetensors_writer_push(&w, a, 5, &err));
    OK(rt_safetensors_writer_push(&w, (const uint8_t *)a + 5, sizeof a - 5, &err));
    OK(rt_safetensors_writer_push(&w, b, sizeof b, &err));
    OK(rt_safetensors_writer_push(&w, c, sizeof c, &err));
    OK(rt_safetensors_writer_commit(&w, &err));
}

static void check_model(const char *where, int files)
{
    rt_safetensors st;
    float v[12];
    OK(rt_safetensors_open(&st, where, &err));
    ck_assert_int_eq(st.n_files, files);
    ck_assert_int_eq(st.n_tensors, 4);
    const rt_st_tensor *t = rt_safetensors_find(&st, "z.\"a\"");
    ck_assert(t && t->rank == 2 && t->dim[1] == 4);
    ck_assert_int_eq(t->offset % RT_CACHE_LINE, 0);
    OK(rt_safetensors_read_f32(v, t, 0, 12, &err));
    for (int i = 0; i < 12; i++)
        ck_assert(v[i] == (float)i);
    t = rt_safetensors_find(&st, "c");
    ck_assert(t && t->dtype == RT_BF16);
    OK(rt_safetensors_read_f32(v, t, 0, 5, &err));
    for (int i = 0; i < 5; i++)
        ck_assert(v[i] == (float)i * 0.5f);
    rt_safetensors_close(&st);
}

START_TEST(safetensors_written)
{
    const char *dir = "written";
    int64_t n, m;
    write_model(dir, 0);
    check_model(dir, 1);
    char *first = slurp("written/model.safetensors", &n);
    write_model("one.safetensors", 1); /* a file is never split */
    check_model("one.safetensors", 1);
    char *second = slurp("one.safetensors", &m);
    ck_assert(n == m && !memcmp(first, second, (size_t)n));
    write_model(dir, 48); /* larger than before: the single file must not shadow the shards */
    check_model(dir, 2);
    ck_assert(!rt_path_exists("written/model.safetensors"));
    ck_assert(rt_path_exists("written/model-00002-of-00002.safetensors"));
    cJSON *index;
    int64_t total;
    OK(rt_json_load(&index, "written/model.safetensors.index.json", &err));
    OK(rt_json_get_i64(rt_json_find(index, "metadata"), "total_size", 0, 1000, &total, &err));
    ck_assert_int_eq(total, 48 + 24 + 10);
    cJSON_Delete(index);
    write_model(dir, 0);
    check_model(dir, 1);
    ck_assert(!rt_path_exists("written/model.safetensors.index.json"));
    free(first);
    free(second);
}
END_TEST

START_TEST(abandoned_writers_leave_nothing)
{
    rt_safetensors_writer w;
    rt_gguf_writer g;
    char **names;
    int n, left = 0;
    rt_safetensors_writer_init(&w, "never.safetensors", 0);
    rt_safetensors_writer_add(&w, "a", RT_F32, 1, (int64_t[]){ 4 });
    OK(rt_safetensors_writer_begin(&w, &err));
    rt_safetensors_writer_abort(&w);
    rt_safetensors_writer_abort(&w);
    OK(rt_gguf_writer_open(&g, "never.gguf", &err));
    rt_gguf_writer_abort(&g);
    rt_gguf_writer_abort(&g);
    FAILS(rt_gguf_writer_open(&g, "no/such/dir.gguf", &err), "no/such");
    OK(rt_dir_list(&names, &n, ".", &err));
    for (int i = 0; i < n; i++)
        left += strstr(names[i], "never") != NULL;
    ck_assert_int_eq(left, 0);
    rt_names_free(names, n);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { blocks_decode_as_gguf_does, 1 },
                                 { keys_are_typed, 1 },
                                 { gguf_bytes_equal_the_python_writer, 1 },
                                 { gguf_truncated_or_damaged, 1 },
                                 { gguf_hostile, 1 },
                                 { safetensors_golden, 1 },
                                 { safetensors_truncated_or_damaged, 1 },
                                 { safetensors_hostile, 1 },
                                 { safetensors_directories, 1 },
                                 { safetensors_written, 1 },
                                 { abandoned_writers_leave_nothing, 1 } };
    return suite_run("formats", NULL, tests, RT_COUNT(tests));
}
