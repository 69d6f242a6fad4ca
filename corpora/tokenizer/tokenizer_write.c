/* tokenizer_write.c: an open tokenizer as tokenizer.json and tokenizer_config.json, as Hugging Face
   reads them: what a GGUF's vocabulary or a learned one becomes beside a model's weights. The files
   give the ids that the tokenizer gives. Refuses: pipelines that only a tokenizer.json can say
   (those are copied, not written anew). */
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/memory.h"
#include "corpora/tokenizer/tokenizer_parts.h"

static cJSON *typed(const char *type)
{
    cJSON *o = rt_json_object();
    rt_json_put_str(o, "type", type);
    return o;
}

static cJSON *byte_level(void)
{
    cJSON *o = typed("ByteLevel");
    rt_json_put_bool(o, "add_prefix_space", false);
    rt_json_put_bool(o, "trim_offsets", false);
    rt_json_put_bool(o, "use_regex", false);
    return o;
}

/* {"type": "Sequence", key: list} */
static cJSON *sequence(const char *key, cJSON *list)
{
    cJSON *o = typed("Sequence");
    rt_json_put(o, key, list);
    return o;
}

static cJSON *pattern(const char *kind, const char *text)
{
    cJSON *o = rt_json_object();
    rt_json_put_str(o, kind, text);
    return o;
}

static cJSON *replace(const char *from, const char *to)
{
    cJSON *o = typed("Replace");
    rt_json_put(o, "pattern", pattern("String", from));
    rt_json_put_str(o, "content", to);
    return o;
}

// ------------------------------------------------------------------------- around the vocabulary

static cJSON *splits(const rt_split *f)
{
    cJSON *list = rt_json_array();
    for (int i = 0; i < RT_COUNT(f->pattern) && f->pattern[i]; i++) {
        cJSON *split = typed("Split");
        rt_json_put(split, "pattern", pattern("Regex", f->pattern[i]));
        rt_json_put_str(split, "behavior", "Isolated");
        rt_json_put_bool(split, "invert", false);
        rt_json_put(list, NULL, split);
    }
    rt_json_put(list, NULL, byte_level());
    return sequence("pretokenizers", list);
}

static const char MARK[] = "\xe2\x96\x81"; /* SentencePiece's space */

static cJSON *spaces_to_marks(bool prefix)
{
    cJSON *list = rt_json_array(), *prepend = prefix ? typed("Prepend") : NULL;
    if (prepend) {
        rt_json_put_str(prepend, "prepend", MARK);
        rt_json_put(list, NULL, prepend);
    }
    rt_json_put(list, NULL, replace(" ", MARK));
    return sequence("normalizers", list);
}

static cJSON *marks_to_spaces(bool prefix)
{
    cJSON *list = rt_json_array(), *strip = prefix ? typed("Strip") : NULL;
    rt_json_put(list, NULL, replace(MARK, " "));
    rt_json_put(list, NULL, typed("ByteFallback"));
    rt_json_put(list, NULL, typed("Fuse"));
    if (strip) {
        rt_json_put_str(strip, "content", " ");
        rt_json_put_i64(strip, "start", 1);
        rt_json_put_i64(strip, "stop", 0);
        rt_json_put(list, NULL, strip);
    }
    return sequence("decoders", list);
}

/* [prefix] A [suffix], and what a pair of texts becomes. */
static cJSON *wrapping(const rt_tokenizer *t)
{
    cJSON *o = typed("TemplateProcessing"), *specials = rt_json_object();
    for (int texts = 1; texts <= 2; texts++) {
        cJSON *list = rt_json_array();
        for (int k = 0; k < texts; k++) {
            for (int64_t i = 0; i <= t->prefix.n + t->suffix.n; i++) {
                cJSON *piece = rt_json_object(), *what = rt_json_object();
                bool text = i == t->prefix.n;
                int32_t id = text              ? -1
                             : i < t->prefix.n ? t->prefix.id[i]
                                               : t->suffix.id[i - t->prefix.n - 1];
                const char *name = text ? (k ? "B" : "A") : t->token[id].data;
                rt_json_put_str(what, "id", name);
                rt_json_put_i64(what, "type_id", k);
                rt_json_put(piece, text ? "Sequence" : "SpecialToken", what);
                rt_json_put(list, NULL, piece);
                if (text || rt_json_find(specials, name))
                    continue;
                cJSON *special = rt_json_object(), *ids = rt_json_array(), *names = rt_json_array();
                rt_json_put_i64(ids, NULL, id);
                rt_json_put_str(names, NULL, name);
                rt_json_put_str(special, "id", name);
                rt_json_put(special, "ids", ids);
                rt_json_put(special, "tokens", names);
                rt_json_put(specials, name, special);
            }
        }
        rt_json_put(o, texts == 1 ? "single" : "pair", list);
    }
    rt_json_put(o, "special_tokens", specials);
    return o;
}

// --------------------------------------------------------------------------------- the vocabulary

static int by_id(const void *a, const void *b)
{
    return ((const rt_added *)a)->id - ((const rt_added *)b)->id;
}

static cJSON *added_tokens(const rt_added *added, int64_t n)
{
    cJSON *list = rt_json_array();
    for (int64_t i = 0; i < n; i++) {
        cJSON *o = rt_json_object();
        rt_json_put_i64(o, "id", added[i].id);
        rt_json_put_str(o, "content", added[i].content.data);
        rt_json_put_bool(o, "single_word", added[i].single_word);
        rt_json_put_bool(o, "lstrip", added[i].lstrip);
        rt_json_put_bool(o, "rstrip", added[i].rstrip);
        rt_json_put_bool(o, "normalized", added[i].normalized);
        rt_json_put_bool(o, "special", added[i].special);
        rt_json_put(list, NULL, o);
    }
    return list;
}

