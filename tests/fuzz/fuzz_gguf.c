/* fuzz_gguf.c: a GGUF: every key through every getter, rows of every tensor decoded, then the model
   description and the tokenizer that are read from one. The mutator works on the keys and tensors
   of a good file and writes it anew, with counts, lengths and offsets that are true. */
#include "fuzz.h"

#include "core/formats/gguf.h"
#include "core/network/weights.h"
#include "corpora/tokenizer/tokenizer.h"

static void add_string(rt_text *out, const char *s, size_t n)
{
    fuzz_add_le(out, n, 8);
    fuzz_add(out, s, n);
}

#define MODEL FUZZ_DIR "/m-00001-of-00002.gguf"

// The input as the first part of a model; the second part is a good one.
static void set_model(const uint8_t *data, size_t size)
{
    static rt_text part;
    if (!part.data) {
        fuzz_add(&part, "GGUF\3\0\0", 8);
        fuzz_add_le(&part, 1, 8); // tensors
        fuzz_add_le(&part, 2, 8); // keys
        add_string(&part, "split.no", 8);
        fuzz_add_le(&part, RT_GGUF_U16 | 1ull << 32, 6);
        add_string(&part, "split.count", 11);
        fuzz_add_le(&part, RT_GGUF_U16 | 2ull << 32, 6);
        add_string(&part, "part.weight", 11);
        fuzz_add_le(&part, 1, 4); // rank
        fuzz_add_le(&part, 4, 8);
        fuzz_add_le(&part, 24, 4); // I8
        fuzz_add_le(&part, 0, 8);
        while (part.bytes % 32 != 4)
            fuzz_add_le(&part, 0, 1);
    }
    fuzz_file("m-00001-of-00002.gguf", size ? data : (const uint8_t *)"", size);
    fuzz_file("m-00002-of-00002.gguf", part.data, (size_t)part.bytes);
}

static void get_key(const rt_gguf *g, const char *key)
{
    int64_t i, n, *ints;
    double f;
    bool b;
    float *floats;
    rt_gguf_str s, *strs;
    rt_err err;
    FUZZ_CHECK(rt_gguf_find_key(g, key));
    rt_gguf_get_i64(g, key, INT64_MIN, INT64_MAX, &i, &err);
    rt_gguf_get_f64(g, key, &f, &err);
    rt_gguf_opt_bool(g, key, &b, &err);
    if (rt_gguf_get_str(g, key, &s, &err) == 0)
        rt_gguf_str_is(s, "llama");
    if (rt_gguf_get_i64s(g, key, &ints, &n, &err) == 0)
        free(ints);
    if (rt_gguf_get_f32s(g, key, &floats, &n, &err) == 0)
        free(floats);
    if (rt_gguf_get_strs(g, key, &strs, &n, &err) == 0)
        free(strs);
}

static void decode_rows(const rt_gguf *g, const rt_gguf_tensor *t)
{
    float out[512];
    FUZZ_CHECK(rt_gguf_find(g, t->name) == t);
    if (t->dtype == RT_DTYPE_COUNT || t->dtype == RT_I32 || t->dtype == RT_U8)
        return;
    int64_t block = rt_dtype_get(t->dtype)->block, n = rt_min(t->elements, RT_COUNT(out));
    n -= n % block;
    rt_decode_f32(out, t->data, t->dtype, n);
    rt_decode_f32(out, t->data + t->bytes - rt_dtype_bytes(t->dtype, n), t->dtype, n);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    rt_gguf g;
    rt_config c;
    rt_err err;
    rt_tokenizer *t;
    rt_ids ids = { 0 };
    rt_text text = { 0 };
    set_model(data, size);
    if (rt_gguf_open(&g, MODEL, &err))
        return 0;
    for (int64_t i = 0; i < g.n_keys; i++)
        get_key(&g, g.key[i].name);
    for (int64_t i = 0; i < g.n_tensors; i++)
        decode_rows(&g, &g.tensor[i]);
    bool words = rt_gguf_find_key(&g, "tokenizer.ggml.tokens") != NULL;
    bool model = rt_gguf_find_key(&g, "general.architecture") != NULL;
    rt_gguf_close(&g);
    if (model)
        rt_model_config(&c, MODEL, &err);
    if (words && rt_tokenizer_open(&t, MODEL, &err) == 0) {
        if (rt_tokenizer_encode(t, "the 12 a\xc3\xa9\n<s> x", 14, 3, &ids, &err) == 0)
            FUZZ_CHECK(rt_tokenizer_decode(t, ids.id, ids.n, 0, &text, &err) == 0);
        rt_tokenizer_close(t);
    }
    rt_ids_free(&ids);
    rt_text_free(&text);
    return 0;
}

