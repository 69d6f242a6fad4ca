/* init.c: the command `retort init`: a student to start from: a shape by name or by numbers with random weights, a
   trained model in another vocabulary (transplant.h), or a larger one pruned to such numbers (prune.h); the tokenizer
   and chat template of the model it is to learn from. Owns the table of shapes, and which of the three is meant.
   Refuses: training it, random weights of families that are not dense, two of the three at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/formats/listing.h"
#include "core/formats/output.h"
#include "core/network/needs.h"
#include "core/network/weights.h"
#include "corpora/chat.h"
#include "corpora/integrity.h"
#include "student/prune.h"
#include "student/transplant.h"

/* Published configurations of the name; the vocabulary is the tokenizer's. */
typedef struct shape {
    const char *name, *family;
    int64_t layers, width, heads, kv_heads, head_dim, ffn_width, positions;
    double theta, eps;
    bool tied;
    double factor; /* of llama3's rope scaling, with 1, 4 and 8192; 0 = plain */
} shape;

static const shape shapes[] = {
    { "llama-3.1-8b", "llama", 32, 4096, 32, 8, 128, 14336, 131072, 500000, 1e-5, false, 8 },
    { "llama-3.2-3b", "llama", 28, 3072, 24, 8, 128, 8192, 131072, 500000, 1e-5, true, 32 },
    { "llama-3.2-1b", "llama", 16, 2048, 32, 8, 64, 8192, 131072, 500000, 1e-5, true, 32 },
    { "qwen3-8b", "qwen3", 36, 4096, 32, 8, 128, 12288, 40960, 1000000, 1e-6, false, 0 },
    { "qwen3-4b", "qwen3", 36, 2560, 32, 8, 128, 9728, 40960, 1000000, 1e-6, true, 0 },
    { "qwen3-1.7b", "qwen3", 28, 2048, 16, 8, 128, 6144, 40960, 1000000, 1e-6, true, 0 },
    { "qwen3-0.6b", "qwen3", 28, 1024, 16, 8, 128, 3072, 40960, 1000000, 1e-6, true, 0 },
    { "smollm2-135m", "llama", 30, 576, 9, 3, 64, 1536, 8192, 100000, 1e-5, true, 0 },
    { "25m", "qwen3", 6, 512, 8, 4, 64, 1408, 4096, 10000, 1e-6, true, 0 },
    { "3m", "qwen3", 4, 192, 4, 4, 48, 512, 2048, 10000, 1e-6, true, 0 }
};
#define SHAPES "llama-3.1-8b|llama-3.2-3b|llama-3.2-1b|qwen3-8b|qwen3-4b|qwen3-1.7b|qwen3-0.6b|smollm2-135m|25m|3m"
#define USUAL "qwen3-0.6b"
enum { VOCAB_STEP = 64 }; /* rows of the embedding are a multiple: what tensor cores like */

typedef struct init_options {
    char *shape, *from, *tokenizer, *out, *dtype;
    rt_strlist data;
    int64_t layers, width, heads, kv_heads, head_dim, ffn_width, limit, max_length, pass_tokens;
    rt_dev_choice device;
    uint64_t seed;
    bool overwrite, plan;
} init_options;

