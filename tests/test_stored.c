/* test_stored.c: weights in the forms checkpoints keep them in (golden/make_stored.py), to the bit;
   what is missing, unknown, misshapen or not finite is refused by name; opening the index of a
   671B checkpoint reads headers only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/network/stored.h"
#include "core/network/weights.h"
#include "tests/device.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/stored/"

static rt_err err;

static const char *const CASES[] = { "fp8",
                                     "mxfp4",
                                     "int4",
                                     "int4_channel",
                                     "gpt_oss",
                                     "gpt_oss_square",
                                     "fused_in",
                                     "fused_in_square_up",
                                     "fused_in_square_down",
                                     "fused_out",
                                     "fused_out_square_up",
                                     "fused_out_square_down" };

/* A family and quantization as config.json of dir says, without the rest of a model. */
static void read_config(rt_config *cfg, rt_family *family, const char *dir)
{
    static char type[64];
    cJSON *json;
    const char *name;
    char *path = rt_path_join(dir, "config.json");
    OK(rt_json_load(&json, path, &err));
    OK(rt_json_get_str(json, "model_type", &name, &err));
    snprintf(type, sizeof type, "%s", name);
    static const rt_moe_names in_halves = { .interleaved = false },
                              interleaved = { .interleaved = true };
    *family = (rt_family){ .model_type = type,
                           .names = strcmp(type, "gpt_oss") ? &in_halves : &interleaved };
    *cfg = (rt_config){ .family = family };
    OK(rt_quantization_parse(&cfg->quantization, json, path, &err));
    cJSON_Delete(json);
    free(path);
}

/* The registered weight that tensor t of want.safetensors is. */
static rt_param param_of(const rt_st_tensor *t, rt_tensor *slot)
{
    rt_param p = { .slot = slot, .layer = -1 };
    snprintf(p.name, sizeof p.name, "%s", t->name);
    *slot = t->rank == 3   ? rt_tensor_3(NULL, RT_F32, t->dim[0], t->dim[1], t->dim[2])
            : t->rank == 2 ? rt_tensor_2(NULL, RT_F32, t->dim[0], t->dim[1])
                           : rt_tensor_1(NULL, RT_F32, t->dim[0]);
    p.experts = strstr(p.name, "%d") ? t->dim[0] : 0;
    return p;
}

static rt_err find_one(const char *dir, const char *name, bool read)
{
    rt_store s;
    rt_safetensors want;
    rt_config cfg;
    rt_family family;
    rt_tensor slot;
    rt_stored w;
    rt_err e = { .text = "" };
    char *path = rt_path_join(dir, "want.safetensors");
    read_config(&cfg, &family, dir);
    OK(rt_store_open(&s, dir, &err));
    OK(rt_safetensors_open(&want, path, &err));
    const rt_st_tensor *t = rt_safetensors_find(&want, name);
    ck_assert_ptr_nonnull(t);
    rt_param p = param_of(t, &slot);
    int64_t last = strstr(name, "%d") ? slot.dim[0] - 1 : 0;
    if (rt_store_find(&s, &cfg, &p, last, &w, &e) == 0 && read) {
        float *got = malloc((size_t)(w.rows * w.cols) * sizeof *got);
        if (rt_stored_rows(&w, got, 0, w.rows, &e) == 0)
            snprintf(e.text, sizeof e.text, "read");
        free(got);
    }
    rt_safetensors_close(&want);
    rt_store_close(&s);
    free(path);
    return e;
}

