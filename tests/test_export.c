/* test_export.c: Hugging Face directory -> GGUF: names, row order, keys, tokenizer, types, sizes,
   determinism, importance, refusals. That llama.cpp and transformers agree with such files was
   checked when they were designed; that retort computes the golden logits from them is
   check_quantize.sh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "corpora/chat.h"
#include "quant/export.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/tokenizers/"
#define OUT "out.gguf"

static rt_err err;

/* ---- models to export: random weights under golden tokenizers ---- */

static const char *llama_json =
    "{\"model_type\":\"llama\",\"vocab_size\":%d,\"hidden_size\":256,\"intermediate_size\":96,"
    "\"num_hidden_layers\":4,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,"
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
    "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":128},\"hidden_act\":\"silu\"}";
static const char *qwen_json =
    "{\"model_type\":\"qwen3\",\"vocab_size\":%d,\"hidden_size\":96,\"intermediate_size\":256,"
    "\"num_hidden_layers\":4,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000.0,"
    "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}";

/* Families of the same parts: a window that runtimes do not know, and biases. */
static const char *mistral_json =
    "{\"model_type\":\"mistral\",\"vocab_size\":%d,\"hidden_size\":32,\"intermediate_size\":48,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-5,\"rope_theta\":1000000.0,"
    "\"sliding_window\":64}";
static const char *qwen2_json =
    "{\"model_type\":\"qwen2\",\"vocab_size\":%d,\"hidden_size\":32,\"intermediate_size\":48,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000.0,"
    "\"use_sliding_window\":false,\"sliding_window\":64,\"max_window_layers\":1}";

static void copy_file(const char *from_dir, const char *name, const char *to_dir)
{
    char *from = rt_path_join(from_dir, name), *to = rt_path_join(to_dir, name), *data;
    int64_t bytes;
    OK(rt_file_read(&data, &bytes, from, 1 << 24, &err));
    OK(rt_file_write(to, data, bytes, &err));
    free(data);
    free(from);
    free(to);
}

/* Weight i of a tensor: distinct, and of ordinary size. */
static float value(uint64_t param, int64_t i)
{
    return 0.2f * (rt_rng_uniform(5, RT_RNG_DATA, param << 32 | (uint64_t)i) - 0.5f);
}

/* spoil: 0 sound, 1 a tensor is missing, 2 one too many, 3 a wrong shape, 4 a NaN, 5 one in every
   hundredth row of the embedding */
static void make_model(const char *dir, const char *json, const char *tokenizer, int rows,
                       int spoil)
{
    char text[1024];
    rt_config cfg;
    rt_weights reg;
    rt_safetensors_writer w;
    cJSON *parsed;
    char *path = rt_path_join(dir, "config.json");
    OK(rt_dir_make(dir, &err));
    snprintf(text, sizeof text, json, rows);
    OK(rt_file_write(path, text, (int64_t)strlen(text), &err));
    free(path);
    if (tokenizer) {
        copy_file(tokenizer, "tokenizer.json", dir);
        copy_file(tokenizer, "tokenizer_config.json", dir);
    }
    OK(rt_json_parse(&parsed, text, (int64_t)strlen(text), "config", &err));
    OK(rt_config_parse(&cfg, parsed, "config", &err));
    cJSON_Delete(parsed);
    rt_weights_init(&reg, &cfg);
    rt_safetensors_writer_init(&w, dir, 0);
    for (int i = spoil == 1; i < reg.params.n; i++) {
        rt_param *p = &reg.params.item[i];
        if (spoil == 3 && i == 1)
            p->slot->dim[0]++;
        rt_safetensors_writer_add(&w, p->name, RT_F32, p->slot->rank, p->slot->dim);
    }
    if (spoil == 2)
        rt_safetensors_writer_add(&w, "model.extra.weight", RT_F32, 1, (int64_t[]){ 3 });
    OK(rt_safetensors_writer_begin(&w, &err));
    for (int i = spoil == 1; i < reg.params.n; i++) {
        int64_t n = rt_tensor_elements(reg.params.item[i].slot);
        float *x = malloc((size_t)n * sizeof *x);
        for (int64_t k = 0; k < n; k++)
            x[k] = value((uint64_t)i, k);
        if (spoil == 4 && i == 5)
            x[7] = NAN;
        for (int64_t row = 199; spoil == 5 && i == 0 && row < rows; row += 100)
            x[row * n / rows + 3] = NAN;
        OK(rt_safetensors_writer_push(&w, x, n * 4, &err));
        free(x);
    }
    if (spoil == 2)
        OK(rt_safetensors_writer_push(&w, (float[]){ 1, 2, 3 }, 12, &err));
    OK(rt_safetensors_writer_commit(&w, &err));
    rt_weights_free(NULL, &reg);
}

