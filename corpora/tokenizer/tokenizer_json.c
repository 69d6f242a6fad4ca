/* tokenizer_json.c: opens a Hugging Face tokenizer: tokenizer.json with the files beside it.
   tokenizer.json decides how text becomes ids; tokenizer_config.json adds bos/eos/pad, explicit
   add_bos_token/add_eos_token, added tokens the first file lacks, and the chat template. */
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "core/formats/kind.h"
#include "core/formats/listing.h"
#include "corpora/template/template.h"
#include "corpora/tokenizer/tokenizer_parts.h"

enum { MERGES_MAX = 8 << 20, HOLES_MAX = 16 << 10 };

typedef struct sources {
    char *dir;                            /* of the siblings, "" for the current one */
    cJSON *json, *config;                 /* config may be NULL */
    const cJSON *vocab, *added, *decoder; /* decoder: added_tokens_decoder of config, or NULL */
} sources;

static int load_optional(cJSON **out, const char *dir, const char *name, rt_err *err)
{
    char *path = rt_path_join(dir, name);
    int bad = rt_path_exists(path) ? rt_json_load(out, path, err) : 0;
    free(path);
    return bad;
}

/* ---- tokens --------------------------------------------------------------------------------- */

static int read_id(const cJSON *v, const char *token, int64_t *id, rt_err *err)
{
    if (!cJSON_IsNumber(v) || v->valuedouble < 0 || v->valuedouble >= RT_VOCAB_MAX ||
        v->valuedouble != (double)(int64_t)v->valuedouble)
        return rt_fail(err, "token %.80s: its id is not an integer below %d", token, RT_VOCAB_MAX);
    *id = (int64_t)v->valuedouble;
    return 0;
}

/* Largest id + 1 and the memory the spellings take, over all three lists. Tables are as long as the
   largest id says, so a short file with a great one is refused. */
static int measure(const sources *s, int64_t *vocab, int64_t *bytes, rt_err *err)
{
    int64_t id, n = cJSON_GetArraySize(s->vocab) + (int64_t)cJSON_GetArraySize(s->added) +
                    cJSON_GetArraySize(s->decoder);
    const cJSON *v;
    const char *content;
    *vocab = *bytes = 0;
    cJSON_ArrayForEach(v, s->vocab)
    {
        if (read_id(v, v->string, &id, err))
            return -1;
        *vocab = rt_max(*vocab, id + 1);
        *bytes += (int64_t)strlen(v->string) + 1;
    }
    cJSON_ArrayForEach(v, s->added)
    {
        if (rt_json_get_str(v, "content", &content, err) ||
            rt_json_get_i64(v, "id", 0, RT_VOCAB_MAX - 1, &id, err))
            return rt_wrap(err, "added_tokens");
        *vocab = rt_max(*vocab, id + 1);
        *bytes += (int64_t)strlen(content) + 1;
    }
    cJSON_ArrayForEach(v, s->decoder)
    {
        char *end;
        id = strtol(v->string, &end, 10);
        if (*end || id < 0 || id >= RT_VOCAB_MAX || rt_json_get_str(v, "content", &content, err))
            return rt_fail(err, "added_tokens_decoder: %.80s is not an id with its token",
                           v->string);
        *vocab = rt_max(*vocab, id + 1);
        *bytes += (int64_t)strlen(content) + 1;
    }
    if (*vocab > 2 * n + HOLES_MAX)
        return rt_fail(err, "an id of %lld is far beyond the %lld tokens", (long long)*vocab - 1,
                       (long long)n);
    return *vocab ? 0 : rt_fail(err, "the vocabulary is empty");
}

static int add_token(rt_tokenizer *t, int64_t id, const cJSON *v, rt_err *err)
{
    const char *content;
    if (rt_json_get_str(v, "content", &content, err))
        return -1;
    int64_t bytes = (int64_t)strlen(content);
    if (bytes == 0)
        return rt_fail(err, "added token %lld is empty", (long long)id);
    int32_t known = rt_bpe_find_spelled(&t->bpe, (rt_str){ content, bytes });
    if (known >= 0 && known != id)
        return rt_fail(err, "added token %.80s has the id %lld, but %d in the vocabulary", content,
                       (long long)id, known);
    if (!t->token[id].data && rt_tokenizer_put(t, id, content, bytes, err))
        return -1;
    if (strcmp(t->token[id].data, content) != 0)
        return rt_fail(err, "id %lld is both %.80s and the added token %.80s", (long long)id,
                       t->token[id].data, content);
    rt_added *a = &t->added[t->n_added++];
    *a = (rt_added){ .id = (int32_t)id, .content = t->token[id], .search = t->token[id] };
    a->normalized = true;
    if (rt_json_opt_bool(v, "special", &a->special, err) ||
        rt_json_opt_bool(v, "single_word", &a->single_word, err) ||
        rt_json_opt_bool(v, "lstrip", &a->lstrip, err) ||
        rt_json_opt_bool(v, "rstrip", &a->rstrip, err) ||
        rt_json_opt_bool(v, "normalized", &a->normalized, err))
        return rt_wrap(err, "added token %.80s", content);
    return 0;
}

