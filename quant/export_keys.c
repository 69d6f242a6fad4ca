/* export_keys.c: what a GGUF says about its model: provenance, architecture, tokenizer. Numbers
   that a runtime would guess wrongly when absent (head widths, rope base, special tokens, add_bos)
   are always written, as u32 and f32, which every reader takes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "quant/conversation.h"
#include "quant/export.h"
#include "quant/provenance.h"

enum { QUANTIZATION_VERSION = 2 };

/* ---- architecture ---- */

typedef struct arch_key {
    const char *name; /* after "llama." */
    size_t offset;    /* of the int64_t or double in rt_config */
    bool number;      /* f32, else u32 */
} arch_key;

#define COUNT(name, field)                                                                         \
    {                                                                                              \
        name, offsetof(rt_config, field), false                                                    \
    }
#define NUMBER(name, field)                                                                        \
    {                                                                                              \
        name, offsetof(rt_config, field), true                                                     \
    }

static const arch_key arch_keys[] = {
    COUNT("context_length", max_positions),
    COUNT("embedding_length", width),
    COUNT("block_count", layers),
    COUNT("feed_forward_length", ffn_width),
    COUNT("attention.head_count", heads),
    COUNT("attention.head_count_kv", kv_heads),
    COUNT("attention.key_length", head_dim),
    COUNT("attention.value_length", head_dim),
    NUMBER("attention.layer_norm_rms_epsilon", norm_eps),
    COUNT("rope.dimension_count", head_dim),
    NUMBER("rope.freq_base", rope_theta),
    COUNT("vocab_size", vocab),
};

static int arch_put(rt_gguf_writer *w, const rt_config *cfg, const arch_key *k, rt_err *err)
{
    char key[96];
    const char *field = (const char *)cfg + k->offset;
    snprintf(key, sizeof key, "%s.%s", cfg->family->gguf, k->name);
    if (k->number) {
        double v;
        memcpy(&v, field, sizeof v);
        return rt_gguf_put_f32(w, key, (float)v, err);
    }
    int64_t v;
    memcpy(&v, field, sizeof v);
    return rt_gguf_put_u32(w, key, (uint32_t)v, err);
}

/* Linear and yarn are keys; llama3 is the tensor rope_freqs. */
static int rope_put(rt_gguf_writer *w, const rt_config *cfg, rt_err *err)
{
    const char *arch = cfg->family->gguf;
    char type[96], factor[96], original[96];
    if (cfg->rope_scaling != RT_ROPE_LINEAR && cfg->rope_scaling != RT_ROPE_YARN)
        return 0;
    bool yarn = cfg->rope_scaling == RT_ROPE_YARN;
    if (yarn && (cfg->yarn_fast != 32 || cfg->yarn_slow != 1 || cfg->yarn_mscale != 0 ||
                 cfg->yarn_mscale_all != 0 || cfg->yarn_attention != 0))
        return rt_fail(err, "rope_scaling: GGUF readers know yarn only with its default betas and "
                            "attention factor; this model would run with other ones");
    snprintf(type, sizeof type, "%s.rope.scaling.type", arch);
    snprintf(factor, sizeof factor, "%s.rope.scaling.factor", arch);
    snprintf(original, sizeof original, "%s.rope.scaling.original_context_length", arch);
    if (rt_gguf_put_str(w, type, yarn ? "yarn" : "linear", err) ||
        rt_gguf_put_f32(w, factor, (float)cfg->rope_factor, err))
        return -1;
    return yarn ? rt_gguf_put_u32(w, original, (uint32_t)cfg->rope_original, err) : 0;
}

/* "8.0B", "25M": how people tell sizes apart. */
static void size_label(char *out, size_t size, int64_t parameters)
{
    double n = (double)parameters;
    if (n >= 1e9)
        snprintf(out, size, "%.1fB", n / 1e9);
    else if (n >= 1e6)
        snprintf(out, size, "%.0fM", n / 1e6);
    else
        snprintf(out, size, "%.0fK", n / 1e3);
}

/* A base as the hub names it has an owner and an address. */
static int provenance_put(rt_gguf_writer *w, const char *model, rt_err *err)
{
    rt_provenance from;
    char url[256];
    if (rt_provenance_read(&from, model, err))
        return -1;
    const char *slash = strchr(from.base, '/');
    if (*from.licence && rt_gguf_put_str(w, "general.license", from.licence, err))
        return -1;
    if (!*from.base)
        return 0;
    if (rt_gguf_put_u32(w, "general.base_model.count", 1, err) ||
        rt_gguf_put_str(w, "general.base_model.0.name", slash ? slash + 1 : from.base, err))
        return -1;
    if (!slash || slash == from.base || strchr(slash + 1, '/'))
        return 0;
    snprintf(url, sizeof url, "https://huggingface.co/%s", from.base);
    from.base[slash - from.base] = 0;
    return rt_gguf_put_str(w, "general.base_model.0.organization", from.base, err) ||
                   rt_gguf_put_str(w, "general.base_model.0.repo_url", url, err)
               ? -1
               : 0;
}