#define O init_options
static const rt_option options[] = {
    OPT_CHOICE(O, shape, "shape", NULL, SHAPES,
               "of the student, as published under the name; " USUAL " if none is named"),
    OPT_STR(O, from, "from", NULL, "DIR|GGUF",
            "or start from this model: with --tokenizer it keeps its weights, and its rows of tokens "
            "become those of that vocabulary; with --layers, --width ... it is pruned to them",
            RT_OPT_INPUT),
    OPT_LIST(O, data, "data", "PATH",
             "archive, JSONL or text: of a model that is pruned stays what these texts use most",
             RT_OPT_INPUT),
    OPT_STR(O, tokenizer, "tokenizer", NULL, "DIR|GGUF",
            "the teacher, or another model whose tokenizer and chat template it takes; of a model that "
            "is pruned its own",
            RT_OPT_INPUT),
    OPT_NEED(O, out, "out", "DIR", "where the model goes", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
    OPT_INT(O, layers, "layers", "0", 0, 1024, "instead of the shape's or --from's; 0 = as it is, here and below"),
    OPT_INT(O, width, "width", "0", 0, 65536, "of the residual stream"),
    OPT_INT(O, heads, "heads", "0", 0, 1024, "of queries"),
    OPT_INT(O, kv_heads, "kv-heads", "0", 0, 1024, "of keys and values; --heads is a multiple"),
    OPT_INT(O, head_dim, "head-dim", "0", 0, 1024, "width of a head"),
    OPT_INT(O, ffn_width, "ffn-width", "0", 0, 1048576, "inner width of the feed-forward layers"),
    OPT_CHOICE(O, dtype, "dtype", "bf16", RT_WRITTEN_DTYPES, "of the written weights"),
    OPT_SEED(O, seed, "of the weights"),
    OPT_INT(O, limit, "limit", "256", 1, 1e9, "documents of --data that are looked at"),
    OPT_INT(O, max_length, "max-length", "4096", 2, 1e9, "longer ones are left out"),
    OPT_INT(O, pass_tokens, "pass-tokens", "4096", 2, 1e9,
            "tokens of one forward pass over them; bounds memory", RT_OPT_FREE),
    OPT_DEVICE(O, device),
    OPT_BOOL(O, plan, "plan", "false", "print memory and disk by name and stop", RT_OPT_FREE),
};
#undef O

static int64_t either(int64_t asked, int64_t usual) { return asked ? asked : usual; }

static cJSON *config_json(const init_options *o, const shape *s, int64_t vocab)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "model_type", s->family);
    rt_json_put_i64(json, "num_hidden_layers", either(o->layers, s->layers));
    rt_json_put_i64(json, "hidden_size", either(o->width, s->width));
    rt_json_put_i64(json, "num_attention_heads", either(o->heads, s->heads));
    rt_json_put_i64(json, "num_key_value_heads", either(o->kv_heads, s->kv_heads));
    rt_json_put_i64(json, "head_dim", either(o->head_dim, s->head_dim));
    rt_json_put_i64(json, "intermediate_size", either(o->ffn_width, s->ffn_width));
    rt_json_put_i64(json, "vocab_size", rt_align_up(vocab, VOCAB_STEP));
    rt_json_put_i64(json, "max_position_embeddings", s->positions);
    rt_json_put_num(json, "rms_norm_eps", s->eps);
    rt_json_put_num(json, "rope_theta", s->theta);
    rt_json_put_bool(json, "tie_word_embeddings", s->tied);
    if (s->factor > 0) {
        cJSON *scaling = rt_json_object();
        rt_json_put_str(scaling, "rope_type", "llama3");
        rt_json_put_num(scaling, "factor", s->factor);
        rt_json_put_num(scaling, "low_freq_factor", 1);
        rt_json_put_num(scaling, "high_freq_factor", 4);
        rt_json_put_i64(scaling, "original_max_position_embeddings", 8192);
        rt_json_put(json, "rope_scaling", scaling);
    }
    return json;
}

typedef struct start {
    const init_options *o;
    rt_chat chat;
    rt_model model; /* registry alone */
    bool prunes;              /* --from is pruned; else transplanted */
    rt_transplant transplant;
    rt_prune prune;
    rt_dev *d; /* of texts through --from */
    rt_corpus *corpus;
    const char *speaks; /* whose files the tokenizer is */
    rt_progress progress;
    int lock;
} start;

static bool has_numbers(const init_options *o)
{
    return o->layers || o->width || o->heads || o->kv_heads || o->head_dim || o->ffn_width;
}

/* Of a shape by name, with numbers of its own. */
static int open_shape(start *s, rt_err *err)
{
    const init_options *o = s->o;
    const char *name = o->shape ? o->shape : USUAL;
    rt_config cfg;
    int i = 0;
    while (i < RT_COUNT(shapes) && strcmp(shapes[i].name, name))
        i++;
    if (i == RT_COUNT(shapes))
        rt_bug("shape %s is a choice and not in the table", name);
    cJSON *json = config_json(o, &shapes[i], rt_tokenizer_vocab(s->chat.tokenizer));
    int bad = rt_config_parse(&cfg, json, name, err);
    cJSON_Delete(json);
    if (bad)
        return -1;
    rt_chat_config(&s->chat, &cfg);
    rt_model_init(&s->model, &cfg);
    return 0;
}

/* from: of the plan, when an earlier stage will make it. */
static int open_transplant(start *s, const rt_needs_output *from, rt_err *err)
{
    rt_config cfg;
    if (from)
        rt_transplant_config(&cfg, &from->cfg, &s->chat);
    else if (rt_transplant_open(&s->transplant, &cfg, s->o->from, &s->chat, err))
        return -1;
    rt_model_init(&s->model, &cfg);
    return 0;
}