static int token_count(const char *tokenizer)
{
    rt_tokenizer *t;
    OK(rt_tokenizer_open(&t, tokenizer, &err));
    int n = rt_tokenizer_vocab(t);
    rt_tokenizer_close(t);
    return n;
}

static void setup(void)
{
    make_model("llama", llama_json, GOLDEN "llama-bpe", token_count(GOLDEN "llama-bpe"), 0);
    make_model("qwen3", qwen_json, GOLDEN "qwen2", token_count(GOLDEN "qwen2") + 5, 0);
    make_model("mistral", mistral_json, GOLDEN "llama-bpe", token_count(GOLDEN "llama-bpe"), 0);
    make_model("qwen2", qwen2_json, GOLDEN "qwen2", token_count(GOLDEN "qwen2"), 0);
}

static rt_export job(const char *dir, const char *mix)
{
    return (rt_export){ .dir = dir, .out = OUT, .mix = rt_mix_find(mix) };
}

/* ---- tensors ---- */

/* Every exported f32 tensor equals its source, query and key rows of llama in adjacent pairs. */
static void check_values(const char *dir, bool pairs, int64_t heads, int64_t kv_heads,
                         const char *arch, int64_t context)
{
    char key[64];
    int64_t stated = 0;
    rt_gguf_str name_of_arch;
    rt_export e = job(dir, "F32");
    rt_export_report r;
    rt_config cfg;
    rt_weights reg;
    rt_gguf g;
    rt_safetensors st;
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_config_load(&cfg, dir, &err));
    OK(rt_safetensors_open(&st, dir, &err));
    OK(rt_gguf_open(&g, OUT, &err));
    rt_weights_init(&reg, &cfg);
    snprintf(key, sizeof key, "%s.context_length", arch);
    OK(rt_gguf_get_str(&g, "general.architecture", &name_of_arch, &err) ||
       rt_gguf_get_i64(&g, key, 1, INT32_MAX, &stated, &err));
    ck_assert(rt_gguf_str_is(name_of_arch, arch) && stated == context);
    ck_assert_int_eq(g.n_tensors, reg.params.n + (cfg.rope_scaling == RT_ROPE_LLAMA3));
    for (int i = 0; i < reg.params.n; i++) {
        char name[80];
        const rt_param *p = &reg.params.item[i];
        snprintf(name, sizeof name, "%s%s", p->gguf, strrchr(p->name, '.'));
        const rt_gguf_tensor *t = rt_gguf_find(&g, name);
        const rt_st_tensor *s = rt_safetensors_find(&st, p->name);
        ck_assert_msg(t && s, "%s", name);
        ck_assert_int_eq(t->rank, s->rank);
        const float *y = (const float *)(const void *)t->data;
        const float *x = (const float *)(const void *)s->data;
        int64_t c = t->dim[t->rank - 1], n = t->elements / c;
        int64_t h = strstr(name, "attn_q.") ? heads : strstr(name, "attn_k.") ? kv_heads : 0;
        for (int64_t row = 0; row < n; row++) {
            int64_t from = row;
            if (pairs && h) { /* row 2i + j of a head was row j * width / 2 + i */
                int64_t d = n / h, at = row % d;
                from = row / d * d + (at % 2) * (d / 2) + at / 2;
            }
            ck_assert_msg(!memcmp(y + row * c, x + from * c, (size_t)c * 4), "%s row %lld", name,
                          (long long)row);
        }
    }
    rt_weights_free(NULL, &reg);
    rt_gguf_close(&g);
    rt_safetensors_close(&st);
}

START_TEST(values_and_rows)
{
    check_values("llama", true, 4, 2, "llama", 512);
    check_values("qwen3", false, 4, 2, "qwen3", 512);
    check_values("mistral", true, 4, 2, "llama", 64);
    check_values("qwen2", false, 4, 2, "qwen2", 512);
}
END_TEST