START_TEST(rows_are_exact)
{
    rt_store s;
    rt_safetensors want;
    rt_config cfg;
    rt_family family;
    char dir[512], path[600];
    snprintf(dir, sizeof dir, GOLDEN "%s", CASES[_i]);
    snprintf(path, sizeof path, "%s/want.safetensors", dir);
    read_config(&cfg, &family, dir);
    OK(rt_store_open(&s, dir, &err));
    OK(rt_safetensors_open(&want, path, &err));
    for (int64_t i = 0; i < want.n_tensors; i++) {
        const rt_st_tensor *t = &want.tensor[i];
        rt_tensor slot;
        rt_param p = param_of(t, &slot);
        bool stack = strstr(t->name, "%d") != NULL;
        const float *right = (const float *)(const void *)t->data;
        for (int64_t e = 0; e < (stack ? slot.dim[0] : 1); e++) {
            rt_stored w;
            OK(rt_store_find(&s, &cfg, &p, e, &w, &err));
            int64_t each = w.rows * w.cols;
            float *got = malloc((size_t)each * sizeof *got);
            int64_t pieces[] = { w.rows, 1, 7, 300 }; /* rows at a time */
            for (int k = 0; k < RT_COUNT(pieces); k++) {
                memset(got, 0xff, (size_t)each * sizeof *got);
                for (int64_t r = 0; r < w.rows; r += pieces[k])
                    OK(rt_stored_rows(&w, got + r * w.cols, r, rt_min(pieces[k], w.rows - r),
                                      &err));
                ck_assert_msg(!memcmp(got, right + e * each, (size_t)each * sizeof *got),
                              "%s: %s, expert %lld, %lld rows at a time", CASES[_i], t->name,
                              (long long)e, (long long)pieces[k]);
            }
            free(got);
        }
    }
    for (int64_t i = 0; i < rt_store_count(&s); i++)
        ck_assert_msg(s.used[i], "%s: %s was not used", CASES[_i], rt_store_name(&s, i));
    rt_safetensors_close(&want);
    rt_store_close(&s);
}
END_TEST

// ------------------------------------------------------------------------------- damaged on
// purpose

/* What to do to a checkpoint on its way from GOLDEN here. */
typedef struct damage {
    const char *dir, *tensor;
    enum { DROP, RENAME, RETYPE, RESHAPE, NOT_FINITE } what;
    const char *weight; /* then asked for; NULL: the whole model is opened */
    const char *says;
} damage;

static void copy_file(const char *dir, const char *name)
{
    char from[512];
    char *data;
    int64_t bytes;
    snprintf(from, sizeof from, GOLDEN "%s/%s", dir, name);
    OK(rt_file_read(&data, &bytes, from, 1 << 24, &err));
    OK(rt_file_write(name, data, bytes, &err));
    free(data);
}

static void put_damaged(const damage *x)
{
    rt_safetensors st;
    rt_safetensors_writer w;
    char dir[512];
    uint8_t *changed = NULL;
    bool met = false;
    copy_file(x->dir, "config.json");
    copy_file(x->dir, "want.safetensors");
    snprintf(dir, sizeof dir, GOLDEN "%s", x->dir);
    OK(rt_safetensors_open(&st, dir, &err));
    rt_safetensors_writer_init(&w, "model.safetensors", 0);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t at = 0; at < 3 * st.n_tensors; at++) { /* the writer wants wide dtypes first */
            const rt_st_tensor *t = &st.tensor[at % st.n_tensors];
            bool hit = !strcmp(t->name, x->tensor);
            met = met || hit;
            if ((hit && x->what == DROP) || t->dtype == RT_DTYPE_COUNT) /* X_shape is I64 */
                continue;
            rt_dtype as = hit && x->what == RETYPE ? RT_U8 : t->dtype;
            if (rt_dtype_get(as)->block_bytes != 4 >> at / st.n_tensors)
                continue;
            int64_t dim[RT_ST_RANK_MAX];
            memcpy(dim, t->dim, sizeof dim);
            if (hit && x->what == RESHAPE) {
                dim[0] = t->elements;
                for (int k = 1; k < t->rank; k++)
                    dim[k] = 1;
            }
            const char *name = hit && x->what == RENAME ? "model.stranger" : t->name;
            if (hit && x->what == RETYPE)
                dim[t->rank - 1] *= t->bytes / t->elements;
            if (pass == 0) {
                rt_safetensors_writer_add(&w, name, as, t->rank, dim);
                continue;
            }
            changed = realloc(changed, (size_t)t->bytes);
            memcpy(changed, t->data, (size_t)t->bytes);
            if (hit && x->what == NOT_FINITE)
                memset(changed + t->bytes - rt_dtype_bytes(t->dtype, 1), 0xff,
                       (size_t)rt_dtype_bytes(t->dtype, 1));
            OK(rt_safetensors_writer_push(&w, changed, t->bytes, &err));
        }
        if (pass == 0)
            OK(rt_safetensors_writer_begin(&w, &err));
    }
    OK(rt_safetensors_writer_commit(&w, &err));
    ck_assert_msg(met, "%s has no %s", x->dir, x->tensor);
    rt_safetensors_close(&st);
    free(changed);
}