/* tokenizer.json's added tokens, then those that only tokenizer_config.json knows. */
static int add_tokens(rt_tokenizer *t, const sources *s, rt_err *err)
{
    int64_t most = cJSON_GetArraySize(s->added) + cJSON_GetArraySize(s->decoder) + 8;
    bool *have = rt_alloc(t->vocab, 1, "added tokens");
    t->added = rt_alloc(most, sizeof *t->added, "added tokens");
    int bad = 0;
    const cJSON *v;
    int64_t id = 0;
    for (v = s->added ? s->added->child : NULL; v && !bad; v = v->next) {
        bad = rt_json_get_i64(v, "id", 0, t->vocab - 1, &id, err);
        if (!bad && have[id])
            bad = rt_fail(err, "two added tokens have the id %lld", (long long)id);
        if (!bad)
            bad = add_token(t, id, v, err);
        have[id] = true;
    }
    for (v = s->decoder ? s->decoder->child : NULL; v && !bad; v = v->next) {
        id = strtol(v->string, NULL, 10);
        if (!have[id])
            bad = add_token(t, id, v, err) ? rt_wrap(err, "added_tokens_decoder") : 0;
        have[id] = true;
    }
    free(have);
    return bad;
}

/* ---- the model ------------------------------------------------------------------------------ */

static rt_str as_str(const char *s) { return (rt_str){ s, (int64_t)strlen(s) }; }

static int read_merges(rt_bpe *b, const cJSON *merges, rt_err *err)
{
    const cJSON *m;
    int64_t most = cJSON_GetArraySize(merges);
    if (most > MERGES_MAX)
        return rt_fail(err, "more than %d merges", MERGES_MAX);
    cJSON_ArrayForEach(m, merges)
    {
        const cJSON *first = m->child, *second = first ? first->next : NULL;
        const char *l = cJSON_GetStringValue(first), *r = cJSON_GetStringValue(second);
        bool pair = cJSON_IsArray(m) && l && r && !second->next;
        if (!pair && !cJSON_IsString(m))
            return rt_fail(err, "merge %lld is neither \"a b\" nor [\"a\", \"b\"]",
                           (long long)b->n_merges);
        if (!pair && strncmp(m->valuestring, "#version", 8) == 0)
            continue;
        if (pair ? rt_bpe_add_merge(b, as_str(l), as_str(r), most, err)
                 : rt_bpe_add_merge_text(b, as_str(m->valuestring), most, err))
            return -1;
    }
    return 0;
}