START_TEST(types_and_sizes)
{
    static const char *const mixes[] = { "F32",  "F16",    "BF16",   "Q8_0",   "Q6_K",
                                         "Q4_0", "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S" };
    static const char *const dirs[] = { "llama", "qwen3" };
    for (int d = 0; d < 2; d++)
        for (int k = 0; k < (d ? 4 : RT_COUNT(mixes)); k++) {
            rt_export e = job(dirs[d], mixes[k]);
            rt_export_report planned, done;
            rt_gguf g;
            int64_t bytes = 0, size;
            OK(rt_export_plan(&e, &planned, &err));
            OK(rt_export_gguf(&e, &done, &err));
            OK(rt_gguf_open(&g, OUT, &err));
            for (int64_t i = 0; i < g.n_tensors; i++)
                if (strcmp(g.tensor[i].name, "rope_freqs.weight"))
                    bytes += g.tensor[i].bytes;
            ck_assert_int_eq(planned.tensor_bytes, bytes);
            ck_assert_int_eq(done.tensor_bytes, bytes);
            OK(rt_path_size(OUT, &size, &err));
            ck_assert_int_eq(done.file_bytes, size);
            int64_t file_type;
            OK(rt_gguf_get_i64(&g, "general.file_type", 0, 99, &file_type, &err));
            ck_assert_int_eq(file_type, rt_mix_find(mixes[k])->file_type);
            /* even rows of uniform numbers: a grid of 2^bits steps over the range of a block */
            double limit = k == 0                        ? 0
                           : k < 3                       ? 0.003
                           : k == 3                      ? 0.006
                           : k == 4                      ? 0.02
                           : !strncmp(mixes[k], "Q5", 2) ? 0.035
                                                         : 0.07;
            ck_assert_msg(done.error <= limit, "%s %s: %g", dirs[d], mixes[k], done.error);
            rt_gguf_close(&g);
        }
}
END_TEST

START_TEST(types_follow_the_mix)
{
    static const struct {
        const char *dir, *mix, *tensor;
        bool pure;
        rt_dtype want;
    } rows[] = {
        { "llama", "Q4_K_M", "blk.1.attn_q.weight", false, RT_Q4_K },
        { "llama", "Q4_K_M", "blk.2.attn_v.weight", false, RT_Q6_K },
        { "llama", "Q4_K_M", "blk.1.attn_v.weight", false, RT_Q4_K },
        { "llama", "Q4_K_M", "blk.1.ffn_down.weight", false, RT_Q5_0 }, /* rows of 96 */
        { "llama", "Q4_K_M", "blk.3.ffn_down.weight", false, RT_Q8_0 },
        { "llama", "Q4_K_M", "output.weight", false, RT_Q6_K },
        { "llama", "Q4_K_M", "token_embd.weight", false, RT_Q4_K },
        { "llama", "Q4_0", "output.weight", false, RT_Q6_K },
        { "llama", "Q4_0", "output.weight", true, RT_Q4_0 },
        { "llama", "Q4_0", "output_norm.weight", true, RT_F32 },
        { "qwen3", "Q4_K_M", "token_embd.weight", false, RT_Q8_0 }, /* tied, rows of 96 */
        { "qwen3", "Q4_K_M", "blk.0.attn_q_norm.weight", false, RT_F32 },
    };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        rt_gguf g;
        rt_export_report r;
        rt_export e = job(rows[i].dir, rows[i].mix);
        e.pure = rows[i].pure;
        if (i == 0 || rows[i].dir != rows[i - 1].dir || rows[i].mix != rows[i - 1].mix ||
            e.pure != rows[i - 1].pure)
            OK(rt_export_gguf(&e, &r, &err));
        OK(rt_gguf_open(&g, OUT, &err));
        const rt_gguf_tensor *t = rt_gguf_find(&g, rows[i].tensor);
        ck_assert_msg(t && t->dtype == rows[i].want, "row %d %s", i, rows[i].tensor);
        rt_gguf_close(&g);
    }
}
END_TEST

/* ---- sources that are quantized already ---- */

enum { BLOCK_ROWS = 40, BLOCK_COLS = 56, GROUP = 32 }; /* ragged in every matrix; whole */

static const char *fp8_json = ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","
                              "\"weight_block_size\":[40,56]}}";
static const char *int4_json =
    ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
    "\"format\":\"pack-quantized\",\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":4,"
    "\"type\":\"int\",\"symmetric\":true,\"strategy\":\"group\",\"group_size\":32}}}}}";

static uint32_t code_of(int param, int64_t i, uint32_t codes)
{
    return (uint32_t)(rt_rng_uniform(9, RT_RNG_DATA, (uint64_t)param << 32 | (uint64_t)i) *
                      (float)codes) %
           codes;
}

static float e4m3(uint32_t code)
{
    float m = (float)(code & 7), sign = code & 128 ? -1.0f : 1.0f;
    int e = (int)(code >> 3 & 15);
    return sign * (e ? ldexpf(1 + m / 8, e - 7) : ldexpf(m / 8, -6));
}

/* Scale of a block or a group, and the value of element (r,c) as its codes say. */
static float scale_of(int param, int64_t at)
{
    return 0.001f + 0.01f * value(900 + (uint64_t)param, at);
}

static float coded(int param, bool int4, int64_t r, int64_t c, int64_t cols)
{
    if (int4)
        return scale_of(param, r * (cols / GROUP) + c / GROUP) *
               (float)((int)code_of(param, r * cols + c, 16) - 8);
    int64_t across = (cols + BLOCK_COLS - 1) / BLOCK_COLS;
    return e4m3(code_of(param, r * cols + c, 126)) *
           scale_of(param, r / BLOCK_ROWS * across + c / BLOCK_COLS);
}