/* As llama-quantize says which imatrix it was given: its name, texts, matrices, chunks. */
static int imatrix_put(rt_gguf_writer *w, const rt_importance *imp, rt_err *err)
{
    if (!imp)
        return 0;
    bool gguf = imp->form == RT_IMPORTANCE_GGUF, dat = imp->form == RT_IMPORTANCE_DAT;
    const char *path = gguf ? imp->gguf.path : dat ? imp->dat.path : imp->st.path[0];
    int64_t entries = gguf ? 0 : dat ? imp->n_places : imp->st.n_tensors, chunks = -1;
    for (int64_t i = 0; gguf && i < imp->gguf.n_tensors; i++)
        entries += strstr(imp->gguf.tensor[i].name, ".in_sum2") != NULL;
    if (rt_gguf_put_str(w, "quantize.imatrix.file", rt_path_base(path), err) ||
        rt_gguf_put_u32(w, "quantize.imatrix.entries_count", (uint32_t)entries, err))
        return -1;
    rt_gguf_str *text = NULL;
    int64_t n = 0;
    if (gguf && rt_gguf_find_key(&imp->gguf, "imatrix.datasets") &&
        rt_gguf_get_strs(&imp->gguf, "imatrix.datasets", &text, &n, err))
        return -1;
    char *first = n > 0 ? rt_strndup(text[0].text, text[0].bytes) : NULL;
    int bad = first && rt_gguf_put_str(w, "quantize.imatrix.dataset", rt_path_base(first), err);
    free(first);
    free(text);
    if (bad)
        return -1;
    if (gguf && rt_gguf_opt_i64(&imp->gguf, "imatrix.chunk_count", 0, UINT32_MAX, &chunks, err))
        return -1;
    return chunks < 0 ? 0 : rt_gguf_put_u32(w, "quantize.imatrix.chunks_count", (uint32_t)chunks, err);
}

static int general_put(rt_gguf_writer *w, const rt_export *job, const rt_config *cfg,
                       int64_t parameters, rt_err *err)
{
    char label[32];
    char *dir = rt_strdup(job->dir);
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        dir[--n] = 0;
    if (n > 5 && strcmp(dir + n - 5, ".gguf") == 0)
        dir[n - 5] = 0;
    const char *name = job->name ? job->name : rt_path_base(dir);
    size_label(label, sizeof label, parameters);
    int rc = rt_gguf_put_str(w, "general.architecture", cfg->family->gguf, err) ||
             rt_gguf_put_str(w, "general.type", "model", err) ||
             rt_gguf_put_str(w, "general.name", name, err) ||
             rt_gguf_put_str(w, "general.size_label", label, err) ||
             rt_gguf_put_str(w, "general.quantized_by", "retort", err) ||
             rt_gguf_put_u32(w, "general.file_type", (uint32_t)job->mix->file_type, err) ||
             rt_gguf_put_u32(w, "general.quantization_version", QUANTIZATION_VERSION, err) ||
             provenance_put(w, job->dir, err) || imatrix_put(w, job->importance, err);
    free(dir);
    return rc ? -1 : 0;
}

/* ---- tokenizer ---- */

/* One entry for every row of the embedding; ids that no token has become "[PAD7]", unused. */
static int tokens_put(rt_gguf_writer *w, const rt_tokenizer *t, int64_t vocab, rt_err *err)
{
    if (rt_gguf_put_strs_begin(w, "tokenizer.ggml.tokens", vocab, err))
        return -1;
    for (int32_t id = 0; id < vocab; id++) {
        char hole[32];
        rt_str s = { NULL, 0 };
        if (id < rt_tokenizer_vocab(t))
            s = rt_tokenizer_token(t, id);
        if (!s.data) {
            s.bytes = snprintf(hole, sizeof hole, "[PAD%d]", id);
            s.data = hole;
        }
        if (rt_gguf_put_strs_item(w, s.data, s.bytes, err))
            return -1;
    }
    int32_t *type = rt_alloc(vocab, sizeof *type, "token types");
    for (int32_t id = 0; id < vocab; id++)
        type[id] = id < rt_tokenizer_vocab(t) && rt_tokenizer_token(t, id).data
                       ? (int32_t)rt_tokenizer_type(t, id)
                       : RT_TOKEN_UNUSED;
    int rc = rt_gguf_put_raw(w, "tokenizer.ggml.token_type", RT_GGUF_I32, true, type, vocab, err);
    free(type);
    return rc;
}

static int merges_put(rt_gguf_writer *w, const rt_tokenizer *t, rt_err *err)
{
    rt_text text = { 0 };
    int64_t n = rt_tokenizer_merges(t);
    int rc = rt_gguf_put_strs_begin(w, "tokenizer.ggml.merges", n, err);
    for (int64_t i = 0; !rc && i < n; i++) {
        rt_text_clear(&text);
        rc = rt_tokenizer_merge(t, i, &text, err) ||
             rt_gguf_put_strs_item(w, text.data, text.bytes, err);
    }
    rt_text_free(&text);
    return rc ? -1 : 0;
}