/* A pruned model keeps its vocabulary. */
static int check_voice(const start *s, const rt_needs_output *from, rt_err *err)
{
    rt_tokenizer *own = NULL;
    if (!s->o->tokenizer)
        return 0;
    if (rt_tokenizer_open(&own, from ? from->tokenizer : s->o->from, err))
        return -1;
    rt_hash a = rt_tokenizer_fingerprint(own), b = rt_tokenizer_fingerprint(s->chat.tokenizer);
    rt_tokenizer_close(own);
    return strcmp(a.hex, b.hex)
               ? rt_usage(err, "--from is pruned in its own vocabulary, and %s has another: prune it, then "
                               "give the result to init --from with --tokenizer alone", s->o->tokenizer)
               : 0;
}

static int open_texts(start *s, const rt_config *source, rt_err *err)
{
    const init_options *o = s->o;
    rt_corpus_options c = { .chat = &s->chat,
                            .max_length = rt_config_longest(source, o->max_length),
                            .verdicts = (1u << RT_VERDICT_COUNT) - 1,
                            .limit = o->limit };
    return rt_corpus_open(&s->corpus, (const char *const *)o->data.item, o->data.n, &c, err);
}

/* plan: NULL, or nothing is read of what an earlier stage will make. */
static int open_prune(start *s, const rt_needs *plan, rt_err *err)
{
    const init_options *o = s->o;
    const rt_needs_output *from = rt_needs_find(plan, o->from);
    rt_prune_shape shape_of = { o->layers, o->width, o->heads, o->kv_heads, o->head_dim, o->ffn_width };
    rt_config source, cfg;
    bool later = from != NULL;
    for (int i = 0; i < o->data.n; i++)
        later = later || rt_needs_find(plan, o->data.item[i]);
    if (from)
        source = from->cfg;
    if ((!from && rt_model_config(&source, o->from, err)) || check_voice(s, from, err) ||
        rt_prune_config(&cfg, &source, &shape_of, o->from, err))
        return -1;
    rt_model_init(&s->model, &cfg);
    bool smaller = rt_prune_any(&source, &cfg);
    if (smaller && !o->data.n)
        return rt_usage(err, "--from %s is to be made smaller: give --data PATH, by whose texts is measured "
                             "what stays", o->from);
    if (later)
        return 0;
    if (smaller && (rt_dev_choose(&s->d, &o->device, plan != NULL, err) || open_texts(s, &source, err)))
        return -1;
    return plan ? 0 : rt_prune_open(&s->prune, o->from, &source, &s->model, err);
}

static int check_options(const init_options *o, rt_err *err)
{
    if (!o->from && !o->tokenizer)
        return rt_usage(err, "give --tokenizer DIR|GGUF, whose tokens the student speaks, or --from "
                             "DIR|GGUF, which is pruned");
    if (o->from && o->shape)
        return rt_usage(err, "--from has a shape of its own: give --layers, --width, --ffn-width, --heads "
                             "or --kv-heads instead of --shape");
    if (!o->from && o->data.n)
        return rt_usage(err, "--data says what of --from DIR|GGUF stays: give that too");
    return 0;
}

/* plan: the tokenizer may be of a model that an earlier stage will make. */
static int open_start(start *s, const rt_needs *plan, rt_err *err)
{
    const init_options *o = s->o;
    if (check_options(o, err))
        return -1;
    const char *speaks = o->tokenizer ? o->tokenizer : o->from;
    const rt_needs_output *voice = rt_needs_find(plan, speaks);
    s->speaks = voice ? voice->tokenizer : speaks;
    s->prunes = o->from && (!o->tokenizer || o->data.n || has_numbers(o));
    if (rt_chat_open(&s->chat, s->speaks, err))
        return -1;
    return s->prunes ? open_prune(s, plan, err)
           : o->from ? open_transplant(s, rt_needs_find(plan, o->from), err)
                     : open_shape(s, err);
}

static int first_rows(void *ctx, int i, float *host, rt_err *err)
{
    start *s = ctx;
    rt_progress_update(&s->progress, i, "%s", s->model.w.params.item[i].name);
    if (s->prunes)
        return rt_prune_rows(&s->prune, i, host, err);
    if (s->o->from)
        return rt_transplant_rows(&s->transplant, &s->model, i, host, err);
    rt_param_draw(&s->model.w.params, i, &s->model.cfg, s->o->seed, host);
    return 0;
}

extern const rt_command rt_command_init;

