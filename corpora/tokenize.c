/* tokenize.c: the commands `tokenize` (lines of text <-> lines of ids) and `tokenizer` (learn a
   byte-level BPE vocabulary from text). Thin: the work is in tokenizer.h and source.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/option.h"
#include "core/formats/output.h"
#include "core/network/needs.h"
#include "corpora/record.h"
#include "corpora/source.h"
#include "corpora/tokenizer/tokenizer.h"

/* ---- tokenize ------------------------------------------------------------------------------- */

typedef struct tokenize_options {
    char *model;
    bool decode, special, bos, plain, whole, skip_special;
} tokenize_options;

static void print_ids(const rt_ids *ids)
{
    putchar('[');
    for (int64_t i = 0; i < ids->n; i++)
        printf(i ? ",%d" : "%d", ids->id[i]);
    puts("]");
}

/* "[1, 2, 3]" -> ids. */
static int read_ids(rt_ids *ids, const char *text, int64_t bytes, const char *where, rt_err *err)
{
    cJSON *json = NULL;
    if (rt_json_parse(&json, text, bytes, where, err))
        return -1;
    rt_ids_clear(ids);
    int bad = cJSON_IsArray(json) ? 0 : rt_fail(err, "%s: not a JSON array of token ids", where);
    for (const cJSON *v = json->child; v && !bad; v = v->next) {
        double id = cJSON_IsNumber(v) ? v->valuedouble : -1;
        bad = id < 0 || id > INT32_MAX || id != (double)(int32_t)id
                  ? rt_fail(err, "%s: not a JSON array of token ids", where)
                  : rt_ids_add(ids, (int32_t)id, err);
    }
    cJSON_Delete(json);
    return bad;
}

static int tokenize_item(const tokenize_options *o, const rt_tokenizer *t, const rt_item *item,
                         rt_ids *ids, rt_text *text, rt_err *err)
{
    if (o->decode) {
        rt_text_clear(text);
        if (read_ids(ids, item->data, item->bytes, item->where, err) ||
            rt_tokenizer_decode(t, ids->id, ids->n,
                                o->skip_special ? RT_DETOKENIZE_SKIP_SPECIAL : 0, text, err))
            return -1;
        fwrite(text->data, 1, (size_t)text->bytes, stdout);
        putchar('\n');
        return 0;
    }
    unsigned flags = (o->special ? RT_TOKENIZE_SPECIAL : 0u) | (o->bos ? RT_TOKENIZE_BOS : 0u) |
                     (o->plain ? RT_TOKENIZE_PLAIN : 0u);
    rt_ids_clear(ids);
    if (rt_tokenizer_encode(t, item->data, item->bytes, flags, ids, err))
        return -1;
    print_ids(ids);
    return 0;
}

static int run_tokenize(void *options, rt_err *err)
{
    const tokenize_options *o = options;
    rt_tokenizer *t = NULL;
    rt_source *in = NULL;
    rt_ids ids = { 0 };
    rt_text text = { 0 };
    rt_item item;
    int more = 0;
    int bad = rt_tokenizer_open(&t, o->model, err) ||
              rt_source_open(&in, "-", o->whole ? RT_SOURCE_FILES : RT_SOURCE_ALL_LINES, err);
    while (!bad && (more = rt_source_next(in, &item, err)) > 0)
        bad = tokenize_item(o, t, &item, &ids, &text, err);
    rt_source_close(in);
    rt_tokenizer_close(t);
    rt_ids_free(&ids);
    rt_text_free(&text);
    return bad || more < 0 ? -1 : 0;
}