/* Options of the model that change ids and that retort does not have. */
static int refuse_options(const cJSON *model, rt_err *err)
{
    static const char *const names[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (int i = 0; i < RT_COUNT(names); i++) {
        const char *text = "";
        if (rt_json_opt_str(model, names[i], &text, err))
            return -1;
        if (*text)
            return rt_fail(err, "model: %s is not supported", names[i]);
    }
    double dropout = 0;
    if (rt_json_opt_f64(model, "dropout", &dropout, err))
        return -1;
    return dropout > 0 ? rt_fail(err, "model: dropout is not supported") : 0;
}

/* Byte-level spelling as the last pre-tokenizer: then the model works on the bytes themselves and
   nothing is spelled out. A byte may have no token (SmolLM2's 21 have none); only with a fallback,
   which is by the bytes of a spelling, does that not come out the same. */
static int set_vocab(rt_tokenizer *t, rt_err *err)
{
    rt_bpe *b = &t->bpe;
    int spelled = 0, missing = 0;
    for (int i = 0; i < t->pre.n; i++)
        spelled += t->pre.step[i].kind == RT_STEP_BYTES;
    bool last = spelled == 1 && t->pre.step[t->pre.n - 1].kind == RT_STEP_BYTES;
    if (rt_bpe_set_vocab(b, t->token, t->vocab, last, err))
        return -1;
    for (int i = 0; i < 256 && last && b->byte_fallback; i++)
        missing += b->byte_id[i] < 0;
    if (last && !missing)
        t->pre.n--;
    if (!missing)
        return 0;
    rt_bpe_free(b);
    b->unk = -1;
    b->byte_fallback = true;
    return rt_bpe_set_vocab(b, t->token, t->vocab, false, err);
}

static int read_model(rt_tokenizer *t, const sources *s, const cJSON *model, rt_err *err)
{
    const char *unk = NULL;
    const cJSON *merges, *v;
    rt_bpe *b = &t->bpe;
    cJSON_ArrayForEach(v,
                       s->vocab) if (rt_tokenizer_put(t, (int64_t)v->valuedouble, v->string,
                                                      (int64_t)strlen(v->string), err)) return -1;
    if (rt_json_opt_bool(model, "byte_fallback", &b->byte_fallback, err) || set_vocab(t, err) ||
        refuse_options(model, err) || rt_json_opt_bool(model, "fuse_unk", &b->fuse_unk, err) ||
        rt_json_opt_bool(model, "ignore_merges", &b->ignore_merges, err) ||
        rt_json_opt_str(model, "unk_token", &unk, err) ||
        rt_json_get_array(model, "merges", &merges, err) || read_merges(b, merges, err))
        return -1;
    if (unk) {
        b->unk = rt_bpe_find_spelled(b, as_str(unk));
        if (b->unk < 0)
            return rt_fail(err, "model: unk_token %.80s is not in the vocabulary", unk);
    }
    return 0;
}

/* ---- around the model ----------------------------------------------------------------------- */

/* One side of a template: the ids of special tokens before (prefix) and after the text. */
static int read_template(rt_tokenizer *t, const cJSON *json, rt_err *err)
{
    const cJSON *single, *specials, *piece, *ids, *special, *v;
    if (t->prefix.n || t->suffix.n)
        return rt_fail(err, "post-processor: two templates are not supported");
    if (rt_json_get_array(json, "single", &single, err) ||
        rt_json_get_object(json, "special_tokens", &specials, err))
        return -1;
    bool after = false;
    cJSON_ArrayForEach(piece, single)
    {
        const char *name;
        if (rt_json_find(piece, "Sequence")) {
            if (after)
                return rt_fail(err, "post-processor: a template that repeats the text");
            after = true;
            continue;
        }
        if (rt_json_get_object(piece, "SpecialToken", &special, err) ||
            rt_json_get_str(special, "id", &name, err) ||
            rt_json_get_object(specials, name, &special, err) ||
            rt_json_get_array(special, "ids", &ids, err))
            return -1;
        cJSON_ArrayForEach(v, ids)
        {
            int64_t id = 0;
            if (read_id(v, name, &id, err) ||
                rt_ids_add(after ? &t->suffix : &t->prefix, (int32_t)id, err))
                return -1;
            if (!rt_tokenizer_token(t, (int32_t)id).data)
                return rt_fail(err, "post-processor: %.80s has the id %lld, which no token has",
                               name, (long long)id);
        }
    }
    return 0;
}

static int read_post_processor(rt_tokenizer *t, const cJSON *json, rt_err *err)
{
    const char *type;
    const cJSON *members, *m;
    if (!json || cJSON_IsNull(json))
        return 0;
    if (rt_json_get_str(json, "type", &type, err))
        return -1;
    if (strcmp(type, "ByteLevel") == 0) /* trims offsets, which ids do not have */
        return 0;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(t, json, err);
    if (strcmp(type, "Sequence") != 0)
        return rt_fail(err, "post-processor %s is not supported", type);
    if (rt_json_get_array(json, "processors", &members, err))
        return -1;
    cJSON_ArrayForEach(m, members) if (read_post_processor(t, m, err)) return -1;
    return 0;
}

/* "bos_token": a string, {"content": string}, or null. */
static const char *named_token(const cJSON *config, const char *key)
{
    const cJSON *v = config ? rt_json_find(config, key) : NULL;
    if (cJSON_IsObject(v))
        v = rt_json_find(v, "content");
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* A named token that the vocabulary has becomes special, as transformers makes it. */
static int32_t name_token(rt_tokenizer *t, const cJSON *config, const cJSON *map, const char *key)
{
    const char *name = named_token(config, key);
    if (!name && map)
        name = named_token(map, key);
    if (!name)
        return -1;
    for (int64_t i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].content.data, name) == 0)
            return t->added[i].id;
    int32_t id = rt_bpe_find_spelled(&t->bpe, as_str(name));
    if (id >= 0)
        t->added[t->n_added++] = (rt_added){
            .id = id, .content = t->token[id], .search = t->token[id], .special = true
        };
    return id;
}