static bool is_coded(const rt_param *p) { return strstr(p->name, "_proj.weight") != NULL; }

static void name_part(char out[160], const rt_param *p, const char *suffix)
{
    snprintf(out, 160, "%s%s", p->name, suffix);
}

/* Codes of parameter i and what goes with them; w NULL: only declare. */
static void push_coded(rt_safetensors_writer *w, bool begun, int i, const rt_param *p, bool int4)
{
    char name[160];
    int64_t rows = p->slot->dim[0], cols = p->slot->dim[1];
    int64_t grid[2] = { int4 ? rows : (rows + BLOCK_ROWS - 1) / BLOCK_ROWS,
                        int4 ? cols / GROUP : (cols + BLOCK_COLS - 1) / BLOCK_COLS };
    if (!begun) {
        int64_t two = 2;
        name_part(name, p, int4 ? "_packed" : "");
        rt_safetensors_writer_add(w, name, int4 ? RT_I32 : RT_F8_E4M3, 2,
                                  (int64_t[]){ rows, int4 ? cols / 8 : cols });
        name_part(name, p, int4 ? "_scale" : "_scale_inv");
        rt_safetensors_writer_add(w, name, RT_F32, 2, grid);
        name_part(name, p, "_shape");
        if (int4)
            rt_safetensors_writer_add(w, name, RT_I32, 1, &two);
        return;
    }
    int64_t bytes = int4 ? rows * cols / 2 : rows * cols;
    uint8_t *code = calloc((size_t)bytes, 1);
    float *scale = malloc((size_t)(grid[0] * grid[1]) * sizeof *scale);
    for (int64_t k = 0; k < rows * cols; k++)
        code[int4 ? k / 2 : k] |= (uint8_t)(int4 ? code_of(i, k, 16) << k % 2 * 4
                                                 : code_of(i, k, 126));
    for (int64_t k = 0; k < grid[0] * grid[1]; k++)
        scale[k] = scale_of(i, k);
    OK(rt_safetensors_writer_push(w, code, bytes, &err));
    OK(rt_safetensors_writer_push(w, scale, grid[0] * grid[1] * 4, &err));
    if (int4)
        OK(rt_safetensors_writer_push(w, (int32_t[]){ (int32_t)rows, (int32_t)cols }, 8, &err));
    free(code);
    free(scale);
}

static void push_plain(rt_safetensors_writer *w, int i, const rt_param *p, bool int4)
{
    int64_t n = rt_tensor_elements(p->slot), cols = p->slot->dim[p->slot->rank - 1];
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t k = 0; k < n; k++)
        x[k] = is_coded(p) ? coded(i, int4, k / cols, k % cols, cols) : value((uint64_t)i, k);
    OK(rt_safetensors_writer_push(w, x, n * 4, &err));
    free(x);
}

/* A model of json in dir: with codes and scales, or the values they mean as f32. */
static void make_coded(const char *dir, const char *json, bool int4, bool codes)
{
    char text[1024];
    rt_config cfg;
    rt_weights reg;
    rt_safetensors_writer w;
    int n = snprintf(text, sizeof text, json, 64);
    if (codes) /* in place of the last brace */
        n += snprintf(text + n - 1, sizeof text - (size_t)n, "%s", int4 ? int4_json : fp8_json) - 1;
    char *path = rt_path_join(dir, "config.json");
    OK(rt_dir_make(dir, &err) || rt_file_write(path, text, n, &err));
    OK(rt_config_load(&cfg, dir, &err));
    free(path);
    rt_weights_init(&reg, &cfg);
    rt_safetensors_writer_init(&w, dir, 0);
    for (int begun = 0; begun < 2; begun++) {
        for (int i = 0; i < reg.params.n; i++) {
            const rt_param *p = &reg.params.item[i];
            if (codes && is_coded(p))
                push_coded(&w, begun, i, p, int4);
            else if (begun)
                push_plain(&w, i, p, int4);
            else
                rt_safetensors_writer_add(&w, p->name, RT_F32, p->slot->rank, p->slot->dim);
        }
        if (!begun)
            OK(rt_safetensors_writer_begin(&w, &err));
    }
    OK(rt_safetensors_writer_commit(&w, &err));
    rt_weights_free(NULL, &reg);
}