// ---- mutator ----

static const char NAMES[] =
    "general.architecture\ngeneral.alignment\ntokenizer.ggml.model\ntokenizer.ggml.pre\n"
    "tokenizer.ggml.tokens\ntokenizer.ggml.scores\ntokenizer.ggml.token_type\n"
    "tokenizer.ggml.merges\ntokenizer.ggml.bos_token_id\ntokenizer.ggml.eos_token_id\n"
    "tokenizer.ggml.add_bos_token\ntokenizer.ggml.add_space_prefix\n"
    "tokenizer.chat_template\nsplit.no\nsplit.count\nsplit.tensors.count\nllama.block_count\nllama."
    "embedding_length\n"
    "llama.attention.head_count\nllama.rope.scaling.type\nrope_freqs.weight\n"
    "token_embd.weight\noutput.weight\nretort.header\nretort.xxh3";

static int bytes_of(rt_gguf_type t)
{
    static const int bytes[RT_GGUF_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return bytes[t];
}

// The values of a key, one of them changed, dropped or doubled; *n: how many there are then.
static void change_values(rt_text *out, const rt_gguf_key *k, int64_t *n, fuzz_dice *d)
{
    int64_t at = fuzz_roll(d, (uint64_t)k->n);
    int what = k->array ? (int)fuzz_roll(d, 4) : 0; // 2 drops, 3 doubles, else changes
    const uint8_t *p = k->data;
    *n = k->n + (k->n ? (what == 3) - (what == 2) : 0);
    for (int64_t i = 0; i < k->n; i++) {
        uint64_t bytes = (uint64_t)bytes_of(k->type), head = 0;
        if (k->type == RT_GGUF_STR) {
            memcpy(&bytes, p, 8);
            head = 8;
        }
        rt_text one = { 0 };
        fuzz_add(&one, p + head, bytes);
        p += head + bytes;
        if (i == at && what < 2)
            fuzz_text_change(&one, head ? 8 : 0);
        if (!head)
            while ((uint64_t)one.bytes < bytes)
                fuzz_add_le(&one, 0, 1);
        for (int twice = i == at ? what == 3 ? 2 : what != 2 : 1; twice > 0; twice--) {
            if (head)
                fuzz_add_le(out, (uint64_t)one.bytes, 8);
            fuzz_add(out, one.data, (size_t)one.bytes);
        }
        rt_text_free(&one);
    }
}

static void add_key(rt_text *out, const rt_gguf_key *k, const char *name, bool change, fuzz_dice *d)
{
    rt_text values = { 0 };
    int64_t n = k->n;
    rt_gguf_type type = k->type;
    fuzz_add(&values, k->data, (size_t)k->bytes);
    if (change && fuzz_roll(d, 5)) {
        rt_text_clear(&values);
        change_values(&values, k, &n, d);
    } else if (change &&
               type != RT_GGUF_STR) { // another type of the same size, or just a wider one
        while (type == k->type || type == RT_GGUF_ARRAY || type == RT_GGUF_STR)
            type = (rt_gguf_type)fuzz_roll(d, RT_GGUF_TYPE_COUNT);
        while (values.bytes < n * bytes_of(type))
            fuzz_add_le(&values, fuzz_roll(d, 3), 1);
        values.bytes = n * bytes_of(type);
    }
    add_string(out, name, strlen(name));
    if (k->array)
        fuzz_add_le(out, RT_GGUF_ARRAY, 4);
    fuzz_add_le(out, type, 4);
    if (k->array)
        fuzz_add_le(out, (uint64_t)n, 8);
    fuzz_add(out, values.data, (size_t)values.bytes);
    rt_text_free(&values);
}

// A tensor's record and its data, from the old ones as far as they reach.
static void add_tensor(rt_text *out, rt_text *data, const rt_gguf_tensor *t, const char *name,
                       int64_t alignment, bool change, fuzz_dice *d)
{
    int32_t id = 0;
    int64_t dim[4], elements = 1;
    memcpy(dim, t->dim, sizeof dim);
    while (!rt_ggml_type_get(id) || strcmp(rt_ggml_type_get(id)->name, t->type) != 0)
        id++;
    if (change && fuzz_roll(d, 2))
        id = (int32_t)fuzz_roll(d, 42);
    if (change)
        dim[fuzz_roll(d, (uint64_t)t->rank)] = 32 * fuzz_roll(d, 17);
    const rt_ggml_type *type = rt_ggml_type_get(id) ? rt_ggml_type_get(id) : rt_ggml_type_get(0);
    for (int i = 0; i < t->rank; i++)
        elements *= dim[i] = rt_min(dim[i], 1 << 12); // beside a 0 stands anything
    add_string(out, name, strlen(name));
    fuzz_add_le(out, (uint64_t)t->rank, 4);
    for (int i = t->rank - 1; i >= 0; i--)
        fuzz_add_le(out, (uint64_t)dim[i], 8);
    fuzz_add_le(out, (uint64_t)id, 4);
    fuzz_add_le(out, (uint64_t)data->bytes, 8);
    int64_t bytes = rt_min(elements / type->block * type->block_bytes, 1 << 14);
    fuzz_add(data, t->data, (size_t)rt_min(bytes, t->bytes));
    for (int64_t i = t->bytes; i < bytes; i++)
        fuzz_add_le(data, fuzz_roll(d, 256), 1);
    while (data->bytes % alignment)
        fuzz_add_le(data, 0, 1);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    fuzz_dice d = { seed };
    rt_gguf g;
    rt_err err;
    set_model(data, size);
    if (fuzz_roll(&d, 4) == 0 || !size || rt_gguf_open(&g, MODEL, &err))
        return LLVMFuzzerMutate(data, size, max);
    rt_text text = { 0 }, keys = { 0 }, infos = { 0 }, body = { 0 };
    uint64_t all = (uint64_t)(g.n_keys + g.n_tensors - g.n_more), n_keys = 0, n_tensors = 0;
    uint64_t at = fuzz_roll(&d, all), what = fuzz_roll(&d, 8);
    for (uint64_t i = 0; i < all; i++) { // 0 drops, 1 copies under a name, 2 renames, else changes
        bool is_key = i < (uint64_t)g.n_keys, here = i == at;
        const rt_gguf_key *k = is_key ? g.key + i : NULL;
        const rt_gguf_tensor *t = is_key ? NULL : g.tensor + (i - (uint64_t)g.n_keys);
        const char *name = is_key ? k->name : t->name, *other = fuzz_word(&d, NAMES);
        for (int twice = here && what < 2 ? (int)what * 2 : 1; twice > 0; twice--) {
            const char *as = here && (twice == 2 || what == 2) ? other : name;
            if (is_key)
                add_key(&keys, k, as, here && what > 2, &d);
            else
                add_tensor(&infos, &body, t, as, g.alignment, here && what > 2, &d);
            n_keys += is_key;
            n_tensors += !is_key;
        }
    }
    fuzz_add(&text, "GGUF", 4);
    fuzz_add_le(&text, g.version, 4);
    fuzz_add_le(&text, n_tensors, 8);
    fuzz_add_le(&text, n_keys, 8);
    fuzz_add(&text, keys.data ? keys.data : "", (size_t)keys.bytes);
    fuzz_add(&text, infos.data ? infos.data : "", (size_t)infos.bytes);
    while (n_tensors && text.bytes % g.alignment)
        fuzz_add_le(&text, 0, 1);
    fuzz_add(&text, body.data ? body.data : "", (size_t)body.bytes);
    rt_gguf_close(&g);
    rt_text_free(&keys);
    rt_text_free(&infos);
    rt_text_free(&body);
    return fuzz_result(&text, data, size, max);
}
