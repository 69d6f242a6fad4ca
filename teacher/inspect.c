/* inspect.c: the command `retort inspect`: what is at a path: a model directory, a GGUF or a trace
   archive; its shape, parts, sizes, memory to run it, hashes, tokenizer and template. Reads headers
   only, unless it is to hash the weights; changes nothing. Refuses: models with a weight missing,
   strange or of a wrong shape, by name; repairing (retort archive verify). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/option.h"
#include "core/formats/kind.h"
#include "core/network/stored.h"
#include "core/network/weights.h"
#include "corpora/archive/trace.h"
#include "corpora/chat.h"

typedef struct inspect_options {
    char *path;
    bool hash, json;
} inspect_options;

#define O inspect_options
static const rt_option options[] = {
    OPT_NEED(O, path, "path", "PATH", "model directory, .gguf or archive", RT_OPT_INPUT),
    OPT_BOOL(O, hash, "hash", "false", "hash the weights, which reads all of them"),
    OPT_BOOL(O, json, "json", "false", "one JSON object on stdout", RT_OPT_FREE),
};
#undef O

/* ---- models -------------------------------------------------------------------------------------
 */

/* What the family and config.json turn on, in words: "q/k norm, window of 128 in 12 layers". */
static void put_parts(cJSON *json, const rt_config *c)
{
    char text[256], window[64] = "", rope[64] = "";
    int64_t windowed = 0;
    for (int64_t l = 0; l < c->layers; l++)
        windowed += rt_config_window(c, l) != 0;
    if (windowed)
        snprintf(window, sizeof window, "window of %lld in %lld layers", (long long)c->window,
                 (long long)windowed);
    if (c->rope_scaling)
        snprintf(rope, sizeof rope, "%s rope x %g", rt_config_rope_name(c), c->rope_factor);
    const struct {
        bool on;
        const char *name;
    } parts[] = { { rt_config_qk_norm(c) != RT_QK_NONE, "q/k norm" },
                  { rt_config_qkv_bias(c), "q/k/v bias" },
                  { rt_config_output_bias(c), "output bias" },
                  { c->family->sinks, "sinks" },
                  { windowed != 0, window },
                  { rope[0] != 0, rope },
                  { c->swiglu_limit != 0, "clamped SwiGLU" },
                  { c->groups_kept < c->groups, "grouped experts" } };
    text[0] = 0;
    for (int i = 0, at = 0; i < RT_COUNT(parts); i++)
        if (parts[i].on)
            at += snprintf(text + at, sizeof text - (size_t)at, "%s%s", at ? ", " : "",
                           parts[i].name);
    if (text[0])
        rt_json_put_str(json, "parts", text);
}

/* As `generate` holds it on the CPU: weights where they lie or in panels, and the cache of one
 * sequence a token. */
static int put_memory(cJSON *json, const rt_config *c, const char *path, rt_err *err)
{
    rt_dev *dev;
    rt_model m;
    rt_acts a;
    rt_arenas arenas = { 0 };
    if (rt_dev_open(&dev, NULL, 1, err))
        return -1;
    const int64_t tokens = rt_align_up(rt_min(c->max_positions, 4096), RT_KV_PAGE);
    rt_pass_shape shape = { .mode = RT_PLAN_DECODE,
                            .rows = 1,
                            .segments = 1,
                            .longest = 1,
                            .head_rows = 1,
                            .pages = rt_kv_pages(tokens) };
    rt_model_plan_config(&m, dev, c, path, true, tokens);
    rt_acts_plan(&a, &arenas, dev, &m, &shape);
    rt_json_put_i64(json, "parameters", m.w.params.total);
    rt_json_put_i64(json, "parameters_active", m.w.params.active);
    rt_json_put_i64(json, "memory_weights_bytes", m.w.arena.high);
    rt_json_put_i64(json, "mapped_weights_bytes", rt_model_mapped(&m));
    rt_json_put_i64(json, "memory_cache_bytes", a.cache.high);
    rt_json_put_i64(json, "memory_cache_tokens", tokens);
    rt_acts_free(&a);
    rt_model_free(dev, &m);
    rt_dev_close(dev);
    return 0;
}