/* Quantizing a checkpoint of codes is quantizing the numbers they mean. */
START_TEST(quantized_sources)
{
    static const char *const mixes[] = { "F16", "Q8_0" };
    for (int k = 0; k < 8; k++) {
        bool int4 = k & 1;
        const char *json = k & 2 ? qwen_json : llama_json;
        rt_hash hash[2];
        rt_export_report r;
        for (int codes = 0; codes < 2; codes++) {
            make_coded("coded", json, int4, codes);
            rt_export e = job("coded", mixes[k / 4]);
            e.weights_only = true;
            OK(rt_export_gguf(&e, &r, &err));
            OK(rt_hash_file(&hash[codes], OUT, &err));
        }
        ck_assert_msg(!strcmp(hash[0].hex, hash[1].hex), "case %d: other bytes", k);
    }
}
END_TEST

/* ---- keys ---- */

static void check_int(const rt_gguf *g, const char *key, int64_t want)
{
    int64_t v;
    OK(rt_gguf_get_i64(g, key, INT64_MIN, INT64_MAX, &v, &err));
    ck_assert_msg(v == want, "%s is %lld", key, (long long)v);
}

START_TEST(architecture_keys)
{
    rt_gguf g;
    rt_export_report r;
    rt_gguf_str s;
    double v;
    rt_export e = job("qwen3/", "Q4_0");
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_gguf_open(&g, OUT, &err));
    OK(rt_gguf_get_str(&g, "general.architecture", &s, &err));
    ck_assert(rt_gguf_str_is(s, "qwen3"));
    OK(rt_gguf_get_str(&g, "general.name", &s, &err));
    ck_assert(rt_gguf_str_is(s, "qwen3"));
    check_int(&g, "general.quantization_version", 2);
    check_int(&g, "qwen3.block_count", 4);
    check_int(&g, "qwen3.context_length", 512);
    check_int(&g, "qwen3.embedding_length", 96);
    check_int(&g, "qwen3.feed_forward_length", 256);
    check_int(&g, "qwen3.attention.head_count", 4);
    check_int(&g, "qwen3.attention.head_count_kv", 2);
    check_int(&g, "qwen3.attention.key_length", 32); /* not 96 / 4 */
    check_int(&g, "qwen3.attention.value_length", 32);
    check_int(&g, "qwen3.rope.dimension_count", 32);
    OK(rt_gguf_get_f64(&g, "qwen3.rope.freq_base", &v, &err));
    ck_assert(v == 1e6);
    OK(rt_gguf_get_f64(&g, "qwen3.attention.layer_norm_rms_epsilon", &v, &err));
    ck_assert(fabs(v - 1e-6) < 1e-13);
    ck_assert_ptr_null(rt_gguf_find(&g, "output.weight")); /* tied */
    ck_assert_ptr_null(rt_gguf_find(&g, "rope_freqs.weight"));
    rt_gguf_close(&g);
    e = job("llama", "Q4_0");
    e.name = "Another name";
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_gguf_open(&g, OUT, &err));
    OK(rt_gguf_get_str(&g, "general.name", &s, &err));
    ck_assert(rt_gguf_str_is(s, "Another name"));
    const rt_gguf_tensor *f = rt_gguf_find(&g, "rope_freqs.weight");
    ck_assert(f && f->dtype == RT_F32 && f->rank == 1 && f->elements == 16);
    const float *factor = (const float *)(const void *)f->data;
    /* wavelengths 2 pi 500000^(i/16): 6.3, 14.3, 32.4 | 73.6 of 128 blends | 167, ... beyond */
    double turns = 128 / (2 * M_PI * pow(500000, 3.0 / 16)), blend = (turns - 1) / 3;
    ck_assert(factor[0] == 1 && factor[2] != 8);
    ck_assert(fabs((double)factor[3] - 1 / ((1 - blend) / 8 + blend)) < 1e-6);
    for (int i = 4; i < 16; i++)
        ck_assert(factor[i] == 8);
    rt_gguf_close(&g);
}
END_TEST