#define S tokenize_options
static const rt_option tokenize_rows[] = {
    OPT_NEED(S, model, "model", "DIR|GGUF", "model directory, tokenizer.json or GGUF file",
             RT_OPT_INPUT),
    OPT_BOOL(S, decode, "decode", "false", "read arrays of ids, write text"),
    OPT_BOOL(S, special, "special", "false", "parse special tokens in the text"),
    OPT_BOOL(S, plain, "plain", "false", "parse no added token at all"),
    OPT_BOOL(S, bos, "bos", "false", "add what the model puts around a text (BOS, EOS)"),
    OPT_BOOL(S, skip_special, "skip-special", "false", "with --decode: leave special tokens out"),
    OPT_BOOL(S, whole, "whole", "false", "all of stdin is one text instead of one a line"),
};
const rt_command rt_command_tokenize = {
    .name = "tokenize",
    .help = "text on stdin -> one JSON array of token ids a line",
    .group = "models and tokenizers",
    .options = tokenize_rows,
    .n_options = RT_COUNT(tokenize_rows),
    .struct_bytes = sizeof(S),
    .run = run_tokenize,
    .example = "echo \"two words\" | retort tokenize --model DIR",
};
#undef S

/* ---- tokenizer ------------------------------------------------------------------------------ */

extern const rt_command rt_command_tokenizer;

typedef struct trainer_options {
    rt_strlist in, special, added;
    char *out, *pre, *bos, *eos, *pad, *chat_template;
    int64_t vocab;
    bool overwrite;
} trainer_options;

/* All the text of a record, message by message. */
static int add_record(rt_trainer *t, const rt_record *r, rt_err *err)
{
    if (r->text && rt_trainer_add(t, r->text, (int64_t)strlen(r->text), err))
        return -1;
    for (int i = 0; i < r->n_messages; i++) {
        const char *part[] = { r->message[i].reasoning, r->message[i].content };
        for (int k = 0; k < RT_COUNT(part); k++)
            if (part[k] && rt_trainer_add(t, part[k], (int64_t)strlen(part[k]), err))
                return -1;
    }
    return 0;
}

static int read_path(rt_trainer *t, const char *path, int64_t *records, rt_err *err)
{
    rt_source *in;
    rt_item item;
    int more;
    if (rt_source_open(&in, path, RT_SOURCE_RECORDS, err))
        return -1;
    while ((more = rt_source_next(in, &item, err)) > 0) {
        rt_record r = { 0 };
        int bad = rt_record_from_item(&r, &item, err) || add_record(t, &r, err);
        rt_record_free(&r);
        if (bad) {
            more = -1;
            break;
        }
        ++*records;
    }
    rt_source_close(in);
    return more;
}

static int open_trainer(rt_trainer **t, const trainer_options *o, rt_err *err)
{
    char *chat_template = NULL;
    int64_t bytes;
    if (o->chat_template && rt_file_read(&chat_template, &bytes, o->chat_template, 4 << 20, err))
        return -1;
    rt_trainer_config c = { .pre = o->pre,
                            .vocab = o->vocab,
                            .special = (const char *const *)o->special.item,
                            .n_special = o->special.n,
                            .added = (const char *const *)o->added.item,
                            .n_added = o->added.n,
                            .bos = o->bos,
                            .eos = o->eos,
                            .pad = o->pad,
                            .chat_template = chat_template };
    int bad = rt_trainer_open(t, &c, err);
    free(chat_template);
    return bad;
}

static int read_all(rt_trainer *t, const trainer_options *o, rt_err *err)
{
    int64_t records = 0;
    int bad = 0;
    for (int i = 0; i < o->in.n && !bad; i++)
        bad = read_path(t, o->in.item[i], &records, err);
    if (!bad && records == 0)
        bad = rt_fail(err, "no records in the input");
    if (!bad)
        rt_info("learning from %lld records", (long long)records);
    return bad ? -1 : 0;
}

static int add_content(rt_hash *of, const char *path, rt_err *err)
{
    rt_identity id;
    rt_hash both[2] = { *of };
    if (rt_identity_of(&id, path, RT_IDENTITY_CACHED, NULL, err))
        return -1;
    both[1] = id.hash;
    *of = rt_hash_bytes(both, sizeof both);
    return 0;
}