static void put_shape(cJSON *json, const rt_config *c)
{
    const struct {
        const char *name;
        int64_t value;
    } rows[] = { { "layers", c->layers },
                 { "width", c->width },
                 { "vocabulary", c->vocab },
                 { "heads", c->heads },
                 { "kv_heads", c->family->attn == RT_ATTN_GQA ? c->kv_heads : 0 },
                 { "head_dim", c->family->attn == RT_ATTN_GQA ? c->head_dim : 0 },
                 { "kv_latent", c->kv_rank },
                 { "q_latent", c->q_rank },
                 { "ffn_width", c->ffn_width },
                 { "experts", c->experts },
                 { "experts_active", c->active },
                 { "experts_shared", c->shared },
                 { "expert_width", c->experts ? c->expert_width : 0 },
                 { "positions", c->max_positions } };
    rt_json_put_str(json, "family", c->family->model_type);
    rt_json_put_str(json, "attention", c->family->attn == RT_ATTN_MLA ? "MLA" : "GQA");
    for (int i = 0; i < RT_COUNT(rows); i++)
        if (rows[i].value)
            rt_json_put_i64(json, rows[i].name, rows[i].value);
    rt_json_put_bool(json, "tied_embeddings", c->tied);
}

static void add_bytes(cJSON *types, const char *type, int64_t bytes)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(types, type);
    if (item)
        cJSON_SetNumberValue(item, item->valuedouble + (double)bytes);
    else
        rt_json_put_num(types, type, (double)bytes);
}

/* Tensors and their bytes; every weight must be there in its shape. */
static int put_tensors(cJSON *json, const rt_config *c, const char *path, rt_err *err)
{
    rt_store s;
    rt_model m;
    int64_t sum = 0;
    if (rt_store_open(&s, path, err))
        return -1;
    cJSON *types = rt_json_object();
    for (int64_t i = 0; i < rt_store_count(&s); i++) {
        int64_t bytes = s.is_gguf ? s.gguf.tensor[i].bytes : s.st.tensor[i].bytes;
        add_bytes(types, s.is_gguf ? s.gguf.tensor[i].type : s.st.tensor[i].type, bytes);
        sum += bytes;
    }
    rt_json_put_i64(json, "tensors", rt_store_count(&s));
    rt_json_put_i64(json, "weight_bytes", sum);
    rt_json_put(json, "weight_bytes_by_type", types);
    rt_model_init(&m, c);
    int bad = rt_store_check(&s, c, &m.w.params, err);
    rt_weights_free(NULL, &m.w);
    rt_store_close(&s);
    return bad;
}

static bool holds(const char *dir, const char *name)
{
    char *path = rt_path_join(dir, name);
    bool there = rt_path_exists(path);
    free(path);
    return there;
}

/* By the marker that only templates of a family write; the first that occurs names it. */
static const char *template_family(const char *source)
{
    static const struct {
        const char *marker, *family;
    } families[] = { { "<|channel|>", "harmony" },
                     { "<\xef\xbd\x9c"
                       "Assistant",
                       "deepseek" },
                     { "[gMASK]", "glm" },
                     { "<|im_middle|>", "kimi" },
                     { "<|im_start|>", "chatml" },
                     { "<|start_header_id|>", "llama3" },
                     { "[INST]", "mistral" },
                     { "<start_of_turn>", "gemma" },
                     { "<|assistant|>", "zephyr" } };
    for (int i = 0; source && i < RT_COUNT(families); i++)
        if (strstr(source, families[i].marker))
            return families[i].family;
    return source ? "unknown" : "none";
}