static void check_tokenizer(const char *dir, const char *source, const char *pre, int padding)
{
    static const char text[] = "Hello w\xc3\xb6rld 12345 it's  a\ttest\n\n x=3.14; "
                               "\xe6\x97\xa5\xe6\x9c\xac <|im_end|><|eot_id|></think>";
    rt_export e = job(dir, "Q8_0");
    rt_export_report r;
    rt_gguf g;
    rt_gguf_str s, *tokens;
    rt_tokenizer *t;
    rt_ids a = { 0 }, b = { 0 };
    int64_t n, *types, n_types;
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_gguf_open(&g, OUT, &err));
    OK(rt_tokenizer_open(&t, source, &err));
    if (pre) {
        OK(rt_gguf_get_str(&g, "tokenizer.ggml.pre", &s, &err));
        ck_assert(rt_gguf_str_is(s, pre));
    }
    OK(rt_gguf_get_strs(&g, "tokenizer.ggml.tokens", &tokens, &n, &err));
    OK(rt_gguf_get_i64s(&g, "tokenizer.ggml.token_type", &types, &n_types, &err));
    ck_assert_int_eq(n, rt_tokenizer_vocab(t) + padding);
    for (int32_t i = 0; i < n; i++) {
        char hole[32];
        snprintf(hole, sizeof hole, "[PAD%d]", i);
        rt_str want = i < rt_tokenizer_vocab(t) ? rt_tokenizer_token(t, i) : (rt_str){ NULL, 0 };
        if (want.data) {
            ck_assert(rt_gguf_str_is(tokens[i], want.data));
            ck_assert_int_eq(types[i], (int64_t)rt_tokenizer_type(t, i));
        } else {
            ck_assert(rt_gguf_str_is(tokens[i], hole));
            ck_assert_int_eq(types[i], RT_TOKEN_UNUSED);
        }
    }
    const char *template = rt_tokenizer_chat_template(t);
    s = (rt_gguf_str){ "", 0 };
    OK(rt_gguf_opt_str(&g, "tokenizer.chat_template", &s, &err));
    ck_assert(rt_gguf_str_is(s, template ? template : ""));
    rt_chat back;
    OK(rt_chat_open(&back, OUT, &err));
    for (unsigned flags = 0; flags < 8; flags++) {
        rt_ids_clear(&a);
        rt_ids_clear(&b);
        OK(rt_tokenizer_encode(t, text, sizeof text - 1, flags, &a, &err));
        OK(rt_tokenizer_encode(back.tokenizer, text, sizeof text - 1, flags, &b, &err));
        ck_assert_msg(a.n == b.n && !memcmp(a.id, b.id, (size_t)a.n * 4), "%s flags %u", dir,
                      flags);
    }
    rt_ids_free(&a);
    rt_ids_free(&b);
    rt_chat_close(&back);
    rt_tokenizer_close(t);
    free(tokens);
    free(types);
    rt_gguf_close(&g);
}

START_TEST(tokenizer_inside)
{
    check_tokenizer("llama", GOLDEN "llama-bpe", "llama-bpe", 0);
    check_tokenizer("qwen3", GOLDEN "qwen2", "qwen2", 5);
    make_model("llama2", llama_json, GOLDEN "llama-2", token_count(GOLDEN "llama-2"), 0);
    check_tokenizer("llama2", GOLDEN "llama-2", NULL, 0);
}
END_TEST

/* A token that no merge makes comes after all that some merge makes: runtimes merge by score. */
START_TEST(scores_inside)
{
    static const char odd[] = "\xe2\x96\x81he\xe2\x96\x81"; /* no merge makes it */
    rt_gguf g;
    rt_export_report r;
    rt_tokenizer *t;
    cJSON *json;
    float *score, *want;
    int64_t n;
    const int32_t id = token_count(GOLDEN "llama-2");
    make_model("odd", llama_json, GOLDEN "llama-2", id + 1, 0);
    OK(rt_json_load(&json, "odd/tokenizer.json", &err));
    rt_json_put_i64(cJSON_GetObjectItemCaseSensitive(rt_json_find(json, "model"), "vocab"), odd,
                    id);
    OK(rt_json_save(json, "odd/tokenizer.json", &err));
    cJSON_Delete(json);
    rt_export e = job("odd", "F32");
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_gguf_open(&g, OUT, &err));
    OK(rt_gguf_get_f32s(&g, "tokenizer.ggml.scores", &score, &n, &err));
    OK(rt_tokenizer_open(&t, "odd", &err));
    ck_assert_int_eq(n, rt_tokenizer_vocab(t));
    want = malloc((size_t)n * sizeof *want);
    rt_tokenizer_scores(t, want);
    ck_assert(!memcmp(score, want, (size_t)n * sizeof *want));
    ck_assert_int_eq(rt_tokenizer_id(t, odd), id);
    for (int32_t i = 0; i < id; i++)
        ck_assert(score[i] >= score[id]);
    ck_assert(score[id] == -(float)(rt_tokenizer_merges(t) + 1));
    free(score);
    free(want);
    rt_tokenizer_close(t);
    rt_gguf_close(&g);
}
END_TEST

/* ---- the rest ---- */

START_TEST(same_bytes_for_any_threads)
{
    rt_export e = job("llama", "Q4_K_M");
    rt_export_report r;
    rt_hash one, three;
    e.threads = 1;
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_hash_file(&one, OUT, &err));
    e.threads = 3;
    OK(rt_export_gguf(&e, &r, &err));
    OK(rt_hash_file(&three, OUT, &err));
    ck_assert_str_eq(one.hex, three.hex);
}
END_TEST

enum { W = 256 };