static int scores_put(rt_gguf_writer *w, const rt_tokenizer *t, int64_t vocab, rt_err *err)
{
    float *score = rt_alloc(rt_max(vocab, rt_tokenizer_vocab(t)), sizeof *score, "token scores");
    rt_tokenizer_scores(t, score);
    int rc = rt_gguf_put_raw(w, "tokenizer.ggml.scores", RT_GGUF_F32, true, score, vocab, err);
    free(score);
    return rc;
}

static int special_put(rt_gguf_writer *w, const char *key, int64_t id, rt_err *err)
{
    return id < 0 ? 0 : rt_gguf_put_u32(w, key, (uint32_t)id, err);
}

/* Runtimes take id 11 for a missing bos or eos of a byte-level vocabulary, so both are written. Some stop at
   eos alone, so it is what ends an answer; what ends a text beside it is written as eom, at which those that
   know more than eos stop too. */
static int specials_put(rt_gguf_writer *w, const rt_export *job, const rt_config *cfg,
                        const rt_chat *chat, rt_err *err)
{
    const rt_tokenizer *t = chat->tokenizer;
    int64_t eos = rt_tokenizer_eos(t), bos = rt_tokenizer_bos(t), eot = rt_conversation_end(chat);
    if (eos < 0)
        eos = cfg->n_eos > 0 ? cfg->eos[0] : eot;
    if (eos < 0)
        return rt_fail(err,
                       "no end-of-text token in tokenizer_config.json, config.json or the chat "
                       "template: generation would never stop; set eos_token");
    if (bos < 0)
        bos = cfg->bos >= 0 ? cfg->bos : eos;
    if (eot >= 0 && eot != eos && !job->later)
        rt_warn("%s: the chat template ends answers with %s, tokenizer_config.json says that %s ends a text: "
                "eos and eot are the first, eom is the second",
                job->dir, rt_tokenizer_token(t, (int32_t)eot).data,
                eos < rt_tokenizer_vocab(t) && rt_tokenizer_token(t, (int32_t)eos).data
                    ? rt_tokenizer_token(t, (int32_t)eos).data : "another token");
    int64_t pad = rt_tokenizer_pad(t) >= 0 ? rt_tokenizer_pad(t) : cfg->pad;
    return special_put(w, "tokenizer.ggml.bos_token_id", bos, err) ||
                   special_put(w, "tokenizer.ggml.eos_token_id", eot >= 0 ? eot : eos, err) ||
                   special_put(w, "tokenizer.ggml.eot_token_id", eot, err) ||
                   special_put(w, "tokenizer.ggml.eom_token_id", eot >= 0 && eot != eos ? eos : -1, err) ||
                   special_put(w, "tokenizer.ggml.padding_token_id", pad, err) ||
                   special_put(w, "tokenizer.ggml.unknown_token_id", rt_tokenizer_unk(t), err) ||
                   rt_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", rt_tokenizer_adds_bos(t),
                                    err) ||
                   rt_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", rt_tokenizer_adds_eos(t),
                                    err)
               ? -1
               : 0;
}

static int tokenizer_put(rt_gguf_writer *w, const rt_export *job, const rt_config *cfg,
                         const rt_chat *chat, rt_err *err)
{
    const rt_tokenizer *t = chat->tokenizer;
    const char *model = rt_tokenizer_model(t);
    bool bytes = !strcmp(model, "gpt2");
    const char *pre = job->pre ? job->pre : rt_tokenizer_pre(t);
    if (bytes && !pre)
        return rt_fail(err,
                       "%s: no GGUF runtime has a name for this tokenizer's split pattern; --pre "
                       "NAME (qwen2, llama-bpe, ...) forces the nearest one",
                       job->dir);
    if (rt_gguf_put_str(w, "tokenizer.ggml.model", model, err) ||
        (pre && rt_gguf_put_str(w, "tokenizer.ggml.pre", pre, err)) ||
        tokens_put(w, t, cfg->vocab, err) ||
        (bytes ? merges_put(w, t, err) : scores_put(w, t, cfg->vocab, err)) ||
        specials_put(w, job, cfg, chat, err))
        return -1;
    if (!bytes &&
        rt_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", rt_tokenizer_space_prefix(t), err))
        return -1;
    const char *source = rt_tokenizer_chat_template(t);
    return source ? rt_gguf_put_str(w, "tokenizer.chat_template", source, err) : 0;
}

int rt_export_keys(rt_gguf_writer *w, const rt_export *job, const rt_config *cfg,
                   const rt_chat *chat, int64_t parameters, rt_err *err)
{
    if (general_put(w, job, cfg, parameters, err))
        return -1;
    for (int i = 0; i < RT_COUNT(arch_keys); i++)
        if (arch_put(w, cfg, &arch_keys[i], err))
            return -1;
    if (rope_put(w, cfg, err))
        return -1;
    return chat->tokenizer ? tokenizer_put(w, job, cfg, chat, err)
                           : rt_gguf_put_str(w, "tokenizer.ggml.model", "no_vocab", err);
}