#define EXPERTS "model.layers.0.mlp.experts."
#define LAYER1 "model.layers.1."
static const damage DAMAGES[] = {
    { "fp8", "model.a.weight_scale_inv", DROP, "model.a.weight",
      "model.a.weight_scale_inv is miss" },
    { "fp8", "model.a.weight_scale_inv", RESHAPE, "model.a.weight",
      "_inv has shape (4, 1), config" },
    { "fp8", "model.a.weight_scale_inv", RETYPE, "model.a.weight", "weight_scale_inv has shape" },
    { "fp8", "model.a.weight_scale_inv", NOT_FINITE, "model.a.weight",
      "model.a.weight: the scale of row 128, columns from 128 is not a finite number" },
    { "fp8", "model.a.weight", NOT_FINITE, "model.a.weight",
      "model.a.weight: row 129 has a code that is not a finite number" },
    { "fp8", "model.a.weight", RETYPE, "model.a.weight", "model.a.weight is U8, which cannot" },
    { "fp8", "model.a.weight", RESHAPE, "model.a.weight",
      "(17290, 1), config.json says (130, 133)" },
    { "fp8", "model.a.weight", DROP, "model.a.weight", "tensor model.a.weight is missing" },
    { "mxfp4", EXPERTS "down_proj_scales", DROP, EXPERTS "%d.down_proj.weight",
      "down_proj_scales is missing" },
    { "mxfp4", EXPERTS "down_proj_scales", NOT_FINITE, EXPERTS "%d.down_proj.weight",
      "down_proj_blocks: the scale of row 95, columns from 0 is not" },
    { "mxfp4", EXPERTS "gate_up_proj_blocks", RESHAPE, EXPERTS "%d.up_proj.weight",
      "gate_up_proj_blocks has shape" },
    { "mxfp4", EXPERTS "gate_up_proj_bias", DROP, EXPERTS "%d.up_proj.bias",
      EXPERTS "1.up_proj.bias is missing" },
    { "fused_in", EXPERTS "down_proj", RESHAPE, EXPERTS "%d.down_proj.weight",
      "down_proj has shape" },
    { "fused_in", EXPERTS "down_proj", DROP, EXPERTS "%d.down_proj.weight",
      EXPERTS "1.down_proj.weight is missing" },
    { "int4", "model.x.weight_shape", DROP, "model.x.weight", "model.x.weight_shape is missing" },
    { "deepseek", LAYER1 "mlp.experts.3.up_proj.weight_scale_inv", DROP, NULL,
      LAYER1 "mlp.experts.3.up_proj.weight_scale_inv is missing" },
    { "deepseek", LAYER1 "mlp.experts.3.up_proj.weight_scale_inv", RENAME, NULL,
      LAYER1 "mlp.experts.3.up_proj.weight_scale_inv is missing" },
    { "deepseek", LAYER1 "mlp.experts.3.up_proj.weight_scale_inv", NOT_FINITE, NULL,
      LAYER1 "mlp.experts.3.up_proj.weight: the scale of row 0, columns from 12 is not a finite" },
    { "deepseek", LAYER1 "mlp.experts.2.down_proj.weight", DROP, NULL,
      LAYER1 "mlp.experts.2.down_proj.weight is missing" },
    { "deepseek", LAYER1 "mlp.gate.weight", RESHAPE, NULL,
      LAYER1 "mlp.gate.weight has shape (96, 1), config.json says (4, 24)" },
    { "deepseek", "model.layers.2.shared_head.norm.weight", RENAME, NULL,
      "model.stranger is not part of a deepseek_v3 model" },
    { "deepseek", "model.layers.2.eh_proj.weight", DROP, NULL,
      "model.layers.2.input_layernorm.weight is not part of a deepseek_v3 model" },
};

static int open_model(const char *dir)
{
    rt_model m;
    rt_dev *d;
    OK(rt_dev_open(&d, NULL, 1, &err));
    int bad = rt_model_open(&m, d, dir, false, 8, &err);
    if (!bad)
        rt_model_free(d, &m);
    rt_dev_close(d);
    return bad;
}

START_TEST(damage_is_named)
{
    const damage *x = &DAMAGES[_i];
    put_damaged(x);
    if (!x->weight) {
        FAILS(open_model("."), x->says);
        return;
    }
    rt_err e = find_one(".", x->weight, true);
    ck_assert_msg(strstr(e.text, x->says) != NULL, "\"%s\" lacks \"%s\"", e.text, x->says);
}
END_TEST