/* The settings, and the content of what is read. */
static int identity_of(rt_hash *work, const trainer_options *o, rt_err *err)
{
    cJSON *json = rt_options_result(&rt_command_tokenizer, o);
    char *text = rt_json_text(json);
    *work = rt_hash_bytes(text, (int64_t)strlen(text));
    free(text);
    cJSON_Delete(json);
    for (int i = 0; i < o->in.n; i++)
        if (add_content(work, o->in.item[i], err))
            return -1;
    return o->chat_template ? add_content(work, o->chat_template, err) : 0;
}

static int run_tokenizer(void *options, rt_err *err)
{
    const trainer_options *o = options;
    rt_trainer *t = NULL;
    rt_output_state state;
    rt_hash work;
    int bad = open_trainer(&t, o, err) || identity_of(&work, o, err) ||
              rt_output_look(&state, o->out, "tokenizer", work.hex, o->overwrite, err) ||
              read_all(t, o, err) || rt_dir_make(o->out, err) ||
              rt_output_begin(state, o->out, "tokenizer", work.hex, err) ||
              rt_trainer_write(t, o->out, err) ||
              rt_output_finish(o->out, "tokenizer", work.hex, err);
    if (!bad)
        rt_info("tokenizer written to %s", o->out);
    rt_trainer_close(t);
    return bad ? -1 : 0;
}

/* Settings and the first bytes of the texts; what is learned from them is not known before. */
static int plan_tokenizer(void *options, rt_needs *p, rt_err *err)
{
    enum { TOKEN = 40 }; /* bytes of tokenizer.json for a token and its merge, about */
    const trainer_options *o = options;
    rt_trainer *t = NULL;
    rt_output_state state;
    int bad = rt_output_look(&state, o->out, "tokenizer", NULL, o->overwrite, err) ||
              open_trainer(&t, o, err);
    rt_trainer_close(t);
    for (int i = 0; i < o->in.n && !bad; i++) {
        rt_source *in = NULL;
        if (!rt_path_exists(o->in.item[i]))
            continue; /* an earlier stage's output */
        bad = rt_source_open(&in, o->in.item[i], RT_SOURCE_RECORDS, err);
        rt_source_close(in);
    }
    if (!bad)
        rt_needs_add(p, RT_NEEDS_ABOUT, "tokenizer", "tokens and merges", TOKEN * o->vocab);
    p->units = 1;
    return bad ? -1 : 0;
}

#define S trainer_options
static const rt_option tokenizer_rows[] = {
    OPT_NEED_LIST(S, in, "in", "PATH", "texts, JSONL records, archives or directories to learn from",
             RT_OPT_INPUT),
    OPT_NEED(S, out, "out", "DIR", "where tokenizer.json and tokenizer_config.json go",
             RT_OPT_OUTPUT),
    OPT_OVERWRITE(S, overwrite),
    OPT_INT(S, vocab, "vocab", "32000", 256, 1 << 20, "tokens in all, added ones included"),
    OPT_STR(S, pre, "pre", "qwen2", "NAME", "split pattern by its GGUF name"),
    OPT_LIST(S, special, "special", "TOKEN", "control token, e.g. <|im_end|>; repeat"),
    OPT_LIST(S, added, "added", "TOKEN", "token parsed in any text, e.g. </think>; repeat"),
    OPT_STR(S, bos, "bos", NULL, "TOKEN", "the special token that begins a text"),
    OPT_STR(S, eos, "eos", NULL, "TOKEN", "the special token that ends a turn"),
    OPT_STR(S, pad, "pad", NULL, "TOKEN", "the special token for padding"),
    OPT_STR(S, chat_template, "chat-template", NULL, "FILE", "Jinja template to store",
            RT_OPT_INPUT),
};
const rt_command rt_command_tokenizer = {
    .name = "tokenizer",
    .help = "learn a byte-level BPE vocabulary from text",
    .group = "models and tokenizers",
    .options = tokenizer_rows,
    .n_options = RT_COUNT(tokenizer_rows),
    .struct_bytes = sizeof(S),
    .run = run_tokenizer,
    .plan = plan_tokenizer,
    .example = "retort tokenizer --in texts.jsonl --vocab 8000 --out tokenizer",
};
#undef S