/* Added tokens that follow a vocabulary without holes get their ids by counting on; any other has
   to stand in the vocabulary too, or the reference gives it another id. Returns the first id of
   those that follow. */
static int32_t first_beyond(const rt_tokenizer *t, const rt_added *added, int64_t n)
{
    int32_t first = t->vocab, holes = 0;
    for (int32_t id = 0; id < t->vocab; id++)
        holes += !t->token[id].data;
    while (!holes && n > 0 && added[n - 1].id == first - 1)
        n--, first--;
    return first;
}

static cJSON *merge_of(const rt_tokenizer *t, int64_t i)
{
    rt_str l = t->token[t->bpe.left[i]], r = t->token[t->bpe.right[i]];
    if (!strchr(l.data, ' ') && !strchr(r.data, ' ')) {
        char *both = rt_alloc(l.bytes + r.bytes + 2, 1, "a merge");
        memcpy(both, l.data, (size_t)l.bytes);
        both[l.bytes] = ' ';
        memcpy(both + l.bytes + 1, r.data, (size_t)r.bytes);
        cJSON *text = cJSON_CreateString(both);
        free(both);
        return text;
    }
    cJSON *pair = rt_json_array();
    rt_json_put_str(pair, NULL, l.data);
    rt_json_put_str(pair, NULL, r.data);
    return pair;
}

static cJSON *model_of(const rt_tokenizer *t, int32_t beyond)
{
    cJSON *o = typed("BPE"), *vocab = rt_json_object(), *merges = rt_json_array();
    for (int32_t id = 0; id < beyond; id++)
        if (t->token[id].data)
            rt_json_put_i64(vocab, t->token[id].data, id);
    for (int64_t i = 0; i < t->bpe.n_merges; i++)
        rt_json_put(merges, NULL, merge_of(t, i));
    rt_json_put(o, "dropout", cJSON_CreateNull());
    rt_json_put_str(o, "unk_token", t->bpe.unk >= 0 ? t->token[t->bpe.unk].data : NULL);
    rt_json_put(o, "continuing_subword_prefix", cJSON_CreateNull());
    rt_json_put(o, "end_of_word_suffix", cJSON_CreateNull());
    rt_json_put_bool(o, "fuse_unk", t->bpe.fuse_unk);
    rt_json_put_bool(o, "byte_fallback", t->bpe.byte_fallback);
    rt_json_put_bool(o, "ignore_merges", t->bpe.ignore_merges);
    rt_json_put(o, "vocab", vocab);
    rt_json_put(o, "merges", merges);
    return o;
}

// -------------------------------------------------------------------------------------- the files

static cJSON *tokenizer_json(const rt_tokenizer *t, const rt_split *f)
{
    cJSON *root = rt_json_object();
    rt_added *added = rt_alloc(t->n_added, sizeof *added, "added tokens");
    memcpy(added, t->added, (size_t)t->n_added * sizeof *added);
    qsort(added, (size_t)t->n_added, sizeof *added, by_id);
    bool wrapped = t->prefix.n + t->suffix.n > 0;
    rt_json_put_str(root, "version", "1.0");
    rt_json_put(root, "truncation", cJSON_CreateNull());
    rt_json_put(root, "padding", cJSON_CreateNull());
    rt_json_put(root, "added_tokens", added_tokens(added, t->n_added));
    rt_json_put(root, "normalizer",
                !f       ? spaces_to_marks(t->space_prefix)
                : f->nfc ? typed("NFC")
                         : cJSON_CreateNull());
    rt_json_put(root, "pre_tokenizer", f ? splits(f) : cJSON_CreateNull());
    rt_json_put(root, "post_processor",
                wrapped ? wrapping(t)
                : f     ? byte_level()
                        : cJSON_CreateNull());
    rt_json_put(root, "decoder", f ? byte_level() : marks_to_spaces(t->space_prefix));
    rt_json_put(root, "model", model_of(t, first_beyond(t, added, t->n_added)));
    free(added);
    return root;
}

static cJSON *config_json(const rt_tokenizer *t)
{
    const struct {
        const char *name;
        int32_t id;
        bool always;
    } named[] = { { "bos_token", t->bos, true },
                  { "eos_token", t->eos, true },
                  { "pad_token", t->pad, true },
                  { "unk_token", t->unk, false } };
    cJSON *config = rt_json_object();
    rt_json_put_str(config, "tokenizer_class", "PreTrainedTokenizerFast");
    for (int i = 0; i < RT_COUNT(named); i++)
        if (named[i].always || named[i].id >= 0)
            rt_json_put_str(config, named[i].name,
                            named[i].id >= 0 ? t->token[named[i].id].data : NULL);
    rt_json_put_bool(config, "clean_up_tokenization_spaces", false);
    if (t->chat_template)
        rt_json_put_str(config, "chat_template", t->chat_template);
    return config;
}

static int save(const char *dir, const char *name, cJSON *json, rt_err *err)
{
    char *path = rt_path_join(dir, name);
    int bad = rt_json_save(json, path, err);
    free(path);
    cJSON_Delete(json);
    return bad;
}

int rt_tokenizer_save(const rt_tokenizer *t, const char *dir, rt_err *err)
{
    const rt_split *f = t->bpe.byte_level && t->family ? rt_split_find(t->family) : NULL;
    if (t->bpe.byte_level ? !f : t->pre.n > 0)
        return rt_fail(err, "%s: this tokenizer's pipeline has no form that can be written", dir);
    return save(dir, "tokenizer_config.json", config_json(t), err) ||
                   save(dir, "tokenizer.json", tokenizer_json(t, f), err)
               ? -1
               : 0;
}