START_TEST(a_model_of_fp8)
{
    rt_model m;
    rt_dev *d;
    rt_safetensors want;
    OK(rt_dev_open(&d, NULL, 1, &err));
    OK(rt_safetensors_open(&want, GOLDEN "deepseek/want.safetensors", &err));
    OK(rt_model_open(&m, d, GOLDEN "deepseek", false, 8, &err)); /* an MTP layer is skipped */
    int64_t seen = 0;
    for (int i = 0; i < m.w.params.n; i++) {
        const rt_param *p = &m.w.params.item[i];
        int64_t each = rt_tensor_elements(p->slot) / (p->experts ? p->experts : 1);
        float *right = malloc((size_t)each * sizeof *right), *got = malloc((size_t)each * 4);
        for (int64_t e = 0; e < (p->experts ? p->experts : 1); e++, seen++) {
            char name[160];
            snprintf(name, sizeof name, "%s", p->name);
            if (p->experts)
                rt_param_expert_name(p, e, name, sizeof name);
            const rt_st_tensor *t = rt_safetensors_find(&want, name);
            ck_assert_msg(t && t->elements == each, "%s", name);
            OK(rt_safetensors_read_f32(right, t, 0, each, &err));
            get_bytes(d, got, rt_f32(p->slot) + e * each, t->bytes);
            ck_assert_msg(!memcmp(right, got, (size_t)t->bytes), "%s", name);
        }
        free(right);
        free(got);
    }
    ck_assert_int_eq(seen, want.n_tensors);
    rt_model_free(d, &m);
    rt_dev_close(d);
    rt_safetensors_close(&want);
}
END_TEST

START_TEST(quantization_configs)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "{}", NULL },
        { "{\"quantization_config\":null}", NULL },
        { "{\"quantization_config\":{\"quant_method\":\"gptq\"}}", "\"gptq\" is not supported" },
        { "{\"quantization_config\":{}}", "quant_method" },
        { "{\"quantization_config\":[]}", "quantization_config" },
        { "{\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}", "e5m2" },
        { "{\"quantization_config\":{\"quant_method\":\"fp8\"}}", "weight_block_size" },
        { "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[0,128]}}",
          "weight_block_size" },
        { "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[1e300,1.5]}}",
          "weight_block_size" },
        { "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
          "\"format\":\"float-quantized\"}}",
          "float-quantized" },
        { "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{}}"
          "}",
          "config_groups" },
    };
    static const struct {
        const char *weights, *says;
    } groups[] = {
        { "\"num_bits\":4,\"group_size\":32", NULL },
        { "\"num_bits\":4,\"group_size\":null,\"strategy\":\"channel\"", NULL },
        { "\"num_bits\":8,\"group_size\":32", "\"num_bits\": 8" },
        { "\"num_bits\":4,\"group_size\":32,\"type\":\"float\"", "float" },
        { "\"num_bits\":4,\"group_size\":32,\"symmetric\":false", "symmetric" },
        { "\"num_bits\":4,\"group_size\":32,\"actorder\":\"group\"", "actorder" },
        { "\"num_bits\":4,\"group_size\":32,\"strategy\":\"block\"", "\"block\"" },
        { "\"num_bits\":4", "group_size" },
    };
    rt_quantization q;
    cJSON *json;
    char text[512];
    for (int i = 0; i < RT_COUNT(rows) + RT_COUNT(groups); i++) {
        int k = i - RT_COUNT(rows);
        snprintf(text, sizeof text,
                 "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":"
                 "\"pack-quantized\",\"config_groups\":{\"group_0\":{\"weights\":{%s}}}}}",
                 k < 0 ? "" : groups[k].weights);
        const char *says = k < 0 ? rows[i].says : groups[k].says,
                   *from = k < 0 ? rows[i].text : text;
        OK(rt_json_parse(&json, from, (int64_t)strlen(from), "config.json", &err));
        if (says)
            FAILS(rt_quantization_parse(&q, json, "config.json", &err), says);
        else
            OK(rt_quantization_parse(&q, json, "config.json", &err));
        cJSON_Delete(json);
    }
}
END_TEST

// --------------------------------------------------------------- 671B parameters that are not
// there