static int put_tokenizer(cJSON *json, const char *path, rt_err *err)
{
    static const char *const kinds[] = { "none", "<think>", "harmony" };
    rt_chat chat;
    if (rt_chat_open(&chat, path, err))
        return -1;
    cJSON *t = rt_json_object();
    rt_json_put_i64(t, "tokens", rt_tokenizer_vocab(chat.tokenizer));
    rt_json_put_str(t, "model", rt_tokenizer_model(chat.tokenizer));
    rt_json_put_str(t, "pre", rt_tokenizer_pre(chat.tokenizer));
    rt_json_put_str(t, "fingerprint", rt_tokenizer_fingerprint(chat.tokenizer).hex);
    rt_json_put_str(t, "template_family",
                    template_family(rt_tokenizer_chat_template(chat.tokenizer)));
    rt_json_put_str(t, "template", chat.chat ? chat.template_hash.hex : "none");
    rt_json_put_str(t, "reasoning", kinds[chat.reasoning.kind]);
    rt_json_put(json, "tokenizer", t);
    rt_chat_close(&chat);
    return 0;
}

static int inspect_model(cJSON *json, const inspect_options *o, rt_err *err)
{
    bool gguf = rt_gguf_is(o->path);
    rt_config cfg;
    rt_hash hash;
    if (rt_model_config(&cfg, o->path, err))
        return -1;
    rt_json_put_str(json, "kind", gguf ? "GGUF model" : "Hugging Face model");
    put_shape(json, &cfg);
    put_parts(json, &cfg);
    if (put_memory(json, &cfg, o->path, err) || put_tensors(json, &cfg, o->path, err))
        return -1;
    if (!gguf) {
        char *config = rt_path_join(o->path, "config.json");
        int bad = rt_hash_file(&hash, config, err);
        free(config);
        if (bad)
            return -1;
        rt_json_put_str(json, "config_hash", hash.hex);
    }
    if (o->hash) {
        if (rt_model_hash(&hash, o->path, err))
            return -1;
        rt_json_put_str(json, "weights_hash", hash.hex);
    }
    if (gguf) {
        rt_gguf g;
        if (rt_gguf_open(&g, o->path, err))
            return -1;
        bool words = rt_gguf_find_key(&g, "tokenizer.ggml.tokens") != NULL;
        rt_gguf_close(&g);
        return words ? put_tokenizer(json, o->path, err) : 0;
    }
    return holds(o->path, "tokenizer.json") ? put_tokenizer(json, o->path, err) : 0;
}

/* ---- archives -----------------------------------------------------------------------------------
 */

static void put_manifest(cJSON *json, const rt_trace_manifest *m)
{
    const struct {
        const char *name, *text;
    } texts[] = { { "mode", m->mode },
                  { "teacher", m->teacher },
                  { "sampler", m->sampler },
                  { "sampler_hash", m->sampler_hash.hex },
                  { "precision", m->precision },
                  { "licence", m->licence },
                  { "config_hash", m->config_hash.hex },
                  { "weights_hash", m->weights_hash.hex[0] ? m->weights_hash.hex : "not read" },
                  { "tokenizer_hash", m->tokenizer_hash.hex },
                  { "template_hash", m->template_hash.hex },
                  { "prompts_hash", m->prompts_hash.hex },
                  { "listed_hash", m->listed_hash.hex } };
    for (int i = 0; i < RT_COUNT(texts); i++)
        if (texts[i].text[0])
            rt_json_put_str(json, texts[i].name, texts[i].text);
    rt_json_put_i64(json, "vocabulary", m->vocab_size);
    rt_json_put_i64(json, "head_max", m->capture.head_max);
    if (m->capture.listed)
        rt_json_put_i64(json, "listed", m->capture.listed);
    if (m->sampler_step)
        rt_json_put_i64(json, "sampler_step", m->sampler_step);
    rt_json_put_num(json, "head_floor", (double)m->capture.head_floor);
    rt_json_put_num(json, "tail_spacing", (double)m->capture.tail_spacing);
    if (strcmp(m->mode, "sample") == 0) {
        rt_json_put_num(json, "temperature", m->temperature);
        rt_json_put_num(json, "top_p", m->top_p);
        rt_json_put_i64(json, "top_k", m->top_k);
        rt_json_put_num(json, "min_p", m->min_p);
        if (m->stop[0])
            rt_json_put_str(json, "stop", m->stop);
        if (m->repetition)
            rt_json_put_i64(json, "stop_repetition", m->repetition);
        rt_json_put_i64(json, "samples_per_prompt", m->samples_per_prompt);
        rt_json_put_i64(json, "max_tokens", m->max_tokens);
    }
    rt_json_put_u64(json, "seed", m->seed);
    rt_json_put_i64(json, "planned", m->planned);
    if (m->parts > 1) {
        rt_json_put_i64(json, "part", m->part);
        rt_json_put_i64(json, "parts", m->parts);
    }
    rt_json_put_bool(json, "complete", m->complete);
}