static void write_importance(float *sum, float count)
{
    rt_safetensors_writer w;
    rt_gguf_writer g;
    float mean[W];
    for (int i = 0; i < W; i++) {
        mean[i] = (float)(1 + i % 7 * i % 5 * 10);
        sum[i] = mean[i] * count;
    }
    rt_safetensors_writer_init(&w, "busy.safetensors", 0);
    rt_safetensors_writer_add(&w, "blk.1.attn_q.weight", RT_F32, 1, (int64_t[]){ W });
    OK(rt_safetensors_writer_begin(&w, &err));
    OK(rt_safetensors_writer_push(&w, mean, sizeof mean, &err));
    OK(rt_safetensors_writer_commit(&w, &err));
    OK(rt_gguf_writer_open(&g, "busy.gguf", &err));
    OK(rt_gguf_put_str(&g, "general.type", "imatrix", &err));
    rt_gguf_writer_add(&g, "blk.1.attn_q.weight.in_sum2", RT_F32, 2, (int64_t[]){ 1, W });
    rt_gguf_writer_add(&g, "blk.1.attn_q.weight.counts", RT_F32, 2, (int64_t[]){ 1, 1 });
    OK(rt_gguf_writer_begin(&g, &err));
    OK(rt_gguf_writer_push(&g, sum, W * 4, &err));
    OK(rt_gguf_writer_push(&g, &count, 4, &err));
    OK(rt_gguf_writer_commit(&g, &err));
}

/* Of all tensors of the file; its keys name the importance. */
static rt_hash data_hash(void)
{
    rt_gguf g;
    OK(rt_gguf_open(&g, OUT, &err));
    const rt_gguf_key *k = rt_gguf_find_key(&g, RT_GGUF_SUMS_KEY);
    ck_assert_ptr_nonnull(k);
    rt_hash hash = rt_hash_bytes(k->data, k->bytes);
    rt_gguf_close(&g);
    return hash;
}

static void check_imatrix_keys(const char *file)
{
    rt_gguf g;
    rt_gguf_str s;
    int64_t entries = -1;
    OK(rt_gguf_open(&g, OUT, &err));
    if (file) {
        OK(rt_gguf_get_str(&g, "quantize.imatrix.file", &s, &err));
        OK(rt_gguf_get_i64(&g, "quantize.imatrix.entries_count", 0, 99, &entries, &err));
        ck_assert(rt_gguf_str_is(s, file) && entries == 1);
    } else {
        ck_assert_ptr_null(rt_gguf_find_key(&g, "quantize.imatrix.file"));
    }
    rt_gguf_close(&g);
}

START_TEST(importance_from_both_containers)
{
    float sum[W];
    rt_hash hash[3];
    rt_export_report r;
    write_importance(sum, 64);
    static const char *const files[] = { NULL, "busy.safetensors", "busy.gguf" };
    for (int i = 0; i < 3; i++) {
        rt_importance imp = { 0 };
        rt_export e = job("llama", "Q4_K_M");
        if (files[i]) {
            OK(rt_importance_open(&imp, files[i], &err));
            e.importance = &imp;
        }
        OK(rt_export_gguf(&e, &r, &err));
        ck_assert_int_eq(r.weighed, i > 0);
        hash[i] = data_hash();
        check_imatrix_keys(files[i]);
        rt_importance_close(&imp);
    }
    ck_assert_str_ne(hash[0].hex, hash[1].hex);
    ck_assert_str_eq(hash[1].hex, hash[2].hex);
    rt_importance imp;
    rt_gguf_writer g;
    OK(rt_gguf_writer_open(&g, "short.gguf", &err));
    OK(rt_gguf_put_str(&g, "general.type", "imatrix", &err));
    rt_gguf_writer_add(&g, "blk.1.attn_q.weight.in_sum2", RT_F32, 1, (int64_t[]){ 4 });
    OK(rt_gguf_writer_begin(&g, &err));
    OK(rt_gguf_writer_push(&g, sum, 16, &err));
    OK(rt_gguf_writer_commit(&g, &err));
    OK(rt_importance_open(&imp, "short.gguf", &err));
    rt_export e = job("llama", "Q4_K_M");
    e.importance = &imp;
    FAILS(rt_export_gguf(&e, &r, &err), "made for another model");
    rt_importance_close(&imp);
    FAILS(rt_importance_open(&imp, RT_SOURCE_DIR "/tests/golden/keys.gguf", &err),
          "not an imatrix");
}
END_TEST