#define SPARSE "sparse"
#define SHARD_BYTES 4300000000LL /* as the published checkpoint has them: 163 files */

/* A checkpoint of headers: each file is cut to the length its header speaks of, which takes no
 * disk. */
typedef struct sparse {
    FILE *header, *index;
    char *text;
    size_t length;
    int64_t at, total, tensors;
    int shard;
} sparse;

static void shard_close(sparse *s)
{
    char path[600];
    uint8_t head[8];
    fputs("}", s->header);
    fclose(s->header);
    snprintf(path, sizeof path, SPARSE "/model-%05d.safetensors", s->shard);
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)((uint64_t)s->length >> (8 * i));
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(head, 8, 1, f) == 1 && fwrite(s->text, s->length, 1, f) == 1);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(truncate(path, 8 + (off_t)s->length + (off_t)s->at), 0);
    free(s->text);
    s->total += s->at;
}

static void put(sparse *s, const char *layer, const char *name, const char *type, int bytes,
                int64_t rows, int64_t cols)
{
    int64_t size = rows * rt_max(cols, 1) * bytes;
    bool first = s->tensors == 0 || s->at + size > SHARD_BYTES;
    if (first && s->tensors)
        shard_close(s);
    if (first) {
        s->header = open_memstream(&s->text, &s->length);
        s->at = 0;
        s->shard++;
    }
    fprintf(s->header, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%lld", first ? "{" : ",", layer,
            name, type, (long long)rows);
    fprintf(s->header, cols ? ",%lld]" : "]", (long long)cols);
    fprintf(s->header, ",\"data_offsets\":[%lld,%lld]}", (long long)s->at,
            (long long)(s->at + size));
    fprintf(s->index, "%s\"%s%s\":\"model-%05d.safetensors\"", s->tensors ? "," : "", layer, name,
            s->shard);
    s->at += size;
    s->tensors++;
}

static void put_fp8(sparse *s, const char *layer, const char *name, int64_t rows, int64_t cols)
{
    char scale[128];
    snprintf(scale, sizeof scale, "%s_scale_inv", name);
    put(s, layer, name, "F8_E4M3", 1, rows, cols);
    put(s, layer, scale, "F32", 4, (rows + 127) / 128, (cols + 127) / 128);
}

static void put_mlp(sparse *s, const char *layer, const char *mlp, int64_t f)
{
    static const char *const parts[] = { "gate_proj", "up_proj", "down_proj" };
    for (int i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s.weight", mlp, parts[i]);
        put_fp8(s, layer, name, i < 2 ? f : 7168, i < 2 ? 7168 : f);
    }
}

/* One layer of DeepSeek-V3; the last one is its MTP layer. */
static void put_layer(sparse *s, int l)
{
    char layer[64], expert[64];
    snprintf(layer, sizeof layer, "model.layers.%d.", l);
    put(s, layer, "input_layernorm.weight", "BF16", 2, 7168, 0);
    put(s, layer, "post_attention_layernorm.weight", "BF16", 2, 7168, 0);
    put(s, layer, "self_attn.q_a_layernorm.weight", "BF16", 2, 1536, 0);
    put(s, layer, "self_attn.kv_a_layernorm.weight", "BF16", 2, 512, 0);
    put_fp8(s, layer, "self_attn.q_a_proj.weight", 1536, 7168);
    put_fp8(s, layer, "self_attn.q_b_proj.weight", 24576, 1536);
    put_fp8(s, layer, "self_attn.kv_a_proj_with_mqa.weight", 576, 7168);
    put_fp8(s, layer, "self_attn.kv_b_proj.weight", 32768, 512);
    put_fp8(s, layer, "self_attn.o_proj.weight", 7168, 16384);
    if (l < 3) {
        put_mlp(s, layer, "mlp", 18432);
        return;
    }
    put(s, layer, "mlp.gate.weight", "BF16", 2, 256, 7168);
    put(s, layer, "mlp.gate.e_score_correction_bias", "F32", 4, 256, 0);
    put_mlp(s, layer, "mlp.shared_experts", 2048);
    for (int e = 0; e < 256; e++) {
        snprintf(expert, sizeof expert, "mlp.experts.%d", e);
        put_mlp(s, layer, expert, 2048);
    }
    if (l == 61)
        put(s, layer, "eh_proj.weight", "BF16", 2, 7168, 14336);
}

static const char CONFIG[] =
    "{\"model_type\":\"deepseek_v3\",\"hidden_size\":7168,\"intermediate_size\":18432,"
    "\"moe_intermediate_size\":2048,\"num_hidden_layers\":61,\"num_attention_heads\":128,"
    "\"num_key_value_heads\":128,\"q_lora_rank\":1536,\"kv_lora_rank\":512,"
    "\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,\"v_head_dim\":128,\"vocab_size\":129280,"
    "\"n_routed_experts\":256,\"n_shared_experts\":1,\"num_experts_per_tok\":8,\"n_group\":8,"
    "\"topk_group\":4,\"topk_method\":\"noaux_tc\",\"scoring_func\":\"sigmoid\","
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,\"first_k_dense_replace\":3,"
    "\"moe_layer_freq\":1,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"
    "\"max_position_embeddings\":163840,\"num_nextn_predict_layers\":1,"
    "\"tie_word_embeddings\":false,\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":"
    "\"e4m3\",\"activation_scheme\":\"dynamic\",\"weight_block_size\":[128,128]}}";

/* Whether the disk keeps a file of one block under a length of 8 GB. */
static bool sparse_possible(void)
{
    struct stat st;
    const char *path = SPARSE "/probe";
    OK(rt_file_write(path, "x", 1, &err));
    bool ok = truncate(path, (off_t)8 << 30) == 0 && stat(path, &st) == 0 &&
              st.st_blocks * 512 < 1 << 20;
    remove(path);
    return ok;
}

START_TEST(headers_of_671b)
{
    sparse s = { 0 };
    rt_model m;
    rt_dev *d;
    OK(rt_dir_make(SPARSE, &err));
    if (!sparse_possible()) {
        printf("headers_of_671b skipped: %s has no sparse files\n", SPARSE);
        return;
    }
    OK(rt_file_write(SPARSE "/config.json", CONFIG, (int64_t)sizeof CONFIG - 1, &err));
    s.index = fopen(SPARSE "/model.safetensors.index.json", "wb");
    ck_assert_ptr_nonnull(s.index);
    fputs("{\"metadata\":{},\"weight_map\":{", s.index);
    put(&s, "", "model.embed_tokens.weight", "BF16", 2, 129280, 7168);
    for (int l = 0; l < 62; l++)
        put_layer(&s, l);
    put(&s, "", "model.norm.weight", "BF16", 2, 7168, 0);
    put(&s, "", "lm_head.weight", "BF16", 2, 129280, 7168);
    shard_close(&s);
    fputs("}}", s.index);
    ck_assert_int_eq(fclose(s.index), 0);
    ck_assert(s.shard > 150 && s.tensors > 90000 && s.total > 680000000000);
    OK(rt_dev_open(&d, NULL, 1, &err));
    rt_store store;
    /* not the wall's: others may share the cores, and nothing waits here */
    clock_t begun = clock();
    int64_t before = rt_peak_rss_bytes();
    OK(rt_model_plan(&m, d, SPARSE, true, 8, &err));
    OK(rt_store_open(&store, SPARSE, &err));
    OK(rt_store_check(&store, &m.cfg, &m.w.params, &err));
    rt_store_close(&store);
    double took = (double)(clock() - begun) / CLOCKS_PER_SEC;
    int64_t resident = rt_peak_rss_bytes();
    printf("%d files, %lld tensors, %.0f GB: %.2f s, %.0f MB resident (%.0f before)\n", s.shard,
           (long long)s.tensors, (double)s.total / 1e9, took, (double)resident / 1e6,
           (double)before / 1e6);
    /* sanitizers cost time and memory */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_msg(took < 2.0, "%.2f s", took);
    ck_assert_msg(resident < 200000000, "%lld bytes", (long long)resident);
#endif
    rt_model_free(d, &m);
    rt_dev_close(d);
}
END_TEST

int main(void)
{
    rt_log_set_level(RT_LOG_QUIET);
    const suite_test tests[] = { { rows_are_exact, RT_COUNT(CASES) },
                                 { damage_is_named, RT_COUNT(DAMAGES) },
                                 { a_model_of_fp8, 1 },
                                 { quantization_configs, 1 },
                                 { headers_of_671b, 1 } };
    return suite_run("stored", NULL, tests, RT_COUNT(tests));
}