static int inspect_archive(cJSON *json, const char *path, rt_err *err)
{
    rt_trace_reader *r = NULL;
    rt_trace_statistics s;
    if (rt_trace_open_read(&r, path, err))
        return -1;
    rt_json_put_str(json, "kind", "trace archive");
    put_manifest(json, rt_trace_info(r));
    int bad = rt_trace_stats(r, &s, err);
    rt_trace_reader_close(r);
    if (bad)
        return -1;
    rt_trace_stats_put(json, &s);
    return 0;
}

/* ---- the command --------------------------------------------------------------------------------
 */

/* "name  value"; the members of an object below it. Bytes are shown in units too. */
static void print_object(const cJSON *json, bool bytes, const char *indent)
{
    for (const cJSON *c = json->child; c; c = c->next) {
        char text[32];
        bool size = bytes || strstr(c->string, "_bytes") || strcmp(c->string, "parameters") == 0 ||
                    strcmp(c->string, "parameters_active") == 0;
        printf("%s%-*s ", indent, 22 - (int)strlen(indent), c->string);
        if (cJSON_IsObject(c)) {
            putchar('\n');
            print_object(c, strstr(c->string, "_bytes") != NULL, "  ");
            continue;
        }
        if (cJSON_IsString(c))
            printf("%s", c->valuestring);
        else if (cJSON_IsBool(c))
            printf("%s", cJSON_IsTrue(c) ? "yes" : "no");
        else if (cJSON_IsNumber(c))
            printf("%.10g", c->valuedouble);
        else
            printf("none");
        if (size && cJSON_IsNumber(c) && c->valuedouble >= 1000)
            printf(" (%s)", strncmp(c->string, "parameters", 10) == 0
                                ? rt_fmt_count(text, sizeof text, c->valuedouble)
                                : rt_fmt_bytes(text, sizeof text, (int64_t)c->valuedouble));
        putchar('\n');
    }
}

static int inspect(cJSON *json, const inspect_options *o, rt_err *err)
{
    if (!rt_path_exists(o->path))
        return rt_kind_fail(o->path, "a model", NULL, err);
    rt_json_put_str(json, "path", o->path);
    if (holds(o->path, "config.json") || rt_gguf_is(o->path))
        return inspect_model(json, o, err);
    if (rt_trace_is(o->path))
        return inspect_archive(json, o->path, err);
    return rt_kind_fail(o->path, "a model, a GGUF or a trace archive",
                        "no config.json, no manifest.json there", err);
}

static int run_inspect(void *values, rt_err *err)
{
    const inspect_options *o = values;
    cJSON *json = rt_json_object();
    int bad = inspect(json, o, err);
    if (!bad && o->json)
        rt_json_print(json);
    else if (!bad)
        print_object(json, false, "");
    cJSON_Delete(json);
    return bad;
}

const rt_command rt_command_inspect = {
    .name = "inspect",
    .help = "what is at a path: a model, a GGUF or an archive",
    .group = "models and tokenizers",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(inspect_options),
    .positional = "path",
    .run = run_inspect,
    .example = "retort inspect student.gguf",
};