/* Both forms that are written, read back; an expert without tokens counts as all ones. */
START_TEST(importance_round_trip)
{
    static const char *const files[] = { "written.gguf", "written.dat" };
    float sums[3 * W], counts[3] = { 1000, 0, 37 }, got[W];
    for (int i = 0; i < 3 * W; i++)
        sums[i] = (float)(i % 53) * 0.37f;
    const rt_importance_entry entries[] = { { "blk.0.attn_q.weight", 1, W, sums, counts },
                                            { "blk.1.ffn_up_exps.weight", 3, W, sums, counts } };
    const rt_importance_about about = { "texts.jsonl", 5, 256 };
    for (int f = 0; f < 2; f++) {
        rt_importance imp;
        bool found;
        OK(rt_importance_write(files[f], entries, 2, &about, &err));
        OK(rt_importance_open(&imp, files[f], &err));
        for (int m = -1; m < 3; m++) {
            const rt_importance_entry *e = &entries[m >= 0];
            int64_t at = m < 0 ? 0 : m;
            OK(rt_importance_read(&imp, e->name, at, e->matrices, got, W, &found, &err));
            ck_assert(found);
            for (int i = 0; i < W; i++) {
                float want = counts[at] > 0 ? sums[at * W + i] / counts[at] : 1;
                ck_assert(fabsf(got[i] - want) <= (f ? 1e-6f * want : 0));
            }
        }
        OK(rt_importance_read(&imp, "blk.7.attn_q.weight", 0, 1, got, W, &found, &err));
        ck_assert(!found);
        FAILS(rt_importance_read(&imp, entries[0].name, 0, 1, got, W - 1, &found, &err),
              "made for another model");
        FAILS(rt_importance_read(&imp, entries[1].name, 0, 2, got, W, &found, &err),
              "made for another model");
        rt_importance_close(&imp);
    }
    char *data;
    int64_t bytes;
    rt_importance imp;
    OK(rt_file_read(&data, &bytes, "written.dat", 1 << 20, &err));
    for (int64_t cut = 0; cut < bytes - 4 - 4 - 11; cut += cut < 64 ? 1 : 97) {
        OK(rt_file_write("cut.dat", data, cut, &err));
        FAILS(rt_importance_open(&imp, "cut.dat", &err), "cut.dat: ");
    }
    memset(data, 0xff, 4); /* entries: less than none */
    OK(rt_file_write("cut.dat", data, bytes, &err));
    FAILS(rt_importance_open(&imp, "cut.dat", &err), "neither an imatrix");
    free(data);
}
END_TEST

START_TEST(refusals)
{
    rt_export_report r;
    static const struct {
        int spoil;
        const char *says;
    } rows[] = { { 1, "model.embed_tokens.weight is missing" },
                 { 2, "model.extra.weight is not part" },
                 { 3, "has shape (97), config.json says (96)" },
                 { 4, "row 0, column 7" },
                 { 5, "rows from 170: row 29, column 3" } };
    int n = token_count(GOLDEN "qwen2");
    for (int i = 0; i < RT_COUNT(rows); i++) {
        rt_export e = job("spoilt", "Q4_0");
        e.out = "refused.gguf";
        e.threads = 3; /* the first of what they find is told */
        make_model("spoilt", qwen_json, GOLDEN "qwen2", n, rows[i].spoil);
        FAILS(rt_export_gguf(&e, &r, &err), rows[i].says);
    }
    rt_export e = job("spoilt", "Q4_0");
    e.out = "refused.gguf";
    make_model("spoilt", qwen_json, GOLDEN "qwen2", n - 1, 0);
    FAILS(rt_export_gguf(&e, &r, &err), "do not belong together");
    make_model("bare", qwen_json, NULL, n, 0);
    e.dir = "bare";
    FAILS(rt_export_gguf(&e, &r, &err), "tokenizer.json");
    e.dir = "nowhere";
    FAILS(rt_export_gguf(&e, &r, &err), "nowhere");
    char moe[] = RT_SOURCE_DIR "/tests/golden/models/qwen3_moe_norm";
    e.dir = moe;
    FAILS(rt_export_gguf(&e, &r, &err), "qwen3_moe");
    char **names;
    int count;
    OK(rt_dir_list(&names, &count, ".", &err));
    for (int i = 0; i < count; i++)
        ck_assert_msg(!strstr(names[i], "refused"), "%s was left behind", names[i]);
    rt_names_free(names, count);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { values_and_rows, 1 },
                                 { types_and_sizes, 1 },
                                 { types_follow_the_mix, 1 },
                                 { quantized_sources, 1 },
                                 { architecture_keys, 1 },
                                 { tokenizer_inside, 1 },
                                 { scores_inside, 1 },
                                 { same_bytes_for_any_threads, 1 },
                                 { importance_from_both_containers, 1 },
                                 { importance_round_trip, 1 },
                                 { refusals, 1 } };
    return suite_run("export", setup, tests, RT_COUNT(tests));
}
