#include "teacher/teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/formats/gguf.h"

/* Pages of the program that are not touched yet, stacks, what the allocator keeps, JSON of a
   sample; AddressSanitizer keeps what was freed. */
#ifdef __SANITIZE_ADDRESS__
#define ASIDE_BYTES ((int64_t)32 << 20)
#else
#define ASIDE_BYTES ((int64_t)16 << 20)
#endif

void rt_teacher_stops(rt_config *c, const rt_chat *chat)
{
    const rt_reasoning *r = &chat->reasoning;
    for (int32_t i = 0; i < r->n_stops; i++)
        if (!rt_config_is_eos(c, r->stop[i]) && c->n_eos < RT_COUNT(c->eos))
            c->eos[c->n_eos++] = r->stop[i];
}

static int open_model(rt_teacher *t, const char *path, const rt_needs *plan, rt_err *err)
{
    t->path = path;
    if (strstr(path, "://"))
        return rt_usage(err,
                        "%s: a remote teacher is not supported: give a model directory or a .gguf "
                        "file",
                        path);
    const rt_needs_output *later = rt_needs_find(plan, path);
    rt_config *c = &t->model.cfg;
    t->later = later != NULL;
    if (later)
        *c = later->cfg;
    if ((!later && rt_model_config(c, path, err)) ||
        rt_chat_open(&t->chat, later ? later->tokenizer : path, err))
        return -1;
    t->vocab = rt_tokenizer_vocab(t->chat.tokenizer);
    t->positions = rt_config_longest(c, INT64_MAX);
    if (t->vocab > c->vocab)
        return rt_fail(
            err, "%s: the tokenizer has %lld tokens, the model %lld: they do not belong together",
            path, (long long)t->vocab, (long long)c->vocab);
    rt_teacher_stops(c, &t->chat);
    return 0;
}

int rt_teacher_open(rt_teacher *t, const char *path, const rt_dev_choice *device,
                    const rt_needs *plan, rt_err *err)
{
    memset(t, 0, sizeof *t);
    return open_model(t, path, plan, err) || rt_dev_choose(&t->dev, device, plan != NULL, err) ? -1
                                                                                               : 0;
}

int rt_teacher_open_beside(rt_teacher *t, const char *path, rt_dev *d, const rt_needs *plan,
                           rt_err *err)
{
    memset(t, 0, sizeof *t);
    t->dev = d;
    t->beside = true;
    return open_model(t, path, plan, err);
}

void rt_teacher_plan(rt_teacher *t, int64_t length, bool streamed)
{
    const rt_config cfg = t->model.cfg;
    if (streamed && !t->later) {
        rt_model_plan_streamed(&t->model, t->dev, &cfg, t->path, length);
        t->stream = rt_stream_plan(&t->model, t->dev);
        return;
    }
    rt_model_plan_config(&t->model, t->dev, &cfg, t->later ? NULL : t->path, true, length);
}

int rt_teacher_read(rt_teacher *t, rt_err *err)
{
    return rt_model_read(&t->model, t->dev, t->path, err) || rt_dev_ready(t->dev, err) ||
                   (t->stream && rt_stream_open(t->stream, err))
               ? -1
               : 0;
}

void rt_teacher_close(rt_teacher *t)
{
    rt_chat_close(&t->chat);
    rt_stream_close(t->stream);
    if (t->dev) {
        rt_model_free(t->dev, &t->model);
        if (!t->beside)
            rt_dev_close(t->dev);
    }
    memset(t, 0, sizeof *t);
}

/* The last name of the path, so that the archive does not depend on where the model lies. */
static void name_of(char *name, size_t size, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    snprintf(name, size, "%.*s", (int)(end - begin), path + begin);
    rt_text_clean(name);
}

int rt_teacher_identity(rt_hash *weights, const rt_teacher *t, rt_err *err)
{
    char text[32];
    int64_t read;
    double begun = rt_now();
    if (t->unread)
        return 0;
    if (rt_model_identity(weights, &read, t->path, err))
        return -1;
    if (read)
        rt_info(
            "%s: read once to know it by its bytes: %s in %.1f s (--no-identity leaves that out)",
            t->path, rt_fmt_bytes(text, sizeof text, read), rt_now() - begun);
    return 0;
}

/* What a GGUF says of itself before its weights: keys, and the table of tensors. */
static int hash_head(rt_hash *hash, const char *path, rt_err *err)
{
    rt_gguf g;
    rt_hasher h = { 0 };
    if (rt_gguf_open(&g, path, err))
        return -1;
    rt_hasher_begin(&h);
    for (int64_t i = 0; i < g.n_keys; i++) {
        const rt_gguf_key *k = &g.key[i];
        rt_hasher_add(&h, k->name, (int64_t)strlen(k->name) + 1);
        rt_hasher_add(&h, k->data, k->bytes);
    }
    for (int64_t i = 0; i < g.n_tensors; i++) {
        const rt_gguf_tensor *one = &g.tensor[g.by_tensor[i]];
        rt_hasher_add(&h, one->name, (int64_t)strlen(one->name) + 1);
        rt_hasher_add(&h, one->type, (int64_t)strlen(one->type) + 1);
        rt_hasher_add(&h, one->dim, (int64_t)sizeof one->dim);
    }
    *hash = rt_hasher_end(&h);
    rt_hasher_free(&h);
    rt_gguf_close(&g);
    return 0;
}

int rt_teacher_manifest(rt_trace_manifest *m, const rt_teacher *t, const char *mode, rt_err *err)
{
    rt_trace_manifest_init(m);
    name_of(m->teacher, sizeof m->teacher, t->path);
    if (rt_gguf_is(t->path)) { /* its bytes say it all, where they are read */
        if (t->unread && hash_head(&m->config_hash, t->path, err))
            return -1;
    } else {
        char *config = rt_path_join(t->path, "config.json");
        int bad = rt_hash_file(&m->config_hash, config, err);
        free(config);
        if (bad)
            return -1;
    }
    bool sample = strcmp(mode, "sample") == 0, mla = t->model.cfg.family->attn == RT_ATTN_MLA;
    snprintf(m->precision, sizeof m->precision, "f32%s",
             !mla     ? ""
             : sample ? "; mla absorbed"
                      : "; mla expanded");
    m->tokenizer_hash = rt_tokenizer_fingerprint(t->chat.tokenizer);
    m->vocab_size = (int32_t)t->vocab;
    m->template_hash = t->chat.template_hash;
    snprintf(m->mode, sizeof m->mode, "%s", mode);
    return 0;
}

void rt_teacher_needs(const rt_teacher *t, rt_needs *p)
{
    int64_t most = rt_model_reading(&t->model);
    rt_needs_arenas(p, t->dev, &t->model.arenas);
    if (t->stream) {
        const rt_stream_sizes *z = rt_stream_size(t->stream);
        rt_stream_needs(t->stream, p);
        rt_needs_add(p, RT_NEEDS_FILE, "weights", "read a pass", z->layers + z->experts);
        rt_needs_add(p, RT_NEEDS_GROWS, "process", "as it is, and aside",
                     rt_rss_bytes() + ASIDE_BYTES);
    } else {
        rt_needs_add(p, RT_NEEDS_FILE, "weights", "in their file", rt_model_mapped(&t->model));
    }
    rt_needs_workspace(p, t->dev);
    rt_needs_add(p, RT_NEEDS_GROWS, "weights", "two tensors, while reading", 2 * most);
}