/* What the output is a function of. */
static int work_of(rt_hash *hash, const start *s, rt_err *err)
{
    rt_identity from;
    if (s->o->from && rt_identity_of(&from, s->o->from, RT_IDENTITY_CACHED, NULL, err))
        return -1;
    rt_hash tokenizer = rt_tokenizer_fingerprint(s->chat.tokenizer);
    cJSON *json = rt_options_result(&rt_command_init, s->o);
    rt_json_put_str(json, "tokenizer", tokenizer.hex);
    rt_json_put_str(json, "template", s->chat.template_hash.hex);
    if (s->o->from)
        rt_json_put_str(json, "from", from.hash.hex);
    if (s->corpus)
        rt_json_put_u64(json, "data", rt_corpus_hash(s->corpus));
    char *text = rt_json_text(json);
    *hash = rt_hash_bytes(text, (int64_t)strlen(text));
    free(text);
    cJSON_Delete(json);
    return 0;
}

/* random: training asks, since not every loss learns from there. */
static int finish_start(const init_options *o, const char *identity, rt_err *err)
{
    cJSON *about = rt_json_object();
    rt_json_put_str(about, "made_by", "retort " RT_VERSION);
    rt_json_put_str(about, "command", "init");
    rt_json_put_str(about, "identity", identity);
    rt_json_put_bool(about, "random", !o->from);
    rt_json_put(about, "options", rt_options_result(&rt_command_init, o));
    return rt_listing_write(o->out, about, false, err);
}

static int write_start(start *s, rt_err *err)
{
    const init_options *o = s->o;
    rt_output_state state;
    rt_err why;
    rt_hash work;
    if (work_of(&work, s, err) ||
        rt_output_take(&state, &s->lock, o->out, "init", work.hex, o->overwrite, err))
        return -1;
    if (state == RT_OUTPUT_DONE && rt_integrity_whole(o->out, &why) == 0) {
        rt_info("%s: this is finished there; nothing to do", o->out);
        return 0;
    }
    if (s->corpus && rt_prune_measure(&s->prune, s->d, s->corpus, o->pass_tokens, err))
        return -1;
    if (s->prunes)
        rt_prune_choose(&s->prune, &s->model.cfg);
    rt_progress_begin(&s->progress, "init", 0, s->model.w.params.n);
    if (rt_chat_save(&s->chat, s->speaks, o->out, err) ||
        rt_model_save_rows(&s->model, o->out, rt_dtype_written(o->dtype), first_rows, s, err))
        return -1;
    rt_progress_end(&s->progress);
    return finish_start(o, work.hex, err);
}

static void close_start(start *s)
{
    if (s->lock >= 0)
        close(s->lock);
    rt_transplant_close(&s->transplant);
    rt_prune_close(&s->prune);
    rt_corpus_close(s->corpus);
    rt_weights_free(NULL, &s->model.w);
    rt_chat_close(&s->chat);
    rt_dev_close(s->d);
}

static int run_init(void *values, rt_err *err)
{
    start s = { .o = values, .lock = -1 };
    char parameters[32], before[32], of[64] = "";
    int bad = open_start(&s, NULL, err) || write_start(&s, err);
    if (s.prunes)
        snprintf(of, sizeof of, ", of %s",
                 rt_fmt_count(before, sizeof before, (double)s.prune.source.params.total));
    if (!bad)
        rt_info("%s: a %s of %s parameters%s", s.o->out, s.model.cfg.family->model_type,
                rt_fmt_count(parameters, sizeof parameters, (double)s.model.w.params.total),
                s.o->from ? of : " at random");
    if (!bad && s.transplant.rows)
        rt_info("of its tokens %lld have the row they had, %lld the mean of their old pieces, %lld the "
                "mean of all",
                (long long)s.transplant.kept, (long long)s.transplant.made,
                (long long)s.transplant.unknown);
    close_start(&s);
    return bad ? -1 : 0;
}

static int plan_init(void *values, rt_needs *p, rt_err *err)
{
    start s = { .o = values, .lock = -1 };
    int bad = open_start(&s, p, err) ||
              (s.corpus && rt_prune_needs(s.o->from, s.d, s.corpus, s.o->pass_tokens, p, err));
    if (!bad) {
        rt_needs_add(p, RT_NEEDS_DISK, "model", "weights",
                     rt_model_save_bytes(&s.model, rt_dtype_written(s.o->dtype)));
        p->output = (rt_needs_output){ .path = s.o->out,
                                       .cfg = s.model.cfg,
                                       .tokenizer = s.speaks };
    }
    close_start(&s);
    return bad ? -1 : 0;
}

const rt_command rt_command_init = {
    .name = "init",
    .help = "a student to start from: a shape at random, or a model in another vocabulary or pruned",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(init_options),
    .run = run_init,
    .plan = plan_init,
    .example = "retort init --shape qwen3-0.6b --tokenizer teacher --out start",
};