/* An explicit add_bos_token or add_eos_token replaces the post-processor, as transformers does. */
static int read_config(rt_tokenizer *t, const sources *s, rt_err *err)
{
    cJSON *map = NULL;
    if (load_optional(&map, s->dir, "special_tokens_map.json", err))
        return -1;
    t->bos = name_token(t, s->config, map, "bos_token");
    t->eos = name_token(t, s->config, map, "eos_token");
    t->pad = name_token(t, s->config, map, "pad_token");
    cJSON_Delete(map);
    if (!s->config)
        return 0;
    const cJSON *bos = rt_json_find(s->config, "add_bos_token");
    const cJSON *eos = rt_json_find(s->config, "add_eos_token");
    if (!cJSON_IsBool(bos) && !cJSON_IsBool(eos))
        return 0;
    t->prefix.n = t->suffix.n = 0;
    return (cJSON_IsTrue(bos) && t->bos >= 0 && rt_ids_add(&t->prefix, t->bos, err)) ||
                   (cJSON_IsTrue(eos) && t->eos >= 0 && rt_ids_add(&t->suffix, t->eos, err))
               ? -1
               : 0;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int find_parts(sources *s, const cJSON **model, rt_err *err)
{
    const char *type = "BPE";
    if (rt_json_get_object(s->json, "model", model, err) ||
        rt_json_opt_str(*model, "type", &type, err))
        return -1;
    if (strcmp(type, "BPE") != 0)
        return rt_fail(err, "model %s is not supported; retort reads BPE tokenizers", type);
    s->added = rt_json_find(s->json, "added_tokens");
    if (s->added && cJSON_IsNull(s->added))
        s->added = NULL;
    if (s->added && !cJSON_IsArray(s->added))
        return rt_fail(err, "added_tokens is not a list");
    s->decoder = s->config ? rt_json_find(s->config, "added_tokens_decoder") : NULL;
    if (!cJSON_IsObject(s->decoder))
        s->decoder = NULL;
    return rt_json_get_object(*model, "vocab", &s->vocab, err);
}

static int fill(rt_tokenizer **out, sources *s, rt_err *err)
{
    const cJSON *model;
    int64_t vocab, bytes, template_bytes;
    if (find_parts(s, &model, err) || measure(s, &vocab, &bytes, err))
        return -1;
    rt_tokenizer *t = *out = rt_tokenizer_alloc((int32_t)vocab, bytes);
    if (rt_normalizer_parse(&t->normal, rt_json_find(s->json, "normalizer"), err) ||
        rt_pre_tokenizer_parse(&t->pre, rt_json_find(s->json, "pre_tokenizer"), err) ||
        rt_decoder_parse(&t->decode, rt_json_find(s->json, "decoder"), err))
        return -1;
    if (read_model(t, s, model, err) || add_tokens(t, s, err) ||
        read_post_processor(t, rt_json_find(s->json, "post_processor"), err) ||
        read_config(t, s, err) || rt_template_find(&t->chat_template, &template_bytes, s->dir, err))
        return -1;
    t->model = t->bpe.byte_level ? "gpt2" : "llama";
    for (int i = 0; i < t->normal.n; i++)
        t->space_prefix = t->space_prefix || t->normal.step[i].kind == RT_STEP_PREPEND;
    for (int i = 0; i < t->pre.n; i++)
        t->space_prefix = t->space_prefix || (t->pre.step[i].kind == RT_STEP_METASPACE &&
                                              t->pre.step[i].scheme != RT_PREPEND_NEVER);
    return rt_tokenizer_finish(t, err);
}

static bool is_other(const char *dir)
{
    const char *kind = rt_kind_name(dir);
    return kind && !strstr(kind, "model");
}

int rt_tokenizer_open(rt_tokenizer **out, const char *dir_or_file, rt_err *err)
{
    *out = NULL;
    if (rt_gguf_is(dir_or_file))
        return rt_tokenizer_open_gguf(out, dir_or_file, err);
    bool dir = rt_path_is_dir(dir_or_file);
    sources s = { 0 };
    const char *slash = strrchr(dir_or_file, '/');
    s.dir = dir     ? rt_strdup(dir_or_file)
            : slash ? rt_strndup(dir_or_file, slash - dir_or_file + 1)
                    : rt_strdup(".");
    char *path = dir ? rt_path_join(dir_or_file, "tokenizer.json") : rt_strdup(dir_or_file);
    int bad = 0;
    if (!rt_path_exists(dir_or_file))
        bad = rt_kind_fail(dir_or_file, "a model", NULL, err);
    else if (dir && !rt_path_exists(path) && is_other(dir_or_file))
        bad = rt_kind_fail(dir_or_file, "a model or a tokenizer's directory", NULL, err);
    else if (dir && !rt_path_exists(path))
        bad = rt_fail(err,
                      "%s: not found; a model directory needs its tokenizer.json "
                      "(transformers: AutoTokenizer.from_pretrained(..).save_pretrained(DIR))",
                      path);
    if (!bad)
        bad = rt_listing_check(s.dir, err) || rt_json_load(&s.json, path, err) ||
              load_optional(&s.config, s.dir, "tokenizer_config.json", err) ||
              (fill(out, &s, err) && rt_wrap(err, "%s", path));
    if (bad) {
        rt_tokenizer_close(*out);
        *out = NULL;
    }
    cJSON_Delete(s.json);
    cJSON_Delete(s.config);
    free(s.dir);
    free(path);
    return bad ? -1 : 0;
}
